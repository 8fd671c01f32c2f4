"""The shared space: rows as a few numbers that mean the same at every peer, from merged moments alone.

Coordinates are standardised by the merged moments and turned onto the principal components of all rows together.
Whoever holds the same set of moments computes the same space, and its digest names that set.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .coordinates import (
    DATE,
    LEVEL,
    MEASURES,
    MISSING,
    MOST_LEVELS,
    NUMBER,
    Key,
    level_places,
    measure_keys,
    measures,
)
from .density import Density
from .moments import Moments, flag_of, merged
from .values import Columns, Floats, Sheet, blocks, mark, row_count

SPACE = 1
"""Version of how a space follows from moments. Any change of it changes every digest, so that peers of two
versions never take each other's densities for their own."""

FEWEST, MOST = 8, 24
"""Components of a space: the square root of the number of coordinates, within these bounds."""
AXES = 128
"""Components by which the common vote knows a row, at most: on images more of them gain little."""
FAR = 10.0
"""Standard deviations at which a coordinate is cut off: one wild value must not drown the rest of its row."""
RARE = 0.1
"""The least standard deviation that a flag or level is divided by: of one that 1 % of the rows have."""
ALIKE, MANY = 2.0, 64
"""Where no coordinate of so many measures spreads more than this many times as far as they do on average (root mean
square), they are of one unit, such as pixels, and share one scale: their differences in spread mean something."""
CONSTANT = 1e-10
"""A coordinate whose deviation is below this share of the largest value is constant but for rounding."""


