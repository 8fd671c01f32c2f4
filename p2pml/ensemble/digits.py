"""Handwritten digits that come with scikit-learn, to show and to try with: real rows without a download."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import Schema, infer

TARGET = "digit"

Columns = dict[str, list[object]]


def digits(seed: int = 0) -> tuple[Columns, Columns, Schema]:
    """1,797 digits of 8 by 8 pixels: four fifths of them, the fifth put aside by `seed`, and their schema."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    aside, rows = np.split(order, [len(order) // 5])
    names = [*bunch.feature_names, TARGET]
    # Whole numbers, and text, as somebody's file would have them.
    table = np.column_stack([bunch.data, bunch.target]).astype(int).astype(str)

    def columns(places: NDArray[np.intp]) -> Columns:
        return {name: list(table[places, at].tolist()) for at, name in enumerate(names)}

    mine = columns(rows)
    return mine, columns(aside), infer(mine, TARGET, "classification")
