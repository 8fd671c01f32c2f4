"""The HTTP API: each handler reads, calls and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import msgspec
import structlog
from aiohttp import web

from p2pml.ensemble.summary import FitCommand
from p2pml.ensemble.typed import Typed
from p2pml.ensemble.values import Columns
from p2pml.errors import BadInput, NoVotes

from .answering import Answering
from .answering import Handler as LinkHandler
from .answers import Predicted
from .asking import DEADLINE, DEADLINE_PER_ROW, EVALUATION_DEADLINE
from .ballots import MAX_MODELS, Cast, PackedQuestion, SumQuestion, Wanted, ballots_data
from .bodies import (
    LARGE,
    MAX_BODY,
    MSGPACK,
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
from .comparing import COMPARE_PATH
from .crew import FIT_PATH
from .drifting import ASKED_PATH, PROFILE_PATH
from .evaluating import EVALUATE_PATH, scored_data
from .frames import PATH as LINK_PATH
from .frames import Question
from .knowing import MOMENTS_PATH, STACK_PATH
from .link import MISDIRECTED, TO
from .openapi import DOCUMENT
from .pieces import PIECE_PATH
from .presenting import predicted
from .problems import Busy, Handler, problem, problems
from .pump import STREAM_PATH
from .rare import LONG, buggify
from .voting import QUICK
from .wire import VOTE_PATH

if TYPE_CHECKING:
    from .daemon import Peer

MAX_AT_ONCE = 1_024
"""Questions answered at once, and votes likewise."""
MAX_BYTES = 32 * MAX_BODY
"""Bytes of the questions that are answered at once, and of votes likewise: what callers can take of the memory."""
PEER_BODY = 2 * MAX_BODY
"""Bytes of a peer's question: a body that was just within bounds as JSON may grow a little as msgpack."""
LAST_ANSWERS = 5.0
"""Seconds that a leaving peer still gives to what it is answering: the deadline where the asker set none."""
STALLED = 30.0
"""Seconds after which a listener that takes nothing is given up."""

P = ParamSpec("P")
T = TypeVar("T")
Packed = TypeVar("Packed", bound=PackedQuestion)

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


class CompareRequest(msgspec.Struct):
    """One peer asks another to compare all rules on its held-out rows."""

    seconds: Deadline


class PeerFitRequest(msgspec.Struct):
    """One peer tells another of a fit, and may wait for its end."""

    command: dict[str, object]
    wait: bool


