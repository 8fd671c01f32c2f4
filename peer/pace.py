"""How long other peers take to vote: whom to ask, how long to wait for one alone, and when to give it up."""

from __future__ import annotations

from collections import deque

KEPT = 64
"""Latest answers of one peer on questions of one size by which its pace is known."""
FEWEST = 8
"""Answers from which the pace is taken for known."""
LEARN = 0.1
"""How much of what is usual the last answer decides."""
USUAL = 0.95
"""The share of answers that come within what is usual."""
HALVED = 1.0
"""Seconds after its last answer in which half is forgotten of how far away a peer was: it may have been its load."""
FLOOR = 0.01
"""Seconds that any holder is given before the next is asked: less is noise of the scheduler."""
PATIENCE, LEAST_PATIENCE = 20.0, 1.0
"""How many times its usual time a peer may take before its vote is taken for lost, and at least so many seconds."""


class Pace:
    """How long other peers take to vote, by the binary digits of the number of rows, of all votes of a question."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, int], deque[float]] = {}
        self._away: dict[str, tuple[float, float]] = {}

    def heard(self, id: str, rows: int, took: float) -> None:
        """A peer cast its votes on so many rows after so many seconds."""
        self._took.setdefault((id, rows.bit_length()), deque(maxlen=KEPT)).append(took)

    def apart(self, id: str, seconds: float, now: float) -> None:
        """Of the time that a peer took for its answer, so many seconds were not its votes."""
        before, at = self._away.get(id, (seconds, now))
        self._away[id] = seconds + (1 - LEARN) * _left(now - at) * (before - seconds), now

    def ahead(self, id: str, now: float) -> float:
        """Seconds before a peer begins to vote and after it has: of its way, and of its load; 0 where nobody knows."""
        seconds, at = self._away.get(id, (0.0, now))
        return seconds * _left(now - at)

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
        self._away = {id: away for id, away in self._away.items() if id in ids}


def _left(seconds: float) -> float:
    """The share of what was known that is not forgotten after so many seconds."""
    return float(0.5 ** (seconds / HALVED))
