"""The virtual loop's sockets and clock behave as the real ones of the loopback do."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from p2pml.simulations.kernel import NetworkedLoop
from p2pml.simulations.sandbox import sandbox

HOST = "127.0.0.1"
Behaviour = Callable[[], Coroutine[Any, Any, Any]]


def in_virtual_time(behaviour: Behaviour) -> Any:
    loop = NetworkedLoop()
    try:
        with sandbox(loop):
            return loop.run_until_complete(behaviour())
    finally:
        loop.close()


def for_real(behaviour: Behaviour) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(behaviour())


class Recorder(asyncio.Protocol):
    """Notes what a transport tells it; `answer` is said to whatever arrives."""

    def __init__(self, answer: bytes = b"", keep_open: bool = False) -> None:
        self.said: list[str] = []
        self.received = bytearray()
        self.answer, self.keep_open = answer, keep_open
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        loop = asyncio.get_running_loop()
        self.made, self.heard, self.resumed, self.ended, self.over = (loop.create_future() for _ in range(5))

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.said.append("made")
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.said[-1] != "data":
            self.said.append("data")
        if not self.heard.done():
            self.heard.set_result(None)
        if self.answer:
            self.transport.write(self.answer)

    def eof_received(self) -> bool:
        self.said.append("eof")
        self.ended.set_result(None)
        return self.keep_open

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")
        if not self.resumed.done():
            self.resumed.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.said.append(f"lost {type(error).__name__}")
        self.over.set_result(None)


async def pair(one: Recorder, other: Recorder) -> asyncio.Server:
    """Connect `one` to a server whose only connection is `other`'s."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: other, HOST, 0)
    await loop.create_connection(lambda: one, *server.sockets[0].getsockname())
    await other.made
    return server


async def closing() -> Any:
    """Data, then the stream's end, then the close of both sides."""
    one, other = Recorder(), Recorder()
    server = await pair(one, other)
    one.transport.write(b"first ")
    one.transport.writelines([b"second ", b"third"])
    one.transport.close()
    await other.over
    await one.over
    server.close()
    return one.said, other.said, other.received


async def half_close() -> Any:
    """A side that ended its stream still hears the other."""
    one, other = Recorder(), Recorder(keep_open=True)
    server = await pair(one, other)
    one.transport.write(b"question")
    one.transport.write_eof()
    await other.ended
    other.transport.write(b"answer")
    other.transport.close()
    await one.over
    server.close()
    return one.said, one.received, other.said, one.transport.can_write_eof()


async def unread_data() -> Any:
    """Closing with data unread resets the connection."""
    one, other = Recorder(), Recorder()
    server = await pair(one, other)
    other.transport.pause_reading()
    one.transport.write(b"never read")
    await asyncio.sleep(0.05)
    other.transport.close()
    await one.over
    server.close()
    return one.said, other.said, other.transport.is_closing()


async def late_write() -> Any:
    """What is said to a side that has closed is answered by a reset."""
    one, other = Recorder(keep_open=True), Recorder()
    server = await pair(one, other)
    other.transport.abort()
    await one.ended
    one.transport.write(b"too late")
    await asyncio.sleep(0.05)
    before = list(one.said)
    one.transport.write(b"again")
    await one.over
    server.close()
    return before, one.said[:-1], one.said[-1].startswith("lost "), other.said


async def pressure() -> Any:
    """A reader that pauses makes the writer pause, and nothing is lost."""
    one, other = Recorder(), Recorder()
    server = await pair(one, other)
    other.transport.pause_reading()
    for _ in range(64):
        one.transport.write(b"x" * 2**18)
    await asyncio.sleep(0.05)
    before = list(one.said), other.received
    other.transport.resume_reading()
    await one.resumed
    one.transport.close()
    await other.over
    server.close()
    return before, one.said, len(other.received)


async def refused() -> Any:
    """Nobody listens."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    probe.bind((HOST, 0))
    try:
        await asyncio.get_running_loop().create_connection(Recorder, *probe.getsockname())
    except OSError as error:
        return type(error).__name__, error.errno
    finally:
        probe.close()


async def in_use() -> Any:
    """A port is one socket's at a time, and free again when it is closed."""
    one, other, third = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
    one.bind((HOST, 0))
    try:
        other.bind(one.getsockname())
    except OSError as error:
        code = error.errno
    port = one.getsockname()
    one.close()
    third.bind(port)
    for sock in (other, third):
        sock.close()
    return code == errno.EADDRINUSE, port == port


async def reuse() -> Any:
    """SO_REUSEADDR gives no listening port away."""
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(2))
    for sock in (one, other):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((HOST, 0))
    one.listen(1)
    try:
        other.bind(one.getsockname())
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    finally:
        one.close()
        other.close()


async def stopped_server() -> Any:
    """A closed server refuses, and its connections live on."""
    one, other = Recorder(), Recorder(answer=b"still here")
    server = await pair(one, other)
    place = server.sockets[0].getsockname()
    server.close()
    outcome = "accepted"
    try:
        await asyncio.get_running_loop().create_connection(Recorder, *place)
    except ConnectionRefusedError:
        outcome = "refused"
    one.transport.write(b"are you there?")
    await one.heard
    one.transport.close()
    await other.over
    return outcome, one.received, server.is_serving()


async def names() -> Any:
    """Each side's own name is the other's name of it."""
    one, other = Recorder(), Recorder()
    server = await pair(one, other)
    mirrored = [
        one.transport.get_extra_info("sockname") == other.transport.get_extra_info("peername"),
        one.transport.get_extra_info("peername") == other.transport.get_extra_info("sockname"),
        other.transport.get_extra_info("sockname")[0],
        one.transport.get_extra_info("sslcontext"),
        one.transport.get_extra_info("nothing", 1),
    ]
    one.transport.abort()
    await other.over
    server.close()
    return mirrored


