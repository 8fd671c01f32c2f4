"""A caller of a peer's HTTP API: one connection pool, bounded in time and size, that trusts no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
import msgspec

from p2pml.ensemble.lines import Lines
from p2pml.errors import BadInput, NoVotes, P2pmlError, PeerUnreachable, RemoteError

from .answers import Ballot, DriftReport, Evaluated, Fitted, Peers, Predicted
from .frames import Question
from .link import Link, NoLink

if TYPE_CHECKING:
    from p2pml.ensemble.schema import Schema

T = TypeVar("T")

MAX_ANSWER = 64 * 2**20
"""Bytes of one answer; a block of rows comes back with its probabilities in a fraction of it."""

MAX_DETAIL = 1000
"""Characters of a peer's complaint that are passed on."""

GLANCE = 5.0
"""Seconds in which a living peer says who its members are, even on a machine that is busy training."""

ANSWER = 120.0
"""Seconds for an answer when the caller set no deadline: a safety net, since the peer has its own."""

MARGIN = 5.0
"""Seconds beyond a caller's deadline in which the peer's answer can still arrive."""

SILENCE = 10.0
"""Seconds without an event after which a peer is given up: one that lives tells of its gossip every two seconds."""

TRAINING = 24 * 3600.0
"""Seconds to wait for a fit of all peers: a bound for a connection that died without a word."""

MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"
PREDICT_PATH = "/v1/predict"


BESIDE = ("spread", "strongest", "novelty", "intervals", "sets")
"""What an answer may have for each row beside predictions and probabilities."""


