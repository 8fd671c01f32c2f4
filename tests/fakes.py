"""A double of a peer's HTTP API for the tests of whoever calls it, and a command line that runs in the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest
from aiohttp import web

from p2pml.cli.main import run
from p2pml.peer.frames import PATH as LINK_PATH

MSGPACK = "application/msgpack"
Reply = Callable[[dict[str, Any]], Any]


class Drop(Exception):
    """Raised by a reply to break off the connection."""


class Refuse(Exception):
    """Raised by a reply to answer with a problem."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def votes(cast: int = 1, expected: int = 1, **missing: str) -> dict[str, Any]:
    """The votes of an answer; `missing` is reasons by name."""
    entries = [{"peer": f"{name:0<32}", "name": name, "reason": why} for name, why in missing.items()]
    return {"cast": cast, "expected": expected, "missing": entries}


class FakePeer:
    """Answers over HTTP from a thread of its own with what `replies` say, and remembers what it was asked."""

    def __init__(self, name: str = "ann", cluster: str = "default") -> None:
        self.name = name
        self.cluster = cluster
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.replies: dict[str, Reply] = {"/v1/peers": self._peers, "/v1/predict": self._predict}
        self.others: list[FakePeer] = []
        self.address: tuple[str, int] = ("127.0.0.1", 0)
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def where(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def stop(self) -> None:
        """Stop answering; connections break."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def requests(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = runner.addresses[0][:2]
        self._up.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == LINK_PATH and LINK_PATH not in self.replies:
            # As a peer of an older version.
            return web.Response(status=404)
        raw = await request.read()
        body = msgspec.msgpack.decode(raw) if raw else {}
        self.asked.append((request.path, body))
        try:
            # In a thread, so that a reply may wait for something.
            answer = await asyncio.to_thread(self.replies[request.path], body)
        except Drop:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        except Refuse as refusal:
            problem = {"type": "about:blank", "title": "No", "status": refusal.status, "detail": str(refusal)}
            return web.json_response(problem, status=refusal.status, content_type="application/problem+json")
        if isinstance(answer, web.Response):
            return answer
        return web.Response(body=msgspec.msgpack.encode(answer), content_type=MSGPACK)

    def _peers(self, body: dict[str, Any]) -> Any:
        return {
            "cluster": self.cluster,
            "asked": f"{self.name:0<32}",
            "peers": [
                {
                    "id": f"{peer.name:0<32}",
                    "name": peer.name,
                    "address": peer.where,
                    "status": "alive",
                    "generation": 1,
                    "model": None,
                }
                for peer in (self, *self.others)
            ],
        }

    def _predict(self, body: dict[str, Any]) -> Any:
        """Each row's prediction is its first cell with the peer's name, so that a test sees who answered what."""
        predictions = [f"{row[0]}-{self.name}" for row in body["data"]]
        return {"predictions": predictions, "combine": "mean", "votes": votes(), "took": 0.01}


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Runs `p2pml` in the test's own process."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Outcome:
        code = run([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


def finder_of(*addresses: tuple[str, int]) -> Callable[..., AsyncGenerator[tuple[str, int], None]]:
    """A `find` that finds these addresses at once."""

    async def find(
        cluster: str, host: str | None, join: Sequence[tuple[str, int]], mdns: bool, timeout: float
    ) -> AsyncGenerator[tuple[str, int], None]:
        for address in (*join, *(addresses if mdns else ())):
            yield address

    return find
