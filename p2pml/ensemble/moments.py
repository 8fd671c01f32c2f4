"""Moments: what a peer's training rows are like, as sums that add up exactly over any cut of the rows.

Of the coordinates u of a row (see `coordinates`), with a 1 in front, a peer keeps the sum of u uᵀ. In it are the
number of rows, how many values are known, levels' counts, means and covariances, also of what is missing with what
is not. Measures are taken around the peer's own mean, so that large values lose no digits, and are moved when two
peers are merged, as Chan, Golub and LeVeque (1983) do for one variable.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from . import triangle
from .coordinates import (
    LEVEL,
    MEASURES,
    MISSING,
    MOST_COLUMNS,
    MOST_FLAGGED,
    Key,
    Layout,
    level_counts,
    level_places,
    measure_keys,
    measures,
)
from .fields import MAX_NAME, Schema
from .values import MAX_TEXT, Columns, Floats

MIN_COUNT = 5
"""Rows that a group must have before anything of it is told, where the user sets no other number."""
MAX_KEYS = 4 * MOST_COLUMNS + MOST_FLAGGED + 2 * MOST_COLUMNS
"""Coordinates that another peer's moments may have: all columns dates, or categories of two levels."""
MAX_BYTES = 32 * 2**20
"""Bytes of another peer's products, which bounds them further: 2,900 coordinates."""
HUGE = 1e60
"""A column with values beyond it has no moments: products of their products would not be finite."""


