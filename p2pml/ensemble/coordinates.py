"""Rows as coordinates that all peers share: measures, flags of what is missing, and levels, each with a name.

A coordinate is named by what it is and its column, never by its place, so peers whose parts differ in levels, or
that lack a whole column, still add up: where a peer does not have a coordinate, all its rows are 0 there.

- ("number", column, "") is a number, ("date", column, part) one of the four parts of a date;
- ("level", column, text) is 1 where a category or boolean says `text` and 0 elsewhere;
- ("missing", column, "") is 1 where a number or date is missing and 0 elsewhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .encoder import DATE_PARTS, date_parts
from .fields import Schema
from .values import Columns, Floats, Kind, Sheet, dates, number_matrix, read_column, row_count, texts

Key = tuple[str, str, str]

NUMBER, DATE, LEVEL, MISSING = "number", "date", "level", "missing"
MEASURES = (NUMBER, DATE)

MOST_COLUMNS = 1_024
"""Columns that have coordinates: in a wider table those whose names have the lowest SHA-256, which is a choice at
random that every peer makes alike. 1,024 make products of 4 MiB."""
MOST_FLAGGED = 256
"""Columns of a table in which what is missing has a coordinate of its own; in a wider one it stands at the mean."""
MOST_LEVELS = 512
"""Levels of all categories together, shared out evenly, but at most 32 a column."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns are read, and as what."""

    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    categories: tuple[str, ...]
    empty: tuple[str, ...]
    flagged: bool

    @classmethod
    def of(cls, schema: Schema) -> Layout:
        """The layout of a part's own columns. A boolean is a category of two levels here."""
        ranked = sorted(schema.fields, key=lambda field: hashlib.sha256(field.name.encode()).digest())
        chosen = sorted(ranked[:MOST_COLUMNS], key=lambda field: field.name)

        def named(*kinds: Kind) -> tuple[str, ...]:
            return tuple(field.name for field in chosen if field.kind in kinds)

        return cls(
            named(Kind.NUMBER),
            named(Kind.DATE),
            named(Kind.CATEGORY, Kind.BOOLEAN),
            named(Kind.EMPTY),
            len(schema.fields) <= MOST_FLAGGED,
        )

    @property
    def levels_each(self) -> int:
        """Levels of one category that have a coordinate."""
        return max(2, min(32, MOST_LEVELS // max(1, len(self.categories))))


def measures(columns: Columns, numbers: Sequence[str], days: Sequence[str], first_row: int = 1) -> Floats:
    """Numbers and then the parts of dates, shape (rows, numbers + 4 dates), NaN where missing."""
    blocks = [number_matrix(columns, numbers, first_row)] if numbers else []
    blocks += [date_parts(read_column(dates, columns, name, first_row)) for name in days]
    if not blocks:
        return np.empty((row_count(columns), 0))
    return blocks[0] if len(blocks) == 1 else np.hstack(blocks)


def measure_keys(numbers: Iterable[str], days: Iterable[str]) -> list[Key]:
    """The names of what `measures` gives, in its order."""
    return [(NUMBER, name, "") for name in numbers] + [
        (DATE, name, str(part)) for name in days for part in range(DATE_PARTS)
    ]


def level_counts(columns: Columns, column: str) -> list[tuple[str, int]]:
    """The levels of a category and their rows, most frequent first, ties by name."""
    counts = Counter(text for text in texts(columns[column], column) if text is not None)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def level_places(
    columns: Columns, column: str, table: dict[str | None, int], first_row: int = 1
) -> list[int] | NDArray[np.int64]:
    """The place of each row's level in `table`, -1 where it has none."""
    if isinstance(columns, Sheet) and (coded := columns.coded(column)) is not None:
        places: NDArray[np.int64] = np.array([table.get(text, -1) for text in coded[0]], np.int64)[coded[1]]
        return places
    return [table.get(text, -1) for text in read_column(texts, columns, column, first_row)]
