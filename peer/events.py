"""What happens, as a stream for whoever listens: a bounded memory of events, and a bounded queue per listener.

Server-sent events (WHATWG HTML §9.2) carry them. An event that is remembered has an id, and a listener that comes
back with the last id it saw is told what it missed. One that reads too slowly loses what waits, and is told how much.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

Event = dict[str, Any]

KEPT = 512
"""Events remembered for listeners that come back: hours of a calm cluster, some hundred kB at most."""
WAITING = 256
"""Events that wait for one listener; one that is further behind begins again with the whole state."""
LISTENERS = 32
"""Listeners at once: each may hold WAITING events."""
BEAT = 2.0
"""Seconds between two reports of gossip to a listener, which also show it that the peer lives."""


class Events:
    """Remembers what is told, and passes it on to the listeners."""

    def __init__(self, run: str) -> None:
        """`run` names this run of this peer, so that an id of another peer or run is not taken for one of its own."""
        self._run = run
        self._last = 0
        self._kept: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self.listeners: set[Listener] = set()

    def tell(self, kind: str, **fields: Any) -> None:
        """Something happened now."""
        event = {"at": round(time.time(), 3), "kind": kind, **fields}
        self._last += 1
        self._kept.append((self._last, event))
        for listener in self.listeners:
            listener.hear(self._last, event)

    def pass_on(self, kind: str, **fields: Any) -> None:
        """Something that is of no interest later: whoever listens now is told, and nobody who comes back."""
        for listener in self.listeners:
            listener.hear(None, {"at": round(time.time(), 3), "kind": kind, **fields})

    def missed_since(self, id: str | None) -> list[tuple[int, Event]] | None:
        """What was told after the event `id`; None where that is not known."""
        run, _, number = (id or "").rpartition(".")
        if run != self._run or not (number.isascii() and number.isdecimal()):
            return None
        seen = int(number)
        oldest = self._kept[0][0] if self._kept else self._last + 1
        return [entry for entry in self._kept if entry[0] > seen] if oldest - 1 <= seen <= self._last else None

    def message(self, number: int | None, event: Event) -> bytes:
        """The event as it goes over the wire; without a number it cannot be resumed from."""
        id = b"" if number is None else f"id: {self._run}.{number}\n".encode()
        return id + b"data: " + msgspec.json.encode(event) + b"\n\n"

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._last

    def close(self) -> None:
        """End every listener's stream."""
        for listener in self.listeners:
            listener.close()


class Listener:
    """One who listens: `stream` gives the messages, from the whole state or from where it left off."""

    def __init__(self, events: Events, state: Callable[[], Event], load: Callable[[], Event]) -> None:
        self._events = events
        self._state = state
        self._load = load
        self._waiting: deque[tuple[int | None, Event]] = deque()
        self._lost = 0
        self._woken = asyncio.Event()
        self._closed = False

    def hear(self, number: int | None, event: Event) -> None:
        """Let an event wait until it is read."""
        if len(self._waiting) >= WAITING:
            self._lost += sum(number is not None for number, _ in self._waiting)
            self._waiting.clear()
        self._waiting.append((number, event))
        self._woken.set()

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        self._woken.set()

    async def stream(self, since: str | None) -> AsyncGenerator[bytes, None]:
        """The messages, until `close`; `since` is the id of the last one that was read in an earlier stream."""
        loop = asyncio.get_running_loop()
        self._events.listeners.add(self)
        try:
            missed = self._events.missed_since(since)
            if missed is None:
                yield self._whole()
            else:
                yield b"".join(self._events.message(*entry) for entry in missed) or b": nothing was missed\n\n"
            beat = loop.time() + BEAT
            while not self._closed:
                if self._waiting:
                    yield self._heard()
                elif loop.time() >= beat:
                    beat = loop.time() + BEAT
                    yield self._events.message(None, self._load())
                else:
                    self._woken.clear()
                    await _wait(self._woken, beat - loop.time())
        finally:
            self._events.listeners.discard(self)

    def _heard(self) -> bytes:
        """What waits; where something was lost, how much, and the whole state in place of the rest."""
        if self._lost:
            lost = {"at": round(time.time(), 3), "kind": "lost", "count": self._lost}
            self._lost = 0
            self._waiting.clear()
            return self._events.message(None, lost) + self._whole()
        pieces = [self._events.message(*entry) for entry in self._waiting]
        self._waiting.clear()
        return b"".join(pieces)

    def _whole(self) -> bytes:
        return self._events.message(self._events.last, self._state())


async def _wait(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return
