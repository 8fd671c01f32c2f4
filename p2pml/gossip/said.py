"""What was just told to whom, so that a flood of one question is not answered by a flood."""

from __future__ import annotations

from .limits import NOTICES_LIMIT


class Said:
    """Who was told of which incarnation, and when. The oldest are forgotten first."""

    def __init__(self, interval: float) -> None:
        """Let everything be said once in an interval (s)."""
        self._interval = interval
        self._said: dict[str, tuple[int, float]] = {}

    def __len__(self) -> int:
        """Count what is remembered."""
        return len(self._said)

    def is_due(self, peer: str, incarnation: int, now: float) -> bool:
        """Whether this is new, or was said an interval ago; then it counts as said now."""
        said, at = self._said.get(peer, (-1, 0.0))
        if said == incarnation and now < at + self._interval:
            return False
        self._said.pop(peer, None)
        self._said[peer] = (incarnation, now)
        if len(self._said) > NOTICES_LIMIT:
            del self._said[next(iter(self._said))]
        return True

    def forget(self, peer: str) -> None:
        """Forget what was said about a peer."""
        self._said.pop(peer, None)
