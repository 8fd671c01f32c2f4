"""Laws of hedged votes: the first holder that can wins, and nobody waits for a slow one for long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
from running import soon

from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, PeerUnreachable
from p2pml.gossip import Member, Status
from p2pml.peer.ballots import Ballot, Cast, Refused
from p2pml.peer.covering import firsts
from p2pml.peer.round import Round

LONG = 30.0


class Holders:
    """Each is quick, or by name slow, broken, gone, or holds nothing."""

    def __init__(self, after: float | None = 0.0) -> None:
        self.after = after
        self.asked: list[tuple[str, list[str]]] = []
        self.cancelled: list[str] = []
        self.unreachable: list[str] = []

    async def ask(self, holder: Member, voters: list[str]) -> Mapping[str, Cast]:
        self.asked.append((holder.id, voters))
        match holder.id.split():
            case ["broken", *_]:
                raise BadInput("broken")
            case ["gone", *_]:
                raise PeerUnreachable("gone")
            case ["empty", *_]:
                return {voter: Refused(voter, "it has none") for voter in voters}
            case ["slow", *_]:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.append(holder.id)
        return {voter: Ballot(voter, "", 1, Vote(None, np.zeros(1))) for voter in voters}

    async def run(self, seconds: float = LONG, **holders: list[str]) -> Round:
        members = {
            voter: [Member(id, id.upper(), ("127.0.0.1", 1), Status.ALIVE, 1, 0) for id in ids]
            for voter, ids in holders.items()
        }
        round = Round(
            members,
            firsts,
            self.ask,
            lambda holder, votes: self.after,
            lambda holder, why: self.unreachable.append(holder.id),
        )
        await round.run(asyncio.get_running_loop().time() + seconds)
        await asyncio.sleep(0)
        return round


def by(round: Round) -> dict[str, str]:
    return {voter: holder.id for voter, (_, holder) in round.cast.items()}


async def test_the_chosen_holder_alone_is_asked_for_all_that_is_chosen_for_it() -> None:
    """A hedge costs a vote: it has to be due."""
    holders = Holders(after=LONG)
    assert by(await holders.run(a=["one", "two"], b=["one"], c=[])) == {"a": "one", "b": "one"}
    assert holders.asked == [("one", ["a", "b"])]


async def test_a_slow_holder_is_overtaken_and_cancelled() -> None:
    """By the next one, after the time that the first usually takes; it is not held against the slow one."""
    holders = Holders()
    assert by(await holders.run(a=["slow", "slow too", "two"], b=["two"])) == {"a": "two", "b": "two"}
    assert holders.cancelled == ["slow", "slow too"]
    assert holders.unreachable == []


async def test_a_holder_of_whom_nobody_knows_how_long_it_takes_has_half_of_the_time() -> None:
    """So that one on whose connection nothing comes costs no vote that others hold."""
    holders = Holders(after=None)
    assert by(await holders.run(0.4, a=["slow", "two"])) == {"a": "two"}
    assert (holders.cancelled, holders.unreachable) == (["slow"], [])


async def test_the_next_one_is_asked_at_once_where_a_holder_fails() -> None:
    """For each vote that it does not cast, and what stood in the way is known of each holder."""
    holders = Holders(after=None)
    round = await holders.run(a=["broken", "gone", "two"], b=["empty", "broken"], c=["a", "b"])
    assert by(round) == {"a": "two", "c": "a"}
    assert round.why["a"] == ["BROKEN, which holds a replica: broken", "GONE, which holds a replica: gone"]
    assert round.why["b"] == ["EMPTY, which holds a replica: it has none", "BROKEN, which holds a replica: broken"]
    assert (holders.unreachable, round.late) == (["gone"], set())


async def test_who_lets_the_deadline_pass_is_late_and_unreachable() -> None:
    """What others cast by then counts."""
    holders = Holders(after=None)
    round = await holders.run(0.01, a=["slow"], b=["two"])
    assert (by(round), round.late) == ({"b": "two"}, {"a"})
    assert holders.cancelled == holders.unreachable == ["slow"]


async def test_an_overtaken_holder_may_still_be_the_first() -> None:
    """Where the one that was asked after it fails."""
    holders, gate = Holders(), asyncio.Event()
    ask = holders.ask

    async def late(holder: Member, voters: list[str]) -> Mapping[str, Cast]:
        if holder.id == "late":
            await gate.wait()
        gate.set()
        return await ask(holder, voters)

    holders.ask = late  # type: ignore[method-assign]
    assert by(await holders.run(a=["late", "broken"])) == {"a": "late"}


async def test_whoever_gives_up_the_round_cancels_all() -> None:
    """Nobody is to work for nothing."""
    holders = Holders()
    running = asyncio.create_task(holders.run(a=["slow", "slow too"]))
    await soon(lambda: len(holders.asked) == 2, "both are asked")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)
    assert sorted(holders.cancelled) == ["slow", "slow too"]
