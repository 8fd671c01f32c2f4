"""Rows become numbers: imputation, scaling and one-hot from nothing but arrays and tables.

The numbers of a row stand in this order, and each block in the order of the schema's fields:

1. *Measures*: a number as it is; a boolean as 1 or -1; a date as seconds, month, weekday and hour. Where one is
   missing, its training median stands in (0 for a boolean). Then the training mean is taken off, and the
   standard deviation divides. All of it in float64.
2. *Flags*: 1 where a number, boolean or date is missing, for those columns that had missing values in training.
3. *Levels*: for each category 1 at its level and 0 elsewhere. At most MAX_LEVELS, the most frequent, have a
   place of their own. If there were more in training, the rest share one place, and unseen categories go there
   too; else an unseen category is all zeros. Missing has its own place if training had it.

All are rounded to float32 in the end: an estimator sees these numbers in training and afterwards, so no rounding moves
a row across a threshold.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .fields import MAX_COLUMNS, MAX_NAME, Schema
from .values import (
    MAX_TEXT,
    Columns,
    Floats,
    Kind,
    Sheet,
    blocks,
    booleans,
    dates,
    mark,
    number_matrix,
    read_column,
    row_count,
    texts,
)

MAX_LEVELS = 64
"""Places for the levels of one category."""

MAX_WIDTH = 262_144
"""Numbers a row may become under an encoder from another peer: 1 MiB a row."""

FAR = 1e6
"""Standard deviations at which a measure is cut off: a training value among n lies within sqrt(n), and float32
and linear models stay finite."""

DATE_PARTS = 4


@dataclass(frozen=True, slots=True)
class Levels:
    """The table of one category: its levels, most frequent first, and what else has a place."""

    column: str
    names: tuple[str, ...]
    other: bool
    missing: bool

    @property
    def width(self) -> int:
        return len(self.names) + self.other + self.missing

    def places(self, start: int) -> tuple[dict[str | None, int], int]:
        """Where each text goes, the first level at `start`, and where any other goes (-1: nowhere)."""
        table: dict[str | None, int] = {name: start + index for index, name in enumerate(self.names)}
        end = start + len(self.names)
        table[None] = end + self.other if self.missing else -1
        return table, end if self.other else -1


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """How a row becomes numbers. `fill`, `mean` and `scale` have shape (measures,); `flags` lists the measures
    that have a flag."""

    numbers: tuple[str, ...]
    booleans: tuple[str, ...]
    dates: tuple[str, ...]
    categories: tuple[Levels, ...]
    fill: Floats
    mean: Floats
    scale: Floats
    flags: tuple[int, ...]
    width: int = field(init=False)
    """How many numbers a row becomes."""
    _places: tuple[tuple[str, dict[str | None, int], int], ...] = field(init=False, repr=False)
    _flagged: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        places, start = [], len(self.fill) + len(self.flags)
        for levels in self.categories:
            places.append((levels.column, *levels.places(start)))
            start += levels.width
        object.__setattr__(self, "width", start)
        object.__setattr__(self, "_places", tuple(places))
        object.__setattr__(self, "_flagged", np.array(self.flags, np.intp))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (*self.numbers, *self.booleans, *self.dates, *(levels.column for levels in self.categories))

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name this encoder."""
        return hashlib.sha256(json.dumps(self.to_data(), sort_keys=True).encode()).hexdigest()[:32]

    @classmethod
    def fit(cls, schema: Schema, columns: Columns) -> Encoder:
        """Learn fills, scales and levels from training rows; a column that is empty in the schema is left out."""

        def named(kind: Kind) -> tuple[str, ...]:
            return tuple(field.name for field in schema.fields if field.kind is kind)

        names = (named(Kind.NUMBER), named(Kind.BOOLEAN), named(Kind.DATE))
        measures = _measures(columns, *names, 1)
        fill, mean, scale = _moments(measures, len(names[0]), len(names[0]) + len(names[1]))
        single = len(names[0]) + len(names[1])
        flaggable = [*range(single), *range(single, measures.shape[1], DATE_PARTS)]
        flags = tuple(index for index in flaggable if np.isnan(measures[:, index]).any())
        categories = tuple(_levels(name, texts(columns[name], name)) for name in named(Kind.CATEGORY))
        return cls(*names, categories, fill, mean, scale, flags)

    def encode(self, columns: Columns, first_row: int = 1) -> Floats:
        """The rows as numbers, shape (rows, width), of which each is one that float32 can hold: as float64 they give
        linear models the same sum whatever the number of rows. BadValue where a cell cannot be read.

        `columns` holds at least the columns of the schema that were not empty in training; others are not
        looked at.
        """
        encoded = np.empty((row_count(columns), self.width))
        for block, numbers in self.blocks(columns, first_row):
            encoded[block] = numbers
        return encoded

    def blocks(self, columns: Columns, first_row: int = 1, widest: int = 0) -> Iterator[tuple[slice, Floats]]:
        """The same in blocks: which rows these are, and their numbers; `widest` is the most that a row becomes after
        that."""
        rows = row_count(columns)
        measures = _measures(columns, self.numbers, self.booleans, self.dates, first_row)
        places = [_placed(columns, name, table, other, first_row) for name, table, other in self._places]
        place = np.array(places, np.int64).reshape(len(places), rows)
        for block in blocks(rows, max(self.width, widest)):
            yield block, self._encoded(measures[block], place[:, block])

    def _encoded(self, measures: Floats, place: NDArray[np.int64]) -> Floats:
        missing = np.isnan(measures)
        with np.errstate(over="ignore"):  # what overflows is far, and cut off there
            scaled = (np.where(missing, self.fill, measures) - self.mean) / self.scale
        width = len(self.fill)
        encoded = np.zeros((len(measures), self.width))
        encoded[:, :width] = np.maximum(np.minimum(scaled, FAR), -FAR).astype(np.float32)
        encoded[:, width : width + len(self.flags)] = missing[:, self._flagged]
        mark(encoded, place)
        return encoded

    def to_data(self) -> dict[str, Any]:
        """As plain data for JSON or msgpack; floats survive both exactly."""
        return {
            "numbers": list(self.numbers),
            "booleans": list(self.booleans),
            "dates": list(self.dates),
            "categories": [
                [levels.column, list(levels.names), levels.other, levels.missing] for levels in self.categories
            ],
            "fill": self.fill.tolist(),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "flags": list(self.flags),
        }

    @classmethod
    def from_data(cls, data: object) -> Encoder:
        """The encoder that another peer sent; RemoteError if it is none."""
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RemoteError(f"the encoder that a peer sent cannot be read: {error}") from error


