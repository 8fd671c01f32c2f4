"""Which rows are held out: a seeded choice that anyone can repeat with numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput


def split(rows: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices (from 0, ascending) of the rows to train on and of those held out.

    To repeat it: `order = numpy.random.default_rng(seed).permutation(rows)`; the first
    `min(round(rows * share), rows - 1)` of `order` are held out. So at least one row trains.
    """
    if not 0 <= share < 1:
        raise BadInput(f"--holdout {share} is no share of the rows: give a number from 0 to less than 1")
    if rows < 1:
        raise BadInput("there are no rows to split: give a file with at least two")
    if seed < 0:
        raise BadInput(f"--seed {seed} is negative: give 0 or more")
    order = np.random.default_rng(seed).permutation(rows).astype(np.int64)
    held = min(round(rows * share), rows - 1)
    return np.sort(order[held:]), np.sort(order[:held])
