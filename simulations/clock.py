"""Virtual time: a heap of what is to happen, in whole microseconds, with ties in the order of their making."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil
from typing import Any, TypeAlias

Happening: TypeAlias = Callable[..., object]

MICROSECONDS = 1_000_000


class Clock:
    """The time of a simulation. It only moves when something is due, or when it is told to."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._heap: list[tuple[int, int, Happening, Any]] = []
        self._count = 0
        self.ticks = 0

    @property
    def now(self) -> float:
        """The time in s."""
        return self.ticks / MICROSECONDS

    def __len__(self) -> int:
        """Count what is arranged."""
        return len(self._heap)

    def at(self, time: float, happening: Happening, *arguments: Any) -> None:
        """Arrange something at a time in s, rounded up: nothing happens early."""
        self._count += 1
        ticks = max(self.ticks, ceil(time * MICROSECONDS))
        heappush(self._heap, (ticks, self._count, happening, arguments))

    def after(self, delay: float, happening: Happening, *arguments: Any) -> None:
        """Arrange something after a delay in s."""
        self._count += 1
        heappush(self._heap, (self.ticks + ceil(delay * MICROSECONDS), self._count, happening, arguments))

    def alarm(self, time: float, happening: Happening, token: int) -> None:
        """Arrange something that takes one number: of such timers there may be a hundred thousand, each without a
        tuple."""
        self._count += 1
        ticks = max(self.ticks, ceil(time * MICROSECONDS))
        heappush(self._heap, (ticks, self._count, happening, token))

    def drop(self, stale: Callable[[Happening, Any], bool]) -> None:
        """Take away what would come to nothing."""
        self._heap = [entry for entry in self._heap if not stale(entry[2], entry[3])]
        heapify(self._heap)

    def run(self, duration: float) -> None:
        """Let so much time pass, in s, and do all that is due in it."""
        end = self.ticks + round(duration * MICROSECONDS)
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.ticks, _, happening, arguments = heappop(heap)
            if type(arguments) is int:
                happening(arguments)
            else:
                happening(*arguments)
        self.ticks = end
