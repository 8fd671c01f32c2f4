"""The HTTP API: each handler reads, calls and answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import structlog
from aiohttp import web

from p2pml.ensemble.summary import FitCommand
from p2pml.errors import BadInput

from .asking import DEADLINE, DEADLINE_PER_ROW, EVALUATION_DEADLINE, VOTE_PATH
from .ballots import Wanted, ballots_data
from .bodies import (
    LARGE,
    MAX_BODY,
    Cell,
    Deadline,
    EvaluateRequest,
    FitRequest,
    PredictRequest,
    RowNumber,
    Rule,
    columns_of,
    decode,
    encode,
)
from .colleagues import SCHEMA_PATH
from .crew import FIT_PATH
from .drifting import ASKED_PATH, PROFILE_PATH
from .evaluating import EVALUATE_PATH, scored_data
from .knowing import MOMENTS_PATH, STACK_PATH
from .openapi import DOCUMENT
from .pieces import PIECE_PATH
from .presenting import predicted
from .problems import Busy, Handler, problem, problems
from .pump import STREAM_PATH
from .rare import LONG, buggify
from .wire import MISDIRECTED, TO

if TYPE_CHECKING:
    from .daemon import Peer

MAX_AT_ONCE = 32
"""Questions answered at once; with MAX_BODY it bounds the memory that callers can take."""
PEER_BODY = 2 * MAX_BODY
"""Bytes of a peer's question: a body that was just within bounds as JSON may grow a little as msgpack."""
MAX_MODELS = 256
"""Models that one question names, at most: far more than a peer holds."""
STALLED = 30.0
"""Seconds after which a listener that takes nothing is given up."""

T = TypeVar("T")

log = structlog.get_logger()


class VoteRequest(msgspec.Struct):
    """One peer asks another for the votes of some models on these columns; of its own where none is named."""

    columns: dict[str, list[Cell]]
    first_row: RowNumber = 1
    space: str | None = None
    models: Annotated[list[Wanted], msgspec.Meta(min_length=1, max_length=MAX_MODELS)] | None = None


class HeldOutRequest(msgspec.Struct):
    """One peer asks another to have its held-out rows scored."""

    combine: Rule
    seconds: Deadline


class PeerFitRequest(msgspec.Struct):
    """One peer tells another of a fit, and may wait for its end."""

    command: dict[str, object]
    wait: bool


