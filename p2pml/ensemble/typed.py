"""Rows that were read and checked once, by whoever was asked, and travel to the voters as arrays.

Numbers and dates are float64, NaN where missing. Categories are canonical texts, and of many rows the distinct texts
with the place of each row's among them. What a column without a value in training holds travels as it came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .fields import MAX_COLUMNS, Schema
from .values import Coded, Columns, Floats, Kind, Sheet, dates, number_matrix, row_count, texts

CODED = 64
"""Rows from which a category travels as codes: below, the texts themselves are quicker."""
MAX_ROWS = 2**24
"""Rows in one question; its bytes are bounded too."""

_PLAIN = frozenset((str, type(None)))
_CELLS = frozenset((str, int, float, bool, type(None)))
_WIDTHS = (("<u1", 2**8), ("<u2", 2**16), ("<u4", 2**32))

Block = tuple[Sequence[str], Floats]
"""Names of columns, and their values, shape (rows, names)."""


class Typed(Sheet):
    """Columns that need no reading any more."""

    def __init__(
        self,
        rows: int,
        numbers: Block,
        days: Block,
        coded: Mapping[str, Coded],
        said: Mapping[str, list[str | None]],
        others: Columns,
    ) -> None:
        """`said` are canonical texts; `others` are cells that nobody has looked at."""
        super().__init__({**said, **others})
        self._coded = coded
        self._count = rows
        self._blocks = (numbers, days)
        self._said, self._others = said, others
        self._places = {name: (numbers[1], at) for at, name in enumerate(numbers[0])}
        self._days = {name: at for at, name in enumerate(days[0])}
        self._made = {(texts, name): cells for name, cells in said.items()}
        self._made |= {(dates, name): days[1][:, at] for name, at in self._days.items()}

    @property
    def rows(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> Sequence[object]:
        """The cells of a column, whatever it travelled as."""
        if name in self._columns:
            return self._columns[name]
        if name in self._coded:
            levels, codes = self._coded[name]
            return [levels[code] for code in codes.tolist()]
        for names, block in self._blocks:
            if name in names:
                return [None if cell != cell else cell for cell in block[:, list(names).index(name)].tolist()]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._columns or name in self._coded or name in self._places or name in self._days

    def __iter__(self) -> Iterator[str]:
        yield from (*self._blocks[0][0], *self._blocks[1][0], *self._coded, *self._columns)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def matrix(self, names: Sequence[str], first_row: int) -> Floats:
        """`number_matrix` of these columns; one that came as something else is read as such."""
        strange = {name: self[name] for name in names if name not in self._places}
        if strange:
            block = number_matrix(strange, list(strange), first_row)
            self._places |= {name: (block, at) for at, name in enumerate(strange)}
        return super().matrix(names, first_row)

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack; arrays are raw and little-endian."""
        numbers, days = ([list(names), block.astype("<f8").tobytes()] for names, block in self._blocks)
        return {
            "rows": self._count,
            "numbers": numbers,
            "days": days,
            "coded": {
                name: [list(levels), _packed(codes, len(levels))] for name, (levels, codes) in self._coded.items()
            },
            "texts": dict(self._said),
            "others": dict(self._others),
        }

    @classmethod
    def from_data(cls, data: object) -> Typed:
        """The rows that another peer asks about; RemoteError if they are none."""
        try:
            return _unpacked(data)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the rows that a peer asks about cannot be read: {error}") from error


