"""What a run showed: the properties that held, the first that did not, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

HELD, SAFETY, LIVENESS, CRASH, DETERMINISM = "held", "safety", "liveness", "crash", "determinism"

EXIT_CODES: Mapping[str, int] = {HELD: 0, SAFETY: 3, LIVENESS: 4, CRASH: 5, DETERMINISM: 6}
"""What a process ends with, by the kind of failure."""

LATE = "answers come by their deadline"
UNTRUE = "the count of votes is true"
VOTES = "answers hold every vote of the core"
"""What is asked of answers on both layers."""

Tell: TypeAlias = Callable[[float], None]
"""Somebody who is told how far a run is, in virtual seconds."""


def nobody(seconds: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Breach:
    """A property that did not hold: its kind, when that showed first (s), and where."""

    property: str
    kind: str
    at: float
    words: str

    def same(self, other: Breach | None) -> bool:
        """Whether another breach is of the same property."""
        return other is not None and (self.kind, self.property) == (other.kind, other.property)

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.kind}: {self.property}, at {self.at:.3f} s: {self.words}"


@dataclass(frozen=True)
class Report:
    """One run. `timeline` has a row for each second: the time, peers alive and believed alive on the mean, messages and
    bytes a peer; and where answers came, the mean of their votes, of those
    expected and possible, of the score and the staleness."""

    scenario: str
    seed: int
    trace: str
    properties: Mapping[str, bool]
    measures: Mapping[str, float]
    breach: Breach | None = None
    timeline: tuple[Mapping[str, float], ...] = field(default=(), compare=False)
    seen: Mapping[str, int] = field(default_factory=dict, compare=False)
    """How often each thing happened that a suite must put to the test sometimes."""

    @property
    def held(self) -> bool:
        """Whether every property held."""
        return self.breach is None

    @property
    def kind(self) -> str:
        """How it ended."""
        return HELD if self.breach is None else self.breach.kind

    def to_data(self) -> dict[str, Any]:
        """Write it as `--json` prints it."""
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "trace": self.trace,
            "held": self.held,
            "properties": dict(self.properties),
            "measures": dict(self.measures),
        }