def _placed(
    columns: Columns, name: str, table: dict[str | None, int], other: int, first_row: int
) -> list[int] | NDArray[np.int64]:
    """Where each cell of a category goes, -1 for nowhere."""
    if isinstance(columns, Sheet) and (coded := columns.coded(name)) is not None:
        places: NDArray[np.int64] = np.array([table.get(text, other) for text in coded[0]], np.int64)[coded[1]]
        return places
    try:
        # A level's name is canonical, so a cell that equals one needs no closer look; most do.
        return [table[cell] for cell in columns[name]]  # type: ignore[index]
    except (KeyError, TypeError):  # no level as it stands, or no text
        return [table.get(text, other) for text in read_column(texts, columns, name, first_row)]


def _measures(
    columns: Columns, names: Sequence[str], flags: Sequence[str], days: Sequence[str], first_row: int
) -> Floats:
    """Shape (rows, measures), NaN where missing."""
    blocks = [number_matrix(columns, names, first_row)] if names else []
    blocks += [read_column(booleans, columns, name, first_row)[:, None] for name in flags]
    blocks += [date_parts(read_column(dates, columns, name, first_row)) for name in days]
    if not blocks:
        return np.empty((row_count(columns), 0))
    return blocks[0] if len(blocks) == 1 else np.hstack(blocks)


