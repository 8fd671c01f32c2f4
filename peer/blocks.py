"""Rows in blocks, each put to a peer while the next is made ready, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from p2pml.ensemble.lines import Lines

T = TypeVar("T")

IN_FLIGHT = 3
"""Blocks at a peer at once: while one travels, the votes on others keep all cores at work. No more are in memory."""

BLOCK_ROWS = 10_000
"""Rows in a block: enough to make the fan-out cheap, few enough to answer within a deadline."""

BLOCK_BYTES = 3 * 2**20
"""Characters in a block. In UTF-8 with msgpack's marks it stays below the 16 MiB that a peer takes."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a table, column by column; `first_row` is the number of the first, counted from 1."""

    columns: dict[str, Sequence[object]]
    rows: int
    first_row: int


def size_of(columns: Mapping[str, Sequence[object]]) -> int:
    """About how many bytes the cells take in a request."""
    return sum(map(_size, columns.values()))


def _size(cells: Sequence[object]) -> int:
    if isinstance(cells, Lines):
        return len(cells.text)
    try:
        return sum(map(len, cells))  # type: ignore[arg-type]
    except TypeError:
        # 9 bytes are a number in msgpack, and more than the mark of a short text.
        return sum(len(cell) if isinstance(cell, str) else 9 for cell in cells)


def halved(start: int, end: int, size: int, most: int) -> Iterator[tuple[int, int, int]]:
    """The rows from `start` to `end` in pieces of at most `most` characters: where each begins and ends, and its size,
    rows taken to be alike."""
    if size <= most or end - start <= 1:
        yield start, end, size
        return
    middle = (start + end) // 2
    yield from halved(start, middle, size // 2, most)
    yield from halved(middle, end, size // 2, most)


async def cut(columns: Mapping[str, list[object]]) -> AsyncIterator[Block]:
    """The rows of a table in memory; at least one block, which may hold no row."""
    rows = len(next(iter(columns.values()), ()))
    for first in range(0, max(rows, 1), BLOCK_ROWS):
        last = min(rows, first + BLOCK_ROWS)
        size = size_of({name: cells[first:last] for name, cells in columns.items()})
        for start, end, _ in halved(first, last, size, BLOCK_BYTES):
            yield Block({name: cells[start:end] for name, cells in columns.items()}, end - start, start + 1)


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
