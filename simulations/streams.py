"""Connections in memory: two ends, and a pipe in each direction that keeps the order and sends again what is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from p2pml.gossip import Address

from .loop import Process

if TYPE_CHECKING:
    from .kernel import Kernel

SEND_AGAIN = 0.2
"""Seconds until a lost segment is sent again, as on Linux; twice as long each time."""
LONGEST_WAIT = 120.0
"""Most seconds between two attempts, as on Linux."""
SEGMENT = 65_536
"""Most bytes that travel, and are read, at once."""
HIGH, LOW = 262_144, 65_536
"""Bytes on their way above which a writer is asked to pause, and below which it goes on."""
DRIP = 0.25
"""Seconds between two pieces of a machine that says only so many bytes a second."""
RESET = b""
"""What stands in a queue for a reset; None stands for the end of the stream."""

Piece = bytes | None


@dataclass(eq=False)
class End:
    """One end of a connection as its kernel keeps it, from before its process knows of it until after."""

    kernel: Kernel
    local: Address
    remote: Address
    process: Process | None
    inbox: deque[Piece] = field(default_factory=deque)
    transport: StreamTransport | None = None
    closed: bool = False
    other: End = field(init=False)
    pipe: Pipe = field(init=False)
    """To the other end."""

    def receive(self, piece: Piece) -> None:
        """Take what arrived; data for a closed end is answered by a reset."""
        if not self.closed:
            self.inbox.append(piece)
            if self.transport is not None:
                self.transport.wake()
        elif piece:
            self.pipe.reset()

    def close(self, *, reset: bool = False) -> None:
        """Give up: the other end hears of a reset where what it said was never read, else of the stream's end."""
        if not self.closed:
            self.closed = True
            if reset or any(self.inbox):
                self.pipe.reset()
            else:
                self.pipe.push(None)
            self.kernel.forget(self)


