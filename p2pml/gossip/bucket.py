"""A token bucket per source: one flooding peer is dropped, and the others are still heard."""

from __future__ import annotations

from .limits import SOURCE_BURST, SOURCE_RATE, SOURCES_LIMIT
from .records import Address


class Buckets:
    """What each source may still send. Sources not heard from for longest are forgotten first."""

    def __init__(self) -> None:
        """Have heard from nobody."""
        self._buckets: dict[Address, tuple[float, float]] = {}

    def admit(self, source: Address, now: float) -> bool:
        """Take one token of a source; False if it has none left."""
        tokens, since = self._buckets.pop(source, (SOURCE_BURST, now))
        tokens = min(SOURCE_BURST, tokens + (now - since) * SOURCE_RATE)
        admitted = tokens >= 1
        self._buckets[source] = (tokens - admitted, now)
        if len(self._buckets) > SOURCES_LIMIT:
            del self._buckets[next(iter(self._buckets))]
        return admitted
