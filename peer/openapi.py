"""The OpenAPI document of the HTTP API, made from the very types that requests are read into."""

from __future__ import annotations

from typing import Any

import msgspec

import p2pml

from .answers import DriftReport, Evaluated, Fitted, Peers, Predicted
from .bodies import EvaluateRequest, FitRequest, PredictRequest
from .frames import PATH as LINK_PATH
from .frames import PROTOCOL


class Problem(msgspec.Struct):
    """An error, as RFC 9457 has it; `detail` is one sentence that says what is wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str


class Health(msgspec.Struct):
    """The peer answers."""

    status: str
    peer: str


_SHAPES = (
    PredictRequest,
    EvaluateRequest,
    FitRequest,
    Predicted,
    Evaluated,
    Fitted,
    Peers,
    DriftReport,
    Problem,
    Health,
)


def _body(name: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return {"content": {"application/json": schema, "application/msgpack": schema}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"description": description, "content": {"application/problem+json": schema}}


def _operation(
    summary: str, answer: str, request: str | None = None, problems: dict[str, str] | None = None
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "The answer", **_body(answer)},
            **{status: _problem(text) for status, text in (problems or {}).items()},
        },
    }
    if request is not None:
        operation["requestBody"] = {"required": True, **_body(request)}
    return operation


_REFUSALS = {
    "400": "The body or its rows cannot be used; the sentence names the place",
    "413": "The body is too large; send the rows in several blocks",
    "415": "The content type is neither JSON nor msgpack",
    "429": "The peer answers as many questions as it takes at once; ask again shortly",
    "503": "No peer could vote; the sentence says why, peer by peer",
}


_METRICS = {
    "summary": "What this peer sees and does, for Prometheus",
    "responses": {"200": {"description": "The metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}},
}
_LINK = {
    "summary": "A websocket on which many questions are asked at once",
    "description": "The subprotocol is `" + PROTOCOL + "`, its frames are described in docs/protocol.md. A body of "
    "`/v1/predict` in msgpack is question 2.",
    "responses": {
        "101": {"description": "The link is open"},
        "426": _problem("This is no websocket of that protocol; ask over HTTP"),
    },
}
_EVENTS = {
    "summary": "What happens in the cluster, as server-sent events",
    "description": "Each event is a JSON object with `at` (seconds since 1970) and `kind`. The first one is the whole "
    "`state`, or what was missed since `Last-Event-ID`. Then come `joined`, `suspected`, `refuted`, `died`, `healed`, "
    "`returned`, `left`, `changed`, `training`, `trained`, `training-failed`, `model`, `answer`, `score`, `drift`, "
    "`drift-over`, `pulse`, `gossip`, and `lost` where the listener was too slow; those about a peer carry its `row`.",
    "parameters": [{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
    "responses": {
        "200": {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        "429": _problem("As many programs listen as this peer takes; listen to another one"),
    },
}


def _document() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "p2pml",
            "version": p2pml.__version__,
            "description": "One ensemble with no centre: any peer answers for all.",
        },
        "paths": {
            "/healthz": {"get": _operation("Whether the peer runs", "Health")},
            "/readyz": {
                "get": _operation(
                    "Whether the peer can vote",
                    "Health",
                    problems={"503": "It cannot yet; the sentence says why"},
                )
            },
            "/metrics": {"get": _METRICS},
            "/v1/peers": {"get": _operation("The members of the cluster, as this peer sees them", "Peers")},
            "/v1/drift": {
                "get": _operation(
                    "Whether the rows that all peers were lately asked about are like those they know",
                    "DriftReport",
                    problems={"503": "No peer has trained yet"},
                )
            },
            "/v1/events": {"get": _EVENTS},
            LINK_PATH: {"get": _LINK},
            "/v1/predict": {
                "post": _operation("Predict rows with every live peer's vote", "Predicted", "PredictRequest", _REFUSALS)
            },
            "/v1/evaluate": {
                "post": _operation(
                    "Score the ensemble on all held-out rows, or on rows given",
                    "Evaluated",
                    "EvaluateRequest",
                    _REFUSALS,
                )
            },
            "/v1/fit": {"post": _operation("Have every peer retrain", "Fitted", "FitRequest", _REFUSALS)},
        },
        "components": {"schemas": components},
    }


DOCUMENT = msgspec.json.encode(_document())
