"""A file as blocks of rows, read in a thread, in bounded memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from functools import partial
from typing import TypeVar

from p2pml.ensemble.lines import Lines
from p2pml.errors import BadInput
from p2pml.peer.blocks import BLOCK_BYTES, BLOCK_ROWS, Block, halved, size_of

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
    parts: list[Mapping[str, Sequence[object]]] = []
    first_row, rows, size, left = skip + 1, 0, 0, skip
    for table in read_blocks(source, READ_ROWS, reached):
        if left >= table.rows > 0:
            left -= table.rows
            continue
        columns = {name: _plain(cells) for name, cells in table.columns.items()}
        # Cut as if nothing was skipped: rows that go together may have another answer than each alone.
        for begin, end, weight in halved(0, table.rows, size_of(columns), BLOCK_BYTES):
            if left and end <= left:
                continue
            start = max(begin, left)
            if rows and (size + weight > BLOCK_BYTES or rows + end - start > BLOCK_ROWS):
                yield Block(_joined(parts), rows, first_row)
                parts, first_row, rows, size = [], first_row + rows, 0, 0
            whole = end - start == table.rows
            parts.append(columns if whole else {name: _plain(cells[start:end]) for name, cells in columns.items()})
            rows += end - start
            size += weight
        left = 0
    if left:
        raise BadInput(f"{file} has fewer than the {skip:,} rows that the interrupted run has read.")
    if rows or first_row == 1:
        yield Block(_joined(parts), rows, first_row)


def _joined(parts: Sequence[Mapping[str, Sequence[object]]]) -> dict[str, Sequence[object]]:
    """Each column's cells, one part after the other."""
    found: dict[str, Sequence[object]] = {}
    for name in parts[0] if parts else ():
        lines = [cells for part in parts if isinstance(cells := part[name], Lines)]
        found[name] = (
            Lines.joined(lines) if len(lines) == len(parts) else [cell for part in parts for cell in part[name]]
        )
    return found


def _plain(cells: Sequence[object]) -> Sequence[object]:
    """Cells as JSON can have them; Parquet has dates and times too. Texts are packed while they are near."""
    if (lines := Lines.of(cells)) is not None:
        return lines
    return cells if _PLAIN.issuperset(map(type, cells)) else [_plain_cell(cell) for cell in cells]


def _plain_cell(cell: object) -> object:
    if cell is None or isinstance(cell, str | int | float):
        return cell
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)
