"""Request and response bodies: JSON or msgpack by content type, validated while they are decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web

from p2pml.ensemble.lines import Lines
from p2pml.ensemble.values import Columns, row_count
from p2pml.errors import BadInput

from .asking import MAX_DEADLINE

JSON, MSGPACK = "application/json", "application/msgpack"
MAX_BODY = 16 * 2**20
"""Bytes of a request: a block of 10,000 rows of 80 columns fits, and 32 at once fit in memory."""
LARGE = 64 * 1024
"""Bytes from which a body is decoded in a thread, so that the protocol keeps its beat."""

Rule = Literal["auto", "density", "local", "mean", "median", "stacked", "trimmed-mean", "weighted"]
Deadline = Annotated[float, msgspec.Meta(gt=0, le=MAX_DEADLINE)]
Level = Annotated[float, msgspec.Meta(gt=0, lt=1)]
RowNumber = Annotated[int, msgspec.Meta(ge=1)]
Cell = str | int | float | bool | None
T = TypeVar("T")


class UnsupportedBody(BadInput):
    """The content type is neither JSON nor msgpack."""


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rows to predict: either `rows`, or `columns` with `data`, a list for each row, or with `cells`, a list for each
    column, or, of cells that are all texts, one text with a line for each, which is read fastest. `deadline` is in
    seconds, by default 5 and one more for each 1,000 rows. `sure` asks for how sure the answer is at each row, and
    `interval`, a probability, for bounds that hold with it.

    `first_row` is the number that errors give the first row, for rows that are a block of a longer table.
    """

    rows: list[dict[str, Cell]] | None = None
    columns: list[str] | None = None
    data: list[list[Cell]] | None = None
    cells: list[list[Cell] | str] | None = None
    combine: Rule = "auto"
    deadline: Deadline | None = None
    proba: bool = False
    sure: bool = False
    interval: Level | None = None
    first_row: RowNumber = 1


class EvaluateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How to evaluate; without rows, on every peer's held-out ones. `statistics` asks for what adds up over
    blocks, and `compare`, without rows, for every rule and each peer alone."""

    rows: list[dict[str, Cell]] | None = None
    columns: list[str] | None = None
    data: list[list[Cell]] | None = None
    combine: Rule = "auto"
    deadline: Deadline | None = None
    statistics: bool = False
    compare: bool = False
    first_row: RowNumber = 1


class FitRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Have every peer retrain, on `model` or on what each one has; `wait` until they have."""

    model: str | None = None
    wait: bool = True


def decode(raw: bytes, content_type: str, shape: type[T]) -> T:
    """The body as `shape`; raises `BadInput` with the place of the fault, `UnsupportedBody` for another type."""
    if content_type not in (JSON, MSGPACK):
        raise UnsupportedBody(
            f"the content type {content_type!r} is not understood; send application/json or application/msgpack"
        )
    try:
        if content_type == MSGPACK:
            return msgspec.msgpack.decode(raw, type=shape)
        return _decode_json(raw, shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        kind = "JSON" if content_type == JSON else "msgpack"
        what = "is not what is asked for here" if isinstance(error, msgspec.ValidationError) else f"is not {kind}"
        words = str(error) or "it is nested too deeply"
        raise BadInput(f"the body {what}: {words[0].lower()}{words[1:]}; see /openapi.json") from error


def encode(answer: Any, request: web.Request) -> web.Response:
    """The answer in the form that the caller accepts: msgpack where it says so, else JSON."""
    if MSGPACK in request.headers.get("Accept", ""):
        return web.Response(body=msgspec.msgpack.encode(answer), content_type=MSGPACK)
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


def columns_of(request: PredictRequest | EvaluateRequest) -> tuple[Columns, int]:
    """The cells of each column, and the number of rows; raises `BadInput` where the rows are not rectangular."""
    cells = request.cells if isinstance(request, PredictRequest) else None
    match request.rows, request.columns, request.data, cells:
        case list(rows), None, None, None:
            return _from_rows(rows, request.first_row), len(rows)
        case None, list(columns), list(data), None:
            return _from_data(columns, data, request.first_row), len(data)
        case None, list(columns), None, list(cells):
            table = _from_cells(columns, cells)
            return table, row_count(table)
    raise BadInput('the body must hold either "rows", or "columns" with "data" or "cells"; see /openapi.json')


def _from_rows(rows: list[dict[str, Cell]], first_row: int) -> dict[str, list[object]]:
    names = rows[0].keys() if rows else ()
    for number, row in enumerate(rows, first_row):
        if row.keys() != names:
            if lacking := [name for name in names if name not in row]:
                raise BadInput(f"row {number} has no column {lacking[0]!r}; send null where a value is missing")
            extra = next(name for name in row if name not in names)
            raise BadInput(f"row {number} has a column {extra!r} that row {first_row} does not have")
    return {name: [row[name] for row in rows] for name in names}


def _from_data(columns: list[str], data: list[list[Cell]], first_row: int) -> dict[str, list[object]]:
    width = len(columns)
    _check_names(columns)
    for number, row in enumerate(data, first_row):
        if len(row) != width:
            raise BadInput(f"row {number} has {len(row)} cells for {width} columns; send null where a value is missing")
    cells = zip(*data, strict=True) if data else ((),) * width
    return {name: list(column) for name, column in zip(columns, cells, strict=True)}


def _from_cells(columns: list[str], cells: list[list[Cell] | str]) -> dict[str, Sequence[object]]:
    _check_names(columns)
    if len(cells) != len(columns):
        raise BadInput(f'"cells" holds {len(cells)} columns for {len(columns)} names; send one for each')
    each = (Lines(column) if isinstance(column, str) else column for column in cells)
    return dict(zip(columns, each, strict=True))


def _check_names(columns: list[str]) -> None:
    if len(set(columns)) != len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise BadInput(f'the column {twice!r} stands twice in "columns"; send each one once')


def _decode_json(raw: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's own writers put NaN and Infinity, which are no JSON; what they mean is clear all the same.
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise
        try:
            loose = json.loads(raw)
        except ValueError as error:
            raise msgspec.DecodeError(str(error)) from error
        return msgspec.convert(loose, shape)