class Api:
    """The routes of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._answering = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[problems, self._meant], client_max_size=PEER_BODY)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/openapi.json", self.openapi)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/peers", self.peers)
        app.router.add_get("/v1/drift", self.drift)
        app.router.add_get("/v1/events", self.events, allow_head=False)
        app.router.add_post("/v1/predict", self.predict)
        app.router.add_post("/v1/evaluate", self.evaluate)
        app.router.add_post("/v1/fit", self.fit)
        app.router.add_post(STREAM_PATH, self.gossip)
        app.router.add_get(SCHEMA_PATH, self.schema)
        app.router.add_get(MOMENTS_PATH, self.moments)
        app.router.add_get(STACK_PATH, self.stack)
        app.router.add_get(PIECE_PATH + "{digest:[0-9a-f]{32,64}}", self.piece)
        app.router.add_get(PROFILE_PATH, self.profile)
        app.router.add_get(ASKED_PATH, self.lately)
        app.router.add_post(VOTE_PATH, self.vote)
        app.router.add_post(EVALUATE_PATH, self.evaluate_own)
        app.router.add_post(FIT_PATH, self.fit_own)
        return app

    async def healthz(self, request: web.Request) -> web.Response:
        return encode({"status": "ok", "peer": self._peer.id}, request)

    async def readyz(self, request: web.Request) -> web.Response:
        reason = self._peer.why_not_ready()
        return problem(503, reason) if reason else encode({"status": "ready", "peer": self._peer.id}, request)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=DOCUMENT, content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        page, content_type = self._peer.metrics.page()
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def peers(self, request: web.Request) -> web.Response:
        return encode(self._peer.peers(), request)

    async def events(self, request: web.Request) -> web.StreamResponse:
        listener = self._peer.observer.listen()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        try:
            async with aclosing(listener.stream(request.headers.get("Last-Event-ID"))) as messages:
                async for message in messages:
                    async with asyncio.timeout(STALLED):
                        await response.write(message)
        except (ConnectionError, TimeoutError):
            log.debug("a listener went away", path=request.path)
        return response

    async def predict(self, request: web.Request) -> web.Response:
        async with self._turn():
            began = asyncio.get_running_loop().time()
            asked = await _read(request, PredictRequest, MAX_BODY)
            columns, rows = await _rows(asked)
            answer = await self._peer.asker.ask(
                columns,
                rows,
                rule=asked.combine,
                seconds=asked.deadline or DEADLINE + DEADLINE_PER_ROW * rows,
                first_row=asked.first_row,
                sure=asked.sure,
                level=asked.interval,
            )
            took = asyncio.get_running_loop().time() - began
            self._peer.observer.answered(rows, answer.votes, took)
            self._peer.metrics.answered(answer.votes, took)
            self._peer.drifting.asked(columns, rows, answer)
            return encode(predicted(answer, asked.combine, asked.proba, took), request)

    async def evaluate(self, request: web.Request) -> web.Response:
        async with self._turn():
            asked = await _read(request, EvaluateRequest, MAX_BODY)
            seconds = asked.deadline or EVALUATION_DEADLINE
            evaluator = self._peer.evaluator
            if asked.rows is None and asked.columns is None and asked.data is None:
                report = await evaluator.everyone(rule=asked.combine, seconds=seconds)
                self._peer.observer.evaluated(report)
                return encode(report, request)
            columns, rows = await _rows(asked)
            scored = await evaluator.given(
                columns,
                rows,
                rule=asked.combine,
                seconds=seconds,
                first_row=asked.first_row,
                statistics=asked.statistics,
            )
            return encode(scored, request)

    async def drift(self, request: web.Request) -> web.Response:
        async with self._turn():
            return encode(await self._peer.drifting.report(self._peer.observer.alerts()), request)

    async def fit(self, request: web.Request) -> web.Response:
        asked = await _read(request, FitRequest, MAX_BODY)
        return encode(await self._peer.crew.fit(asked.model, wait=asked.wait), request)

    async def gossip(self, request: web.Request) -> web.Response:
        source = request.transport.get_extra_info("peername") if request.transport else None
        data = await request.read()
        answer = self._peer.pump.stream((source[0], source[1]), data) if source else None
        if answer is None:
            return problem(400, "this is not a message of the protocol, version 1, for this cluster")
        return web.Response(body=answer, content_type="application/octet-stream")

    async def schema(self, request: web.Request) -> web.Response:
        trained = self._peer.voting.trained
        named = self._peer.colleagues.schema(request.query.get("fingerprint", ""))
        if (schema := named or (trained.schema if trained else None)) is None:
            return problem(404, "this peer has no schema before its first training is done")
        return encode(schema.to_data(), request)

    async def piece(self, request: web.Request) -> web.Response:
        start = request.query.get("from", "0")
        if not (start.isascii() and start.isdecimal()):
            return problem(400, '"from" is no number of bytes')
        digest = request.match_info["digest"]
        return encode(await asyncio.to_thread(self._peer.pieces.block, digest, int(start[:16])), request)

    async def moments(self, request: web.Request) -> web.Response:
        moments = self._peer.knowing.moments
        if moments is None:
            return problem(404, "this peer has no moments before its first training is done")
        return encode(await asyncio.to_thread(moments.to_data), request)

    async def stack(self, request: web.Request) -> web.Response:
        gram = self._peer.knowing.gram
        if gram is None:
            return problem(404, "this peer has not tried all votes on held-out rows of its own")
        return encode(await asyncio.to_thread(gram.to_data), request)

    async def profile(self, request: web.Request) -> web.Response:
        return encode((await self._peer.drifting.profile()).to_data(), request)

    async def lately(self, request: web.Request) -> web.Response:
        return encode((await self._peer.drifting.lately()).to_data(), request)

    async def vote(self, request: web.Request) -> web.Response:
        async with self._turn():
            asked = await _read(request, VoteRequest, PEER_BODY)
            if buggify("api.vote-late"):
                await asyncio.sleep(LONG)
            voting = self._peer.voting
            if asked.models is None:
                ballot = await voting.vote(asked.columns, asked.first_row, asked.space)
                return encode(ballot.to_data(), request)
            cast = await voting.cast(asked.models, asked.columns, asked.first_row, asked.space)
            return encode(ballots_data(cast), request)

    async def evaluate_own(self, request: web.Request) -> web.Response:
        asked = await _read(request, HeldOutRequest, MAX_BODY)
        scored = await self._peer.evaluator.own(rule=asked.combine, seconds=asked.seconds)
        trained = self._peer.voting.trained
        return encode(scored_data(trained.schema.task if trained else "", scored), request)

    async def fit_own(self, request: web.Request) -> web.Response:
        asked = await _read(request, PeerFitRequest, MAX_BODY)
        command = FitCommand.from_data(asked.command)
        return encode(await self._peer.crew.fit_here(command, wait=asked.wait), request)

    @web.middleware
    async def _meant(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is meant for another peer: an address can be taken over by a stranger, a vote cannot."""
        if request.headers.get(TO, self._peer.id) != self._peer.id:
            return problem(MISDIRECTED, "another peer lives at this address now")
        return await handler(request)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._answering >= MAX_AT_ONCE:
            raise Busy(f"{MAX_AT_ONCE} questions are being answered, as many as this peer takes; ask again shortly")
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1


async def _read(request: web.Request, shape: type[T], limit: int) -> T:
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    raw = await request.read()
    if len(raw) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(raw))
    if len(raw) > LARGE:
        return await asyncio.to_thread(decode, raw, request.content_type, shape)
    return decode(raw, request.content_type, shape)


async def _rows(asked: PredictRequest | EvaluateRequest) -> tuple[dict[str, list[object]], int]:
    columns, rows = await asyncio.to_thread(columns_of, asked)
    if rows == 0:
        raise BadInput("there are no rows; send at least one")
    return columns, rows
