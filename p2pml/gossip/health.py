"""How well this node itself seems to hear: its own slowness must not make others look dead (Lifeguard §4.1)."""

from __future__ import annotations


class Health:
    """A score from 0, healthy, to a cap: intervals and timeouts are as many times longer, plus one."""

    def __init__(self, cap: int) -> None:
        """Begin healthy."""
        self._cap = cap
        self.score = 0

    @property
    def multiplier(self) -> int:
        """By how much intervals and timeouts are longer now."""
        return self.score + 1

    def better(self) -> None:
        """Note that a probe succeeded."""
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        """Note a failed probe, a missed nack, a refutation of our own, or a tick that came late."""
        self.score = min(self._cap, self.score + by)
