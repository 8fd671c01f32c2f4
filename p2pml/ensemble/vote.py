"""What one model says about some rows, and how it travels between peers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Vote:
    """Values (rows,) for regression with `classes` None, or probabilities (rows, classes)."""

    classes: tuple[str, ...] | None
    values: NDArray[np.float64]

    def to_data(self) -> dict[str, object]:
        """As plain data: the array as raw little-endian bytes."""
        raise NotImplementedError

    @classmethod
    def from_data(cls, data: object, rows: int) -> Vote:
        """The vote of another peer on `rows` rows; RemoteError if it is none."""
        raise NotImplementedError
