"""Sockets in memory, and what an asyncio loop makes of bound ones: datagram endpoints and servers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from p2pml.gossip import Address

from .loop import PROCESS
from .streams import End, StreamTransport

if TYPE_CHECKING:
    from .kernel import Kernel

DATAGRAM_BUFFER = 212_992
"""Bytes of datagrams that wait for a process that does not read, as on Linux; the rest is lost."""


KEPT = 100
"""Datagrams of each machine that are kept to be sent once more."""


class VirtualSocket:
    """A socket of the machine whose address it is bound to."""

    def __init__(
        self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0, fileno: int | None = None
    ) -> None:
        """Belong to the running virtual loop."""
        self.family, self.type, self.proto = family, type, proto
        loop = asyncio.get_running_loop()
        self.kernel: Kernel = loop.kernel  # type: ignore[attr-defined]
        self.local: Address | None = None
        self.end: End | None = None
        self._reuse = False

    def __enter__(self) -> VirtualSocket:
        """Be closed at the end."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def setblocking(self, flag: bool) -> None:
        """Never block: nothing here does."""

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Note SO_REUSEADDR; every other option is as it is."""
        self._reuse |= (level, option) == (socket.SOL_SOCKET, socket.SO_REUSEADDR) and bool(value)

    def bind(self, address: tuple[str, int]) -> None:
        """Take an address of the process's machine; raises OSError where it is another's or in use."""
        self.local = self.kernel.bind(self.type, address, reuse=self._reuse)

    def listen(self, backlog: int = 128) -> None:
        """Take connections from now on; they wait until a server is made of the socket."""
        assert self.local is not None
        self.kernel.listen(self.local)

    def connect(self, address: Address) -> None:
        """Refuse: there is no route to look up."""
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    def getsockname(self) -> Address:
        """Say the bound address."""
        return self.local or ("0.0.0.0", 0)  # noqa: S104 (as a socket that is not bound says)

    def close(self) -> None:
        """Give the address back."""
        if self.local is not None and self.end is None:
            self.kernel.free(self.type, self.local)
        self.local = None


class DatagramTransport(asyncio.DatagramTransport):
    """A bound UDP socket. One datagram is read in a round of the loop, as asyncio's own does."""

    def __init__(self, sock: VirtualSocket, protocol: asyncio.DatagramProtocol) -> None:
        """Receive for the process that makes it."""
        super().__init__({"sockname": sock.getsockname()})
        self._kernel, self._local, self._protocol = sock.kernel, sock.getsockname(), protocol
        self._context, self._process = copy_context(), PROCESS.get()
        self._waiting: deque[tuple[Address, bytes]] = deque()
        self._bytes = 0
        self._closing = False
        self.begun = self._kernel.loop.create_future()
        """Done when the protocol has been told."""
        self._kernel.loop.call_soon(self._begin, context=self._context)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        self._kernel.network.bind(self._local, self)
        if not self.begun.done():
            self.begun.set_result(None)

    def sendto(self, data: Any, address: Any = None) -> None:
        """Send; what cannot be delivered is lost."""
        if not self._closing:
            if self._kernel.kept is not None:
                self._kernel.kept.setdefault(self._local[0], deque(maxlen=KEPT)).append((address, bytes(data)))
            self._kernel.network.send(self._local, address, bytes(data))

    def datagram(self, source: Address, data: bytes) -> None:
        """Keep a datagram until the process reads it."""
        if self._closing or self._bytes + len(data) > DATAGRAM_BUFFER:
            return
        self._kernel.record("datagram", source, self._local, data)
        if not self._waiting and (self._process is None or not self._process.stopped):
            # A process that waits for its sockets reads at once.
            self._context.run(self._protocol.datagram_received, data, source)
            return
        self._waiting.append((source, data))
        self._bytes += len(data)
        if len(self._waiting) == 1:
            self._kernel.loop.call_soon(self._read, context=self._context)

    def stream(self, source: Address, data: bytes, answer: Callable[[bytes], None]) -> None:
        """Never be asked: streams are connections here."""
        raise AssertionError("a datagram socket takes no stream")

    def _read(self) -> None:
        if self._closing:
            return
        source, data = self._waiting.popleft()
        self._bytes -= len(data)
        if self._waiting:
            self._kernel.loop.call_soon(self._read, context=self._context)
        self._protocol.datagram_received(data, source)

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """Give the address back and tell the protocol."""
        if not self._closing:
            self._closing = True
            self._kernel.free(socket.SOCK_DGRAM, self._local)
            self._kernel.loop.call_soon(self._protocol.connection_lost, None, context=self._context)

    abort = close


class Server(asyncio.AbstractServer):
    """What `create_server` gives: it makes a protocol for each connection that the kernel took."""

    def __init__(self, sock: VirtualSocket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Serve for the process that makes it."""
        self._loop, self._socket, self._factory = sock.kernel.loop, sock, factory
        self._context = copy_context()
        self._listener = sock.kernel.listen(sock.getsockname())
        self._listener.server = self
        for end in list(self._listener.waiting):
            self.offer(end)

    @property
    def sockets(self) -> tuple[VirtualSocket, ...]:
        """List the one socket, while it serves."""
        return (self._socket,) if self.is_serving() else ()

    def offer(self, end: End) -> None:
        """Accept a connection soon."""
        self._loop.call_soon(self._accept, end, context=self._context)

    def _accept(self, end: End) -> None:
        if self.is_serving() and end in self._listener.waiting:
            self._listener.waiting.remove(end)
            end.process = PROCESS.get()
            StreamTransport(end, self._factory())

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._listener.server is self

    def close(self) -> None:
        """Accept no more; connections that were accepted stay."""
        if self.is_serving():
            self._listener.server = None
            self._socket.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Say whose it is."""
        return self._loop

    async def start_serving(self) -> None:
        """Do nothing: it serves from the start."""

    async def serve_forever(self) -> None:
        """Wait until the caller is cancelled."""
        await self._loop.create_future()

    async def wait_closed(self) -> None:
        """Wait for nothing."""
