"""A token bucket per source: one flooding peer is dropped, and the others are still heard.

A bucket is one number, the time at which it is full again; each packet moves that on (the leaky bucket as a meter,
ITU-T I.371). A source whose bucket is full needs no memory.
"""

from __future__ import annotations

from .limits import SOURCE_BURST, SOURCE_RATE, SOURCES_LIMIT
from .records import Address

TOKEN = 1 / SOURCE_RATE
"""Seconds in which a bucket gets one token."""

BURST = (SOURCE_BURST - 1) / SOURCE_RATE
"""Seconds until a bucket is full again, beyond which it has no token left."""

FORGET_EVERY = 16
"""Sources remembered beyond which the full buckets are looked for."""


class Buckets:
    """What each source may still send. Sources not heard from for longest are forgotten first."""

    def __init__(self) -> None:
        """Have heard from nobody."""
        self._full: dict[Address, float] = {}
        self._crowd = FORGET_EVERY

    def __len__(self) -> int:
        """Count the sources remembered."""
        return len(self._full)

    def admit(self, source: Address, now: float) -> bool:
        """Take one token of a source; False if it has none left."""
        full = self._full.pop(source, now)
        if full < now:
            full = now
        if full > now + BURST:
            self._full[source] = full
            return False
        self._full[source] = full + TOKEN
        if len(self._full) > self._crowd:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Drop the sources whose buckets are full, and the oldest beyond the limit."""
        self._full = {source: full for source, full in self._full.items() if full > now}
        while len(self._full) > SOURCES_LIMIT:
            del self._full[next(iter(self._full))]
        self._crowd = min(SOURCES_LIMIT, 2 * len(self._full) + FORGET_EVERY)