def date_parts(seconds: Floats) -> Floats:
    """Shape (rows, 4): seconds since 1970, month 1 to 12, weekday 0 (Monday) to 6, hour 0 to 23."""
    known = ~np.isnan(seconds)
    parts = np.full((len(seconds), DATE_PARTS), np.nan)
    moments = np.floor(seconds[known]).astype("datetime64[s]")
    days = moments.astype("datetime64[D]").astype(np.int64)
    parts[known, 0] = seconds[known]
    parts[known, 1] = moments.astype("datetime64[M]").astype(np.int64) % 12 + 1
    parts[known, 2] = (days + 3) % 7  # 1970 began on a Thursday
    parts[known, 3] = moments.astype(np.int64) // 3600 % 24
    return parts


def _moments(measures: Floats, boolean: int, end: int) -> tuple[Floats, Floats, Floats]:
    """Fill, mean and scale of each measure; those from `boolean` to `end` stay as they are."""
    width = measures.shape[1]
    fill, mean, scale = np.zeros(width), np.zeros(width), np.ones(width)
    for index in range(width):
        known = measures[~np.isnan(measures[:, index]), index]
        if len(known) == 0 or boolean <= index < end:
            continue
        fill[index] = _median(known)
        # In units of the largest value, so that squares neither overflow nor vanish.
        unit = float(np.abs(known).max()) or 1.0
        ratios = known / unit
        mean[index] = ratios.mean() * unit
        if (deviation := ratios.std()) > 1e-12:  # else the column is constant but for rounding
            scale[index] = max(deviation * unit, np.finfo(np.float64).tiny)
    return fill, mean, scale


def _median(known: Floats) -> float:
    ordered = np.sort(known)
    half = len(ordered) // 2
    # Halved before they are added: two values near the end of float64 have a median too.
    return float(ordered[half] if len(ordered) % 2 else ordered[half - 1] / 2 + ordered[half] / 2)


def _levels(column: str, cells: list[str | None]) -> Levels:
    counts = Counter(cells)
    missing = counts.pop(None, 0) > 0
    ranked = sorted(((-count, text) for text, count in counts.items() if text is not None))
    names = tuple(text for _, text in ranked[:MAX_LEVELS])
    return Levels(column, names, len(ranked) > MAX_LEVELS, missing)


def _read(data: Any) -> Encoder:
    categories = tuple(
        Levels(column, _names(names, MAX_LEVELS, MAX_TEXT), _truth(other), _truth(missing))
        for column, names, other, missing in data["categories"]
    )
    names = [_names(data[key], MAX_COLUMNS, MAX_NAME) for key in ("numbers", "booleans", "dates")]
    _names([*names[0], *names[1], *names[2], *(levels.column for levels in categories)], MAX_COLUMNS, MAX_NAME)
    width = len(names[0]) + len(names[1]) + DATE_PARTS * len(names[2])
    fill, mean, scale = (_finite(data[key], width) for key in ("fill", "mean", "scale"))
    if (scale <= 0).any():
        raise ValueError("a scale that is not positive")
    flags = tuple(data["flags"])
    if any(type(flag) is not int or not 0 <= flag < width for flag in flags) or sorted(set(flags)) != list(flags):
        raise ValueError("flags that are no ascending measures")
    encoder = Encoder(names[0], names[1], names[2], categories, fill, mean, scale, flags)
    if len(data) != 8 or encoder.width > MAX_WIDTH:
        raise ValueError(f"{len(data)} entries and {encoder.width} numbers a row")
    return encoder


def _names(data: Any, most: int, longest: int) -> tuple[str, ...]:
    if not isinstance(data, list | tuple) or len(data) > most or len(set(data)) != len(data):
        raise ValueError("names that are no list, too many or not distinct")
    if not all(isinstance(name, str) and 0 < len(name) <= longest for name in data):
        raise ValueError("a name that is no text, or too long")
    return tuple(data)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is neither true nor false")
    return value


def _finite(data: Any, width: int) -> Floats:
    if not isinstance(data, list | tuple) or len(data) != width or not all(type(value) is float for value in data):
        raise ValueError(f"not {width} floats")
    values = np.array(data, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    return values
