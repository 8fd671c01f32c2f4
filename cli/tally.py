"""The votes behind an answer that came in blocks: told as those of one answer, and as a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .show import plain

if TYPE_CHECKING:
    from p2pml.peer.answers import Missing, Votes


class Tally:
    """Votes over all blocks: the fewest that were cast, and everyone who was missing from any."""

    def __init__(self) -> None:
        self._fewest: int | None = None
        self._most = 0
        self._expected = 0
        self._missing: dict[str, Missing] = {}

    def add(self, votes: Votes) -> None:
        """Count the votes of one more block."""
        cast = votes["cast"]
        self._fewest = cast if self._fewest is None else min(self._fewest, cast)
        self._most = max(self._most, cast)
        self._expected = max(self._expected, votes["expected"])
        for missing in votes["missing"]:
            self._missing[missing["peer"]] = missing

    def votes(self) -> Votes:
        """As the votes of one answer."""
        return {
            "cast": self._fewest or 0,
            "expected": self._expected,
            "missing": list(self._missing.values()),
        }

    def __str__(self) -> str:
        cast = f"{self._fewest or 0}" if self._fewest in (None, self._most) else f"{self._fewest} to {self._most}"
        who = [f"{plain(m['name'])} ({plain(m['reason'])})" for m in self._missing.values()]
        missing = f"; missing: {', '.join(who)}" if who else ""
        return f"{cast} of {self._expected} votes{missing}"
