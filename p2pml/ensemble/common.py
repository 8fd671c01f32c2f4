"""The common vote: one ridge regression on random features, of the rows of all peers, which stay where they are.

No combination of votes knows more than its voters do. Equations add up over the peers (see `equations`), so whoever
holds everybody's solves them once, and has a voter that has in effect seen all rows. How strong the ridge must be, they
say themselves (generalised cross-validation: Golub, Heath and Wahba 1979); how much its vote counts beside the others',
the peers' held-out rows (see `calibration`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .equations import Equations
from .features import Features
from .space import FAR
from .values import Columns, Floats, blocks
from .vote import Vote

RIDGES = tuple(10.0 ** (step / 2) for step in range(-10, 5))
"""Shares of the features' mean variance: less would drown in what float32 rounds, more leaves the mean."""
SHARP = 8.0
"""What a regression says of a class is times this its logarithm: least squares say too little where classes are easily
told apart, and its probabilities would count for little beside those of votes."""


@dataclass(frozen=True, eq=False)
class Common:
    """`coefficients` has shape (features, outputs) and `offsets` (outputs,); of `rows` rows of `peers` peers. In
    regression the vote stays between `low` and `high`: far from all rows a line leads anywhere."""

    features: Features
    classes: tuple[str, ...] | None
    coefficients: Floats
    offsets: Floats
    low: float
    high: float
    rows: int
    peers: int

    @classmethod
    def fit(cls, features: Features, total: Equations, peers: int) -> Common:
        """The regression of the equations of so many peers."""
        values, vectors = np.linalg.eigh(total.gram)
        values = np.maximum(values, 0.0)
        turned = vectors.T @ total.cross
        best, least = turned * 0.0, math.inf
        for ridge in RIDGES:
            inverse = 1 / (values + ridge * max(float(values.mean()), 1e-30))
            found = turned * inverse[:, None]
            left = total.spread.sum() - 2 * (found * turned).sum() + (np.square(found) * values[:, None]).sum()
            free = 1 - (1 + (values * inverse).sum()) / total.seen
            loss = max(left, 0.0) / free**2 if free > 0 else math.inf
            if loss < least or not math.isfinite(least):
                best, least = found, loss
        coefficients = vectors @ best
        middle, reach = float(total.target[0]), FAR * math.sqrt(float(total.spread[0]))
        offsets = total.target - total.means @ coefficients
        return cls(features, total.classes, coefficients, offsets, middle - reach, middle + reach, total.rows, peers)

    @cached_property
    def _narrow(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How places become units."""
        return self.features.weights.astype(np.float32), self.features.offsets.astype(np.float32)

    def vote(self, columns: Columns, first_row: int = 1) -> Vote:
        """The vote on every row."""
        places = self.features.places(columns, first_row)
        near, units = self.coefficients[: self.features.axes], self.coefficients[self.features.axes :]
        scores = places @ near + self.offsets
        # In float32 a row's units take half the time, and move its scores by a millionth.
        narrow, (weights, offsets) = places.astype(np.float32), self._narrow
        for block in blocks(len(places), len(units)):
            found = narrow[block] @ weights
            found += offsets
            scores[block] += np.maximum(found, 0.0, out=found).astype(np.float64) @ units
        if self.classes is None:
            return Vote(None, np.clip(scores[:, 0], self.low, self.high))
        powers = np.exp(SHARP * (scores - scores.max(axis=1, keepdims=True)))
        return Vote(self.classes, powers / powers.sum(axis=1, keepdims=True))