class Api:
    """The routes of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        # Apart: if questions could take the room of votes, peers that are all asked at once would starve each other. So
        # would sums, which wait for votes too.
        self._questions, self._votes, self._sums = Room("questions"), Room("votes"), Room("sums")
        self._links = Answering(
            {
                Question.VOTE: LinkHandler(self._vote_over_link, self._vote_at_once),
                Question.SUM: LinkHandler(self._sum_over_link),
                Question.PREDICT: LinkHandler(self._predict_over_link),
            }
        )

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
        app.router.add_get(LINK_PATH, self._links.link, allow_head=False)
        app.on_shutdown.append(self._close_links)
        app.router.add_post(EVALUATE_PATH, self.evaluate_own)
        app.router.add_post(COMPARE_PATH, self.compare_own)
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
        with self._questions.taken(request.content_length or 0):
            asked = await _read(request, PredictRequest, MAX_BODY)
            return encode(await self._predict(asked), request)

    async def _predict_over_link(self, body: bytes, seconds: float) -> bytes:
        with self._questions.taken(len(body)):
            if len(body) > MAX_BODY:
                raise BadInput(f"the body is larger than {MAX_BODY // 2**20} MiB; send the rows in several blocks")
            asked = await _decoded(body, MSGPACK, PredictRequest)
            answer = await self._predict(asked)
            if len(answer["predictions"]) > QUICK:
                return await asyncio.to_thread(msgspec.msgpack.encode, answer)
            return msgspec.msgpack.encode(answer)

    def _stays(self) -> None:
        """Refuse what begins anew while this peer leaves; what has begun ends in peace."""
        if self._peer.leaving:
            raise NoVotes("this peer is about to leave; ask another one")

    async def _predict(self, asked: PredictRequest) -> Predicted:
        self._stays()
        began = asyncio.get_running_loop().time()
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
        if rows > QUICK:
            return await asyncio.to_thread(predicted, answer, asked.combine, asked.proba, took)
        return predicted(answer, asked.combine, asked.proba, took)

    async def evaluate(self, request: web.Request) -> web.Response:
        self._stays()
        with self._questions.taken(request.content_length or 0):
            asked = await _read(request, EvaluateRequest, MAX_BODY)
            seconds = asked.deadline or EVALUATION_DEADLINE
            evaluator = self._peer.evaluator
            if asked.rows is None and asked.columns is None and asked.data is None:
                report = await evaluator.everyone(rule=asked.combine, seconds=seconds, compare=asked.compare)
                self._peer.observer.evaluated(report)
                return encode(report, request)
            if asked.compare:
                raise BadInput("rules are compared on the peers' held-out rows: send no rows, or leave out compare")
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
        with self._questions.taken(request.content_length or 0):
            return encode(await self._peer.drifting.report(self._peer.observer.alerts()), request)

    async def fit(self, request: web.Request) -> web.Response:
        self._stays()
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
        with self._votes.taken(request.content_length or 0):
            asked = await _read(request, VoteRequest, PEER_BODY)
            if buggify("api.vote-late"):
                await asyncio.sleep(LONG)
            voting = self._peer.voting
            if asked.models is None:
                ballot = await voting.vote(asked.columns, asked.first_row, asked.space)
                return encode(ballot.to_data(), request)
            cast = await voting.cast(asked.models, asked.columns, asked.first_row, asked.space)
            return encode(ballots_data(cast), request)

    def _vote_at_once(self, body: bytes, seconds: float) -> bytes | None:
        if len(body) > LARGE or buggify("api.vote-late"):
            return None
        asked, rows = _packed_question(body, PackedQuestion)
        cast = self._peer.voting.cast_at_once(asked.models, rows, asked.first_row, asked.space)
        return None if cast is None else _packed_ballots(cast)

    async def _vote_over_link(self, body: bytes, seconds: float) -> bytes:
        with self._votes.taken(len(body)):
            if buggify("api.vote-late"):
                await asyncio.sleep(LONG)
            asked, rows = await _off_the_loop(body, _packed_question, body, PackedQuestion)
            # Beyond its deadline nobody waits for it.
            async with asyncio.timeout(seconds):
                cast = await self._peer.voting.cast(asked.models, rows, asked.first_row, asked.space)
            return await _off_the_loop(body, _packed_ballots, cast)

    async def _sum_over_link(self, body: bytes, seconds: float) -> bytes:
        self._stays()
        with self._sums.taken(len(body)):
            asked, rows = await _off_the_loop(body, _packed_question, body, SumQuestion)
            partial = await self._peer.polling.add_up(asked, rows, seconds)
            return await _off_the_loop(body, msgspec.msgpack.encode, partial.to_data())

    async def _close_links(self, app: web.Application) -> None:
        await self._links.close(LAST_ANSWERS)

    async def evaluate_own(self, request: web.Request) -> web.Response:
        asked = await _read(request, HeldOutRequest, MAX_BODY)
        scored = await self._peer.evaluator.own(rule=asked.combine, seconds=asked.seconds)
        trained = self._peer.voting.trained
        return encode(scored_data(trained.schema.task if trained else "", scored), request)

    async def compare_own(self, request: web.Request) -> web.Response:
        asked = await _read(request, CompareRequest, MAX_BODY)
        part = await self._peer.comparer.own(asked.seconds)
        return encode(await asyncio.to_thread(part.to_data), request)

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


class Room:
    """How much is being answered at once."""

    def __init__(self, what: str) -> None:
        self._what, self._count, self._bytes = what, 0, 0

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Answer a question of so many bytes; raises `Busy` where there is no room for it."""
        if self._count >= MAX_AT_ONCE or (self._count and self._bytes + size > MAX_BYTES):
            raise Busy(f"{self._count} {self._what} are being answered, as many as this peer takes; ask again shortly")
        self._count += 1
        self._bytes += size
        try:
            yield
        finally:
            self._count -= 1
            self._bytes -= size


def _packed_question(body: bytes, shape: type[Packed]) -> tuple[Packed, Typed]:
    asked = decode(body, MSGPACK, shape)
    return asked, Typed.from_data(asked.rows)


def _packed_ballots(cast: Sequence[Cast]) -> bytes:
    return msgspec.msgpack.encode(ballots_data(cast))


async def _read(request: web.Request, shape: type[T], limit: int) -> T:
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    raw = await request.read()
    if len(raw) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(raw))
    return await _decoded(raw, request.content_type, shape)


async def _decoded(raw: bytes, content_type: str, shape: type[T]) -> T:
    return await _off_the_loop(raw, decode, raw, content_type, shape)


async def _off_the_loop(raw: bytes, work: Callable[P, T], *how: P.args, **more: P.kwargs) -> T:
    """Do some work on what came with a body: at once where that is small, else in a thread."""
    if len(raw) <= LARGE:
        return work(*how, **more)
    return await asyncio.to_thread(work, *how, **more)


async def _rows(asked: PredictRequest | EvaluateRequest) -> tuple[Columns, int]:
    many = len(asked.rows or asked.data or ()) > QUICK
    columns, rows = await asyncio.to_thread(columns_of, asked) if many else columns_of(asked)
    if rows == 0:
        raise BadInput("there are no rows; send at least one")
    return columns, rows
