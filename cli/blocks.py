"""A file as blocks of rows, each put to a peer while the next is read, in bounded memory."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from p2pml.peer.table import Table

T = TypeVar("T")
Row = list[object]

IN_FLIGHT = 2
"""Blocks at a peer at once: one is answered while another travels, and no more are held in memory."""

BLOCK_ROWS = 10_000
"""Rows in a block: enough to make the fan-out cheap, few enough to answer within a deadline."""

BLOCK_BYTES = 3 * 2**20
"""Characters in a block. In UTF-8 with msgpack's marks it stays below the 16 MiB that a peer takes."""

READ_ROWS = 500
"""Rows that are read at once, to be gathered into blocks; a wide table's are cut again."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a file; `first_row` is the number of the first, counted from 1."""

    columns: list[str]
    data: list[Row]
    first_row: int


async def blocks_of(file: str) -> AsyncIterator[Block]:
    """The rows of `file`, or of standard input where it is `-`; at least one block, which may hold no row.

    Raises `BadInput` where the file cannot be read as a table.
    """
    gathered = _gather(file)
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


def _gather(file: str) -> Generator[Block, None, None]:
    from p2pml.peer.table import read_blocks

    # Not sys.stdin: a reader that waits for input would hold its lock when the program ends.
    source = open(0, "rb", closefd=False) if file == "-" else file  # noqa: SIM115 (there is nothing to close)
    columns: list[str] = []
    data: list[Row] = []
    first_row, size = 1, 0
    for table in read_blocks(source, READ_ROWS):
        columns = list(table.columns)
        rows: list[Row] = [[_plain(cell) for cell in cells] for cells in zip(*table.columns.values(), strict=True)]
        for some, weight in _halved(rows, _size(table)):
            if data and (size + weight > BLOCK_BYTES or len(data) + len(some) > BLOCK_ROWS):
                yield Block(columns, data, first_row)
                first_row, data, size = first_row + len(data), [], 0
            data.extend(some)
            size += weight
    if data or first_row == 1:
        yield Block(columns, data, first_row)


def _plain(cell: object) -> object:
    """A cell as JSON can have it; Parquet has dates and times too."""
    if cell is None or isinstance(cell, str | int | float):
        return cell
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def _halved(rows: list[Row], size: int) -> Iterator[tuple[list[Row], int]]:
    """`rows` in pieces that a block can hold, with their sizes, taken to be alike."""
    if size <= BLOCK_BYTES or len(rows) <= 1:
        yield rows, size
        return
    middle = len(rows) // 2
    yield from _halved(rows[:middle], size // 2)
    yield from _halved(rows[middle:], size // 2)


def _size(table: Table) -> int:
    """About how many bytes the table's cells take in a request."""
    # 9 bytes are a number in msgpack, and more than the mark of a short text.
    return sum(sum(len(cell) if isinstance(cell, str) else 9 for cell in cells) for cells in table.columns.values())


async def put(
    blocks: AsyncIterator[Block],
    ask: Callable[[Block], Awaitable[T]],
    take: Callable[[Block, T], None],
) -> None:
    """Put each block to a peer by `ask`, and hand the answers to `take` in the order of the blocks."""
    pending: deque[tuple[Block, asyncio.Task[T]]] = deque()
    try:
        async for block in blocks:
            pending.append((block, asyncio.ensure_future(ask(block))))
            if len(pending) == IN_FLIGHT:
                await _take_first(pending, take)
        while pending:
            await _take_first(pending, take)
    finally:
        for _, task in pending:
            task.cancel()
        await asyncio.gather(*(task for _, task in pending), return_exceptions=True)


async def _take_first(pending: deque[tuple[Block, asyncio.Task[T]]], take: Callable[[Block, T], None]) -> None:
    # It stays in `pending` until it is done, so that whatever happens meanwhile cancels it too.
    block, task = pending[0]
    answer = await task
    pending.popleft()
    take(block, answer)