class Pipe:
    """One direction of a connection: keeps the order and sends again what is lost."""

    def __init__(self, kernel: Kernel, source: End, target: End, rng: random.Random) -> None:
        """Be empty."""
        self._kernel, self._source, self._target, self._rng = kernel, source, target, rng
        self._queue: deque[Piece] = deque()
        self._waiting = False
        self._again = SEND_AGAIN
        self._last = 0.0
        self._ended = self._broken = False
        self.on_the_way = 0
        self.tear = False
        """Whether the next piece of data is cut in two, and the connection reset after the first half."""

    def push(self, piece: Piece) -> None:
        """Send data, or the end of the stream."""
        if self._ended:
            return
        rate = self._rate()
        if rate == 0:
            return
        self._ended = piece is None
        self.on_the_way += len(piece or b"")
        if rate is None or piece is None:
            self._queue.append(piece)
        else:
            size = max(1, round(rate * DRIP))
            self._queue.extend(piece[start : start + size] for start in range(0, len(piece), size))
        if not self._waiting:
            self._transmit()

    def reset(self) -> None:
        """Break the connection off, after what was sent before."""
        if not self._broken:
            self._ended = self._broken = True
            self._queue.append(RESET)
            if not self._waiting:
                self._transmit()

    def read(self, size: int) -> None:
        """Count bytes that arrived and were read."""
        self.on_the_way -= size
        if self._source.transport is not None:
            self._source.transport.drained(self.on_the_way)

    def _rate(self) -> float | None:
        """How many bytes a second the source says to other machines; None where that is not limited."""
        here, there = self._source.local[0], self._target.local[0]
        return None if here == there else self._kernel.rates.get(here)

    def _transmit(self) -> None:
        kernel, source, target = self._kernel, self._source.local, self._target.local
        self._waiting = False
        while self._queue:
            delay = kernel.passes(source, target, self._rng)
            if delay is None:
                self._waiting = True
                kernel.loop.call_later(self._again, self._transmit, context=kernel.context)
                self._again = min(2 * self._again, LONGEST_WAIT)
                return
            self._again = SEND_AGAIN
            drop = DRIP if self._rate() else 0.0
            self._last = max(self._last + drop, kernel.loop.now + delay)
            kernel.loop.call_at(self._last, self._arrive, self._queue.popleft(), context=kernel.context)

    def _arrive(self, piece: Piece) -> None:
        kernel, target = self._kernel, self._target
        what = "end" if piece is None else "data" if piece else "reset"
        if self.tear and piece and not target.closed:
            self.tear = False
            what, half = "torn", piece[: len(piece) // 2]
            if half:
                target.receive(half)
            target.receive(RESET)
            self._source.receive(RESET)
        else:
            target.receive(piece)
        kernel.record(what, self._source.local, target.local, piece or b"")


class StreamTransport(asyncio.Transport):
    """The process's side of a connection's end."""

    def __init__(self, end: End, protocol: asyncio.BaseProtocol) -> None:
        """Tell the protocol, and read from then on."""
        super().__init__({"peername": end.remote, "sockname": end.local})
        self._end, self._loop = end, end.kernel.loop
        self._protocol = cast("asyncio.Protocol", protocol)
        self._context = copy_context()
        self._closing = False
        self._reading = True
        self._scheduled = True
        self._writing_paused = False
        self.begun = self._loop.create_future()
        """Done when the protocol has been told."""
        self._loop.call_soon(self._begin, context=self._context)

    def _begin(self) -> None:
        self._end.transport = self
        self._scheduled = False
        self._protocol.connection_made(self)
        if not self.begun.done():
            self.begun.set_result(None)
        self.wake()

    # Reading.

    def wake(self) -> None:
        """Read soon, if there is anything and the protocol wants it."""
        if self._end.inbox and self._reading and not self._scheduled and not self._closing:
            self._scheduled = True
            self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        self._scheduled = False
        if self._closing or not self._reading or not self._end.inbox:
            return
        inbox = self._end.inbox
        pieces: list[bytes] = []
        while inbox and inbox[0] and sum(map(len, pieces)) < SEGMENT:
            pieces.append(cast("bytes", inbox.popleft()))
        if pieces:
            data = b"".join(pieces)
            self._end.other.pipe.read(len(data))
            self._protocol.data_received(data)
        elif inbox.popleft() is None:
            # As asyncio does: past the end it reads no more, and hears of a reset only when it writes.
            self._reading = False
            if not self._protocol.eof_received():
                self.close()
        else:
            self._break()
        self.wake()

    def _break(self) -> None:
        self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    def is_reading(self) -> bool:
        """Whether the protocol wants data."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Leave what arrives where it is."""
        self._reading = False

    def resume_reading(self) -> None:
        """Go on."""
        self._reading = True
        self.wake()

    # Writing.

    def write(self, data: Any) -> None:
        """Send, in pieces of at most one segment."""
        if self._closing:
            return
        if RESET in self._end.inbox:
            self._break()
            return
        data = bytes(data)
        for start in range(0, len(data), SEGMENT):
            self._end.pipe.push(data[start : start + SEGMENT])
        if not self._writing_paused and self._end.pipe.on_the_way > HIGH:
            self._writing_paused = True
            self._protocol.pause_writing()

    def drained(self, left: int) -> None:
        """Let the protocol write again when enough has been read at the other end."""
        if self._writing_paused and left <= LOW and not self._closing:
            self._writing_paused = False
            self._loop.call_soon(self._protocol.resume_writing, context=self._context)

    def write_eof(self) -> None:
        """End the stream in this direction."""
        self._end.pipe.push(None)

    def can_write_eof(self) -> bool:
        """Whether a stream can be ended in one direction."""
        return True

    def get_write_buffer_size(self) -> int:
        """Count the bytes that the process still holds: none, since the kernel takes all."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Say when writers are paused and let go on, in bytes on their way."""
        return LOW, HIGH

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Keep the limits."""

    # The end.

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Say who is told."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another one from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def is_closing(self) -> bool:
        """Whether it was closed or lost."""
        return self._closing

    def close(self) -> None:
        """Close; what was written still arrives."""
        self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._end.close()
            self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)
