"""From peer to peer: votes over links, the rest over HTTP; bounded, and one error class for all that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import msgspec

from p2pml.errors import PeerUnreachable, RemoteError
from p2pml.gossip import Member

from .frames import Answered, Question
from .link import MISDIRECTED, TO, LinkLost, NoLink
from .links import Links

MSGPACK = "application/msgpack"
VOTE_PATH = "/v1/peer/vote"
MAX_ANSWER = 64 * 2**20
"""Bytes of a peer's answer: the probabilities of 16 MiB of rows over hundreds of classes stay below it."""
CONNECT = 2.0
"""Seconds for a connection: a live peer of a local network accepts within milliseconds."""


class ConnectionLost(PeerUnreachable):
    """A connection broke after it had been made."""


class PeerWire:
    """Asks other peers; connections stay open between questions, and each question may be asked twice."""

    def __init__(self, session: aiohttp.ClientSession, heard: Callable[[Member, str, float], None]) -> None:
        """`heard` is told of each answer: whose, to what path, and after how many seconds."""
        self._session = session
        self._heard = heard
        self._links = Links(session)

    async def close(self) -> None:
        """Close the links; the session is its owner's."""
        await self._links.close()

    async def vote(self, member: Member, packed: bytes, plain: Callable[[], bytes], seconds: float) -> Any:
        """A peer's vote on rows that are `packed` for a link, or `plain` where it has none; raises as `post`."""
        began = asyncio.get_running_loop().time()
        answered = await self._over_link(member, Question.VOTE, packed, seconds)
        if answered is not None:
            return answered[0]
        left = began + seconds - asyncio.get_running_loop().time()
        return await self.post(member, VOTE_PATH, await asyncio.to_thread(plain), left)

    async def add_up(self, member: Member, packed: bytes, seconds: float) -> Any:
        """The sum of votes for which a peer asks the others; raises as `post`, also where it has no links."""
        answered = await self._over_link(member, Question.SUM, packed, seconds)
        if answered is None:
            raise RemoteError("it takes no links")
        return answered[0]

    async def _over_link(self, member: Member, question: Question, body: bytes, seconds: float) -> tuple[Any] | None:
        """What is answered over a link; None where there is none."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self._troubles(seconds):
            try:
                answered = await self._linked(member, question, body, began + seconds)
            except LinkLost:
                # As in `_call`.
                answered = await self._linked(member, question, body, began + seconds)
        if answered is None:
            return None
        if answered.status != 200:
            raise RemoteError(_complaint(answered.status, answered.body))
        self._heard(member, VOTE_PATH, loop.time() - began)
        with self._troubles(seconds):
            return (msgspec.msgpack.decode(answered.body),)

    async def _linked(self, member: Member, question: Question, body: bytes, deadline: float) -> Answered | None:
        loop = asyncio.get_running_loop()
        link = await self._links.to(member, deadline - loop.time())
        return None if link is None else await link.ask(question, body, deadline - loop.time())

    async def get(self, member: Member, path: str, seconds: float = 5.0) -> Any:
        """What the peer answers; raises `PeerUnreachable` or `RemoteError`."""
        return await self._call("GET", member, path, None, seconds)

    async def post(self, member: Member, path: str, body: bytes, seconds: float) -> Any:
        """What the peer answers to a msgpack body; raises `PeerUnreachable` or `RemoteError`."""
        began = asyncio.get_running_loop().time()
        answer = await self._call("POST", member, path, body, seconds)
        self._heard(member, path, asyncio.get_running_loop().time() - began)
        return answer

    async def _call(self, method: str, member: Member, path: str, body: bytes | None, seconds: float) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        try:
            return await self._exchange(method, member, path, body, seconds)
        except ConnectionLost:
            # One that stayed open may have died unseen; whether the peer has too, a new connection tells.
            if (left := deadline - loop.time()) <= 0:
                raise
            return await self._exchange(method, member, path, body, left)

    async def _exchange(self, method: str, member: Member, path: str, body: bytes | None, seconds: float) -> Any:
        address = member.address
        with self._troubles(seconds):
            async with self._session.request(
                method,
                f"http://{address[0]}:{address[1]}{path}",
                data=body,
                headers={"Content-Type": MSGPACK, "Accept": MSGPACK, TO: member.id},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT)),
            ) as response:
                raw = await _bounded(response)
                if response.status == MISDIRECTED:
                    raise NoLink(MISDIRECTED)
                if response.status != 200:
                    raise RemoteError(_complaint(response.status, raw))
                return msgspec.msgpack.decode(raw)

    @contextmanager
    def _troubles(self, seconds: float) -> Iterator[None]:
        """What can go wrong on the way, in the words of this module."""
        try:
            yield
        except NoLink as error:
            raise PeerUnreachable("another peer lives at its address now") from error
        except TimeoutError as error:
            raise PeerUnreachable(f"no answer within {seconds:.3g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise PeerUnreachable(_short(error)) from error
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            raise ConnectionLost(_short(error)) from error
        except aiohttp.ClientPayloadError as error:
            raise ConnectionLost("the connection was lost in mid-answer") from error
        except (aiohttp.ClientError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteError("it does not answer as a p2pml peer does") from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_chunked(2**16):
        size += len(piece)
        if size > MAX_ANSWER:
            raise RemoteError(f"it answered more than {MAX_ANSWER // 2**20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


def _complaint(status: int, raw: bytes) -> str:
    try:
        detail = msgspec.json.decode(raw).get("detail")
    except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError, RecursionError):
        detail = None
    if not isinstance(detail, str):
        return f"it answered with HTTP status {status}"
    # Another machine wrote it, and a terminal would obey its control characters.
    return "".join(sign if sign.isprintable() else " " for sign in detail[:300])


def _short(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError) or "connect call failed" in str(error).lower():
        return "connection refused"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError | LinkLost):
        return "the connection was lost"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
