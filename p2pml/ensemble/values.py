"""Raw cells, as files and JSON give them, become typed arrays; what cannot be read names its row and column.

A cell is a str, int, float, bool, Decimal, date, datetime or None. Every reader below has a fast path for a
whole column and falls back to one cell at a time only where a column holds something unusual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput

from .lines import Lines

Columns = Mapping[str, Sequence[object]]
"""A table: the cells of each column, all of one length."""

Floats = NDArray[np.float64]
Coded = tuple[Sequence[str | None], NDArray[np.int64]]
"""The distinct texts of a column, None for what is missing, and the place of each row's among them."""
T = TypeVar("T")

MAX_TEXT = 256
"""Characters of a category or class that count: longer texts are told apart by their beginning, so that free
text cannot fill a table of levels that travels."""

NEAR = 96 * 1024
"""Numbers of float64 that are worked on at once: 768 KiB stay in a processor's cache, and are less than what a C
library asks the system for each time."""

MANY = 1_000
"""Rows from which a column is read by itself, while its cells are in the processor's cache."""

# fmt: off
MISSING_SPELLINGS = frozenset((
    "", "na", "n/a", "#na", "#n/a", "#n/a n/a", "<na>", "nan", "-nan", "null", "none", "nil", "nat",
    "missing", "?", "-", "--", ".", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
))
# fmt: on
"""Missing values as people, pandas, R, SAS and spreadsheets write them, in lower case."""

# Looked up without strip() and lower(), for the fast path.
_USUAL_MISSING = frozenset(form for text in MISSING_SPELLINGS for form in (text, text.upper(), text.capitalize())) | {
    None,
    "NaN",
    "NaT",
}

_TRUE = frozenset(("true", "yes", "y", "t", "on"))
_FALSE = frozenset(("false", "no", "n", "f", "off"))
_PLAIN = frozenset((str, type(None)))
_NUMBERS = frozenset((float, type(None)))
"""What numpy reads by itself, None as NaN."""
_NAN = math.nan


class Kind(StrEnum):
    """What the cells of a column are: the first of these that fits all cells that are not missing.

    EMPTY has no such cell. NUMBER reads as numbers throughout, so 0 and 1 are numbers. BOOLEAN is spelled
    true/false, yes/no, y/n, t/f or on/off. DATE is ISO 8601. CATEGORY is anything else.
    """

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATE = "date"
    EMPTY = "empty"


class Sheet(Mapping[str, Sequence[object]]):
    """Columns whose cells are read once, whoever asks for them: a model and a density look at the same rows."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._places: dict[str, tuple[Floats, int]] = {}
        self._coded: Mapping[str, Coded] = {}
        self._made: dict[object, object] = {}

    @classmethod
    def of(cls, columns: Columns) -> Sheet:
        """These columns as a sheet; one that is given is the one that is returned."""
        return columns if isinstance(columns, Sheet) else cls(columns)

    @property
    def rows(self) -> int:
        """How many rows there are; BadInput if the columns disagree."""
        return row_count(self._columns)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What was made of these rows under a key, be it for another model; made where nobody has."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]

    def coded(self, name: str) -> Coded | None:
        """A category as canonical texts and the place of each row's among them; None where only its cells are here."""
        return self._coded.get(name)

    def __getitem__(self, name: str) -> Sequence[object]:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def matrix(self, names: Sequence[str], first_row: int) -> Floats:
        """`number_matrix` of these columns."""
        if unread := [name for name in names if name not in self._places]:
            block = number_matrix(self._columns, unread, first_row)
            self._places |= {name: (block, at) for at, name in enumerate(unread)}
            if len(unread) == len(names):
                return block
        first = self._places[names[0]][0]
        if all(self._places[name][0] is first for name in names):
            at = [self._places[name][1] for name in names]
            return first if at == list(range(first.shape[1])) else first[:, at]
        return np.column_stack([block[:, at] for block, at in map(self._places.__getitem__, names)])

    def read(self, reader: Callable[[Sequence[object], str, int], T], name: str, first_row: int) -> T:
        """What `reader`, one of those below, makes of a column."""
        return self.once((reader, name), lambda: reader(self[name], name, first_row))


def read_column(
    reader: Callable[[Sequence[object], str, int], T], columns: Columns, name: str, first_row: int = 1
) -> T:
    """What `reader` (texts, dates, booleans) makes of a column; of a sheet's, once."""
    if isinstance(columns, Sheet):
        return columns.read(reader, name, first_row)
    return reader(columns[name], name, first_row)