class Inbox(asyncio.DatagramProtocol):
    """Keeps the datagrams it gets."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def datagram_received(self, data: bytes, source: Any) -> None:
        self.got.put_nowait((data, source))


async def datagrams() -> Any:
    """Datagrams arrive whole with their source; one to nobody is lost without a word."""
    loop = asyncio.get_running_loop()
    one, inbox = await loop.create_datagram_endpoint(Inbox, local_addr=(HOST, 0))
    other, _ = await loop.create_datagram_endpoint(Inbox, local_addr=(HOST, 0))
    gone, _ = await loop.create_datagram_endpoint(Inbox, local_addr=(HOST, 0))
    nowhere = gone.get_extra_info("sockname")
    gone.close()
    await asyncio.sleep(0)
    other.sendto(b"to nobody", nowhere)
    other.sendto(b"hi", one.get_extra_info("sockname"))
    other.sendto(b"hello", one.get_extra_info("sockname"))
    got = [await inbox.got.get() for _ in range(2)]
    known = all(source == other.get_extra_info("sockname") for _, source in got)
    one.close()
    other.close()
    other.sendto(b"after the end", nowhere)
    return sorted(data for data, _ in got), known, one.is_closing()


async def turns() -> Any:
    """Callbacks keep their order, timers theirs, and a cancelled one never fires."""
    loop = asyncio.get_running_loop()
    order: list[object] = []
    began = loop.time()
    loop.call_later(0.03, order.append, "third")
    loop.call_at(began + 0.02, order.append, "second")
    loop.call_later(0.01, order.append, "never").cancel()
    loop.call_soon(order.append, "first")
    await asyncio.sleep(0.05)
    return order, loop.time() - began >= 0.05


async def deadlines() -> Any:
    """What takes too long is cancelled, and knows it."""
    said = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    for limited in (asyncio.wait_for(slow(), 0.01), _within(0.01, slow())):
        try:
            await limited
        except TimeoutError:
            said.append("too late")
    done, pending = await asyncio.wait({asyncio.ensure_future(slow()), asyncio.ensure_future(_nothing())}, timeout=0.01)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return said, len(done), len(pending)


async def _within(seconds: float, work: Awaitable[None]) -> None:
    async with asyncio.timeout(seconds):
        await work


async def _nothing() -> None:
    pass


async def threads() -> Any:
    """A thread's result and error come back, and it sees the caller's context."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    seen = await asyncio.to_thread(variable.get)
    try:
        await asyncio.to_thread(int, "x")
    except ValueError as error:
        return seen, str(error)


async def groups() -> Any:
    """One failure ends its task group."""
    said = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            said.append("ended")

    async def fails() -> None:
        await asyncio.sleep(0.001)
        raise ValueError("no")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(waits())
            group.create_task(fails())
    except* ValueError as errors:
        said.append(str(len(errors.exceptions)))
    return said


async def unknown_name() -> Any:
    """A name that nobody has; an address needs no resolver."""
    loop = asyncio.get_running_loop()
    (found,) = await loop.getaddrinfo("127.0.0.2", 80, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    try:
        await loop.getaddrinfo("nobody.invalid", 80)
    except socket.gaierror as error:
        return found[4], error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN)


async def http(behaviour: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    """Run `behaviour` against a server with a few routes."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/echo", _echo)
    app.router.add_get("/half", _half)
    app.router.add_get("/drop", _drop)
    app.router.add_get("/slow", _slow)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    host, port = runner.addresses[0]
    try:
        async with aiohttp.ClientSession() as session:
            return await behaviour(session, f"http://{host}:{port}")
    finally:
        await runner.cleanup()


async def _echo(request: web.Request) -> web.Response:
    assert request.transport is not None
    port = request.transport.get_extra_info("peername")[1]
    return web.Response(body=await request.read(), headers={"Port": str(port)})


async def _half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 500)
    assert request.transport is not None
    request.transport.close()
    return response


async def _drop(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def http_keeps_connections() -> Any:
    """Two questions go over one connection, large bodies and all."""

    async def behaviour(session: aiohttp.ClientSession, url: str) -> Any:
        ports, sizes = set(), []
        for size in (0, 10, 2**20):
            async with session.post(f"{url}/echo", data=b"x" * size) as response:
                ports.add(response.headers["Port"])
                sizes.append(len(await response.read()))
        return len(ports), sizes

    return await http(behaviour)


@pytest.mark.parametrize("path", ["half", "drop", "slow", "missing"])
def test_http_ends_as_on_the_loopback(path: str) -> None:
    """A body torn in the middle, a dropped connection, a deadline and a wrong path are told apart alike."""

    async def behaviour(session: aiohttp.ClientSession, url: str) -> Any:
        try:
            async with session.get(f"{url}/{path}", timeout=aiohttp.ClientTimeout(total=0.2)) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__

    virtual = in_virtual_time(lambda: http(behaviour))
    assert virtual == for_real(lambda: http(behaviour))


BEHAVIOURS: list[Behaviour] = [
    closing,
    half_close,
    unread_data,
    late_write,
    pressure,
    refused,
    in_use,
    reuse,
    stopped_server,
    names,
    datagrams,
    turns,
    deadlines,
    threads,
    groups,
    unknown_name,
    http_keeps_connections,
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_happens_is_what_happens_on_the_loopback(behaviour: Behaviour) -> None:
    """The same program sees the same, step by step, in virtual time and for real."""
    assert in_virtual_time(behaviour) == for_real(behaviour)