class Reader:
    """Reads rows by one schema; made once, since each question would sort the columns anew."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        kinds: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        for field in schema.fields:
            kinds[field.kind].append(field.name)
        self._numbers, self._days, self._empty = kinds[Kind.NUMBER], kinds[Kind.DATE], kinds[Kind.EMPTY]
        self._categories = [*kinds[Kind.CATEGORY], *kinds[Kind.BOOLEAN]]
        self._names = {field.name for field in schema.fields}

    def read(self, columns: Columns, first_row: int = 1) -> Typed:
        """Check rows and read them; the target, if they carry it, stays behind. Raises BadInput as `Schema.check`."""
        if columns.keys() != self._names:
            self.schema.check_names(columns)
        rows = row_count(columns)
        numbers = number_matrix(columns, self._numbers, first_row) if self._numbers else np.empty((rows, 0))
        days = np.empty((rows, len(self._days)))
        for at, name in enumerate(self._days):
            days[:, at] = dates(columns[name], name, first_row)
        coded: dict[str, Coded] = {}
        said: dict[str, list[str | None]] = {}
        if rows >= CODED:
            coded = {name: _coded(columns[name], name, first_row) for name in self._categories}
        else:
            said = {name: texts(columns[name], name, first_row) for name in self._categories}
        others = {name: columns[name] for name in self._empty}
        return Typed(rows, (self._numbers, numbers), (self._days, days), coded, said, others)


def _coded(cells: Sequence[object], name: str, first_row: int) -> Coded:
    spelled, codes = _numbered(cells)
    if not _PLAIN.issuperset(map(type, spelled)):
        spelled, codes = _numbered(texts(cells, name, first_row))
    # Each spelling is looked at once, and several may be the same text.
    places: dict[str | None, int] = {}
    said = [places.setdefault(text, len(places)) for text in texts(spelled, name, first_row)]
    return list(places), np.array(said, np.int64)[codes]


def _numbered(cells: Sequence[object]) -> tuple[list[object], NDArray[np.int64]]:
    """The distinct cells in the order in which they come, and the place of each row's among them."""
    places: defaultdict[object, int] = defaultdict(count().__next__)
    codes = np.fromiter(map(places.__getitem__, cells), np.int64, len(cells))
    return list(places), codes


def _packed(codes: NDArray[np.int64], levels: int) -> bytes:
    return codes.astype(_width(levels)).tobytes()


def _width(levels: int) -> str:
    return next(width for width, most in _WIDTHS if levels <= most)


def _unpacked(data: Any) -> Typed:
    rows = data["rows"]
    if type(rows) is not int or not 0 <= rows <= MAX_ROWS:
        raise ValueError("no number of rows")
    numbers, days = _block(data["numbers"], rows), _block(data["days"], rows)
    coded = {name: _codes(levels, raw, rows) for name, (levels, raw) in data["coded"].items()}
    said, others = data["texts"], data["others"]
    for columns, allowed in ((said, _PLAIN), (others, _CELLS)):
        for cells in columns.values():
            if type(cells) is not list or len(cells) != rows or not allowed.issuperset(map(type, cells)):
                raise ValueError("a column that is not one cell a row")
    names = [*numbers[0], *days[0], *coded, *said, *others]
    if len(names) > MAX_COLUMNS or len(set(names)) != len(names) or not {str}.issuperset(map(type, names)):
        raise ValueError("names of columns that are no distinct texts")
    return Typed(rows, numbers, days, coded, said, others)


def _block(data: Any, rows: int) -> Block:
    names, raw = data
    if type(names) is not list or type(raw) is not bytes or len(raw) != 8 * rows * len(names):
        raise ValueError("numbers that are not one float64 a row and column")
    block = np.frombuffer(raw, "<f8").reshape(rows, len(names))
    if np.isinf(block).any():
        raise ValueError("a number that is infinite")
    return names, block


def _codes(levels: Any, raw: Any, rows: int) -> Coded:
    if type(levels) is not list or type(raw) is not bytes or not _PLAIN.issuperset(map(type, levels)):
        raise ValueError("a category that is no texts and codes")
    codes = np.frombuffer(raw, _width(len(levels))).astype(np.int64)
    if len(codes) != rows or (rows and int(codes.max()) >= len(levels)):
        raise ValueError("codes that are not one a row, or beyond the texts")
    return levels, codes
