"""What the columns of a part are, which one is predicted, and whether two parts can vote together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .values import Columns, Kind


@dataclass(frozen=True, slots=True)
class Field:
    """One column that models see."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a part and the task."""

    target: str
    task: str
    target_kind: Kind
    fields: tuple[Field, ...]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name this schema; the order of columns does not matter."""
        raise NotImplementedError

    def check(self, columns: Columns, first_row: int = 1) -> None:
        """Raise BadInput unless `columns` can be predicted."""
        raise NotImplementedError

    def truth(self, columns: Columns, first_row: int = 1) -> NDArray[np.float64] | NDArray[np.object_]:
        """The target: float64 with NaN (regression), or canonical labels with None (classification)."""
        raise NotImplementedError

    def label(self, text: str) -> int | float | bool | str:
        """The value to show for a canonical label."""
        raise NotImplementedError

    def to_data(self) -> dict[str, object]:
        """As plain data."""
        raise NotImplementedError

    @classmethod
    def from_data(cls, data: object) -> Schema:
        """The schema that another peer sent; RemoteError if it is none."""
        raise NotImplementedError


def infer(columns: Columns, target: str | None, task: str = "auto") -> Schema:
    """The schema of a part."""
    raise NotImplementedError


def consensus(schemas: Mapping[str, tuple[Schema, int]]) -> tuple[Schema | None, dict[str, str]]:
    """The schema that most peers share, and a sentence for each peer that does not fit."""
    raise NotImplementedError
