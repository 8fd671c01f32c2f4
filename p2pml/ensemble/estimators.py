"""Small estimators around or in place of scikit-learn's, with its `fit`, `predict` and `predict_proba`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .values import Floats


class Constant:
    """For a part of one class: it says that class, which is all that it has seen."""

    def fit(self, features: Floats, labels: NDArray[np.int64]) -> Constant:
        self.classes_ = np.unique(labels)
        return self

    def predict_proba(self, features: Floats) -> Floats:
        """Shape (rows, 1)."""
        return np.ones((len(features), 1))


class Standardised:
    """A regressor that learns a target of mean 0 and deviation 1, for those whose steps or penalty have a scale."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.mean = 0.0
        self.scale = 1.0

    def fit(self, features: Floats, target: Floats) -> Standardised:
        self.mean = float(target.mean())
        self.scale = float(target.std())  # 0 for a constant, which is then predicted exactly
        self.inner.fit(features, (target - self.mean) / (self.scale or 1.0))
        return self

    def predict(self, features: Floats) -> Floats:
        """Shape (rows,), in the units of the target."""
        values: Floats = np.asarray(self.inner.predict(features), np.float64)
        return values * self.scale + self.mean


class Softmax:
    """A classifier that gives only decision values: their softmax stands for probabilities.

    Two classes have one decision value d, and exp(d) / (exp(d) + exp(-d)) is that of the second. It keeps the
    order of the classes. It is not calibrated: that would take a second fit on rows held back (Platt, 1999).
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def fit(self, features: Floats, labels: NDArray[np.int64]) -> Softmax:
        self.inner.fit(features, labels)
        self.classes_ = self.inner.classes_
        return self

    def predict_proba(self, features: Floats) -> Floats:
        """Shape (rows, classes)."""
        decision = np.asarray(self.inner.decision_function(features), np.float64)
        if decision.ndim == 1:
            decision = np.column_stack([-decision, decision])
        powers = np.exp(decision - decision.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares
