"""Profiles: how the values of each column are spread over some rows, in groups large enough to hide each row.

A column of numbers is cut into bins of about as many rows each, a category into its most frequent levels. A bin's
edges lie between values, so no value of a single row is told; a value that a whole bin shares is. Profiles of several
sets of rows are mixed by weight, exactly at every edge that they have in common, and between bounds elsewhere.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .fields import MAX_NAME, Schema
from .values import MAX_TEXT, Columns, Floats, Kind, number_matrix, row_count, texts

BINS = 200
"""Bins of a column of numbers: distances between distributions are told to 1 in 200."""
LEVELS = 32
"""Levels of a category that are counted each."""
MOST_GROUNDS = 4
"""Sets of peers under which the novelty of some rows is known."""
MOST_COLUMNS = 256
"""Columns of a profile; in a wider table those whose names have the lowest SHA-256, as for moments."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spread:
    """A column of numbers: `counts` (bins,) of the known values in each bin; `edges` (bins - 1,) stand between the
    bins, ascending, and each belongs to the bin below it."""

    edges: Floats
    counts: Counts
    missing: int = 0

    @property
    def known(self) -> int:
        """How many rows have a value."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, values: Floats, least: int) -> Spread:
        """Of values, NaN where missing, in bins of at least `least` rows each.

        Where fewer are missing, nobody counts as missing; where fewer are known, everyone does. Fewer rows beside a
        value that a whole bin shares are taken to have that value.
        """
        known = np.sort(values[~np.isnan(values)])
        missing = len(values) - len(known)
        if len(known) < max(1, least):
            return cls(np.zeros(0), np.zeros(1, np.int64), len(values))
        edges, counts = _cut(known, max(1, least))
        return cls(edges, counts, missing if missing >= least else 0)

    def below(self, values: Floats) -> tuple[Floats, Floats]:
        """Bounds of the share of known values at or below each of `values`; they are equal at an edge."""
        sums = np.concatenate([[0], np.cumsum(self.counts)]) / max(self.known, 1)
        place = np.searchsorted(self.edges, values, side="right")
        at_edge = (place > 0) & (self.edges[place - 1] == values) if len(self.edges) else np.zeros(len(values), bool)
        low = sums[place]
        return low, np.where(at_edge, low, sums[place + 1])

    def to_data(self) -> list[Any]:
        """As plain data for msgpack."""
        return [self.edges.astype("<f8").tobytes(), self.counts.astype("<u4").tobytes(), self.missing]


@dataclass(frozen=True, slots=True)
class Shares:
    """A category: rows of its most frequent levels, of all `other` levels together, and those that have none."""

    levels: dict[str, int]
    other: int = 0
    missing: int = 0

    @property
    def known(self) -> int:
        """How many rows have a level."""
        return sum(self.levels.values()) + self.other

    @classmethod
    def of(cls, cells: Sequence[str | None], least: int) -> Shares:
        """Of canonical texts; a level, or a gap, that fewer than `least` rows have is not told."""
        counts = Counter(cells)
        missing = counts.pop(None, 0)
        ranked = sorted(((-count, text) for text, count in counts.items() if text is not None))
        told = {text: -count for count, text in ranked[:LEVELS] if -count >= least}
        other = sum(counts.values()) - sum(told.values())
        return cls(told, other if other >= least else 0, missing if missing >= least else 0)


@dataclass(frozen=True, eq=False)
class Profile:
    """Of `rows` rows, in groups of at least `least`; `alike` is the share of pairs of rows that are equal.

    `novelty` is the spread of how unlikely the rows are to all peers, by the digest that names those peers and their
    space.
    """

    rows: int
    least: int = 1
    alike: float = 0.0
    numbers: dict[str, Spread] = field(default_factory=dict)
    categories: dict[str, Shares] = field(default_factory=dict)
    novelty: dict[str, Spread] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Schema, columns: Columns, least: int, novelty: Mapping[str, Floats] | None = None) -> Profile:
        """Of rows by a schema; of fewer than `least` rows nothing. Dates are left out: new rows have new ones."""
        rows = row_count(columns)
        if rows < max(1, least):
            return cls(0)
        names = watched(schema)
        kinds = {each.name: each.kind for each in schema.fields}
        numeric = [name for name in names if kinds[name] is Kind.NUMBER]
        values = number_matrix(columns, numeric)
        return cls(
            rows,
            least,
            alike([columns[name] for name in names]),
            {name: Spread.of(values[:, at], least) for at, name in enumerate(numeric)},
            {name: Shares.of(texts(columns[name], name), least) for name in names if name not in numeric},
            {ground: Spread.of(values, least) for ground, values in (novelty or {}).items() if len(values) >= least},
        )

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack."""
        return {
            "rows": self.rows,
            "least": self.least,
            "alike": self.alike,
            "numbers": {name: each.to_data() for name, each in self.numbers.items()},
            "categories": {name: [each.levels, each.other, each.missing] for name, each in self.categories.items()},
            "novelty": {ground: each.to_data() for ground, each in self.novelty.items()},
        }

    @classmethod
    def from_data(cls, data: object) -> Profile:
        """The profile that another peer sent; RemoteError if it cannot be of any rows."""
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the profile that a peer sent cannot be read: {error}") from error


