"""Tables of distinct scores, from which the area under a curve follows exactly, however the rows were cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .values import Floats

MAX_SCORES = 2**16 + 1
"""Distinct scores that travel of one class, and three times that of all classes together: at 16 bytes each 3 MiB,
which a message of 4 MiB holds. Where there are more, a peer rounds them to multiples of a power of 1/2 before it
sends them: of 2^-16 with at most three classes."""

Counts = NDArray[np.int64]

_NONE = np.zeros(0, bool)


def most_scores(classes: int) -> int:
    """How many distinct scores travel of each of so many classes."""
    return min(MAX_SCORES, 3 * MAX_SCORES // classes)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """For each distinct score, ascending, how many rows with it are of the class and how many are not."""

    scores: Floats
    positives: Counts
    negatives: Counts

    @classmethod
    def of(cls, scores: Floats, positive: NDArray[np.bool_]) -> Tally:
        """Of rows: their scores within 0 and 1, shape (rows,), and whether each is of the class."""
        ones = positive.astype(np.int64)
        return _summed(scores, ones, 1 - ones)

    @classmethod
    def absent(cls, rows: int) -> Tally:
        """Of rows none of which is of the class, nor thought to be."""
        return _summed(np.zeros(1), np.zeros(1, np.int64), np.array([rows])) if rows else cls.of(np.zeros(0), _NONE)

    def merge(self, other: Tally) -> Tally:
        """Of both sets of rows together."""
        return _summed(
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.positives, other.positives]),
            np.concatenate([self.negatives, other.negatives]),
        )

    @property
    def area(self) -> float | None:
        """The area under the receiver operating characteristic: how likely a row of the class scores higher than
        one that is not, a tie counting half. None unless there are rows of both sorts."""
        positives, negatives = int(self.positives.sum()), int(self.negatives.sum())
        if positives == 0 or negatives == 0:
            return None
        twice_below = 2 * (np.cumsum(self.negatives) - self.negatives) + self.negatives
        return float(np.dot(self.positives.astype(float), twice_below.astype(float))) / (2 * positives * negatives)

    @property
    def precision(self) -> float | None:
        """Average precision: the mean of precision over the steps of recall. None without rows of the class."""
        total = int(self.positives.sum())
        if total == 0:
            return None
        found, passed = np.cumsum(self.positives[::-1]), np.cumsum(self.negatives[::-1])
        return float(np.dot(self.positives[::-1] / total, found / (found + passed)))

    def rounded(self, most: int) -> Tally:
        """The same with at most so many distinct scores."""
        if len(self.scores) <= most:
            return self
        steps = 2.0 ** ((most - 1).bit_length() - 1)
        return _summed(np.round(self.scores * steps) / steps, self.positives, self.negatives)

    def to_data(self) -> list[bytes]:
        """As plain data: scores as little-endian float64, counts as uint32."""
        counts = (self.positives, self.negatives)
        return [self.scores.astype("<f8").tobytes(), *(count.astype("<u4").tobytes() for count in counts)]

    @classmethod
    def from_data(cls, data: Any, most: int) -> Tally:
        """What another peer sent; ValueError if it is no table of at most `most` scores."""
        raw_scores, raw_positives, raw_negatives = data
        if not all(isinstance(raw, bytes) for raw in data) or len(raw_scores) > 8 * most:
            raise ValueError(f"no table of at most {most} scores")
        scores = np.frombuffer(raw_scores, "<f8").astype(np.float64)
        positives, negatives = (np.frombuffer(raw, "<u4").astype(np.int64) for raw in (raw_positives, raw_negatives))
        if not len(scores) == len(positives) == len(negatives):
            raise ValueError("a table whose columns differ in length")
        ascending = (np.diff(scores) > 0).all() and (scores >= 0).all() and (scores <= 1 + 1e-6).all()
        if not ascending or (positives + negatives == 0).any():
            raise ValueError("scores that are not ascending within 0 and 1, or that no row has")
        return cls(scores, positives, negatives)


def _summed(scores: Floats, positives: Counts, negatives: Counts) -> Tally:
    distinct, place = np.unique(scores, return_inverse=True)
    sums = [np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.int64)]
    np.add.at(sums[0], place, positives)
    np.add.at(sums[1], place, negatives)
    return Tally(distinct, sums[0], sums[1])
