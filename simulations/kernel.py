"""The kernels of all simulated machines, and the loop whose sockets are theirs.

One `Kernel` stands for those of all machines, since an address names its machine. It goes on while processes
stand still or are dead: it accepts connections, keeps what arrives, sends again what is lost, and refuses or
resets what has no owner.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from p2pml.gossip import Address

from .clock import Clock, Happening
from .cluster import PORT
from .loop import PROCESS, Process, VirtualLoop
from .network import Conditions, Network
from .sockets import DatagramTransport, Server, VirtualSocket
from .streams import LONGEST_WAIT, End, Pipe, StreamTransport

LOOPBACK = Conditions(delay=(0.00002, 0.00005))
"""Within one machine nothing is lost, and no fault of the network reaches."""
FIRST_EPHEMERAL = 40_000
"""The first port that is given to a socket that names none."""
SYN_AGAIN = 1.0
"""Seconds until an unanswered request for a connection is sent again, as on Linux; twice as long each time."""
BACKLOG = 128
"""Connections that wait to be accepted; further requests are not answered."""


@dataclass(eq=False)
class Listener:
    """A listening port: the connections that no process has accepted yet, and who will."""

    process: Process | None
    waiting: list[End] = field(default_factory=list)
    server: Server | None = None


class Kernel:
    """The sockets of all machines."""

    def __init__(self, loop: VirtualLoop, network: Network, port: int, seed: object = 0) -> None:
        """Have no socket yet. The rules of `network` name each machine by its address with `port`."""
        self.loop, self.network = loop, network
        self.context = Context()
        self.packets = self.bytes = self.datagrams = 0
        self.kept: dict[str, deque[tuple[Address, bytes]]] | None = None
        """The last datagrams that each machine sent, with their targets; None where nobody asks for them."""
        self.rates: dict[str, float] = {}
        """Bytes a second that machines say on their connections, where that is limited; 0 is not a word."""
        self._port, self._seed = port, seed
        self._bound: dict[tuple[int, Address], Process | None] = {}
        self._listeners: dict[Address, Listener] = {}
        self._ends: dict[End, None] = {}
        self._next_port: dict[str, int] = {}
        self._connections = 0
        self._trace = blake2b(digest_size=16)

    # The trace.

    def record(self, what: str, source: Address, target: Address, data: bytes = b"") -> None:
        """Count an arrival, and add it to the trace."""
        self.packets += 1
        self.datagrams += what == "datagram"
        self.bytes += len(data)
        self.note(f"{what} {source[0]}:{source[1]} {target[0]}:{target[1]}", data)

    def note(self, what: str, data: bytes = b"") -> None:
        """Add anything that happened to the trace."""
        self._trace.update(f"{self.loop.now:.9f} {what} {len(data)}\n".encode() + data)

    @property
    def trace(self) -> str:
        """The hash of all that has happened, in order."""
        return self._trace.hexdigest()

    # Ports.

    def bind(self, kind: int, address: Address, *, reuse: bool = False) -> Address:
        """Take a port of the calling process's machine; 0 is any free one."""
        host, port = address
        candidates = [port] if port else self._ephemeral(host)
        for candidate in candidates:
            taken = (kind, (host, candidate)) in self._bound
            if not taken or (reuse and kind == socket.SOCK_STREAM and (host, candidate) not in self._listeners):
                self._bound[kind, (host, candidate)] = PROCESS.get()
                return host, candidate
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def _ephemeral(self, host: str) -> range:
        start = self._next_port.get(host, FIRST_EPHEMERAL)
        self._next_port[host] = start + 1 if start < 60_000 else FIRST_EPHEMERAL
        return range(start, 65_536)

    def free(self, kind: int, address: Address) -> None:
        """Give a port back; connections that nobody accepted are reset."""
        self._bound.pop((kind, address), None)
        if kind == socket.SOCK_DGRAM:
            self.network.unbind(address)
        elif (listener := self._listeners.pop(address, None)) is not None:
            for end in listener.waiting:
                end.close(reset=True)

    def listen(self, address: Address) -> Listener:
        """Take connections at a bound port."""
        return self._listeners.setdefault(address, Listener(PROCESS.get()))

    # Links.

    def conditions(self, source: Address, target: Address) -> Conditions:
        """How packets fare from one machine to another: as the first rule that matches says, else as always."""
        if source[0] == target[0]:
            return LOOPBACK
        return self.network.on_link((source[0], self._port), (target[0], self._port))

    # Connections.

    async def connect(self, sock: VirtualSocket, address: Address) -> None:
        """Connect as TCP does: ask again until there is an answer; raises OSError where it is a refusal."""
        if sock.local is None:
            # No machine of its own is named, so it is the target's: a caller beside the peer.
            sock.bind((address[0], 0))
        assert sock.local is not None
        self._connections += 1
        rng = random.Random(f"{self._seed}/connection/{self._connections}")  # noqa: S311 (a simulation)
        answer: asyncio.Future[End] = self.loop.create_future()
        self._knock(sock.local, address, rng, answer, SYN_AGAIN)
        sock.end = await answer
        sock.end.process = PROCESS.get()

    def _knock(
        self, source: Address, target: Address, rng: random.Random, answer: asyncio.Future[End], again: float
    ) -> None:
        if answer.done():
            return
        later = min(2 * again, LONGEST_WAIT)
        self.loop.call_later(again, self._knock, source, target, rng, answer, later, context=self.context)
        if (delay := self.passes(source, target, rng)) is not None:
            self.loop.call_later(delay, self._knocked, source, target, rng, answer, context=self.context)

    def _knocked(self, source: Address, target: Address, rng: random.Random, answer: asyncio.Future[End]) -> None:
        listener = self._listeners.get(target)
        back = self.passes(target, source, rng)
        if back is None or (listener is not None and len(listener.waiting) >= BACKLOG):
            return
        self.record("refused" if listener is None else "connection", source, target)
        end = None if listener is None else self._pair(source, target, listener, rng)
        self.loop.call_later(back, self._connected, answer, end, context=self.context)

    def _connected(self, answer: asyncio.Future[End], end: End | None) -> None:
        if answer.done():
            if end is not None:
                end.close(reset=True)
        elif end is None:
            answer.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
        else:
            answer.set_result(end)

    def _pair(self, source: Address, target: Address, listener: Listener, rng: random.Random) -> End:
        one = End(self, source, target, None)
        other = End(self, target, source, listener.process)
        one.other, other.other = other, one
        one.pipe, other.pipe = Pipe(self, one, other, rng), Pipe(self, other, one, rng)
        self._ends |= {one: None, other: None}
        listener.waiting.append(other)
        if listener.server is not None:
            listener.server.offer(other)
        return one

    def passes(self, source: Address, target: Address, rng: random.Random) -> float | None:
        """Draw the seconds that a packet takes; None where it is lost."""
        conditions = self.conditions(source, target)
        if conditions.loss > 0 and rng.random() < conditions.loss:
            return None
        least, most = conditions.delay
        return least + (most - least) * rng.random()

    # Faults.

    def kill(self, process: Process) -> None:
        """End a process as SIGKILL does: it takes no further step, and its sockets are closed for it."""
        self.loop.stop_process(process)
        for (kind, address), owner in list(self._bound.items()):
            if owner is process:
                self.free(kind, address)
        for end in list(self._ends):
            if end.process is process:
                end.close()

    def tear(self, host: str) -> None:
        """Reset each connection of a machine to others in the middle of the next data on it."""
        for end in self._ends:
            if host in (end.local[0], end.remote[0]) and end.local[0] != end.remote[0]:
                end.pipe.tear = True

    def resend(self, host: str) -> None:
        """Send the datagrams that are kept of a machine once more."""
        for target, data in (self.kept or {}).get(host, ()):
            self.network.send((host, self._port), target, data)

    def forget(self, end: End) -> None:
        """Drop a connection of which both ends are closed."""
        if end.other.closed:
            del self._ends[end], self._ends[end.other]


