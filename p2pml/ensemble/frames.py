"""Tables as programs hold them: frames of pandas and polars, mappings and arrays, as columns of plain cells.

Frames are known by what they can do, so that neither library is imported, or needed.
"""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cells = list[object]


def column_cells(values: Any, name: str) -> Cells:
    """The cells of a column (an array, a series of pandas or polars, or a sequence) as plain Python values.

    What counts as missing in pandas and polars becomes None or NaN. TypeError for a cell that is neither a text nor
    a number, nor a boolean or a date.
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
    raise TypeError(
        f"row {row}, column {name!r}: the argument must be a string or a number, a boolean or a date, "
        f"and not {type(cell).__name__}"
    )
