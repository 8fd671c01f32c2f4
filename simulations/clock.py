"""Virtual time: a heap of what is to happen, in whole microseconds, with ties in the order of their making."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TypeAlias

Happening: TypeAlias = Callable[[], None]

MICROSECONDS = 1_000_000


class Clock:
    """The time of a simulation. It only moves when something is due, or when it is told to."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._heap: list[tuple[int, int, Happening]] = []
        self._count = 0
        self.ticks = 0

    @property
    def now(self) -> float:
        """The time in s."""
        return self.ticks / MICROSECONDS

    def at(self, time: float, happening: Happening) -> None:
        """Arrange something at a time in s, rounded up: nothing happens early."""
        self._count += 1
        ticks = max(self.ticks, math.ceil(time * MICROSECONDS))
        heapq.heappush(self._heap, (ticks, self._count, happening))

    def after(self, delay: float, happening: Happening) -> None:
        """Arrange something after a delay in s."""
        self.at(self.now + delay, happening)

    def run(self, duration: float) -> None:
        """Let so much time pass, in s, and do all that is due in it."""
        end = self.ticks + round(duration * MICROSECONDS)
        while self._heap and self._heap[0][0] <= end:
            self.ticks, _, happening = heapq.heappop(self._heap)
            happening()
        self.ticks = end
