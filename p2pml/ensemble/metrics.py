"""Scores of the ensemble from sufficient statistics that add up exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .combine import Answer


@dataclass(frozen=True, slots=True)
class RegressionStatistics:
    """Of truths and predictions."""

    @classmethod
    def of(cls, truth: NDArray[np.float64], answer: Answer) -> RegressionStatistics:
        """Rows whose truth is NaN are left out."""
        raise NotImplementedError

    def merge(self, other: RegressionStatistics) -> RegressionStatistics:
        """The statistics of both sets of rows."""
        raise NotImplementedError

    def scores(self) -> dict[str, float | None]:
        """None where a score is undefined."""
        raise NotImplementedError

    def to_data(self) -> dict[str, object]:
        """As plain data."""
        raise NotImplementedError

    @classmethod
    def from_data(cls, data: object) -> RegressionStatistics:
        """What another peer sent; RemoteError if it is off."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ClassificationStatistics:
    """Of true labels and probabilities."""

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]

    @classmethod
    def of(cls, truth: NDArray[np.object_], answer: Answer) -> ClassificationStatistics:
        """Rows whose truth is None are left out."""
        raise NotImplementedError

    def merge(self, other: ClassificationStatistics) -> ClassificationStatistics:
        """The statistics of both sets of rows."""
        raise NotImplementedError

    def scores(self) -> dict[str, float | None]:
        """None where a score is undefined."""
        raise NotImplementedError

    def to_data(self) -> dict[str, object]:
        """As plain data."""
        raise NotImplementedError

    @classmethod
    def from_data(cls, data: object) -> ClassificationStatistics:
        """What another peer sent; RemoteError if it is off."""
        raise NotImplementedError
