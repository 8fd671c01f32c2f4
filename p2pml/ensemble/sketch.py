"""The distribution of some numbers as a few quantiles, which travel where the numbers themselves stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pml.errors import RemoteError

from .values import Floats

POINTS = 100
"""Quantiles of a sketch at most: each stands for a hundredth of the rows, finer than 1,000 rows tell of coverage."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Of `rows` numbers the quantiles `values`, ascending, each the largest of an equal share of them; float32, so that
    a sketch that has travelled is the same."""

    rows: int
    values: Floats

    @classmethod
    def of(cls, numbers: Floats, least: int) -> Sketch | None:
        """The sketch of numbers, shape (rows,); None of fewer than `least`, of which nothing may be told."""
        rows = len(numbers)
        if rows < max(1, least):
            return None
        points = min(POINTS, rows)
        ranks = np.ceil(np.arange(1, points + 1) * rows / points).astype(int) - 1
        return cls(rows, np.sort(numbers)[ranks].astype("<f4").astype(np.float64))

    def share(self, points: Floats) -> Floats:
        """The share of the numbers up to each point, any shape; between quantiles that stand for several, linear."""
        if self.rows == len(self.values):
            return np.asarray(np.searchsorted(self.values, points, side="right") / self.rows)
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
    # Shares add up to 1 but for rounding.
    wanted = level * (1 + own) - 1e-12
    # The first point that reaches it, by bisection for all rows at once.
    low, high = np.zeros(weights.shape[1], np.int64), np.full(weights.shape[1], len(points))
    while (open_ := low < high).any():
        middle = np.minimum((low + high) // 2, len(points) - 1)
        enough = (weights * table[:, middle]).sum(axis=0) >= wanted
        high = np.where(open_ & enough, middle, high)
        low = np.where(open_ & ~enough, middle + 1, low)
    return np.where(low < len(points), points[np.minimum(low, len(points) - 1)], np.inf)