@dataclass(frozen=True, eq=False)
class Space:
    """How a row becomes a point. `centre` and `scale` have shape (coordinates,), `directions` (coordinates,
    components); coordinates stand as measures, flags, levels. `members` are the digests of the moments, `rows` is how
    many these are of. `axes`, (coordinates, up to AXES), are more of the components, each as wide as rows vary along
    it, so that distances stay; the mean square over all rows and axes is 1."""

    members: tuple[str, ...]
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    flags: tuple[int, ...]
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    centre: Floats
    scale: Floats
    directions: Floats
    axes: Floats
    rows: int

    @cached_property
    def digest(self) -> str:
        return digest_of(self.members)

    @property
    def components(self) -> int:
        """Numbers that a row becomes."""
        return int(self.directions.shape[1])

    @classmethod
    def of(cls, moments: Iterable[Moments]) -> Space:
        """The space of these peers together, the same in whatever order they come."""
        # Sums depend on their order in the last digit.
        ordered = sorted({some.digest: some for some in moments}.items())
        members = tuple(digest for digest, _ in ordered)
        keys = _chosen([some for _, some in ordered])
        total = merged([some for _, some in ordered], tuple(sorted(keys)))
        numbers = tuple(sorted({key[1] for key in keys if key[0] == NUMBER}))
        days = tuple(sorted({key[1] for key in keys if key[0] == DATE}))
        read = measure_keys(numbers, days)
        flags = tuple(at for at, key in enumerate(read) if flag_of(key) in keys and (key[0] == NUMBER or key[2] == "0"))
        names = sorted({key[1] for key in keys if key[0] == LEVEL})
        levels = tuple((name, tuple(sorted(key[2] for key in keys if key[:2] == (LEVEL, name)))) for name in names)
        order = [
            *read,
            *(flag_of(read[at]) for at in flags),
            *((LEVEL, name, text) for name, all in levels for text in all),
        ]
        return cls(members, numbers, days, flags, levels, *_components(total, order), total.rows)

    def to_data(self) -> dict[str, Any]:
        """As plain data, for the disk of whoever stands in it."""
        layout = {name: getattr(self, name) for name in ("members", "numbers", "dates", "flags", "levels")}
        arrays = {name: getattr(self, name).astype("<f8").tobytes() for name in _ARRAYS}
        return {"version": SPACE, "rows": self.rows, **layout, **arrays}

    @classmethod
    def from_data(cls, data: Any) -> Space:
        """The other end, for what was verified: ValueError, KeyError or TypeError where it is none of this version."""
        if data["version"] != SPACE:
            raise ValueError(f"a space of version {data['version']}")
        centre, scale, directions, axes = (np.frombuffer(data[name], "<f8") for name in _ARRAYS)
        return cls(
            members=tuple(data["members"]),
            numbers=tuple(data["numbers"]),
            dates=tuple(data["dates"]),
            flags=tuple(data["flags"]),
            levels=tuple((name, tuple(texts)) for name, texts in data["levels"]),
            centre=centre,
            scale=scale,
            directions=directions.reshape(len(centre), -1),
            axes=axes.reshape(len(centre), -1),
            rows=data["rows"],
        )

    def project(self, columns: Columns, first_row: int = 1) -> Floats:
        """The points of rows, float64 of shape (rows, components); a column that the rows lack is missing."""
        if isinstance(columns, Sheet):
            return columns.once(self, lambda: self._points(columns, first_row))
        return self._points(columns, first_row)

    def _points(self, columns: Columns, first_row: int) -> Floats:
        return self._along(self.directions, columns, first_row)

    def spread(self, columns: Columns, first_row: int = 1) -> Floats:
        """The same rows along `axes`, float64 of shape (rows, axes)."""
        return self._along(self.axes, columns, first_row)

    def _along(self, directions: Floats, columns: Columns, first_row: int) -> Floats:
        rows = row_count(columns)
        points = np.empty((rows, directions.shape[1]))
        if rows == 0:
            return points
        if absent := [name for name in (*self.numbers, *self.dates) if name not in columns]:
            columns = {**columns, **dict.fromkeys(absent, [None] * rows)}
        known = measures(columns, self.numbers, self.dates, first_row)
        places = np.full((len(self._tables), rows), -1)
        for at, (name, levels) in enumerate(self._tables):
            if name in columns:
                places[at] = level_places(columns, name, levels, first_row)
        for block in blocks(rows, len(self.centre)):
            points[block] = self._table(known[block], places[:, block]) @ directions
        return points

    def _table(self, known: Floats, places: NDArray[np.int64]) -> Floats:
        """The coordinates of rows, centred and scaled; `places` are those of levels, -1 where one has none."""
        width, missing = known.shape[1], np.isnan(known)
        table = np.zeros((len(known), len(self.centre)))
        table[:, :width] = np.where(missing, self.centre[:width], known)
        table[:, width : width + len(self.flags)] = missing[:, self.flags]
        mark(table, places)
        table -= self.centre
        table /= self.scale
        return np.minimum(np.maximum(table, -FAR, out=table), FAR, out=table)

    @cached_property
    def _tables(self) -> list[tuple[str, dict[str | None, int]]]:
        """Of each category the place of each level among the coordinates."""
        tables: list[tuple[str, dict[str | None, int]]] = []
        start = len(measure_keys(self.numbers, self.dates)) + len(self.flags)
        for name, texts in self.levels:
            tables.append((name, {text: start + at for at, text in enumerate(texts)}))
            start += len(texts)
        return tables

    def gaussian(self, moments: Moments) -> Density:
        """The density of rows of which only these moments are known: one Gaussian with their mean and covariance."""
        read = measure_keys(self.numbers, self.dates)
        keys = [*read, *(flag_of(read[at]) for at in self.flags)]
        keys += [(LEVEL, name, text) for name, texts in self.levels for text in texts]
        # Measures as distances from this space's centre, where a missing one stands; flags and levels as they are.
        measured = np.array([key[0] in MEASURES for key in keys], bool)
        products = moments.moved(keys, np.where(measured, self.centre, 0.0))
        rows = max(float(products[0, 0]), 1.0)
        mean = products[0, 1:] / rows
        covariance = products[1:, 1:] / rows - np.outer(mean, mean)
        turn = self.directions / self.scale[:, None]
        middle = (mean - np.where(measured, 0.0, self.centre)) @ turn
        return Density.gaussian(rows, middle, turn.T @ covariance @ turn)


