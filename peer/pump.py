"""The pump: the node's effects become packets, streams and timers, and what comes back becomes its events.

Nothing here decides anything. `Pump` owns the only reference to the node, calls `handle` on the event loop's
thread alone, and carries out what it returns.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import aiohttp
import structlog

from p2pml.gossip import (
    Address,
    AnswerStream,
    Change,
    DatagramReceived,
    Effect,
    EntryChanged,
    Event,
    Node,
    Notify,
    OpenStream,
    SendDatagram,
    SetEntry,
    SetTimer,
    StreamAnswered,
    StreamFailed,
    StreamReceived,
    TimerFired,
)

from .rare import buggify

STREAM_PATH = "/v1/peer/gossip"
STREAM_TIMEOUT = 10.0
"""Seconds for a whole stream exchange: as long as the lan profile waits between two syncs."""
STREAM_BYTES = 4 * 1024 * 1024
"""Most bytes of one stream message, as in the protocol's own bounds."""
LATE = 0.05
"""A timer later than this many seconds waits until the packets that came meanwhile have been handled."""
DRAIN_ROUNDS = 512
"""Rounds of the loop, each one packet at most, that a late timer waits for: a flood cannot hold it for ever."""

log = structlog.get_logger()


class Pump(asyncio.DatagramProtocol):
    """Drives one node over a UDP socket and the peers' HTTP ports."""

    def __init__(self, node: Node, session: aiohttp.ClientSession, changed: Callable[[Change], None]) -> None:
        self.node = node
        self._session = session
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._streams: set[asyncio.Task[None]] = set()
        self._packets = 0
        self._accepted_tokens = 0

    async def open(self, sock: socket.socket) -> None:
        """Begin to receive on `sock`, a bound UDP socket, which the pump then owns."""
        await self._loop.create_datagram_endpoint(lambda: self, sock=sock)

    def handle(self, event: Event) -> bytes | None:
        """Give the node one event and carry out its effects; returns the answer to a stream, if it gave one."""
        answer: bytes | None = None
        for effect in self.node.handle(event, self._loop.time()):
            if isinstance(effect, AnswerStream):
                answer = effect.data or None
            else:
                self._carry_out(effect)
        if isinstance(event, SetEntry):
            # The protocol tells of what others say alone.
            self._changed(EntryChanged(self.node.me.id, event.key, event.value))
        return answer

    def stream(self, source: Address, data: bytes) -> bytes | None:
        """A stream message that came over HTTP; returns the node's answer, None where it has none."""
        self._accepted_tokens += 1
        return self.handle(StreamReceived(source, data, self._accepted_tokens))

    async def close(self) -> None:
        """Stop the timers, the streams and the socket."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport does not derive from the class of that name before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self._packets += 1
        self.handle(DatagramReceived((source[0], source[1]), data))

    def error_received(self, error: Exception) -> None:
        # A refused or unroutable packet is lost like any other; probes find out whose it was.
        log.debug("a packet could not be delivered", why=str(error))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SendDatagram(to, data):
                if self._transport is not None and not self._transport.is_closing():
                    self._transport.sendto(data, to)
            case SetTimer(at, token):
                self._timers[token] = self._loop.call_at(at, self._due, at, token)
            case OpenStream(to, data, token):
                task = self._loop.create_task(self._exchange(to, data, token))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
            case Notify(change):
                self._changed(change)

    def _due(self, at: float, token: int, rounds: int = 0, packets: int = -1) -> None:
        """Fire a timer; a late one first lets the packets in that arrived while the process stood still."""
        late = rounds > 0 or self._loop.time() - at > LATE
        if late and rounds < DRAIN_ROUNDS and packets != self._packets:
            # Two rounds without a packet mean that the socket is empty.
            self._timers[token] = self._loop.call_later(0, self._due, at, token, rounds + 1, self._packets)
            return
        if buggify("pump.timer-late"):
            self._timers[token] = self._loop.call_later(LATE, self._due, at, token)
            return
        self._timers.pop(token, None)
        self.handle(TimerFired(token))

    async def _exchange(self, to: Address, data: bytes, token: int) -> None:
        try:
            async with self._session.post(
                f"http://{to[0]}:{to[1]}{STREAM_PATH}",
                data=data,
                headers={"Content-Type": "application/octet-stream"},
                timeout=aiohttp.ClientTimeout(total=STREAM_TIMEOUT),
                allow_redirects=False,
            ) as response:
                answer = await response.content.read(STREAM_BYTES + 1)
                while answer and len(answer) <= STREAM_BYTES and not response.content.at_eof():
                    answer += await response.content.read(STREAM_BYTES + 1 - len(answer))
                usable = response.status == 200 and len(answer) <= STREAM_BYTES and not buggify("pump.answer-lost")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("a stream failed", peer=f"{to[0]}:{to[1]}", why=str(error) or type(error).__name__)
            usable, answer = False, b""
        self.handle(StreamAnswered(token, answer) if usable else StreamFailed(token))
