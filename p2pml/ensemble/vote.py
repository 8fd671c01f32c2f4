"""What one model says about some rows, and how it travels between peers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pml.errors import RemoteError

from .fields import check_classes
from .values import Floats

TOLERANCE = 1e-6
"""How far the probabilities of a row may be from 1 in sum: float32 models come within 1e-7 a class."""


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """For regression `classes` is None and `values`, float64, has shape (rows,). For classification `classes`
    are canonical labels in ascending order and `values` their probabilities, shape (rows, classes)."""

    classes: tuple[str, ...] | None
    values: Floats

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack: the array as raw little-endian float64 beside its shape."""
        return {
            "classes": None if self.classes is None else list(self.classes),
            "shape": list(self.values.shape),
            "values": np.ascontiguousarray(self.values, "<f8").tobytes(),
        }

    def check(self) -> None:
        """Hold what another peer's arrays say here to what every vote from outside is held to; RemoteError as there."""
        try:
            _check(self.values, self.classes)
        except ValueError as error:
            raise RemoteError(f"the vote that a peer's model casts cannot be read: {error}") from error

    @classmethod
    def from_data(cls, data: object, rows: int) -> Vote:
        """The vote that another peer cast on `rows` rows; RemoteError if it is anything else: another shape, a
        value that is not finite, or probabilities that are negative or do not add up to 1."""
        try:
            return _read(data, rows)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the vote that a peer cast cannot be read: {error}") from error


def _read(data: Any, rows: int) -> Vote:
    classes = None if data["classes"] is None else check_classes(data["classes"])
    shape = (rows,) if classes is None else (rows, len(classes))
    raw = data["values"]
    if len(data) != 3 or list(data["shape"]) != list(shape):
        raise ValueError(f"its shape is not {shape}")
    if not isinstance(raw, bytes) or len(raw) != 8 * math.prod(shape):
        raise ValueError(f"its values are not {shape} float64")
    values = np.frombuffer(raw, "<f8").reshape(shape).astype(np.float64)
    _check(values, classes)
    return Vote(classes, values)


def _check(values: Floats, classes: tuple[str, ...] | None) -> None:
    if classes is None:
        if not np.isfinite(values).all():
            raise ValueError("a value is not finite")
    elif len(values) and not (values.min() >= 0 and np.abs(values.sum(axis=1) - 1).max() <= TOLERANCE):
        # Of what is not finite neither holds.
        raise ValueError("the probabilities of a row are not finite, negative, or do not add up to 1")
