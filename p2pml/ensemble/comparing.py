"""Rules and peers side by side on the same rows, with bootstrap intervals, from sums that add up over parts.

Each part draws its rows anew many times by weights from a Poisson distribution (Hanley and MacGibbon 2006), the same
for every rule, and keeps the sums of each draw. The n-th draws of all parts together are a draw of all rows, so an
interval of the pooled score needs no rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .combine import Answer
from .values import Floats

DRAWS = 200
"""Draws of a bootstrap: an interval of 95 % rests on the fifth draw from each end."""
LEVEL = 0.95
MOST = 4_096 + 32
"""Rules and peers that a comparison may name."""
REGRESSION = ("r2", "mean_absolute_error", "root_mean_squared_error")
CLASSIFICATION = ("accuracy", "log_loss")
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score, and the interval that holds it with probability LEVEL; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """`sums` has shape (names, 1 + DRAWS, 5), first of the rows themselves and then of each draw: their weight, and for
    regression the truth's mean and its squares around it, squared and absolute errors; for classification hits and
    losses."""

    task: str
    names: tuple[str, ...]
    sums: Floats

    @classmethod
    def of(cls, task: str, truth: NDArray[Any], answers: Mapping[str, Answer], seed: Sequence[int]) -> Comparison:
        """Of answers on rows whose truth, shape (rows,), is as `Schema.truth` gives it; those without are left out."""
        known = np.array([value is not None and value == value for value in truth], bool)
        true = truth[known]
        weights = np.vstack([np.ones(len(true)), np.random.default_rng(seed).poisson(1.0, (DRAWS, len(true)))])
        names = tuple(sorted(answers))
        each = _regression if task == "regression" else _classification
        sums = [each(weights, true, answers[name], known) for name in names]
        return cls(task, names, np.stack(sums) if sums else np.zeros((0, 1 + DRAWS, 5)))

    def merge(self, other: Comparison) -> Comparison:
        """Of both sets of rows together; what only one of them names is of that one's rows alone."""
        names = tuple(sorted({*self.names, *other.names}))
        one, two = self._over(names), other._over(names)
        total = one + two
        if self.task == "regression":
            rows = total[..., 0]
            share = np.divide(two[..., 0], rows, out=np.zeros_like(rows), where=rows > 0)
            step = two[..., 1] - one[..., 1]
            total[..., 1] = one[..., 1] + step * share
            # Chan, Golub and LeVeque (1983), eq. 1.5.
            total[..., 2] = one[..., 2] + two[..., 2] + step * step * share * one[..., 0]
        return Comparison(self.task, names, total)

    def rows(self, name: str) -> int:
        """On how many rows a rule or a peer was scored."""
        return round(float(self.sums[self.names.index(name), 0, 0]))

    def scores(self, name: str) -> dict[str, Estimate]:
        """Its scores, the first of which people ask for first."""
        sums = self.sums[self.names.index(name)]
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = sums[:, 0]
            if self.task == "regression":
                found = [1 - sums[:, 3] / sums[:, 2], sums[:, 4] / rows, np.sqrt(sums[:, 3] / rows)]
            else:
                found = [sums[:, 1] / rows, sums[:, 2] / rows]
        metrics = REGRESSION if self.task == "regression" else CLASSIFICATION
        return {metric: _estimate(values) for metric, values in zip(metrics, found, strict=True)}

    def _over(self, names: Sequence[str]) -> Floats:
        at = {name: place for place, name in enumerate(names)}
        sums = np.zeros((len(names), 1 + DRAWS, 5))
        sums[[at[name] for name in self.names]] = self.sums
        return sums

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack."""
        return {"task": self.task, "names": list(self.names), "sums": self.sums.astype("<f8").tobytes()}

    @classmethod
    def from_data(cls, data: object) -> Comparison:
        """The comparison that another peer sent; RemoteError if it is none."""
        match data:
            case {"task": "regression" | "classification" as task, "names": list(names), "sums": bytes(raw)}:
                known = all(isinstance(name, str) and 0 < len(name) <= 64 for name in names)
                if known and len(names) <= MOST and names == sorted(set(names)) and len(raw) == _size(len(names)):
                    sums = np.frombuffer(raw, "<f8").reshape(len(names), 1 + DRAWS, 5).astype(np.float64)
                    positive = np.delete(sums, 1, axis=2) if task == "regression" else sums
                    if np.isfinite(sums).all() and (positive >= 0).all() and (sums[..., 0] <= 2**53).all():
                        return cls(task, tuple(names), sums)
        raise RemoteError("the comparison that a peer sent cannot be read")


def _size(names: int) -> int:
    return 8 * names * (1 + DRAWS) * 5


def _regression(weights: Floats, true: NDArray[Any], answer: Answer, known: NDArray[np.bool_]) -> Floats:
    truth = true.astype(np.float64)
    errors = truth - np.asarray(answer.predictions, np.float64)[known]
    middle = float(truth.mean()) if len(truth) else 0.0
    away = truth - middle
    rows = weights.sum(axis=1)
    step = np.divide(weights @ away, rows, out=np.zeros_like(rows), where=rows > 0)
    spread = np.maximum(weights @ np.square(away) - rows * np.square(step), 0.0)
    mean = np.where(rows > 0, middle + step, 0.0)
    return np.column_stack([rows, mean, spread, weights @ np.square(errors), weights @ np.abs(errors)])


def _classification(weights: Floats, true: NDArray[Any], answer: Answer, known: NDArray[np.bool_]) -> Floats:
    assert answer.classes is not None
    assert answer.probabilities is not None
    place = {name: at for at, name in enumerate(answer.classes)}
    at = np.array([place.get(label, -1) for label in true], np.int64)
    shares = answer.probabilities[known]
    likely = np.where(at >= 0, shares[np.arange(len(at)), at], 0.0)
    hits = (np.array(answer.predictions, object)[known] == true).astype(np.float64)
    losses = -np.log(np.clip(likely, _TINY, 1 - _TINY))
    zeros = np.zeros(len(weights))
    return np.column_stack([weights.sum(axis=1), weights @ hits, weights @ losses, zeros, zeros])


def _estimate(values: Floats) -> Estimate:
    value, draws = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not math.isfinite(value):
        return Estimate(None, None, None)
    if len(draws) < DRAWS / 2:
        return Estimate(value, None, None)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
