"""Rows in blocks, each put to a peer while the next is made ready, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Row = list[object]

IN_FLIGHT = 2
"""Blocks at a peer at once: one is answered while another travels, and no more are held in memory."""

BLOCK_ROWS = 10_000
"""Rows in a block: enough to make the fan-out cheap, few enough to answer within a deadline."""

BLOCK_BYTES = 3 * 2**20
"""Characters in a block. In UTF-8 with msgpack's marks it stays below the 16 MiB that a peer takes."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a table; `first_row` is the number of the first, counted from 1."""

    columns: list[str]
    data: list[Row]
    first_row: int


def halved(rows: list[Row], size: int, most: int) -> Iterator[tuple[list[Row], int]]:
    """`rows` in pieces of at most `most` characters, with their sizes, taken to be alike."""
    if size <= most or len(rows) <= 1:
        yield rows, size
        return
    middle = len(rows) // 2
    yield from halved(rows[:middle], size // 2, most)
    yield from halved(rows[middle:], size // 2, most)


async def cut(columns: Mapping[str, list[object]]) -> AsyncIterator[Block]:
    """The rows of a table in memory; at least one block, which may hold no row."""
    names, rows = list(columns), len(next(iter(columns.values()), ()))
    for start in range(0, max(rows, 1), BLOCK_ROWS):
        piece = [cells[start : start + BLOCK_ROWS] for cells in columns.values()]
        # 9 bytes are a number in msgpack, and more than the mark of a short text.
        size = sum(len(cell) if isinstance(cell, str) else 9 for cells in piece for cell in cells)
        first_row = start + 1
        for data, _ in halved([list(row) for row in zip(*piece, strict=True)], size, BLOCK_BYTES):
            yield Block(names, data, first_row)
            first_row += len(data)


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