@dataclass(frozen=True, eq=False)
class Moments:
    """`products`, float64 of shape (1 + keys, 1 + keys), is the sum over rows of u uᵀ, u beginning with 1; a
    measure in u is its distance from `centre` (0 at all other keys), and 0 where it is missing."""

    keys: tuple[Key, ...]
    centre: Floats
    products: Floats

    @property
    def rows(self) -> int:
        """How many rows these are of."""
        return round(float(self.products[0, 0]))

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that name these moments."""
        data = self.to_data()
        parts = [repr(data["keys"]).encode(), data["centre"], data["products"]]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]

    @classmethod
    def of(cls, schema: Schema, columns: Columns, least: int = MIN_COUNT) -> Moments:
        """The moments of training rows; of a group of fewer than `least` rows they tell nothing.

        What fewer rows than that say, or all but fewer, is taken for what the others say: a measure that leaves
        its usual value in so few rows has that value throughout, a level or a gap so rare is not there, and a
        column known so rarely is missing throughout. Fewer rows in all have no moments.
        """
        layout = Layout.of(schema)
        rows = len(next(iter(columns.values()), ()))
        if rows < max(1, least):
            return cls((), np.zeros(0), np.zeros((1, 1)))
        keys: list[Key] = []
        blocks: list[Floats] = []
        centre: list[float] = []

        def put(key: Key, values: Floats, middle: float = 0.0) -> None:
            keys.append(key)
            blocks.append(values)
            centre.append(middle)

        names = measure_keys(layout.numbers, layout.dates)
        gone: dict[str, Floats] = {name: np.ones(rows) for name in layout.empty}
        for key, values in zip(names, measures(columns, layout.numbers, layout.dates).T, strict=True):
            kept = _measure(values, least, layout.flagged)
            missing = np.ones(rows) if kept is None else kept[2]
            if missing.any():
                gone[key[1]] = missing
            if kept is not None:
                put(key, kept[0], kept[1])
        if layout.flagged:
            for name, missing in gone.items():
                put((MISSING, name, ""), missing)
        for name in layout.categories:
            for key, indicator in _levels(columns, name, least, layout.levels_each):
                put(key, indicator)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        table = np.column_stack([np.ones(rows), *(blocks[index] for index in order)])
        return cls(tuple(keys[index] for index in order), np.array([centre[index] for index in order]), table.T @ table)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together."""
        return merged([self, other], tuple(sorted({*self.keys, *other.keys})))

    def known(self, keys: Sequence[Key]) -> Floats:
        """In how many rows each of these measures is known, shape (keys,)."""
        at = {key: index for index, key in enumerate(self.keys, 1)}
        return np.array(
            [
                self.products[0, 0] - (self.products[0, at[flag]] if (flag := flag_of(key)) in at else 0.0)
                if key in at
                else 0.0
                for key in keys
            ]
        )

    def moved(self, keys: Sequence[Key], centre: Floats) -> Floats:
        """The products over these coordinates around that centre: where there is no such key, rows are 0."""
        at = {key: index for index, key in enumerate(self.keys, 1)}
        absent = len(self.keys) + 1
        padded = np.zeros((absent + 1, absent + 1))
        padded[:-1, :-1] = self.products
        index = np.array([0, *(at.get(key, absent) for key in keys)])
        flags = np.array([absent, *(at.get(flag_of(key), absent) if key[0] in MEASURES else absent for key in keys)])
        step = np.zeros(len(keys) + 1)
        for place, key in enumerate(keys, 1):
            if key[0] in MEASURES and key in at:
                step[place] = self.centre[at[key] - 1] - centre[place - 1]
        # A known measure moves by its step and a missing one stays 0: u' = u + step (1 - flag), on both sides.
        half = padded[index] + step[:, None] * (padded[0] - padded[flags])
        moved: Floats = half[:, index] + step * (half[:, :1] - half[:, flags])
        return moved

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack."""
        return {
            "keys": [list(key) for key in self.keys],
            "centre": self.centre.astype("<f8").tobytes(),
            "products": triangle.packed(self.products),
        }

    @classmethod
    def from_data(cls, data: object) -> Moments:
        """The moments that another peer sent; RemoteError if they cannot be of any rows."""
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the moments that a peer sent cannot be read: {error}") from error


def merged(moments: Sequence[Moments], keys: tuple[Key, ...]) -> Moments:
    """The moments of all the rows together over some of their coordinates, added up in the order given."""
    known = np.zeros(len(keys))
    total = np.zeros(len(keys))
    for some in moments:
        at = {key: index for index, key in enumerate(some.keys)}
        count = np.array([key[0] in MEASURES for key in keys], float) * some.known(keys)
        known += count
        total += count * np.array([some.centre[at[key]] if key in at else 0.0 for key in keys])
    centre = total / np.maximum(known, 1)
    products = np.zeros((len(keys) + 1, len(keys) + 1))
    for some in moments:
        products += some.moved(keys, centre)
    return Moments(keys, centre, products)


def flag_of(key: Key) -> Key:
    """The coordinate that says where a measure is missing."""
    return (MISSING, key[1], "")


def _measure(values: Floats, least: int, flagged: bool) -> tuple[Floats, float, Floats] | None:
    """Distances from the mean, the mean, and 1 where missing; None where nothing may be told of the column."""
    missing = np.isnan(values)
    known = values[~missing]
    if len(known) < least or np.abs(known).max() > HUGE:
        return None
    found, counts = np.unique(known, return_counts=True)
    usual = int(counts.argmax())
    if len(known) - counts[usual] < least:
        known = np.full(len(known), found[usual])
    middle = float(known.mean())
    distances = np.zeros(len(values))
    distances[~missing] = known - middle
    rare = not flagged or missing.sum() < least
    return distances, middle, np.zeros(len(values)) if rare else missing.astype(float)


def _levels(columns: Columns, name: str, least: int, most: int) -> list[tuple[Key, Floats]]:
    counted = [(text, count) for text, count in level_counts(columns, name) if count >= least][:most]
    places = np.array(level_places(columns, name, {text: at for at, (text, _) in enumerate(counted)}), np.int64)
    rows = len(places)
    return [
        ((LEVEL, name, text), np.ones(rows) if rows - count < least else (places == at).astype(float))
        for at, (text, count) in enumerate(counted)
    ]


def _read(data: Any) -> Moments:
    if not isinstance(data, dict) or len(data) != 3 or not isinstance(data["keys"], list):
        raise ValueError("they are not keys, centre and products")
    keys = tuple(_key(key) for key in data["keys"])
    size = len(keys) + 1
    if len(keys) > MAX_KEYS or sorted(set(keys)) != list(keys) or 4 * size * (size + 1) > MAX_BYTES:
        raise ValueError("their keys are too many or not ascending")
    centre = _floats(data["centre"], len(keys))
    if any(value and key[0] not in MEASURES for key, value in zip(keys, centre, strict=True)):
        raise ValueError("a centre of what is no measure")
    upper = _floats(data["products"], size * (size + 1) // 2)
    products = triangle.unpacked(upper, size)
    rows = products[0, 0]
    if not (0 <= rows <= 2**53 and math.floor(rows) == rows) or (np.diagonal(products) < 0).any():
        raise ValueError("a number of rows or a sum of squares that cannot be")
    lengths = np.sqrt(np.diagonal(products))
    if np.abs(centre).max(initial=0) > HUGE or lengths.max() > HUGE * 2**27:
        raise ValueError("numbers that are too large")
    # Cauchy and Schwarz; without it a correlation could be anything.
    if (np.abs(products) > np.outer(lengths, lengths) * (1 + 1e-6)).any():
        raise ValueError("sums of products that no rows have")
    return Moments(keys, centre, products)


def _key(data: Any) -> Key:
    kind, column, detail = data
    if kind not in (*MEASURES, LEVEL, MISSING) or not isinstance(column, str) or not 0 < len(column) <= MAX_NAME:
        raise ValueError("a key of no known kind, or without a column")
    if not isinstance(detail, str) or len(detail) > MAX_TEXT or (kind == LEVEL) < (kind != "date" and detail != ""):
        raise ValueError("a key whose detail is not what its kind has")
    return (kind, column, detail)


def _floats(raw: object, count: int) -> NDArray[np.float64]:
    if not isinstance(raw, bytes) or len(raw) != 8 * count:
        raise ValueError(f"not {count} float64")
    values = np.frombuffer(raw, "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    return values
