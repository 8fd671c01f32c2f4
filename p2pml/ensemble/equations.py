"""Normal equations: what a peer's training rows say to a linear model, as sums that add up exactly over any cut.

Of the features f of a row and its target y, a peer tells means, and mean products of their distances from these. All
peers' together are those of all rows, so a ridge regression on them is the one that a machine with all rows would have
found ("Analytic Federated Learning", He et al. 2025). They are moved when two are merged, as moments are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from . import triangle
from .features import Features
from .fields import check_classes
from .values import MAX_TEXT, Columns, Floats, blocks

EQUATIONS = 1
"""Version of features and of what is told of them."""
LARGEST = 1e30
"""Numbers in them, at most: products of any two are finite."""
BLOCK = 500
"""Rows whose features are in memory at once: few enough for that, and enough for one addition to all products."""


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Means over `rows` training rows, of which `seen` were looked at. `means` has shape (features,), `gram`
    (features, features), `target` (outputs,), `cross` (features, outputs) and `spread` (outputs,), the target's
    variance. There is an output for each class, 1 where a row is of it and else 0, or one, which is the target itself.
    """

    classes: tuple[str, ...] | None
    rows: int
    seen: int
    means: Floats
    gram: Floats
    target: Floats
    cross: Floats
    spread: Floats

    @classmethod
    def of(cls, features: Features, columns: Columns, truth: NDArray[Any], rows: int, least: int) -> Equations | None:
        """Of a sample of `rows` training rows, whose truth is as `Schema.truth` gives it; those without are left out.

        What fewer rows than `least` say is taken for what the others say: a unit that so few rows switch on is off,
        and one that so few switch off is on; of classes with fewer rows these count as a mixture of the others. None
        where the rows are fewer, or the target is the same in all but fewer.
        """
        known = np.array([value is not None and value == value for value in truth], bool)
        classes, outputs = _outputs(truth[known], least)
        if len(outputs) < max(1, least) or outputs.shape[1] == 0:
            return None
        tables = _Hushed.of(features, features.places(columns)[known], least)
        seen, target = len(outputs), outputs.mean(axis=0)
        outputs = outputs - target
        means = sum(table.sum(axis=0) for table in tables) / seen
        gram, cross = np.zeros((features.width,) * 2), np.zeros((features.width, outputs.shape[1]))
        for block, table in zip(_blocks(seen), tables, strict=True):
            table -= means
            gram += table.T @ table
            cross += table.T @ outputs[block]
        gram /= seen
        return cls(classes, max(rows, seen), seen, means, gram, target, cross / seen, np.square(outputs).mean(axis=0))

    def merge(self, other: Equations) -> Equations:
        """Of both sets of rows together."""
        if (self.classes is None) != (other.classes is None):
            raise RemoteError("the equations of a regression and of a classification do not add up")
        classes = None if self.classes is None else tuple(sorted({*self.classes, *(other.classes or ())}))
        one, two = self._over(classes), other._over(classes)
        rows = one.rows + two.rows
        share = two.rows / rows
        step, leap = two.means - one.means, two.target - one.target

        def mixed(first: Floats, second: Floats, apart: Floats | float = 0.0) -> Floats:
            return first + share * (second - first) + share * (1 - share) * apart

        # Some rows at a time: all at once would take several times the memory of the products.
        gram = np.empty_like(one.gram)
        for block in blocks(len(gram), len(gram)):
            gram[block] = mixed(one.gram[block], two.gram[block], np.outer(step[block], step))
        return Equations(
            classes,
            rows,
            one.seen + two.seen,
            mixed(one.means, two.means),
            gram,
            mixed(one.target, two.target),
            mixed(one.cross, two.cross, np.outer(step, leap)),
            mixed(one.spread, two.spread, np.square(leap)),
        )

    @classmethod
    def total(cls, parts: Iterable[Equations]) -> Equations:
        """Of all rows together, at least one part."""
        return reduce(cls.merge, parts)

    def _over(self, classes: tuple[str, ...] | None) -> Equations:
        """The same with an output for each of more classes."""
        if self.classes is None or classes is None or classes == self.classes:
            return self
        at = np.searchsorted(np.array(classes), np.array(self.classes))
        cross = np.zeros((len(self.cross), len(classes)))
        target, spread = np.zeros(len(classes)), np.zeros(len(classes))
        cross[:, at], target[at], spread[at] = self.cross, self.target, self.spread
        return Equations(classes, self.rows, self.seen, self.means, self.gram, target, cross, spread)

    def packed(self, features: Features) -> bytes | None:
        """As bytes, products in float32 and of the symmetric ones the upper triangle; None where there are more classes
        than the features can have."""
        if len(self.target) > features.most_classes:
            return None
        said = {
            "version": EQUATIONS,
            "space": features.space.digest,
            "mark": features.mark().astype("<f4").tobytes(),
            "classes": None if self.classes is None else list(self.classes),
            "rows": self.rows,
            "seen": self.seen,
            "means": self.means.astype("<f4").tobytes(),
            "gram": triangle.packed(self.gram, "<f4"),
            "target": self.target.astype("<f8").tobytes(),
            "cross": self.cross.astype("<f4").tobytes(),
            "spread": self.spread.astype("<f8").tobytes(),
        }
        packed: bytes = msgpack.packb(said)
        return packed

    @classmethod
    def read(cls, packed: bytes, features: Features) -> Equations:
        """What another peer says of its rows in terms of these features; RemoteError where it cannot be of any."""
        try:
            if len(packed) > most_bytes(features):
                raise ValueError(f"{len(packed)} bytes are too many")
            return _read(msgpack.unpackb(packed), features)
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise RemoteError(f"the sums for the common vote cannot be read: {error}") from error


