"""What the demo works with: handwritten digits that come with scikit-learn, cut for peers, and yardsticks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2pml.ensemble.combine import combine
from p2pml.ensemble.cutting import cut
from p2pml.ensemble.digits import TARGET, Columns, digits
from p2pml.ensemble.models import train
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.vote import Vote
from p2pml.peer.scoring import statistics_of

MODEL = "hist-gradient-boosting"
"""The model that a peer trains by default."""

SEED = 0


@dataclass(frozen=True, slots=True)
class Digits:
    """Rows for the peers, rows that no peer sees, and what both look like."""

    rows: Columns
    unseen: Columns
    schema: Schema

    def score(self, columns: Columns, vote: Vote) -> float:
        """The accuracy of one vote on rows that have the target."""
        scores = statistics_of(self.schema, columns, combine([("", vote, 1)])).scores()
        accuracy = scores["accuracy"]
        assert accuracy is not None
        return accuracy

    def score_of_one_model(self) -> float:
        """The accuracy of one model that was trained on all the rows: what there would be with a centre."""
        count = len(self.rows[self.schema.target])
        model = train(self.schema, self.rows, np.arange(count), MODEL, SEED)
        return self.score(self.unseen, model.vote(self.unseen))

    def questions(self) -> Columns:
        """The unseen rows without the target."""
        return {name: cells for name, cells in self.unseen.items() if name != self.schema.target}


def load() -> Digits:
    """1,797 digits of 8 by 8 pixels, a fifth of them put aside."""
    return Digits(*digits(SEED))


def write_parts(digits: Digits, names: Sequence[str], folder: Path) -> dict[str, Path]:
    """A file for each name with an equal share of the rows, drawn at random."""
    places = cut(digits.rows[TARGET], TARGET, len(names), "random", 1.0, SEED)
    parts: dict[str, Path] = {}
    for name, part in zip(names, places, strict=True):
        parts[name] = folder / f"{name}.csv"
        write(parts[name], {column: [cells[at] for at in part] for column, cells in digits.rows.items()})
    return parts


def write(path: Path, columns: Columns) -> None:
    """A table as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
