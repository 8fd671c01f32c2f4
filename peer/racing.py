"""A vote is asked of one holder; when that one fails, or takes longer than it usually does, of the next one too.

The first that casts it wins and the others are cancelled (Dean and Barroso, "The tail at scale", 2013: hedged
requests). Waiting for a holder's own 95th percentile first keeps the extra votes at a twentieth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

C = TypeVar("C")
T = TypeVar("T")

KEPT = 64
"""Latest answers of one peer on questions of one size by which its pace is known."""
FEWEST = 8
"""Answers from which the pace is taken for known."""
USUAL = 0.95
"""The share of answers that come within what is usual."""
FLOOR = 0.01
"""Seconds that any holder is given before the next is asked: less is noise of the scheduler."""
PATIENCE, LEAST_PATIENCE = 20.0, 1.0
"""How many times its usual time a peer may take before its vote is taken for lost, and at least so many seconds."""


class Pace:
    """How long other peers take to vote, by the binary digits of the number of rows."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, int], deque[float]] = {}

    def heard(self, id: str, rows: int, took: float) -> None:
        """A peer cast a vote after so many seconds."""
        self._took.setdefault((id, rows.bit_length()), deque(maxlen=KEPT)).append(took)

    def usual(self, id: str, rows: int) -> float | None:
        """Seconds within which a peer's vote usually comes; None where that is not known."""
        took = self._took.get((id, rows.bit_length()), ())
        return sorted(took)[int(USUAL * len(took))] if len(took) >= FEWEST else None

    def hedge(self, id: str, rows: int) -> float | None:
        """Seconds after which another holder is asked too; None where nobody knows what is usual."""
        usual = self.usual(id, rows)
        return None if usual is None else max(FLOOR, usual)

    def patience(self, id: str, rows: int) -> float | None:
        """Seconds after which a vote is taken for lost though there is time left; None where nobody knows."""
        usual = self.usual(id, rows)
        return None if usual is None else max(LEAST_PATIENCE, PATIENCE * usual)

    def keep_only(self, ids: set[str]) -> None:
        """Forget all other peers."""
        self._took = {key: took for key, took in self._took.items() if key[0] in ids}


async def race(
    candidates: Sequence[C],
    begin: Callable[[C], Awaitable[T]],
    after: Callable[[C], float | None],
    failed: Callable[[C, Exception], None],
) -> tuple[T, C] | None:
    """What the first candidate gives that can, and which it was; None where all failed, of each of which `failed` was
    told. The next one begins when one fails, or `after` so many seconds of the last."""
    left = deque(candidates)
    running: dict[asyncio.Future[T], C] = {}
    try:
        while left or running:
            patience = None
            if left:
                candidate = left.popleft()
                running[asyncio.ensure_future(begin(candidate))] = candidate
                patience = after(candidate) if left else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                candidate, error = running.pop(task), task.exception()
                if error is None:
                    return task.result(), candidate
                if not isinstance(error, Exception):
                    raise error
                failed(candidate, error)
        return None
    finally:
        for task in running:
            task.cancel()
            # What a loser says comes too late to matter.
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