def most_bytes(features: Features) -> int:
    """Bytes of one peer's equations at most: products of every two features, as many with classes, and names."""
    return 4 * features.width**2 + (4 * MAX_TEXT + 64) * features.width + 2**12


def _outputs(truth: NDArray[Any], least: int) -> tuple[tuple[str, ...] | None, Floats]:
    """The classes and the outputs of rows, shape (rows, outputs): none where nothing may be told of the target."""
    if truth.dtype != object:
        _, counts = np.unique(truth, return_counts=True)
        told = len(truth) - counts.max(initial=0) >= least
        return None, truth.astype(np.float64)[:, None] if told else np.zeros((len(truth), 0))
    names, counts = np.unique(truth.astype(str), return_counts=True)
    classes = tuple(names[counts >= least].tolist())
    outputs = (truth[:, None] == np.array(classes, object)).astype(np.float64)
    if classes:
        # Left out, such rows would be the difference from the moments, which have them.
        outputs[~outputs.any(axis=1)] = outputs.sum(axis=0) / outputs.sum()
    return classes, outputs


@dataclass(frozen=True, slots=True, eq=False)
class _Hushed:
    """The features of rows, some at a time, of which no unit tells fewer than `least` rows from the others."""

    features: Features
    places: Floats
    off: NDArray[np.bool_]
    turned: NDArray[np.bool_]

    @classmethod
    def of(cls, features: Features, places: Floats, least: int) -> _Hushed:
        on = sum((features.units(places[block]) > 0).sum(axis=0) for block in _blocks(len(places)))
        return cls(features, places, on < least, len(places) - on >= least)

    def __iter__(self) -> Iterator[Floats]:
        for block in _blocks(len(self.places)):
            units = self.features.units(self.places[block])
            units[:, self.off] = 0.0
            np.maximum(units, 0.0, out=units, where=self.turned)
            yield np.hstack([self.places[block], units])


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def _read(data: Any, features: Features) -> Equations:
    if data["version"] != EQUATIONS or data["space"] != features.space.digest:
        raise ValueError("they are of another version or another space")
    width, axes = features.width, features.axes
    if not np.allclose(_floats(data["mark"], "<f4", (axes,)), features.mark(), rtol=1e-3, atol=1e-3):
        raise ValueError("their axes are others: it computes with other libraries")
    classes = None if data["classes"] is None else check_classes(data["classes"])
    outputs = 1 if classes is None else len(classes)
    if outputs > features.most_classes:
        raise ValueError("more classes than may be told")
    rows, seen = data["rows"], data["seen"]
    if type(rows) is not int or type(seen) is not int or not 0 < seen <= rows < 2**53:
        raise ValueError("numbers of rows that cannot be")
    gram = triangle.unpacked(_floats(data["gram"], "<f4", (width * (width + 1) // 2,)), width)
    means, cross = _floats(data["means"], "<f4", (width,)), _floats(data["cross"], "<f4", (width, outputs))
    target, spread = _floats(data["target"], "<f8", (outputs,)), _floats(data["spread"], "<f8", (outputs,))
    if classes is not None and not ((target >= 0).all() and target.sum() <= 1 + 1e-6):
        raise ValueError("shares of classes that are negative, or more than all")
    if (gram.diagonal() < 0).any() or (spread < 0).any():
        raise ValueError("a sum of squares that cannot be")
    # Cauchy and Schwarz, with room for what float32 rounds.
    lengths, wide = np.sqrt(gram.diagonal()) + 1e-6, np.sqrt(spread) * (1 + 1e-6)
    room = 1 + 1e-4
    # As in `merge`, some rows at a time.
    beyond = any((np.abs(gram[few]) > np.outer(lengths[few] * room, lengths)).any() for few in blocks(width, width))
    if beyond or (np.abs(cross) > np.outer(lengths, wide) * room + 1e-30).any():
        raise ValueError("sums of products that no rows have")
    return Equations(classes, rows, seen, means, gram, target, cross, spread)


def _floats(raw: object, kind: str, shape: tuple[int, ...]) -> Floats:
    if not isinstance(raw, bytes) or len(raw) != np.dtype(kind).itemsize * math.prod(shape):
        raise ValueError(f"not {shape} numbers")
    values = np.frombuffer(raw, kind).reshape(shape).astype(np.float64)
    if not (np.abs(values) <= LARGEST).all():
        raise ValueError("a number that is not finite, or too large")
    return values
