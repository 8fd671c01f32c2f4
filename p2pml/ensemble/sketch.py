"""The distribution of some numbers as a few quantiles, which travel where the numbers themselves stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .values import Floats

POINTS = 100
"""Quantiles of a sketch: each stands for a hundredth of the rows, which is finer than the coverage of 200 rows is."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Of `rows` numbers the quantiles `values`, ascending, each the largest of an equal share of them; float32, so that
    a sketch that has travelled is the same."""

    rows: int
    values: Floats

    @classmethod
    def of(cls, numbers: Floats, least: int) -> Sketch | None:
        """The sketch of numbers, shape (rows,); None of fewer than `least`, which would be told one by one."""
        rows = len(numbers)
        if rows < max(1, least):
            return None
        # A point for each `least` numbers at most, so that none is the number of one row among fewer.
        points = max(1, min(POINTS, rows // max(1, least)))
        ranks = np.ceil(np.arange(1, points + 1) * rows / points).astype(int) - 1
        return cls(rows, np.sort(numbers)[ranks].astype("<f4").astype(np.float64))

    def share(self, points: Floats) -> Floats:
        """The share of the numbers up to each point, any shape, linear between quantiles."""
        values, after = np.unique(self.values[::-1], return_index=True)
        return np.interp(points, values, 1 - after / len(self.values), left=0.0)

    def to_data(self) -> list[Any]:
        """As plain data for msgpack."""
        return [self.rows, self.values.astype("<f4").tobytes()]

    @classmethod
    def from_data(cls, data: object) -> Sketch:
        """The sketch that another peer sent; RemoteError if it cannot be of any numbers."""
        match data:
            case [int(rows), bytes(raw)] if 0 < rows < 2**53 and 0 < len(raw) <= 4 * POINTS and len(raw) % 4 == 0:
                values = np.frombuffer(raw, "<f4").astype(np.float64)
                if np.isfinite(values).all() and (np.diff(values) >= 0).all() and len(values) <= rows:
                    return cls(rows, values)
        raise RemoteError("a sketch that a peer sent cannot be read")


def thresholds(sketches: list[Sketch], weights: Floats, level: float) -> Floats:
    """The number that a new one does not exceed with probability `level`, shape (rows,); infinite where there are too
    few to say.

    Row i's number is like those of sketch k with probability `weights[k, i]`: weighted split conformal prediction
    (Tibshirani, Barber, Candès and Ramdas 2019, corollary 1) where likelihood ratios differ between groups alone. The
    new number itself counts with v / (1 + v) of the whole, v the sum over k of weights² / rows; of one sketch
    that is 1 / (rows + 1).
    """
    points = np.unique(np.concatenate([each.values for each in sketches]))
    table = np.stack([each.share(points) for each in sketches])
    own = (np.square(weights) / np.array([each.rows for each in sketches])[:, None]).sum(axis=0)
    wanted = level * (1 + own)

    def share(at: NDArray[np.int64]) -> Floats:
        found: Floats = (weights * table[:, at]).sum(axis=0)
        return found

    # The first point that reaches it, by bisection for all rows at once, and then the line to it from the one before.
    low, high = np.zeros(weights.shape[1], np.int64), np.full(weights.shape[1], len(points) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        enough = share(middle) >= wanted
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    before = np.maximum(low - 1, 0)
    least, most = share(before), share(low)
    part = np.where(most > least, (wanted - least) / np.where(most > least, most - least, 1.0), 1.0)
    found: Floats = points[before] + np.clip(part, 0.0, 1.0) * (points[low] - points[before])
    # Shares add up to 1 but for rounding.
    return np.where(most >= wanted - 1e-9, found, np.inf)
