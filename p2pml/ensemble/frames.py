"""Tables as programs hold them: frames of pandas and polars, mappings and arrays, as columns of plain cells.

Frames are known by what they can do, so that neither library is imported, or needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput

from .fields import some_of
from .values import row_count

Cells = list[object]


class BadCell(BadInput, TypeError):
    """A cell of a type that no column can hold; a TypeError too, as scikit-learn's users expect."""


def column_cells(values: Any, name: str) -> Cells:
    """The cells of a column (an array, a series of pandas or polars, or a sequence) as plain Python values.

    What counts as missing in pandas and polars becomes None or NaN. BadCell for a cell that is neither a text nor a
    number, nor a boolean or a date.
    """
    if isinstance(values, np.ndarray):
        # numpy gives nanoseconds back as integers, and microseconds as datetimes.
        values = values.astype("datetime64[us]") if values.dtype.kind == "M" else values
        cells = list(values.tolist())
        if values.dtype.kind in "biufM":
            return cells
    else:
        tolist = getattr(values, "to_list", None)
        cells = list(tolist() if tolist is not None else values)
    return [cell if type(cell) in _PLAIN else _plain(cell, name, row) for row, cell in enumerate(cells, 1)]


def is_frame(table: object) -> bool:
    """Whether it is a frame of pandas or polars."""
    return hasattr(table, "columns") and (hasattr(table, "iloc") or hasattr(table, "get_columns"))


def series_of(frame: Any) -> list[tuple[object, Any]]:
    """The columns of a frame as (name, series); pandas may have a name twice, or names that are no text."""
    if hasattr(frame, "get_columns"):
        return [(series.name, series) for series in frame.get_columns()]
    return list(frame.items())


def object_array(frame: Any) -> NDArray[np.object_]:
    """The plain cells of a frame, shape (rows, columns)."""
    columns = series_of(frame)
    table = np.empty((len(frame), len(columns)), object)
    for at, (name, series) in enumerate(columns):
        table[:, at] = column_cells(series, str(name))
    return table


def named_columns(table: Any) -> dict[str, Cells] | None:
    """The columns of a frame or a mapping by name; None where the table, or the frame, has no names.

    BadInput where a name occurs twice, a column is no sequence, or columns are not of one length.
    """
    if is_frame(table):
        pairs = series_of(table)
    elif isinstance(table, Mapping):
        pairs = list(table.items())
    else:
        return None
    # As scikit-learn has it: what pandas numbers is not named.
    if pairs and not any(isinstance(name, str) for name, _ in pairs):
        return None
    columns: dict[str, Cells] = {}
    for key, values in pairs:
        name = str(key)
        if name in columns:
            raise BadInput(f"the column {name!r} occurs twice: give each one once")
        if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
            raise BadInput(f"column {name!r} is {values!r} and no sequence: a single row is {{{name!r}: [{values!r}]}}")
        columns[name] = column_cells(values, name)
    row_count(columns)
    return columns


def array_columns(table: Any, names: Sequence[str]) -> dict[str, Cells]:
    """The columns of a two-dimensional array, or of a frame or list without names, called `names` in their order."""
    if is_frame(table):
        array = object_array(table)
    else:
        # Of a list numpy would make texts throughout where one cell is a text.
        array = np.asarray(table) if hasattr(table, "__array__") else np.array(table, object)
    if array.ndim != 2:
        raise BadInput(
            f"rows by columns are asked for, and this {type(table).__name__} has {array.ndim} dimensions: "
            "give a frame, a mapping of columns, or an array of two; a single row is [[...]]"
        )
    if array.shape[1] != len(names):
        raise BadInput(
            f"there are {array.shape[1]} columns, and names for {len(names)} ({some_of(list(names), 12)}): "
            "give as many, or name them with columns="
        )
    return {name: column_cells(array[:, at], name) for at, name in enumerate(names)}


_PLAIN = frozenset((str, int, float, bool, type(None)))


def _plain(cell: object, name: str, row: int) -> object:
    if isinstance(cell, np.generic):
        return _plain(cell.item(), name, row)
    # pandas' NA is of a class of its own; its NaT is a date that does not equal itself.
    if type(cell).__name__ == "NAType" or (isinstance(cell, date) and cell != cell):
        return None
    if isinstance(cell, str | int | float | date | None):
        return cell
    if isinstance(cell, Decimal):
        return float(cell)
    if isinstance(cell, time):
        return cell.isoformat()
    raise BadCell(
        f"row {row}, column {name!r}: the argument must be a string or a number, a boolean or a date, "
        f"and not {type(cell).__name__}"
    )