class BadValue(BadInput):
    """A cell that cannot be read as what its column holds; `row` counts data rows from 1."""

    def __init__(self, row: int, column: str, value: object, advice: str) -> None:
        self.row = row
        self.column = column
        self.value = value
        shown = repr(value)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        super().__init__(f"row {row}, column {column!r}: {shown} {advice}")


def cells_of(values: Iterable[object]) -> list[object]:
    """The cells of a column as a list of plain Python values, whatever sequence they came in."""
    if isinstance(values, list):
        return values
    if isinstance(values, np.ndarray):
        # numpy gives nanoseconds back as integers, and microseconds as datetimes.
        return list(values.astype("datetime64[us]").tolist() if values.dtype.kind == "M" else values.tolist())
    return list(values)


def row_count(columns: Columns) -> int:
    """How many rows the columns hold; BadInput if they disagree."""
    if isinstance(columns, Sheet):
        return columns.rows
    first: tuple[str, int] | None = None
    for name, cells in columns.items():
        if first is None:
            first = (name, len(cells))
        elif len(cells) != first[1]:
            raise BadInput(
                f"column {name!r} holds {len(cells)} cells and column {first[0]!r} holds {first[1]}: "
                "give every row a value in every column"
            )
    return first[1] if first else 0


def blocks(rows: int, width: int) -> Iterator[slice]:
    """All rows in order, so many at once that all numbers of them stay near, where each becomes `width` numbers."""
    step = max(1, NEAR // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def mark(table: Floats, places: NDArray[np.int64]) -> None:
    """Put 1 at the places of each row of `table`; these have shape (columns, rows), -1 where there is none."""
    ones = places + np.arange(len(table)) * table.shape[1]
    table.ravel()[ones[places >= 0]] = 1


def numbers(cells: Sequence[object], column: str, first_row: int = 1) -> Floats:
    """The cells as float64, NaN where missing; BadValue for text and for infinities."""
    plain = cells if isinstance(cells, Lines) else cells_of(cells)
    parsed = _floats(plain)
    if parsed is None:
        parsed = np.array([_number(cell, column, row) for row, cell in enumerate(plain, first_row)], np.float64)
    _refuse_infinite(parsed, plain, column, first_row)
    return parsed


def number_matrix(columns: Columns, names: Sequence[str], first_row: int = 1) -> Floats:
    """Some columns of numbers as float64 of shape (rows, names): of few rows by one conversion for all, which is what
    makes them cheap."""
    if isinstance(columns, Sheet) and names:
        return columns.matrix(names, first_row)
    rows = len(columns[names[0]]) if names else 0
    if rows < MANY:
        flat = [cell for name in names for cell in cells_of(columns[name])]
        parsed = _floats(flat)
        if parsed is not None and not np.isinf(parsed).any():
            return np.ascontiguousarray(parsed.reshape(len(names), rows).T)
    return np.column_stack([numbers(columns[name], name, first_row) for name in names])


def texts(cells: Sequence[object], column: str, first_row: int = 1) -> list[str | None]:
    """The cells as canonical text, None where missing: "3" for 3, 3.0; "true" for True, "TRUE"."""
    plain = cells_of(cells)
    if _PLAIN.issuperset(map(type, plain)):
        table = {cell: _text(cell, column, first_row) for cell in set(plain)}
        return [table[cell] for cell in plain]
    return [_text(cell, column, row) for row, cell in enumerate(plain, first_row)]


def booleans(cells: Sequence[object], column: str, first_row: int = 1) -> Floats:
    """1.0 for true, -1.0 for false, NaN where missing, and 0.0, which says neither, for any other text."""
    table: dict[str | None, float] = {None: _NAN, "1": 1.0, "0": -1.0}
    for text in (found := texts(cells, column, first_row)):
        if text not in table:
            lower = str(text).lower()
            table[text] = 1.0 if lower in _TRUE else -1.0 if lower in _FALSE else 0.0
    return np.array([table[text] for text in found], np.float64)


def dates(cells: Sequence[object], column: str, first_row: int = 1) -> Floats:
    """The cells as seconds since 1970 UTC, NaN where missing; a time without a zone counts as UTC."""
    seconds = np.empty(len(cells), np.float64)
    memo: dict[object, float] = {}
    for index, cell in enumerate(cells_of(cells)):
        known = memo.get(cell) if isinstance(cell, str) else None
        if known is None:
            known = _seconds(cell)
            if known is None:
                raise BadValue(
                    first_row + index,
                    column,
                    cell,
                    "is not a date: write it as 2024-01-31 or 2024-01-31T12:00",
                )
            if isinstance(cell, str):
                memo[cell] = known
        seconds[index] = known
    return seconds


def kind_of(cells: Sequence[object], column: str) -> Kind:
    """What a column holds; BadValue for an infinity among numbers."""
    plain = cells_of(cells)
    parsed = _floats(plain)
    if parsed is None and all(is_number(cell) for cell in plain):
        parsed = np.array([_number(cell, column, row) for row, cell in enumerate(plain, 1)], np.float64)
    if parsed is not None:
        if np.isnan(parsed).all():
            return Kind.EMPTY
        if all(isinstance(cell, bool) for cell, value in zip(plain, parsed, strict=True) if not math.isnan(value)):
            return Kind.BOOLEAN
        _refuse_infinite(parsed, plain, column, 1)
        return Kind.NUMBER
    seen = {text for text in texts(plain, column) if text is not None}
    if all(text.lower() in _TRUE or text.lower() in _FALSE for text in seen):
        return Kind.BOOLEAN
    if all(_seconds(cell) is not None for cell in plain):
        return Kind.DATE
    return Kind.CATEGORY


def is_number(cell: object) -> bool:
    """Whether a single cell is missing, or a number, be it infinite."""
    try:
        _number(cell, "", 1)
    except BadValue:
        return False
    return True


def canonical_number(value: float) -> str:
    """The text of a finite number, the same however it was written: "3" for 3.0, "0.5" for .5."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _floats(cells: Sequence[object]) -> Floats | None:
    """All cells as numbers at once, or None where some cell needs a closer look."""
    # A column of texts is told by its first cell.
    lines = cells if isinstance(cells, Lines) else Lines.of(cells) if cells and type(cells[0]) is str else None
    if lines is not None and (plain := lines.floats()) is not None:
        return plain
    kinds = set(map(type, cells))
    if kinds <= _NUMBERS:
        return np.array(cells, np.float64)
    try:
        parsed = np.fromiter(map(float, cells), np.float64, len(cells))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        try:
            known = [_NAN if cell in _USUAL_MISSING else cell for cell in cells]
            parsed = np.fromiter(map(float, known), np.float64, len(cells))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
    # Python reads "1_2" as 12, which is a name and no number in a table.
    if str in kinds and any(type(cell) is str and "_" in cell for cell in cells):
        return None
    return parsed


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING_SPELLINGS
    # NaN, and the NaT of pandas, which is a datetime, do not equal themselves.
    return cell is None or (isinstance(cell, float | Decimal | date) and cell != cell)


def _number(cell: object, column: str, row: int) -> float:
    if _is_missing(cell):
        return _NAN
    if isinstance(cell, str | int | float | Decimal | np.generic) and not (isinstance(cell, str) and "_" in cell):
        try:
            return float(cell)
        except (ValueError, TypeError):
            pass  # falls through to the refusal below
        except OverflowError:
            return math.inf
    raise BadValue(row, column, cell, "is not a number: give a number, or leave the cell empty")


def _refuse_infinite(parsed: Floats, cells: Sequence[object], column: str, first_row: int) -> None:
    infinite = np.isinf(parsed)
    if infinite.any():
        index = int(infinite.argmax())
        advice = "is infinite: give a finite number, or leave the cell empty"
        raise BadValue(first_row + index, column, cells[index], advice)


def _text(cell: object, column: str, row: int) -> str | None:
    if isinstance(cell, str):
        stripped = cell.strip()
        lower = stripped.lower()
        if lower in MISSING_SPELLINGS:
            return None
        return lower if lower in ("true", "false") else stripped[:MAX_TEXT]
    if isinstance(cell, np.generic):
        return _text(cell.item(), column, row)
    if _is_missing(cell):
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, date | datetime):
        return cell.isoformat()
    if isinstance(cell, int):
        return str(cell)[:MAX_TEXT]
    if isinstance(cell, float | Decimal) and math.isfinite(cell):
        return canonical_number(float(cell))
    raise BadValue(row, column, cell, "is no single finite value: give a text, a number, a boolean or null")


def _seconds(cell: object) -> float | None:
    """Seconds since 1970, NaN where missing, None where the cell is no date."""
    if _is_missing(cell):
        return _NAN
    if isinstance(cell, str):
        text = cell.strip()
        # Python would also read 20240131, which is a number here, and week dates, which nobody means.
        if len(text) < 10 or text[4] not in "-/" or text[7] != text[4]:
            return None
        try:
            cell = datetime.fromisoformat(text[:10].replace("/", "-") + text[10:])
        except ValueError:
            return None
    elif isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime.combine(cell, time())
    if not isinstance(cell, datetime):
        return None
    return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()