_ARRAYS = ("centre", "scale", "directions", "axes")


def digest_of(members: Iterable[str]) -> str:
    """The name of the space of the moments with these digests."""
    return hashlib.sha256("\n".join([f"space {SPACE}", *sorted(set(members))]).encode()).hexdigest()[:32]


def _chosen(moments: Sequence[Moments]) -> set[Key]:
    """All measures and flags, and of the levels as many as one peer may have, the most frequent."""
    keys = {key for some in moments for key in some.keys if key[0] in (*MEASURES, MISSING)}
    counts: dict[Key, float] = {}
    for some in moments:
        for at, key in enumerate(some.keys, 1):
            if key[0] == LEVEL:
                counts[key] = counts.get(key, 0.0) + some.products[0, at]
    by_column: dict[str, list[Key]] = {}
    for key in sorted(counts, key=lambda key: (-counts[key], key)):
        by_column.setdefault(key[1], []).append(key)
    most = max(2, min(32, MOST_LEVELS // max(1, len(by_column))))
    return keys | {key for ranked in by_column.values() for key in ranked[:most]}


def _components(total: Moments, order: Sequence[Key]) -> tuple[Floats, Floats, Floats, Floats]:
    """Centre and scale of each coordinate, the principal components, each with variance 1 over all rows, and axes."""
    at = {key: index for index, key in enumerate(total.keys, 1)}
    places = [at[key] for key in order]
    rows = max(total.products[0, 0], 1.0)
    sums = total.products[0, places]
    covariance = total.products[np.ix_(places, places)] / rows - np.outer(sums, sums) / rows**2
    variance = np.maximum(covariance.diagonal(), 0.0)
    known = np.maximum(total.known(total.keys), 1.0)
    measure = np.array([key[0] in MEASURES for key in order], bool)
    middle = np.array([total.centre[index - 1] for index in places])
    # Of a measure the spread is that of the rows where it is known; missing ones stand at its mean.
    spread = np.sqrt(np.where(measure, variance * rows / known[np.array(places, int) - 1], variance))
    alike = math.sqrt(np.square(spread[measure]).mean()) if measure.sum() >= MANY else 0.0
    if spread[measure].max(initial=0.0) <= ALIKE * alike:
        spread = np.where(measure & (spread > 0), alike, spread)
    columns = [key[1] for key in order]
    shares: dict[str, float] = {}
    for column, key, some in zip(columns, order, variance, strict=True):
        if key[0] == LEVEL:
            shares[column] = shares.get(column, 0.0) + some
    # The levels of one category together weigh as much as one measure.
    group = np.array([math.sqrt(shares[key[1]]) if key[0] == LEVEL else 0.0 for key in order])
    scale = np.where(measure, spread, np.maximum(np.where(group > 0, group, spread), RARE))
    constant = spread <= np.where(measure, CONSTANT * (np.abs(middle) + 1e-290), CONSTANT)
    scale = np.where(constant | (scale <= 0), np.inf, scale)
    centre = np.where(measure, middle, sums / rows)
    try:
        values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    except np.linalg.LinAlgError as error:
        raise RemoteError("the moments of some peer are of no rows: no space comes of them") from error
    values, vectors = values[::-1], vectors[:, ::-1]
    most = min(MOST, max(FEWEST, math.ceil(math.sqrt(len(order)))))
    kept, wide = (int((values[:some] > 1e-6 * max(values[:1].sum(), 1e-300)).sum()) for some in (most, AXES))
    axes = vectors[:, :wide] / math.sqrt(values[:wide].mean()) if wide else vectors[:, :0]
    return centre, scale, vectors[:, :kept] / np.sqrt(values[:kept]), axes * _signs(axes)


def _signs(axes: Floats) -> Floats:
    """1 or -1 for each axis, whose direction is all that libraries of linear algebra leave open."""
    signs: Floats = np.where(np.cos(np.arange(1, len(axes) + 1)) @ axes < 0, -1.0, 1.0)
    return signs
