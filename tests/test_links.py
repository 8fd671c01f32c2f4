"""Laws of links: many questions on one websocket, none in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from p2pml.errors import BadInput
from p2pml.peer.answering import Answering, Handler
from p2pml.peer.frames import CHUNK, PATH, Answered, Ask, Assembly, BadFrame, Cancelled, Kind, answer, ask, cancel
from p2pml.peer.link import Link, LinkLost, NoLink

BIG = bytes(range(256)) * 4096
"""A mebibyte."""


async def echo(body: bytes, seconds: float) -> bytes:
    return body


@asynccontextmanager
async def linked(
    eventually: Callable[[bytes, float], Awaitable[bytes]] = echo,
    at_once: Callable[[bytes, float], bytes | None] = lambda body, seconds: None,
) -> AsyncIterator[tuple[Link, Answering]]:
    """Both ends of a link; question 1 is answered by the functions."""
    answering = Answering({1: Handler(eventually, at_once)})
    app = web.Application()
    app.router.add_get(PATH, answering.link)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        link = await Link.dial(session, runner.addresses[0][:2], 10)
        try:
            yield link, answering
        finally:
            await link.close()
            await answering.close(0)
            await runner.cleanup()


@pytest.mark.parametrize("body", [b"", b"x", BIG, BIG[:CHUNK], BIG[: CHUNK + 1]])
def test_what_was_cut_in_frames_is_whole_again(body: bytes) -> None:
    """Frames of several bodies may come in turns."""
    asked, answered = Assembly(Kind.ASK), Assembly(Kind.ANSWER)
    one, two = list(ask(1, 7, 2.5, body)), list(ask(2, 7, 2.5, b"small"))
    wholes = [whole for frame in [*one[:1], *two, *one[1:]] for whole in asked.take(frame)]
    assert set(wholes) == {Ask(1, 7, 2.5, body), Ask(2, 7, 2.5, b"small")}
    assert answered.take(b"".join([*answer(3, 200, body), *answer(4, 404, b"")])) == [
        Answered(3, 200, body),
        Answered(4, 404, b""),
    ]


def test_what_is_taken_back_is_forgotten() -> None:
    """Late chunks of it are dropped, and take no memory."""
    assembly = Assembly(Kind.ASK)
    first, second, *_ = ask(1, 7, 1.0, BIG)
    assert assembly.take(first) == []
    assert assembly.take(cancel(1)) == [Cancelled(1)]
    assert assembly.take(second) == []
    assert assembly._size == 0


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x01\0\0"],
        [b"\x01\0\0\0\0\x09\0\0\0"],
        [b"\x01\0\0\0\0\0\0\0\0"],
        [b"\x09\0\0\0\0\0\0\0\0"],
        list(answer(1, 200, b"")),
        [next(ask(1, 7, 1.0, BIG))] * 2,
        list(ask(1, 7, 1.0, BIG)),
    ],
    ids=["no head", "cut off", "no question", "unknown", "an answer", "a number twice", "too much"],
)
def test_what_is_no_frame_ends_the_link(frames: list[bytes]) -> None:
    """With a `BadFrame`; what is under way is bounded."""
    assembly = Assembly(Kind.ASK, most=len(BIG) - 1)
    with pytest.raises(BadFrame):
        _ = [assembly.take(frame) for frame in frames]


async def test_answers_come_in_any_order() -> None:
    """A question that takes long is in nobody's way, and a large body neither."""
    gate = asyncio.Event()

    async def slow(body: bytes, seconds: float) -> bytes:
        if body == b"slow":
            await gate.wait()
        return body

    async with linked(slow) as (link, _):
        waiting = asyncio.create_task(link.ask(1, b"slow", 60))
        large = asyncio.create_task(link.ask(1, BIG, 60))
        assert (await link.ask(1, b"quick", 60)).body == b"quick"
        assert (await large).body == BIG
        assert not waiting.done()
        gate.set()
        assert (await waiting).body == b"slow"


async def test_what_can_be_answered_at_once_needs_no_task() -> None:
    """And an error of it is a problem like any other."""

    def at_once(body: bytes, seconds: float) -> bytes:
        if body == b"bad":
            raise BadInput("no")
        return body.upper()

    async with linked(at_once=at_once) as (link, _):
        assert (await link.ask(1, b"a", 60)).body == b"A"
        refused = await link.ask(1, b"bad", 60)
        assert (refused.status, b"no" in refused.body) == (400, True)
        assert (await link.ask(9, b"", 60)).status == 404


async def test_a_question_that_is_taken_back_is_cancelled_at_the_other_end() -> None:
    """The loser of a race does not go on working."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(body: bytes, seconds: float) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return body

    async with linked(slow) as (link, _):
        waiting = asyncio.create_task(link.ask(1, b"", 60))
        await began.wait()
        waiting.cancel()
        async with asyncio.timeout(60):
            await ended.wait()
        assert link.open


async def test_a_lost_link_is_told_to_all_who_wait() -> None:
    """They may ask again; a link on which nothing came by a deadline is given up too."""

    async def never(body: bytes, seconds: float) -> bytes:
        await asyncio.Event().wait()
        return body

    async with linked(never) as (link, answering):
        waiting = asyncio.create_task(link.ask(1, b"", 60))
        await asyncio.sleep(0)
        await answering.close(0)
        with pytest.raises(LinkLost):
            await waiting
        with pytest.raises(LinkLost):
            await link.ask(1, b"", 60)
    async with linked(never) as (link, _):
        with pytest.raises(TimeoutError):
            await link.ask(1, b"", 0.05)
        with pytest.raises(LinkLost):
            await link.ask(1, b"", 60)


async def test_whoever_takes_no_links_says_so() -> None:
    """An older peer does not know the path, and a peer refuses another protocol."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(NoLink, match="404"):
            await Link.dial(session, runner.addresses[0][:2], 10)
        await runner.cleanup()
        async with linked() as (link, _):
            host, port = link._socket.get_extra_info("peername")
            async with session.get(f"http://{host}:{port}{PATH}") as response:
                assert response.status == 426


async def test_a_message_that_is_no_frame_closes_the_link() -> None:
    """Whoever does not keep to the protocol is not answered."""
    async with linked() as (link, _):
        await link._socket.send_str("hello")
        with pytest.raises(LinkLost):
            await link.ask(1, b"", 60)
