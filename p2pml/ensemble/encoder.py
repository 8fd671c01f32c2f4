"""Rows become numbers: imputation, scaling and one-hot from nothing but arrays and tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schema import Schema
from .values import Columns


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a row becomes numbers."""

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name this encoder."""
        raise NotImplementedError

    @classmethod
    def fit(cls, schema: Schema, columns: Columns) -> Encoder:
        """Learn medians, scales and levels."""
        raise NotImplementedError

    def encode(self, columns: Columns, first_row: int = 1) -> NDArray[np.float32]:
        """Shape (rows, width)."""
        raise NotImplementedError

    def to_data(self) -> dict[str, object]:
        """As plain data."""
        raise NotImplementedError

    @classmethod
    def from_data(cls, data: object) -> Encoder:
        """The encoder that another peer sent; RemoteError if it is none."""
        raise NotImplementedError
