"""Curves of a classification, from the very tables of scores that its area under the curve is computed from."""

from __future__ import annotations

import numpy as np

from p2pml.ensemble.metrics import ClassificationStatistics
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.tallies import Tally

from .answers import Curve

POINTS = 200
"""Points of one curve: more cannot be seen."""
TENTHS = 10
"""Groups of rows by probability, of one width."""
MOST = 20
"""Classes that have curves, the most frequent ones."""


def curves(statistics: ClassificationStatistics, schema: Schema) -> list[Curve]:
    """Of each class against the rest; of two classes, only of the second, as the first mirrors it."""
    support = statistics.confusion.sum(axis=1)
    chosen = sorted(np.argsort(-support, kind="stable")[:MOST].tolist())
    if len(statistics.classes) == 2:
        chosen = [1]
    return [
        Curve(
            label=schema.label(statistics.classes[at]),
            roc=roc(statistics.tallies[at]),
            calibration=calibration(statistics.tallies[at]),
        )
        for at in chosen
        if 0 < support[at] < statistics.rows
    ]


def roc(tally: Tally) -> list[list[float]]:
    """Points (false positive rate, true positive rate), from (0, 0) to (1, 1)."""
    true = np.cumsum(tally.positives[::-1]) / tally.positives.sum()
    false = np.cumsum(tally.negatives[::-1]) / tally.negatives.sum()
    at = np.unique(np.linspace(0, len(true) - 1, POINTS).round().astype(int))
    points: list[list[float]] = np.column_stack([false[at], true[at]]).tolist()
    return [[0.0, 0.0], *points]


def calibration(tally: Tally) -> list[list[float]]:
    """For each tenth of probability that has rows: (mean probability, share of rows of the class, rows)."""
    rows = tally.positives + tally.negatives
    group = np.minimum((tally.scores * TENTHS).astype(int), TENTHS - 1)
    counts = np.bincount(group, rows, TENTHS)
    means = np.bincount(group, rows * tally.scores, TENTHS)
    shares = np.bincount(group, tally.positives, TENTHS)
    return [[float(means[g] / counts[g]), float(shares[g] / counts[g]), int(counts[g])] for g in np.flatnonzero(counts)]
