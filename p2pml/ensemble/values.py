"""Raw cells, as files and JSON give them, become typed arrays; what cannot be read names its row and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput

Columns = Mapping[str, Sequence[object]]
"""A table: the cells of each column, all of one length."""

Floats = NDArray[np.float64]


class Kind(StrEnum):
    """What the cells of a column are."""

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATE = "date"
    EMPTY = "empty"


class BadValue(BadInput):
    """A cell that cannot be read as what its column holds."""

    def __init__(self, row: int, column: str, value: object, advice: str) -> None:
        self.row = row
        self.column = column
        self.value = value
        super().__init__(f"row {row}, column {column!r}: {value!r} {advice}")


def numbers(cells: Sequence[object], column: str, first_row: int = 1) -> Floats:
    """The cells as float64, NaN where missing."""
    raise NotImplementedError


def texts(cells: Sequence[object]) -> list[str | None]:
    """The cells as canonical text, None where missing."""
    raise NotImplementedError


def booleans(cells: Sequence[object]) -> Floats:
    """1.0 for true, -1.0 for false, NaN where missing, 0.0 for any other spelling."""
    raise NotImplementedError


def dates(cells: Sequence[object], column: str, first_row: int = 1) -> Floats:
    """The cells as seconds since 1970 UTC, NaN where missing."""
    raise NotImplementedError