class NetworkClock(Clock):
    """The loop's time, for a network that was made for a simulation without one."""

    def __init__(self, loop: VirtualLoop) -> None:
        """Follow the loop."""
        super().__init__()
        self._loop, self._context = loop, Context()

    @property
    def now(self) -> float:
        """The time in s."""
        return self._loop.now

    def at(self, time: float, happening: Happening, *arguments: Any) -> None:
        """Arrange something at a time in s."""
        self._loop.call_at(time, happening, *arguments, context=self._context)

    def after(self, delay: float, happening: Happening, *arguments: Any) -> None:
        """Arrange something after a delay in s."""
        self._loop.call_at(self._loop.now + delay, happening, *arguments, context=self._context)


class NetworkedLoop(VirtualLoop):
    """The virtual loop with the kernel's sockets. All chance is drawn from `seed`."""

    def __init__(self, seed: object = 0, conditions: Conditions | None = None, port: int = PORT) -> None:
        """Stand at 0 s with no socket; see `Kernel` for the port."""
        super().__init__(random.Random(f"{seed}/turns"))  # noqa: S311 (a simulation)
        rng = random.Random(f"{seed}/network")  # noqa: S311
        network = Network(NetworkClock(self), rng, conditions or Conditions())
        self.kernel = Kernel(self, network, port, seed)

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a socket."""
        await self.kernel.connect(sock, address)

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, *, sock: Any = None, **how: Any
    ) -> tuple[Any, Any]:
        """Make a transport of a connected socket, or of a new connection."""
        assert not how.get("ssl")
        if sock is None:
            sock = VirtualSocket()
            await self.kernel.connect(sock, (host, port))
        protocol = protocol_factory()
        transport = StreamTransport(sock.end, protocol)
        await transport.begun
        return transport, protocol

    async def create_server(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, *, sock: Any = None, **how: Any
    ) -> Any:
        """Serve at a bound socket, or at an address."""
        assert not how.get("ssl")
        if sock is None:
            sock = VirtualSocket()
            sock.bind((host, port))
        return Server(sock, protocol_factory)

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], Any], local_addr: Any = None, remote_addr: Any = None, **how: Any
    ) -> tuple[Any, Any]:
        """Make a datagram transport of a bound socket, or of an address."""
        sock = how.get("sock")
        if sock is None:
            sock = VirtualSocket(type=socket.SOCK_DGRAM)
            sock.bind(local_addr)
        protocol = protocol_factory()
        transport = DatagramTransport(sock, protocol)
        await transport.begun
        return transport, protocol
