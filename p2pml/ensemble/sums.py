"""Votes that are added up: sums of some peers' votes, which are added up again to those of all.

A mean of votes, weighted or not, is two sums: of the weights, and of the votes times their weights. The weights of
densities go from nothing to beyond what float64 can say, so each row's are told beside the logarithm of the largest,
which is what keeps a softmax finite that comes in pieces (Milakov and Gimelshein 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pml.errors import RemoteError

from .combine import Answer, answer_from, stacked
from .fields import check_classes
from .values import Floats
from .vote import TOLERANCE, Vote

LARGEST = 1e300
"""Logarithm of a weight from another peer, at most: the difference of two stays finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """The weights and weighted votes of some peers at each row, all divided by the largest weight there: `top` is that
    one's logarithm and `weight` the sum of the weights, both of shape (rows,); `values` are the sums of the votes, of
    the shape that `Vote` has for these `classes`."""

    classes: tuple[str, ...] | None
    top: Floats
    weight: Floats
    values: Floats

    @classmethod
    def of(cls, vote: Vote, log_weight: Floats) -> Sum:
        """One vote with the logarithm of its weight at each row, shape (rows,)."""
        return cls(vote.classes, log_weight, np.ones(len(vote.values)), vote.values)

    @classmethod
    def total(cls, sums: Sequence[Sum]) -> Sum:
        """All of these together; RemoteError where they are not of one task and on the same rows."""
        classes, stack = stacked([(str(at), Vote(each.classes, each.values), 0) for at, each in enumerate(sums)])
        top = np.max([each.top for each in sums], axis=0)
        weight, values = np.zeros(len(top)), np.zeros(stack.shape[1:])
        for each, placed in zip(sums, stack, strict=True):
            scale = np.exp(each.top - top)
            weight += scale * each.weight
            values += placed * (scale if classes is None else scale[:, None])
        return cls(classes, top, weight, values)

    def answer(self) -> Answer:
        """The weighted mean of the votes; how much each of them weighs is no longer known."""
        mean = self.values / (self.weight if self.classes is None else self.weight[:, None])
        return answer_from(mean, self.classes, np.ones(1))

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack, arrays as raw little-endian float64."""
        arrays = {name: np.ascontiguousarray(getattr(self, name), "<f8").tobytes() for name in _ARRAYS}
        return {"classes": None if self.classes is None else list(self.classes), **arrays}

    @classmethod
    def from_data(cls, data: object, rows: int, votes: int) -> Sum:
        """What another peer says is the sum of so many votes on so many rows; RemoteError where it cannot be one."""
        try:
            return _read(data, rows, votes)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the sum of votes that a peer sent cannot be read: {error}") from error


_ARRAYS = ("top", "weight", "values")


def _read(data: Any, rows: int, votes: int) -> Sum:
    classes = None if data["classes"] is None else check_classes(data["classes"])
    top, weight = (read_floats(data[name], (rows,)) for name in _ARRAYS[:2])
    values = read_floats(data["values"], (rows,) if classes is None else (rows, len(classes)))
    slack = TOLERANCE * weight
    # The largest weight counts as 1, and no other as more.
    if (
        len(data) != 4
        or not (np.abs(top) <= LARGEST).all()
        or not ((weight >= 1 - TOLERANCE) & (weight <= votes + slack)).all()
    ):
        raise ValueError("its weights are not those of as many votes")
    if classes is not None and not ((values >= 0).all() and (np.abs(values.sum(axis=1) - weight) <= slack).all()):
        raise ValueError("its probabilities are negative, or do not add up to its weights")
    return Sum(classes, top, weight, values)


def read_floats(raw: object, shape: tuple[int, ...]) -> Floats:
    """Finite numbers from raw little-endian float64; ValueError where they are anything else."""
    if not isinstance(raw, bytes) or len(raw) != 8 * math.prod(shape):
        raise ValueError(f"not {shape} float64")
    values = np.frombuffer(raw, "<f8").reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values
