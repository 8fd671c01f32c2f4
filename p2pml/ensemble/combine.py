"""Votes become one answer, the same whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .vote import Vote

RULES = ("mean", "median", "weighted")


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions are canonical labels with `classes` and `probabilities`, or float64 values with neither."""

    predictions: list[str] | NDArray[np.float64]
    classes: tuple[str, ...] | None
    probabilities: NDArray[np.float64] | None


def combine(votes: Sequence[tuple[str, Vote, int]], rule: str = "mean") -> Answer:
    """The answer of (peer id, vote, training rows) under one of RULES."""
    raise NotImplementedError
