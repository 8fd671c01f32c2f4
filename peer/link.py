"""The asking end of a link: one websocket to a peer that stays open, and any number of questions on it at once."""

from __future__ import annotations

import asyncio
from typing import Self

import aiohttp

from p2pml.errors import RemoteError

from .frames import CHUNK, MESSAGE, MOST, PATH, PROTOCOL, Answered, Assembly, BadFrame, Kind, ask, cancel
from .outbox import Outbox

TO = "P2pml-To"
"""Header with the id of the peer that is meant: an address may belong to somebody else by now."""
MISDIRECTED = 421
"""HTTP status by which a peer says that it is not the one that is meant (RFC 9110 §15.5.20)."""
LINK_ANSWERS = 2 * MOST
"""Bytes of all answers under way on one link: the probabilities of two blocks of rows over hundreds of classes."""


GOODBYE = 0.3
"""Seconds that the closing of a link may take; a peer that is gone does not say goodbye."""


class NoLink(RemoteError):
    """The peer takes no such links: it is an older one, or something that allows no upgrade stands between."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it takes no links (HTTP status {status})")
        self.status = status


class LinkLost(ConnectionError):
    """The link broke; what was asked over it may be asked again."""


class Link:
    """Asks over one websocket. Answers come in any order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Begin to read."""
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._assembly = Assembly(Kind.ANSWER, LINK_ANSWERS)
        self._last = 0
        self._heard = 0
        self._lost = "the connection was lost"
        self._ended = False
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self._outbox = Outbox(socket.send_bytes)

    @classmethod
    async def dial(
        cls, session: aiohttp.ClientSession, address: tuple[str, int], seconds: float, to: str | None = None
    ) -> Self:
        """A link to the peer at `address`, and only to the one whose id is `to`.

        Raises `NoLink` where it is refused, and what aiohttp raises where there is nobody.
        """
        headers = {TO: to} if to is not None else None
        try:
            async with asyncio.timeout(seconds):
                socket = await session.ws_connect(
                    f"http://{address[0]}:{address[1]}{PATH}",
                    protocols=(PROTOCOL,),
                    max_msg_size=MESSAGE,
                    headers=headers,
                    timeout=aiohttp.ClientWSTimeout(ws_close=GOODBYE),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise NoLink(error.status) from error
        if socket.protocol != PROTOCOL:
            await socket.close()
            raise NoLink(200)
        return cls(socket)

    @property
    def open(self) -> bool:
        return not self._ended and self._outbox.open

    async def ask(self, question: int, body: bytes, seconds: float) -> Answered:
        """The answer; raises `TimeoutError` after so many seconds, and `LinkLost`. Cancelled, the question is taken
        back."""
        self._last = number = (self._last + 1) % 2**32
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        heard = self._heard
        try:
            async with asyncio.timeout(seconds):
                await self._send(number, question, body, seconds)
                return await answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, TimeoutError) and self._heard == heard:
                # Nothing at all came since it was asked: what comes later may only be TCP trying again for minutes.
                self._give_up("no answer came")
            elif answer.cancelled() or not answer.done():
                self._take_back(number)
            raise
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Close; whoever still waits hears of a lost link."""
        self._give_up(self._lost)
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _send(self, number: int, question: int, body: bytes, seconds: float) -> None:
        if self._ended:
            raise LinkLost(self._lost)
        frames = ask(number, question, seconds, body)
        try:
            if len(body) <= CHUNK:
                self._outbox.put(next(frames))
            else:
                await self._outbox.put_all(frames)
        except ConnectionError as error:
            raise LinkLost(self._lost) from error

    def _take_back(self, number: int) -> None:
        self._assembly.drop(number)
        if self._outbox.open:
            self._outbox.put(cancel(number))

    def _give_up(self, why: str) -> None:
        self._lost = why
        # Once: a second one would keep it from closing the connection.
        if not self._reading.cancelling():
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                self._heard += 1
                for whole in self._assembly.take(message.data):
                    answer = self._waiting.get(whole.number)
                    if isinstance(whole, Answered) and answer is not None and not answer.done():
                        answer.set_result(whole)
        except BadFrame as error:
            self._lost = str(error)
        finally:
            # Nobody may begin to wait from here on.
            self._ended = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(LinkLost(self._lost))
            await self._outbox.close()
            await self._socket.close()
            # aiohttp leaves the connection open where the other end was lost, and has no other way to close it.
            self._socket._response.close()
