"""What one end of a link sends: frames of one turn of the loop go out as one message, in the order they came.

A message and a call of the system for each frame would cost more than most answers. Bodies in many frames wait for
room, so that a small frame has at most HIGH bytes before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from .frames import CHUNK

HIGH = 2 * CHUNK
"""Bytes that wait, above which large bodies wait too."""


class Outbox:
    """Sends in a task of its own until it is closed or the connection is lost."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """`send` sends one message, and waits where the other end does not take it."""
        self._send = send
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._sending = asyncio.get_running_loop().create_task(self._go_on())

    @property
    def open(self) -> bool:
        return not self._sending.done()

    def put(self, frame: bytes) -> None:
        """Send a frame soon; raises `ConnectionError` where the connection is lost."""
        if self._sending.done():
            raise ConnectionResetError("the connection was lost")
        self._frames.append(frame)
        self._empty.clear()
        self._size += len(frame)
        if self._size > HIGH:
            self._room.clear()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def put_all(self, frames: Iterable[bytes]) -> None:
        """Send all frames of a body, as there is room for them."""
        for frame in frames:
            self.put(frame)
            if self._size > HIGH:
                await self._room.wait()

    async def flush(self) -> None:
        """Wait until all is handed to the system, or the connection is lost."""
        await self._empty.wait()

    async def close(self) -> None:
        """Send nothing more."""
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def _go_on(self) -> None:
        try:
            while True:
                if not self._frames:
                    self._empty.set()
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                await self._send(self._message())
        except (ConnectionError, asyncio.CancelledError):
            # Whoever reads at this end hears of it too, and tells all who wait.
            pass
        finally:
            self._room.set()
            self._empty.set()

    def _message(self) -> bytes:
        """As many of the frames that wait as fit a message; at least one."""
        taken, size = [self._frames.popleft()], 0
        size = len(taken[0])
        while self._frames and size + len(self._frames[0]) <= CHUNK:
            taken.append(self._frames.popleft())
            size += len(taken[-1])
        self._size -= size
        if self._size <= HIGH:
            self._room.set()
        return taken[0] if len(taken) == 1 else b"".join(taken)
