"""Scores of the ensemble itself, from sufficient statistics of the rows that add up exactly over peers."""

from __future__ import annotations

from .classification import ClassificationStatistics
from .regression import RegressionStatistics

__all__ = ["ClassificationStatistics", "RegressionStatistics"]
