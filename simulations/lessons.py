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
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.summary import Epoch, ModelState, Summary
from p2pml.ensemble.values import Floats
from p2pml.ensemble.vote import Vote

PARTS = (8, 32, 128)
"""Parts that the rows are cut into: the least of these numbers that is one for each host. More hosts share them."""
SKEW = 0.5
"""The parameter of the Dirichlet distribution that the classes of each part are drawn from."""
MODEL = "linear"
"""What the hosts train: real, and done in milliseconds."""
ROWS = 60
"""Rows of each question; always the same ones, so that each model votes on them once."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One part's model: what it votes on the rows of all questions, and what is told of it."""

    digest: str
    rows: int
    vote: Vote

    def dense(self, classes: tuple[str, ...]) -> Floats:
        """The probabilities of all classes, shape (rows, classes)."""
        found = np.zeros((len(self.vote.values), len(classes)))
        for place, name in enumerate(self.vote.classes or ()):
            found[:, classes.index(name)] = self.vote.values[:, place]
        return found


@dataclass(frozen=True, eq=False)
class Lessons:
    """The models of all parts, under one schema, and the truth about the rows of the questions."""

    schema: Schema
    truth: tuple[str, ...]
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
        """The share of the rows that an answer has right."""
        return sum(map(str.__eq__, map(str, answer.predictions), self.truth)) / len(self.truth)


@cache
def lessons(hosts: int) -> Lessons:
    """Give so many hosts something to know; raises what a training raises."""
    count = next((parts for parts in PARTS if parts >= hosts), PARTS[-1])
    return _lessons(count)


@cache
def _lessons(parts: int) -> Lessons:
    # No fork or spawn of this process, which may be one that is not allowed to have children of that kind.
    apart = [sys.executable, "-m", __name__, str(parts)]
    return Lessons.from_data(msgpack.unpackb(subprocess.run(apart, stdout=subprocess.PIPE, check=True).stdout))  # noqa: S603


def learn(parts: int) -> Lessons:
    """Train a model on each of so many parts of the digits; each part has a few of the classes above all."""
    from p2pml.ensemble.cutting import cut
    from p2pml.ensemble.digits import TARGET, digits
    from p2pml.ensemble.models import train

    columns, aside, schema = digits()
    truth = tuple(str(label) for label in aside.pop(TARGET)[:ROWS])
    asked = {name: cells[:ROWS] for name, cells in aside.items()}
    learnt = []
    for part, rows in enumerate(cut(columns[TARGET], TARGET, parts, "dirichlet", SKEW, 0)):
        # By what it was made of: the last digits of what it has learnt may differ from machine to machine.
        digest = hashlib.sha256(f"{MODEL}/{part}/{parts}".encode()).hexdigest()
        learnt.append(Lesson(digest, len(rows), train(schema, columns, rows, MODEL, 0).vote(asked)))
    return Lessons(schema, truth, tuple(learnt))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgpack.packb(learn(int(sys.argv[1])).to_data()))