class PeerClient:
    """Asks one peer. Use it as an async context manager.

    Every call raises `BadInput` when the peer refuses the input (with the peer's sentence), `NoVotes` when no
    vote was cast, `PeerUnreachable` when it cannot be reached in time, and `RemoteError` when what it answers
    cannot be read. `host` confines the connections to the interface of that local address.
    """

    def __init__(self, address: tuple[str, int], host: str | None = None) -> None:
        self.address = address
        self._host = host
        self._session: aiohttp.ClientSession | None = None
        self._link: Link | None = None
        self._links = True
        self._dialling = asyncio.Lock()

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        local = (self._host, 0) if self._host else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=local),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_connect=GLANCE),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "Accept": MSGPACK},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._link is not None:
            await self._link.close()
        if self._session is not None:
            await self._session.close()

    async def peers(self) -> Peers:
        """Who is in the cluster, as this peer sees it."""
        return await self._call("GET", "/v1/peers", Peers, GLANCE)

    async def predict(
        self,
        columns: Mapping[str, Sequence[object]],
        *,
        combine: str | None = None,
        deadline: float | None = None,
        proba: bool = False,
        sure: bool = False,
        interval: float | None = None,
        first_row: int = 1,
    ) -> Predicted:
        """Predictions for the rows of a table, the cells of each column; what else is asked for is as in the API.

        `first_row` is the number of the first of them in the caller's file, for errors that name a row.
        """
        rows = len(next(iter(columns.values()), ()))
        body = {"combine": combine, "deadline": deadline, "proba": proba}
        # Left out where it is not asked for: a peer of 0.1 does not know it.
        body |= {"interval": interval, "sure": sure or None}
        answer = await self._call("POST", PREDICT_PATH, Predicted, _limit(deadline), body, columns, first_row)
        if len(answer["predictions"]) != rows:
            raise RemoteError(f"{self} answered {len(answer['predictions'])} predictions for {rows} rows.")
        beside: dict[str, Any] = {**answer}
        if any(beside.get(name) and len(beside[name]) != rows for name in BESIDE):
            raise RemoteError(f"{self} answered more or fewer of something than there are rows.")
        if proba:
            self._check_probabilities(answer)
        return answer

    async def evaluate(
        self,
        columns: Mapping[str, Sequence[object]] | None = None,
        *,
        combine: str | None = None,
        deadline: float | None = None,
        statistics: bool = False,
        compare: bool = False,
        first_row: int = 1,
    ) -> Evaluated:
        """Scores of the ensemble on the rows of a table, with the target, or else on all peers' held-out rows."""
        body: dict[str, Any] = {"combine": combine, "deadline": deadline}
        if statistics:
            body["statistics"] = True
        if compare:
            body["compare"] = True
        return await self._call("POST", "/v1/evaluate", Evaluated, _limit(deadline), body, columns, first_row)

    async def fit(self, model: str | None = None, *, wait: bool = True) -> Fitted:
        """Have every peer retrain; `wait` until they have."""
        body = {"model": model, "wait": wait}
        return await self._call("POST", "/v1/fit", Fitted, TRAINING if wait else ANSWER, body)

    async def drift(self) -> DriftReport:
        """Whether the rows that all peers were lately asked about are like those they know."""
        return await self._call("GET", "/v1/drift", DriftReport, ANSWER)

    async def schema(self) -> Schema:
        """The columns that models see, in the order of this peer's file, and the target."""
        from p2pml.ensemble.schema import Schema

        return Schema.from_data(await self._call("GET", "/v1/peer/schema", dict[str, Any], GLANCE))

    async def vote(self, columns: Mapping[str, Sequence[object]]) -> Ballot:
        """The vote of this peer alone, as it casts it for others."""
        return await self._call("POST", "/v1/peer/vote", Ballot, ANSWER, {"columns": columns})

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """What happens in the cluster, as this peer sees it: first the whole state, then each change.

        It ends when the peer leaves, and raises `PeerUnreachable` when it breaks off or falls silent.
        """
        assert self._session is not None
        with self._troubles(SILENCE):
            async with self._session.get(
                f"http://{self}/v1/events",
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=GLANCE, sock_read=SILENCE),
            ) as response:
                if response.status != 200:
                    raise self._complaint(response.status, response.content_type, await self._read(response))
                waiting = b""
                async for piece in response.content.iter_any():
                    *messages, waiting = (waiting + piece).split(b"\n\n")
                    if len(waiting) > MAX_ANSWER:
                        raise RemoteError(f"{self} sent an event of more than {MAX_ANSWER // 2**20} MiB.")
                    for message in messages:
                        if (event := self._event(message)) is not None:
                            yield event

    def _event(self, message: bytes) -> dict[str, Any] | None:
        """One message of the stream; None where it is a comment."""
        data = b"".join(line.removeprefix(b"data: ") for line in message.split(b"\n") if line.startswith(b"data: "))
        if not data:
            return None
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteError(f"{self} sent an event that is unreadable.") from error
        if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
            raise RemoteError(f"{self} sent an event that is unreadable.")
        return event

    def _check_probabilities(self, answer: Predicted) -> None:
        classes, rows = answer.get("classes"), answer.get("probabilities")
        if not classes and not rows:
            return
        width, count = len(classes or ()), len(answer["predictions"])
        if len(rows or ()) != count or any(len(row) != width for row in rows or ()):
            raise RemoteError(f"{self} answered probabilities that do not fit its classes and predictions.")

    async def _call(
        self,
        method: str,
        path: str,
        shape: type[T],
        seconds: float,
        body: dict[str, Any] | None = None,
        columns: Mapping[str, Sequence[object]] | None = None,
        first_row: int = 1,
    ) -> T:
        if body is not None:
            # None means the peer's default, which is said by leaving the name out.
            body = {name: value for name, value in body.items() if value is not None}
            if first_row != 1:
                body["first_row"] = first_row
        raw = await self._exchange(method, path, body, columns, seconds)
        try:
            msgspec.convert(raw, shape)
        except (msgspec.ValidationError, RecursionError) as error:
            raise RemoteError(f"{self} answered {path} with something unreadable: {error}.") from error
        # What was checked is handed on whole, with whatever else a newer peer says.
        answer: T = raw
        return answer

    async def _exchange(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        columns: Mapping[str, Sequence[object]] | None,
        seconds: float,
    ) -> Any:
        assert self._session is not None, "a PeerClient is used inside `async with`"
        if path == PREDICT_PATH and columns is not None and (link := await self._linked(seconds)) is not None:
            cells = [each.text if isinstance(each, Lines) else each for each in columns.values()]
            asked = {**(body or {}), "columns": list(columns), "cells": cells}
            content = msgspec.msgpack.encode(asked)
            with self._troubles(seconds):
                answered = await link.ask(Question.PREDICT, content, seconds)
                if answered.status == 200:
                    return msgspec.msgpack.decode(answered.body)
                raise self._complaint(answered.status, PROBLEM, msgspec.json.decode(answered.body))
        if columns is not None:
            # As any version reads them.
            body = {**(body or {}), "columns": list(columns), "data": list(zip(*columns.values(), strict=True))}
        with self._troubles(seconds):
            async with self._session.request(
                method,
                f"http://{self}{path}",
                data=None if body is None else msgspec.msgpack.encode(body),
                headers=None if body is None else {"Content-Type": MSGPACK},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, GLANCE)),
            ) as response:
                raw = await self._read(response)
                if response.status == 200:
                    return raw
                raise self._complaint(response.status, response.content_type, raw)

    async def _linked(self, seconds: float) -> Link | None:
        """The link to the peer, opened with the first prediction and kept; None where the peer takes none."""
        assert self._session is not None
        if self._link is not None and self._link.open:
            return self._link
        async with self._dialling:
            if (self._link is None or not self._link.open) and self._links:
                with self._troubles(seconds):
                    try:
                        self._link = await Link.dial(self._session, self.address, seconds)
                    except NoLink:
                        self._link, self._links = None, False
        return self._link

    @contextmanager
    def _troubles(self, seconds: float) -> Iterator[None]:
        """What can go wrong on the way, in the words of this class."""
        try:
            yield
        except TimeoutError as error:
            raise PeerUnreachable(f"{self} did not answer within {seconds:g} s.") from error
        except aiohttp.ClientConnectorError as error:
            raise PeerUnreachable(f"{self} cannot be reached: {_reason(error.os_error)}.") from error
        except (OSError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise PeerUnreachable(f"{self} broke off the connection.") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise RemoteError(f"{self} does not answer as a p2pml peer does.") from error

    async def _read(self, response: aiohttp.ClientResponse) -> Any:
        pieces, size = [], 0
        async for piece in response.content.iter_chunked(2**16):
            size += len(piece)
            if size > MAX_ANSWER:
                raise RemoteError(f"{self} answered with more than {MAX_ANSWER // 2**20} MiB.")
            pieces.append(piece)
        content = b"".join(pieces)
        try:
            if response.content_type == MSGPACK:
                return msgspec.msgpack.decode(content)
            return msgspec.json.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteError(f"{self} does not answer as a p2pml peer does.") from error

    def _complaint(self, status: int, content_type: str, raw: Any) -> P2pmlError:
        detail = raw.get("detail") if isinstance(raw, dict) else None
        if content_type not in (PROBLEM, "application/problem+msgpack"):
            detail = None
        if not isinstance(detail, str) or not detail:
            return RemoteError(f"{self} answered with HTTP status {status} and does not say why.")
        # Another machine wrote it, and a terminal would obey its control characters.
        sentence = "".join(sign if sign.isprintable() else " " for sign in detail[:MAX_DETAIL])
        if status == 503:
            return NoVotes(sentence)
        if 400 <= status < 500 and status != 429:
            return BadInput(sentence)
        return RemoteError(f"{self}: {sentence}")


def _limit(deadline: float | None) -> float:
    return ANSWER if deadline is None else deadline + MARGIN


def _reason(error: OSError) -> str:
    words = (error.strerror or str(error)).lower()
    # asyncio spells the address out, which the sentence already has.
    return "connection refused" if "connect call failed" in words else words
