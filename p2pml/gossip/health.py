"""How well this node itself seems to hear: its own slowness must not make others look dead (Lifeguard §4.1).

Beyond Lifeguard, a node that hears others while a probe fails is not sure that the fault is its own: where the target
refutes, it was; where nine of ten have crashed, it was not, and slowing down would only put their verdicts off.
"""

from __future__ import annotations

from collections import deque

SPEAKERS_LIMIT = 16
"""Members remembered as lately heard: a few seconds' worth, so that most of them still live."""

HISTORY = 8
"""Probes remembered by whether they failed."""

ALARM = 4
"""How many of them failed where this node seems to be among the few that a calamity has left."""


class Health:
    """A score from 0, healthy, to a cap: intervals and timeouts are as many times longer, plus one."""

    def __init__(self, cap: int) -> None:
        """Begin healthy."""
        self._cap = cap
        self._open: dict[str, int] = {}
        self._failed = 0
        self.score = 0
        self.last_word = 0.0
        """When a member that nobody suspects was last heard (s)."""
        self.speakers: deque[str] = deque(maxlen=SPEAKERS_LIMIT)
        """Who was lately heard, of those whom nobody suspects."""

    @property
    def multiplier(self) -> int:
        """By how much intervals and timeouts are longer now."""
        return self.score + 1

    @property
    def alarmed(self) -> bool:
        """Whether half of the members that this node probed lately were silent."""
        return self._failed.bit_count() >= ALARM

    def better(self) -> None:
        """Note that a probe succeeded."""
        self.note(failed=False)
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        """Note a failed probe, a missed nack, a refutation of our own, or a tick that came late."""
        self.score = min(self._cap, self.score + by)

    def probe_failed(self, suspect: str, by: int, since: float) -> None:
        """Note a probe begun at `since` (s) that failed: if others were heard meanwhile, only for when it refutes."""
        if self.last_word <= since:
            self.worse(by)
        else:
            self._open[suspect] = by

    def settle(self, suspect: str, *, refuted: bool) -> None:
        """Note what became of a suspect."""
        by = self._open.pop(suspect, 0)
        if refuted:
            self.worse(by)

    def note(self, *, failed: bool) -> None:
        """Remember how a probe ended."""
        self._failed = (self._failed << 1 | failed) & (1 << HISTORY) - 1
