"""Answers to the blocks of one table, told as one answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .words import plain

if TYPE_CHECKING:
    from .answers import Evaluated, Label, Missing, Votes
    from .scoring import Statistics


class Tally:
    """The votes behind all blocks: the fewest that were cast, and everyone who was missing from any."""

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

    def state(self) -> list[Any]:
        """All that it has counted, as plain data; `restored` is the other end."""
        return [self._fewest, self._most, self._expected, list(self._missing.values())]

    @classmethod
    def restored(cls, state: list[Any]) -> Tally:
        """A tally that goes on from a state."""
        tally = cls()
        tally._fewest, tally._most, tally._expected, missing = state
        tally._missing = {entry["peer"]: entry for entry in missing}
        return tally

    def __str__(self) -> str:
        cast = f"{self._fewest or 0}" if self._fewest in (None, self._most) else f"{self._fewest} to {self._most}"
        return f"{cast} of {self._expected} votes{absentees(self._missing.values())}"


def absentees(missing: Iterable[Missing]) -> str:
    """The end of a sentence about votes: who is missing and why; empty where nobody is."""
    who = [f"{plain(each['name'])} ({plain(each['reason'])})" for each in missing]
    return f"; missing: {', '.join(who)}" if who else ""


class Total:
    """Scores over all blocks of a file, from statistics that add up exactly."""

    def __init__(self) -> None:
        self._answers = 0
        self._last: Evaluated | None = None
        self._statistics: Statistics | None = None
        self._labels: dict[str, Label] = {}
        self._tally = Tally()
        self._took = 0.0

    def add(self, answer: Evaluated) -> None:
        """Add one block's answer; raises `RemoteError` where its statistics cannot be read."""
        from .scoring import merged, read_statistics

        statistics = read_statistics(answer["task"], answer.get("statistics"))
        if matrix := answer.get("confusion_matrix"):
            # Statistics name a class by its text, people by its value.
            classes = getattr(statistics, "classes", ())
            self._labels.update(zip(classes, matrix["classes"], strict=False))
        self._statistics = merged([self._statistics, statistics]) if self._statistics else statistics
        self._last = answer
        self._answers += 1
        self._tally.add(answer["votes"])
        self._took += answer["took"]

    def answer(self) -> Evaluated:
        """One answer for all blocks; that of the only one as it came."""
        total, answer = self._statistics, self._last
        assert answer is not None
        assert total is not None, "a file has at least one block"
        answer = {**answer}
        answer.pop("statistics", None)
        if self._answers == 1:
            return answer
        answer |= {
            "rows": total.rows,
            "metrics": total.scores(),
            "votes": self._tally.votes(),
            "took": self._took,
        }
        if answer.get("confusion_matrix"):
            classes = getattr(total, "classes", ())
            counts = getattr(total, "confusion", None)
            answer["confusion_matrix"] = {
                "classes": [self._labels.get(text, text) for text in classes],
                "counts": [] if counts is None else counts.tolist(),
            }
        return answer
