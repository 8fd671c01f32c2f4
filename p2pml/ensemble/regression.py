"""Scores of regression from a handful of sums that add up over any cut of the rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from p2pml.errors import RemoteError

from .combine import Answer
from .values import Floats

MAX_ROWS = 2**53
"""Rows that another peer may claim: beyond it, counts and sums would no longer be exact."""


@dataclass(frozen=True, slots=True)
class RegressionStatistics:
    """Sufficient statistics of truths and predictions.

    `rows`, `mean` and `spread` (the sum of squares around the mean) are of the truth and merge as in Chan, Golub
    and LeVeque (1983), eq. 1.5; `low` and `high` tell a constant truth from one that is constant but for
    rounding. `squared`, `absolute` and `logarithmic` are sums of errors; `undefined` counts the rows that have
    no logarithmic error because the truth or the prediction is -1 or less.
    """

    rows: int = 0
    mean: float = 0.0
    spread: float = 0.0
    low: float = 0.0
    high: float = 0.0
    squared: float = 0.0
    absolute: float = 0.0
    logarithmic: float = 0.0
    undefined: int = 0

    @classmethod
    def of(cls, truth: Floats, answer: Answer) -> RegressionStatistics:
        """Statistics of the rows, shape (rows,), whose truth is not NaN."""
        known = ~np.isnan(truth)
        true, predicted = truth[known], np.asarray(answer.predictions, np.float64)[known]
        if len(true) == 0:
            return cls()
        mean = float(true.mean())
        errors = true - predicted
        defined = (true > -1) & (predicted > -1)
        logarithms = np.log1p(true[defined]) - np.log1p(predicted[defined])
        return cls(
            rows=len(true),
            mean=mean,
            spread=float(np.square(true - mean).sum()),
            low=float(true.min()),
            high=float(true.max()),
            squared=float(np.square(errors).sum()),
            absolute=float(np.abs(errors).sum()),
            logarithmic=float(np.square(logarithms).sum()),
            undefined=int((~defined).sum()),
        )

    def merge(self, other: RegressionStatistics) -> RegressionStatistics:
        """The statistics of both sets of rows together."""
        if self.rows == 0 or other.rows == 0:
            return self if other.rows == 0 else other
        rows = self.rows + other.rows
        step = other.mean - self.mean
        return RegressionStatistics(
            rows=rows,
            mean=self.mean + step * (other.rows / rows),
            spread=self.spread + other.spread + step * step * (self.rows / rows * other.rows),
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            squared=self.squared + other.squared,
            absolute=self.absolute + other.absolute,
            logarithmic=self.logarithmic + other.logarithmic,
            undefined=self.undefined + other.undefined,
        )

    def scores(self) -> dict[str, float | None]:
        """What scikit-learn's functions of the same names say of the rows; None where they are undefined."""
        if self.rows == 0:
            return dict.fromkeys(_SCORES)
        squared = self.squared / self.rows
        r2: float | None = None
        if self.low == self.high:
            # As scikit-learn has it: a constant truth is either hit or not.
            r2 = (1.0 if self.squared == 0 else 0.0) if self.rows > 1 else None
        elif self.spread > 0:
            r2 = 1 - self.squared / self.spread
        logarithmic = None if self.undefined else self.logarithmic / self.rows
        found = (r2, self.absolute / self.rows, squared, math.sqrt(squared), logarithmic)
        return {name: _finite(value) for name, value in zip(_SCORES, found, strict=True)}

    def to_data(self) -> dict[str, Any]:
        """As plain data for JSON or msgpack."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: object) -> RegressionStatistics:
        """The statistics that another peer sent; RemoteError if they cannot be of any rows."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise RemoteError("the statistics that a peer sent are not those of a regression")
        for name in names:
            whole = name in ("rows", "undefined")
            if type(data[name]) is not (int if whole else float) or not math.isfinite(data[name]):
                raise RemoteError(f"the statistics that a peer sent cannot be: {name} is {data[name]!r:.40}")
        read = cls(**data)
        sums = (read.spread, read.squared, read.absolute, read.logarithmic)
        if not 0 <= read.undefined <= read.rows <= MAX_ROWS or min(sums) < 0 or read.low > read.high:
            raise RemoteError("the statistics that a peer sent cannot be: a count or a sum is out of bounds")
        return read


_SCORES = (
    "r2",
    "mean_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_squared_log_error",
)


def _finite(value: float | None) -> float | None:
    """None for what JSON cannot say: errors beyond float64."""
    return value if value is not None and math.isfinite(value) else None
