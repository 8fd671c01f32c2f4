"""A file as blocks of rows, read in a thread, in bounded memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from datetime import date, time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from p2pml.errors import BadInput
from p2pml.peer.blocks import BLOCK_BYTES, BLOCK_ROWS, Block, Row, halved

if TYPE_CHECKING:
    from p2pml.peer.table import Table

T = TypeVar("T")

_PLAIN = frozenset((str, int, float, bool, type(None)))

READ_ROWS = 500
"""Rows that are read at once, to be gathered into blocks; a wide table's are cut again."""


async def blocks_of(
    file: str, skip: int = 0, reached: Callable[[float], None] = lambda share: None
) -> AsyncIterator[Block]:
    """The rows of `file`, or of standard input where it is `-`, but for the first `skip`; at least one block, which may
    hold no row. `reached` is told which share of the file has been read, where that is known.

    Raises `BadInput` where the file cannot be read as a table.
    """
    gathered = _gather(file, skip, reached)
    try:
        # Reading and parsing leave the event loop free for the answers.
        while (block := await _in_thread(lambda: next(gathered, None))) is not None:
            yield block
    finally:
        # It cannot be closed, and need not be, while it waits for input.
        with suppress(ValueError):
            gathered.close()


async def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread that does not outlive the program, unlike those of asyncio: it may wait for input."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not done.done():
            settled()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            settled = partial(done.set_exception, error)
        else:
            settled = partial(done.set_result, result)
        # The loop may be gone by now, and with it who waited.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _gather(file: str, skip: int, reached: Callable[[float], None]) -> Generator[Block, None, None]:
    from p2pml.peer.table import read_blocks

    # Not sys.stdin: a reader that waits for input would hold its lock when the program ends.
    source = open(0, "rb", closefd=False) if file == "-" else file  # noqa: SIM115 (there is nothing to close)
    columns: list[str] = []
    data: list[Row] = []
    first_row, size, left = skip + 1, 0, skip
    for table in read_blocks(source, READ_ROWS, reached):
        columns = list(table.columns)
        if left >= table.rows > 0:
            left -= table.rows
            continue
        rows: list[Row] = list(map(list, zip(*map(_plain, table.columns.values()), strict=True)))
        for some, weight in halved(rows[left:], _size(table), BLOCK_BYTES):
            if data and (size + weight > BLOCK_BYTES or len(data) + len(some) > BLOCK_ROWS):
                yield Block(columns, data, first_row)
                first_row, data, size = first_row + len(data), [], 0
            data.extend(some)
            size += weight
        left = 0
    if left:
        raise BadInput(f"{file} has fewer than the {skip:,} rows that the interrupted run has read.")
    if data or first_row == 1:
        yield Block(columns, data, first_row)


def _plain(cells: list[object]) -> list[object]:
    """Cells as JSON can have them; Parquet has dates and times too."""
    return cells if _PLAIN.issuperset(map(type, cells)) else [_plain_cell(cell) for cell in cells]


def _plain_cell(cell: object) -> object:
    if cell is None or isinstance(cell, str | int | float):
        return cell
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def _size(table: Table) -> int:
    """About how many bytes the table's cells take in a request."""
    # 9 bytes are a number in msgpack, and more than the mark of a short text.
    return sum(sum(len(cell) if isinstance(cell, str) else 9 for cell in cells) for cells in table.columns.values())
