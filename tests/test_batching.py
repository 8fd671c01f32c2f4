"""Laws of batches: small questions go together under load, and each gets its own answer."""

from __future__ import annotations

import asyncio

from running import soon

from p2pml.peer.batching import MOST, Batches


class Runner:
    """Doubles numbers, once its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def run(self, kind: str, questions: list[int]) -> list[int | Exception]:
        self.batches.append(questions)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if kind == "broken":
            raise ValueError("broken")
        return [ValueError("odd one") if number == 13 else 2 * number for number in questions]


async def test_replies_are_never_mixed() -> None:
    """Whatever goes together, and whoever fails."""
    batches: Batches[str, int, int] = Batches(Runner().run)
    answers = await asyncio.gather(*(batches.ask("x", number) for number in range(500)), return_exceptions=True)
    assert isinstance(answers[13], ValueError)
    assert [answer for number, answer in enumerate(answers) if number != 13] == [2 * n for n in range(500) if n != 13]


async def test_what_comes_while_a_batch_is_out_goes_together() -> None:
    """When that is back, and each kind by itself."""
    runner = Runner()
    batches: Batches[str, int, int] = Batches(runner.run)
    assert await batches.ask("x", 1) == 2
    runner.gate.clear()
    first = asyncio.create_task(batches.ask("x", 1))
    await soon(lambda: len(runner.batches) == 2, "it is out")
    later = [asyncio.create_task(batches.ask(kind, number)) for kind, number in (("x", 2), ("y", 3), ("x", 4))]
    await asyncio.sleep(0)
    runner.gate.set()
    assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
    assert sorted(runner.batches) == [[1], [1], [2, 4], [3]]


async def test_nothing_waits_for_long() -> None:
    """A batch that does not come back holds the next one up for a stated delay alone, and a full one not at all."""
    runner = Runner()
    runner.gate.clear()
    batches: Batches[str, int, int] = Batches(runner.run)
    waiting = [asyncio.create_task(batches.ask("x", 0))]
    await soon(lambda: len(runner.batches) == 1, "it is out")
    waiting += [asyncio.create_task(batches.ask("x", 1)) for _ in range(MOST + 1)]
    await soon(lambda: len(runner.batches) == 3, "all are out")
    assert [len(batch) for batch in runner.batches] == [1, MOST, 1]
    runner.gate.set()
    await asyncio.gather(*waiting)


async def test_a_batch_that_nobody_waits_for_is_cancelled() -> None:
    """And one question taken back does not cost the others their answer."""
    runner = Runner()
    runner.gate.clear()
    batches: Batches[str, int, int] = Batches(runner.run)
    one, two = asyncio.create_task(batches.ask("x", 1)), asyncio.create_task(batches.ask("x", 2))
    await soon(lambda: len(runner.batches) == 1, "it is out")
    one.cancel()
    await asyncio.sleep(0)
    assert runner.cancelled == 0
    two.cancel()
    await asyncio.gather(one, two, return_exceptions=True)
    await asyncio.sleep(0)
    assert runner.cancelled == 1


async def test_a_batch_that_fails_is_told_to_all() -> None:
    """As if each had been alone."""
    batches: Batches[str, int, int] = Batches(Runner().run)
    answers = await asyncio.gather(*(batches.ask("broken", number) for number in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["broken"] * 3
