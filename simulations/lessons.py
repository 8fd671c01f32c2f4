"""What the hosts of the layer core know: real models of skewed parts, and their votes on rows that nobody trained on.

Everything is trained once for a number of parts, in a process of its own: scikit-learn stays there, and what comes back
are arrays.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack
import numpy as np

from p2pml.ensemble.combine import Answer
from p2pml.ensemble.schema import Schema, infer
from p2pml.ensemble.summary import Epoch, ModelState, Summary
from p2pml.ensemble.values import Columns, Floats
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput

PARTS = (8, 32, 128)
"""Parts that the rows are cut into: the least of these numbers that is one for each host. More hosts share them."""
SKEW = 0.5
"""The parameter of the Dirichlet distribution that the classes of each part are drawn from."""
MODEL = "linear"
"""What the hosts train: real, and done in milliseconds."""
ROWS = 60
"""Rows of each question; always the same ones, so that each model votes on them once."""
FEWEST = 400
"""Rows that a table needs at least: so few that parts are small, and so many that each has some."""
USELESS = 3
"""The exit code of the process that trains, where the rows are of no use."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One part's model: what it votes on the rows of all questions, and what is told of it."""

    digest: str
    rows: int
    vote: Vote

    def dense(self, classes: tuple[str, ...] | None) -> Floats:
        """The values, shape (rows,), or where there are classes the probabilities of all these, (rows, classes)."""
        if classes is None:
            return self.vote.values
        found = np.zeros((len(self.vote.values), len(classes)))
        for place, name in enumerate(self.vote.classes or ()):
            found[:, classes.index(name)] = self.vote.values[:, place]
        return found


@dataclass(frozen=True, eq=False)
class Lessons:
    """The models of all parts, under one schema, and the truth about the rows of the questions."""

    schema: Schema
    truth: tuple[Any, ...]
    parts: tuple[Lesson, ...]

    def to_data(self) -> dict[str, Any]:
        """Write it as plain data for msgpack."""
        parts = [[part.digest, part.rows, part.vote.to_data()] for part in self.parts]
        return {"schema": self.schema.to_data(), "truth": self.truth, "parts": parts}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Lessons:
        """Read it back."""
        truth = tuple(data["truth"])
        parts = tuple(Lesson(digest, rows, Vote.from_data(vote, len(truth))) for digest, rows, vote in data["parts"])
        return cls(Schema.from_data(data["schema"]), truth, parts)

    def of(self, host: int) -> Lesson:
        """What a host has learnt."""
        return self.parts[host % len(self.parts)]

    def summary(self, host: int, fits: int) -> bytes:
        """What a host tells of its model, which it has trained so many times, as its entry in the catalogue."""
        lesson, schema = self.of(host), self.schema
        told = Summary(
            ModelState.READY,
            MODEL,
            Epoch(fits),
            voting=True,
            schema=schema.fingerprint,
            task=schema.task,
            target=schema.target,
            rows=lesson.rows,
            digest=lesson.digest,
        )
        packed: bytes = msgpack.packb(told.to_data())
        return packed

    def score(self, answer: Answer) -> float:
        """The share of the rows that an answer has right, or of a regression the coefficient of determination R²."""
        if answer.classes is not None:
            return sum(map(str.__eq__, map(str, answer.predictions), self.truth)) / len(self.truth)
        true = np.array(self.truth)
        errors = np.square(true - np.asarray(answer.predictions, np.float64)).sum()
        return float(1 - errors / np.square(true - true.mean()).sum())


@cache
def lessons(hosts: int, data: str | None = None, target: str | None = None) -> Lessons:
    """Give so many hosts something to know: digits, or the rows of a file. Raises `BadInput` where it is no use."""
    count = next((parts for parts in PARTS if parts >= hosts), PARTS[-1])
    return _lessons(count, *([] if data is None else [data] if target is None else [data, target]))


@cache
def _lessons(parts: int, *table: str) -> Lessons:
    # No fork or spawn of this process, which may be one that is not allowed to have children of that kind.
    apart = [sys.executable, "-m", __name__, str(parts), *table]
    done = subprocess.run(apart, capture_output=True, check=False)  # noqa: S603 (this very file)
    if done.returncode == USELESS:
        raise BadInput(done.stderr.decode().strip())
    if done.returncode:
        raise RuntimeError(f"the models could not be trained: {done.stderr.decode()}")
    return Lessons.from_data(msgpack.unpackb(done.stdout))


def learn(parts: int, data: str | None = None, target: str | None = None) -> Lessons:
    """Train a model on each of so many parts; each has a few classes, or ranges of the target, above all."""
    from p2pml.ensemble.cutting import cut
    from p2pml.ensemble.digits import digits
    from p2pml.ensemble.models import train

    columns, aside, schema = digits() if data is None else _table(data, target)
    asked = {name: cells[:ROWS] for name, cells in aside.items()}
    truth = tuple(schema.truth(asked).tolist())
    rows = {name: cells for name, cells in asked.items() if name != schema.target}
    learnt = []
    for part, places in enumerate(cut(columns[schema.target], schema.target, parts, "dirichlet", SKEW, 0)):
        # By what it was made of: the last digits of what it has learnt may differ from machine to machine.
        digest = hashlib.sha256(f"{MODEL}/{part}/{parts}".encode()).hexdigest()
        learnt.append(Lesson(digest, len(places), train(schema, columns, places, MODEL, 0).vote(rows)))
    return Lessons(schema, truth, tuple(learnt))


def _table(path: str, target: str | None) -> tuple[Columns, Columns, Schema]:
    """The rows of a file whose target is known: those to train on, a fifth of them put aside, and their schema."""
    from p2pml.peer.table import read_table

    table = read_table(path)
    schema = infer(table.columns, target)
    known = [
        at for at, value in enumerate(schema.truth(table.columns).tolist()) if value is not None and value == value
    ]
    if len(known) < FEWEST:
        raise BadInput(f"{path} has {len(known)} rows with a {schema.target}, and a simulation needs {FEWEST}")
    order = np.random.default_rng(0).permutation(known)
    aside, rows = np.split(order, [len(order) // 5])
    mine, others = (
        {name: [cells[at] for at in each] for name, cells in table.columns.items()} for each in (rows, aside)
    )
    return mine, others, schema


def main(arguments: list[str]) -> int:
    """Train what is asked for, and write it on standard output."""
    try:
        sys.stdout.buffer.write(msgpack.packb(learn(int(arguments[0]), *arguments[1:]).to_data()))
    except BadInput as error:
        sys.stderr.write(str(error))
        return USELESS
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
