"""Laws of hedged votes: the first holder that can wins, and nobody waits for a slow one for long."""

from __future__ import annotations

import asyncio

import pytest

from p2pml.errors import RemoteError
from p2pml.peer.racing import FEWEST, FLOOR, LEAST_PATIENCE, Pace, race


class Holders:
    """Each is quick, slow or broken, by name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.failed: list[str] = []

    async def begin(self, name: str) -> str:
        self.asked.append(name)
        if name.startswith("broken"):
            raise RemoteError(name)
        if name.startswith("slow"):
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(name)
        return name

    async def race(self, *names: str, after: float | None = 0.0) -> tuple[str, str] | None:
        found = await race(names, self.begin, lambda name: after, lambda name, error: self.failed.append(name))
        await asyncio.sleep(0)
        return found


async def test_the_best_holder_alone_is_asked_where_it_answers() -> None:
    """A hedge costs a vote: it has to be due."""
    holders = Holders()
    assert await holders.race("one", "two", after=60.0) == ("one", "one")
    assert holders.asked == ["one"]


async def test_a_slow_holder_is_overtaken_and_cancelled() -> None:
    """By the next one, after the time that the first usually takes."""
    holders = Holders()
    assert await holders.race("slow", "slower", "two") == ("two", "two")
    assert holders.cancelled == ["slow", "slower"]


async def test_a_failure_is_told_and_the_next_one_asked_at_once() -> None:
    """None is left where all fail."""
    holders = Holders()
    assert await holders.race("broken", "two", after=None) == ("two", "two")
    assert await holders.race("broken", "broken too", after=None) is None
    assert await holders.race() is None
    assert holders.failed == ["broken", "broken", "broken too"]


async def test_an_overtaken_holder_may_still_be_the_first() -> None:
    """Where the one that was asked after it fails."""
    gate = asyncio.Event()

    async def begin(name: str) -> str:
        if name == "broken":
            gate.set()
            raise RemoteError(name)
        await gate.wait()
        return name

    assert await race(["late", "broken"], begin, lambda name: 0.0, lambda name, error: None) == ("late", "late")


async def test_whoever_gives_up_the_race_cancels_all() -> None:
    """And a mistake of this program is no failure of a holder."""
    holders = Holders()
    racing = asyncio.create_task(holders.race("slow", "slow too"))
    await asyncio.sleep(0.01)
    racing.cancel()
    await asyncio.gather(racing, return_exceptions=True)
    await asyncio.sleep(0)
    assert holders.cancelled == ["slow", "slow too"]


def test_a_pace_is_known_after_some_answers() -> None:
    """By the size of the question; of who is gone nothing is kept."""
    pace = Pace()
    assert (pace.hedge("a", 1), pace.patience("a", 1)) == (None, None)
    for _ in range(FEWEST):
        pace.heard("a", 1, 0.001)
        pace.heard("b", 1, 2.0)
    assert (pace.hedge("a", 1), pace.patience("a", 1)) == (FLOOR, LEAST_PATIENCE)
    assert (pace.hedge("b", 1), pace.patience("b", 1)) == (2.0, 40.0)
    assert pace.usual("a", 1000) is None
    pace.heard("b", 1, 9.0)
    assert pace.usual("b", 1) == pytest.approx(9.0)
    pace.keep_only({"b"})
    assert pace.usual("a", 1) is None
