"""Every error of the HTTP API is an `application/problem+json` of one sentence (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web

from p2pml.errors import BadInput, NoVotes, RemoteError

from .bodies import MAX_BODY, UnsupportedBody

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class Busy(BadInput):
    """As many questions are being answered as this peer takes at once."""


def problem(status: int, detail: str) -> web.Response:
    """A response that says in one sentence what is wrong and what to do."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    headers = {"Retry-After": "1"} if status == 429 else None
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into a problem."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return problem(413, f"the body is larger than {MAX_BODY // 2**20} MiB; send the rows in several blocks")
    except web.HTTPException as error:
        return problem(error.status, _sentence(error, request))
    except ConnectionResetError:
        # Whoever asked is gone in the middle of the question: nobody's mistake, and nobody reads this.
        return problem(400, "the connection was lost in the middle of the question")
    except Exception as error:  # noqa: BLE001 (as `problem_of` says)
        return problem_of(error, request.path)


def problem_of(error: Exception, path: str) -> web.Response:
    """What an error is to whoever asked; one that nobody foresaw is logged, and shown without its inside: a bug must
    not stop the peer."""
    match error:
        case Busy():
            return problem(429, str(error))
        case UnsupportedBody():
            return problem(415, str(error))
        case BadInput() | RemoteError():
            return problem(400, str(error))
        case NoVotes():
            return problem(503, str(error))
    log.error("a request failed unexpectedly", path=path, why=f"{type(error).__name__}: {error}")
    return problem(500, "this peer made a mistake that is not yours; its log says more")


def _sentence(error: web.HTTPException, request: web.Request) -> str:
    if isinstance(error, web.HTTPNotFound):
        return f"there is nothing at {request.path}; see /openapi.json for what there is"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.path} takes {', '.join(sorted(error.allowed_methods))}, not {request.method}"
    return error.reason