def watched(schema: Schema) -> tuple[str, ...]:
    """The columns that a profile is of: all that hold numbers, categories or booleans, within MOST_COLUMNS."""
    kinds = (Kind.NUMBER, Kind.CATEGORY, Kind.BOOLEAN)
    names = [each.name for each in schema.fields if each.kind in kinds]
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:MOST_COLUMNS]
    kept = set(ranked)
    return tuple(name for name in names if name in kept)


def alike(columns: Sequence[Sequence[object]]) -> float:
    """The share of pairs of rows that are equal in every column."""
    rows = len(columns[0]) if columns else 0
    equal = sum(count * (count - 1) for count in Counter(zip(*columns, strict=True)).values())
    return equal / (rows * (rows - 1)) if rows > 1 else 0.0


def _cut(known: Floats, least: int) -> tuple[Floats, Counts]:
    """Edges and counts of ascending values, at least `least` of them: a value that a bin of the usual size shares
    has a bin of its own, between the next smaller float and itself."""
    values, repeats = np.unique(known, return_counts=True)
    size = max(least, math.ceil(len(known) / BINS))
    sums = np.concatenate([[0], np.cumsum(repeats)])
    shared = np.append(np.flatnonzero(repeats >= size), len(values))
    bins: list[tuple[int, int, int]] = []  # first and last value, rows
    start = 0
    while start < len(values):
        end = int(shared[np.searchsorted(shared, start)])
        if end > start:
            end = min(end, int(np.searchsorted(sums, sums[start] + size)))
        rows = int(sums[max(end, start + 1)] - sums[start])
        last = max(end - 1, start)
        if rows >= least:
            bins.append((start, last, rows))
        elif bins:
            first, end, before = bins.pop()
            bins.append((first, end if first == end else last, before + rows))
        else:
            # They stand before a value that many rows share, and are taken to have it too.
            bins.append((last + 1, last + 1, rows + int(repeats[last + 1])))
            last += 1
        start = last + 1
    return _edged(values, bins)


def _edged(values: Floats, bins: list[tuple[int, int, int]]) -> tuple[Floats, Counts]:
    """Put edges between bins, and around those of a single value."""
    edges: list[float] = []
    counts = [0]
    for at, (first, last, rows) in enumerate(bins):
        single = first == last
        if single:
            below = float(np.nextafter(values[first], -np.inf))
            if not edges or edges[-1] < below:
                edges.append(below)
                counts.append(0)
        counts[-1] += rows
        if single:
            edges.append(float(values[last]))
            counts.append(0)
        elif at + 1 < len(bins):
            low, high = float(values[last]), float(values[bins[at + 1][0]])
            middle = low / 2 + high / 2
            edges.append(middle if low <= middle < high else low)
            counts.append(0)
    return np.array(edges), np.array(counts, np.int64)


def _read(data: Any) -> Profile:
    if not isinstance(data, dict) or len(data) != 6:
        raise ValueError("it is not what a profile consists of")
    rows, least, alike = _count(data["rows"]), _count(data["least"]), data["alike"]
    numbers, categories, novelty = data["numbers"], data["categories"], data["novelty"]
    if type(alike) is not float or not 0 <= alike <= 1:
        raise ValueError("a share that cannot be")
    if len(numbers) + len(categories) > MOST_COLUMNS or len(novelty) > MOST_GROUNDS:
        raise ValueError("too many columns")
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in (*numbers, *categories, *novelty)):
        raise ValueError("a column without a name")
    profile = Profile(
        rows,
        least,
        alike,
        {name: _read_spread(each) for name, each in numbers.items()},
        {name: _read_shares(each) for name, each in categories.items()},
        {ground: _read_spread(each) for ground, each in novelty.items()},
    )
    if any(each.known + each.missing > rows for each in _all(profile)):
        raise ValueError("a column of more rows than there are")
    return profile


def _all(profile: Profile) -> Iterator[Spread | Shares]:
    yield from profile.numbers.values()
    yield from profile.categories.values()


def _read_spread(data: Any) -> Spread:
    raw_edges, raw_counts, missing = data
    if not isinstance(raw_edges, bytes) or not isinstance(raw_counts, bytes) or len(raw_edges) > 8 * 3 * BINS:
        raise ValueError("no bins")
    edges = np.frombuffer(raw_edges, "<f8").astype(np.float64)
    counts = np.frombuffer(raw_counts, "<u4").astype(np.int64)
    if len(counts) != len(edges) + 1 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError("bins that are not between ascending edges")
    return Spread(edges, counts, _count(missing))


def _read_shares(data: Any) -> Shares:
    levels, other, missing = data
    if not isinstance(levels, dict) or len(levels) > LEVELS:
        raise ValueError("too many levels")
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in levels):
        raise ValueError("a level that is no text")
    return Shares({text: _count(count) for text, count in levels.items()}, _count(other), _count(missing))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("a count that cannot be")
    return value
