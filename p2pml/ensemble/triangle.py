"""Symmetric matrices as they travel: the upper triangle, row by row, as raw little-endian numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .values import Floats


def packed(matrix: Floats, kind: str = "<f8") -> bytes:
    """The upper triangle of a square matrix, as numbers of this kind."""
    return matrix[_above(len(matrix))].astype(kind).tobytes()


def unpacked(upper: Floats, size: int) -> Floats:
    """The symmetric matrix, (size, size), of an upper triangle."""
    matrix, above = np.zeros((size, size)), _above(size)
    matrix[above] = upper
    matrix.T[above] = upper
    return matrix


def _above(size: int) -> NDArray[np.bool_]:
    """Where the triangle is: a quarter of the time that the indices of it take."""
    return ~np.tri(size, k=-1, dtype=bool)
