"""Random features: what a linear model needs to be no longer linear, the same at every peer without a word.

A row of the shared space becomes its place along the axes and, beside it, max(0, w · place + b) for many w and b that
were drawn once from the space's digest (Rahimi and Recht 2007; of rectified units, Cho and Saul 2009). A ridge
regression on them comes near to a network with one layer, and needs no more of the rows than sums (`equations`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from .space import Space
from .values import Columns, Floats

FEWEST, MOST = 100, 1_500
"""Random features: as many as are worth their bytes, within these bounds."""
PER_AXIS, ROWS_EACH = 16, 4
"""Random features for each axis, and rows that all peers have together for each of them."""
ALL_BYTES = 64 * 2**20
"""Bytes of products that all peers together tell of their features, which bounds how many there may be: with 8 peers
1,628 at most, with 100 peers 579. What they tell of classes is as much again at most."""
STEEP = 3.0
"""Standard deviation of w · place over all rows, where that of b is 1: between 2 and 5 it matters little."""


@dataclass(frozen=True, eq=False)
class Features:
    """`weights` has shape (axes, count) and `offsets` (count,)."""

    space: Space
    weights: Floats
    offsets: Floats

    @classmethod
    def of(cls, space: Space) -> Features:
        """The features of a space: the same for all who stand in it."""
        width = math.isqrt(ALL_BYTES // (2 * len(space.members)))
        axes = min(space.axes.shape[1], width // 2)
        count = min(MOST, max(FEWEST, min(PER_AXIS * axes, space.rows // ROWS_EACH)), width - axes)
        weights, offsets = _drawn(space.digest, axes, count)
        return cls(space, weights * (STEEP / math.sqrt(max(axes, 1))), offsets)

    @property
    def axes(self) -> int:
        """Axes of the space that are looked at."""
        return len(self.weights)

    @property
    def width(self) -> int:
        """Features of a row."""
        return self.axes + len(self.offsets)

    @property
    def most_classes(self) -> int:
        """Classes of which peers tell at most: so products with classes take no more than those of features do."""
        return self.width // 2

    def places(self, columns: Columns, first_row: int = 1) -> Floats:
        """The first features of rows, shape (rows, axes)."""
        return self.space.spread(columns, first_row)[:, : self.axes]

    def units(self, places: Floats) -> Floats:
        """The other features of rows at these places before they are rectified, shape (rows, count)."""
        units = places @ self.weights
        units += self.offsets
        return units

    def mark(self) -> Floats:
        """A point's place, which tells whether another peer's axes are these: libraries of linear algebra may differ,
        and sums over other axes must not be added up."""
        space = self.space
        mark: Floats = np.sin(np.arange(1, len(space.centre) + 1)) @ space.axes[:, : self.axes]
        return mark


@lru_cache(maxsize=4)
def _drawn(digest: str, axes: int, count: int) -> tuple[Floats, Floats]:
    """Normal numbers, of shape (axes, count) and (count,). They come of a hash: numpy's generators may give others in
    another version, and all peers must have the same."""
    raw = hashlib.shake_256(f"features {digest}".encode()).digest(4 * count * (axes + 1))
    normal = ndtri((np.frombuffer(raw, "<u4") + 0.5) / 2**32)
    return normal[count:].reshape(axes, count), normal[:count]
