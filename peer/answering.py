"""The answering end of a link: questions come in any order, and none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web

from .frames import CHUNK, MESSAGE, PATH, PROTOCOL, Ask, Assembly, BadFrame, Cancelled, Kind, answer
from .outbox import Outbox
from .problems import Busy, problem, problem_of

MANY = 1_024
"""Questions of one link that are answered at once."""
FLUSH = 1.0
"""Seconds that the last answers may take to be handed to the system when a link is closed."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Handler:
    """How one kind of question is answered, from its body and the seconds left for it: `at_once` if that takes
    microseconds (None if not), else `eventually` in a task of its own. Both raise what `problem_of` understands."""

    eventually: Callable[[bytes, float], Awaitable[bytes]]
    at_once: Callable[[bytes, float], bytes | None] = lambda body, seconds: None


class Answering:
    """All links that others opened to this peer."""

    def __init__(self, handlers: Mapping[int, Handler]) -> None:
        self._handlers = handlers
        self._ends: dict[_End, None] = {}

    async def link(self, request: web.Request) -> web.StreamResponse:
        """The HTTP handler of `PATH`: it lasts as long as the link."""
        socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=MESSAGE, compress=False)
        if not socket.can_prepare(request) or PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
            return problem(426, f"{PATH} is a websocket of the protocol {PROTOCOL}: ask over HTTP if you have none")
        await socket.prepare(request)
        end = _End(socket, self._handlers)
        self._ends[end] = None
        try:
            await end.run()
        finally:
            del self._ends[end]
        return socket

    async def close(self, seconds: float) -> None:
        """Give what is being answered so many seconds, and close all links."""
        await asyncio.gather(*(end.close(seconds) for end in list(self._ends)))


class _End:
    """One link."""

    def __init__(self, socket: web.WebSocketResponse, handlers: Mapping[int, Handler]) -> None:
        self._socket, self._handlers = socket, handlers
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._assembly = Assembly(Kind.ASK)
        self._outbox = Outbox(socket.send_bytes)

    async def run(self) -> None:
        """Answer until the other end goes."""
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    raise BadFrame("a message that is not binary")
                for whole in self._assembly.take(message.data):
                    match whole:
                        case Ask() as asked:
                            await self._take(asked)
                        case Cancelled(number) if number in self._tasks:
                            self._tasks[number].cancel()
        except BadFrame as error:
            log.debug("a link does not keep to the protocol", why=str(error))
            await self._socket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR, message=str(error)[:100].encode())
        except ConnectionError:
            log.debug("a link was lost in the middle of an answer")
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await self._outbox.close()

    async def close(self, seconds: float) -> None:
        """Let what is under way be answered, and close."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        try:
            async with asyncio.timeout(FLUSH):
                await self._outbox.flush()
        except TimeoutError:
            log.debug("a link does not take its last answers")
        await self._socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    async def _take(self, asked: Ask) -> None:
        handler = self._handlers.get(asked.question)
        if handler is None:
            await self._send(asked.number, problem(404, f"there is no question {asked.question} on a link"))
            return
        try:
            if len(self._tasks) >= MANY:
                raise Busy(f"{MANY} questions of one link are being answered; ask again shortly")
            body = handler.at_once(asked.body, asked.seconds)
        except Exception as error:  # noqa: BLE001 (as `problem_of` says)
            await self._send(asked.number, problem_of(error, PATH))
            return
        if body is not None:
            await self._send(asked.number, body)
            return
        task = asyncio.get_running_loop().create_task(self._answer(handler, asked))
        self._tasks[asked.number] = task
        task.add_done_callback(lambda done: self._tasks.pop(asked.number, None))

    async def _answer(self, handler: Handler, asked: Ask) -> None:
        said: bytes | web.Response
        try:
            said = await handler.eventually(asked.body, asked.seconds)
        except Exception as error:  # noqa: BLE001 (as `problem_of` says)
            said = problem_of(error, PATH)
        try:
            await self._send(asked.number, said)
        except ConnectionError:
            log.debug("nobody waits for an answer any more")

    async def _send(self, number: int, said: bytes | web.Response) -> None:
        status, body = (200, said) if isinstance(said, bytes) else (said.status, said.body)
        assert isinstance(body, bytes)
        if len(body) <= CHUNK:
            self._outbox.put(next(answer(number, status, body)))
        else:
            await self._outbox.put_all(answer(number, status, body))
