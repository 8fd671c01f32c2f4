"""Laws of the HTTP interface, held against a real peer in the test's own loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
import pytest_asyncio
from running import ROWS, Answer, call, peer_here, soon, write_part

from p2pml.errors import PeerUnreachable
from p2pml.gossip import Member, Status
from p2pml.peer import api as api_module
from p2pml.peer.bodies import MAX_BODY
from p2pml.peer.daemon import Peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    """One trained peer for all the tests of this file."""
    folder = tmp_path_factory.mktemp("api")
    async with peer_here(write_part(folder / "part.csv"), folder / "state") as peer:
        await soon(lambda: peer.why_not_ready() is None, "the first training is done")
        yield peer


async def ask(peer: Peer, path: str, body: Any = None, **options: Any) -> Answer:
    """A request from another thread, as any client's."""
    return await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", path, body, **options)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_prediction_says_how_it_came_about(peer: Peer) -> None:
    """Predictions, classes, probabilities on request, and the votes behind them."""
    answer = (await ask(peer, "/v1/predict", ROWS | {"proba": True})).data
    assert answer["predictions"] == ["no", "yes", "yes"]
    assert answer["classes"] == ["no", "yes"]
    assert [sum(row) for row in answer["probabilities"]] == pytest.approx([1, 1, 1])
    assert (answer["combine"], answer["combined"]) == ("auto", "mean")
    assert answer["votes"] == {"cast": 1, "expected": 1, "missing": []}
    assert answer["took"] > 0


async def test_rows_as_records_and_as_columns_mean_the_same(peer: Peer) -> None:
    """The order of columns does not matter either."""
    records = [dict(zip(ROWS["columns"], row, strict=True)) for row in ROWS["data"]]
    turned = {"columns": ROWS["columns"][::-1], "data": [row[::-1] for row in ROWS["data"]]}
    by_column = {"columns": ROWS["columns"], "cells": list(zip(*ROWS["data"], strict=True))}
    lines = ["\n".join(map(str, cells)) for cells in by_column["cells"]]
    bodies = (ROWS, {"rows": records}, turned, by_column, {**by_column, "cells": lines})
    answers = [(await ask(peer, "/v1/predict", body)).data["predictions"] for body in bodies]
    assert all(answer == answers[0] for answer in answers)


async def test_msgpack_is_answered_in_kind(peer: Peer) -> None:
    """The content type of the request says how it is read."""
    body = msgpack.packb(ROWS)
    answer = await ask(peer, "/v1/predict", body, content_type="application/msgpack")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.data["predictions"] == ["no", "yes", "yes"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "json"),
        (b'{"rows": "many"}', "rows"),
        (b'{"rows": [{"height": [1]}]}', "$.rows[0]"),
        (b"{}", "either"),
        (b'{"rows": [], "columns": [], "data": []}', "either"),
        (b'{"rows": []}', "no rows"),
        (b'{"columns": [], "cells": []}', "no rows"),
        (b'{"columns": ["height"], "data": [[1]], "cells": [[1]]}', "either"),
        (b'{"columns": ["height", "width"], "cells": [[1]]}', "1 columns for 2 names"),
        (b'{"columns": ["height", "width"], "cells": [[1], [1, 2]]}', "2 cells"),
        (b'{"columns": ["height", "width"], "cells": ["1", "1\\n2"]}', "2 cells"),
        (b'{"columns": ["height", "height"], "cells": [[1], [1]]}', "twice"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red"}], "combine": "vibes"}', "combine"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red"}], "deadline": 0}', "deadline"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red"}], "deadline": "soon"}', "deadline"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red"}], "colour": 1}', "colour"),
        (b'{"rows": [{"height": 1, "width": 2}]}', "colour"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red", "depth": 3}]}', "depth"),
        (b'{"rows": [{"height": 1, "width": 2, "colour": "red"}, {"height": 1}]}', "row 2"),
        (
            b'{"rows": [{"height": 1, "width": 2, "colour": "red"}, {"height": 1, "width": 2, "colour": 1, "x": 0}]}',
            "row 2",
        ),
        (
            b'{"rows": [{"height": 1, "width": 2, "colour": "red"}, {"height": "tall", "width": 2, "colour": "red"}]}',
            "row 2",
        ),
        (b'{"rows": [{"height": Infinity, "width": 2, "colour": "red"}]}', "row 1"),
        (b'{"columns": ["height", "width", "height"], "data": []}', "twice"),
        (b'{"columns": ["height", "width", "colour"], "data": [[1, 2]]}', "row 1"),
        (b'{"columns": ["height", "width", "colour"], "data": [[1, 2, 3], [1]], "first_row": 500}', "row 501"),
        (b'{"rows": [NaN', "json"),
        (b"\xff\xfe", "json"),
        (b"[" * 100_000, "array"),
        (b'{"rows": ' + b"[" * 100_000, "$.rows[0]"),
    ],
)
async def test_bad_json_is_refused_in_one_sentence(peer: Peer, body: bytes, words: str) -> None:
    """The sentence names the place of the fault; the peer goes on."""
    answer = await ask(peer, "/v1/predict", body)
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert words.lower() in answer.data["detail"].lower()
    assert "\n" not in answer.data["detail"]


async def test_nan_in_json_is_a_missing_value(peer: Peer) -> None:
    """Real clients send it, and its meaning is clear."""
    body = b'{"rows": [{"height": NaN, "width": 9.5, "colour": "red"}]}'
    assert (await ask(peer, "/v1/predict", body)).status == 200


async def test_bad_msgpack_is_refused(peer: Peer) -> None:
    """Truncated and garbled bytes are a 400 like bad JSON."""
    for body in (msgpack.packb(ROWS)[:-3], b"\xc1", b""):
        answer = await ask(peer, "/v1/predict", body, content_type="application/msgpack")
        assert answer.status == 400
        assert "msgpack" in answer.data["detail"]


async def test_other_content_types_are_refused(peer: Peer) -> None:
    """A form or a text is a 415 that says what to send."""
    answer = await ask(peer, "/v1/predict", b"height=1", content_type="application/x-www-form-urlencoded")
    assert answer.status == 415
    assert "application/json" in answer.data["detail"]


async def test_a_body_past_the_limit_is_refused(peer: Peer) -> None:
    """A 413 says the limit and the way out, whether or not the length was announced."""
    answer = await ask(peer, "/v1/predict", b" " * (MAX_BODY + 1))
    assert answer.status == 413
    assert "16 MiB" in answer.data["detail"]


async def test_what_is_not_there_is_a_problem_too(peer: Peer) -> None:
    """Unknown paths and wrong methods are told in the same form."""
    assert (await ask(peer, "/v2/predict")).data["status"] == 404
    assert "POST" in (await ask(peer, "/v1/predict")).data["detail"]


async def test_more_questions_than_a_peer_takes_are_told_to_come_back(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of questions answered at once is bounded."""
    monkeypatch.setattr(api_module, "MAX_AT_ONCE", 0)
    answer = await ask(peer, "/v1/predict", ROWS)
    assert answer.status == 429


async def test_health_and_readiness_are_told(peer: Peer) -> None:
    """A trained peer is healthy and ready."""
    assert (await ask(peer, "/healthz")).data == {"status": "ok", "peer": peer.id}
    assert (await ask(peer, "/readyz")).status == 200


async def test_the_peers_are_listed_with_their_models(peer: Peer) -> None:
    """One peer sees itself."""
    answer = (await ask(peer, "/v1/peers")).data
    assert (answer["cluster"], answer["asked"]) == ("here", peer.id)
    (row,) = answer["peers"]
    assert (row["id"], row["name"], row["status"], row["generation"]) == (peer.id, "part", "alive", 1)
    assert row["model"]["rows"] == 48
    assert row["model"]["metrics"]["accuracy"] > 0.5


async def test_the_openapi_document_describes_every_path(peer: Peer) -> None:
    """What is documented is there, and its references resolve."""
    document = (await ask(peer, "/openapi.json")).data
    served = {
        route.resource.canonical for route in api_module.Api(peer).application().router.routes() if route.resource
    }
    assert set(document["paths"]) == {path for path in served if not path.startswith(("/v1/peer/", "/openapi"))}
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])


async def test_an_evaluation_scores_the_held_out_rows(peer: Peer) -> None:
    """Scores, the confusion matrix and the votes of the rows that were never trained on."""
    answer = (await ask(peer, "/v1/evaluate", {})).data
    assert (answer["task"], answer["rows"], answer["votes"]["cast"]) == ("classification", 12, 1)
    assert answer["metrics"]["accuracy"] > 0.5
    assert sum(map(sum, answer["confusion_matrix"]["counts"])) == 12


async def test_given_rows_are_scored_and_add_up_over_blocks(peer: Peer) -> None:
    """Rows with the target are scored, and their statistics come on request; without the target they are refused."""
    body = {
        "columns": [*ROWS["columns"], "kind"],
        "data": [[1, 2, "red", "no"], [9, 9, "red", "no"]],
        "statistics": True,
    }
    answer = (await ask(peer, "/v1/evaluate", body)).data
    assert answer["metrics"]["accuracy"] == 0.5
    assert answer["statistics"]
    refused = await ask(peer, "/v1/evaluate", ROWS)
    assert refused.status == 400
    assert "kind" in refused.data["detail"]


async def test_a_fit_trains_anew_under_a_higher_epoch(peer: Peer) -> None:
    """The model and the epoch change together; unknown models and code are refused."""
    answer = (await ask(peer, "/v1/fit", {"model": "naive-bayes"})).data
    assert answer["epoch"] == {"counter": 1, "peer": peer.id}
    assert [row["status"] for row in answer["peers"]] == ["trained"]
    model = (await ask(peer, "/v1/peers")).data["peers"][0]["model"]
    assert (model["name"], model["epoch"]["counter"]) == ("naive-bayes", 1)
    for name in ("naive-beys", "os:system"):
        refused = await ask(peer, "/v1/fit", {"model": name})
        assert refused.status == 400
        assert name in refused.data["detail"]


async def test_garbage_on_the_streams_path_is_refused(peer: Peer) -> None:
    """Bytes that are not the protocol's change nothing."""
    answer = await ask(peer, "/v1/peer/gossip", b"\x00garbage", content_type="application/octet-stream")
    assert answer.status == 400


async def test_what_is_meant_for_another_peer_is_refused(peer: Peer) -> None:
    """An address can be taken over by a stranger, and the stranger's vote must not count."""
    stranger = Member("0" * 32, "gone", peer.address, Status.ALIVE, 1, 0)
    with pytest.raises(PeerUnreachable, match="another peer"):
        await peer.wire.get(stranger, "/v1/peer/schema")


@pytest.mark.parametrize("path", ["/v1/peer/vote", "/v1/peer/evaluate", "/v1/peer/fit"])
async def test_garbage_between_peers_is_refused(peer: Peer, path: str) -> None:
    """What claims to come from a peer is validated like all else."""
    for body in (
        b"{}",
        b'{"command": {}, "wait": true}',
        b'{"columns": {"x": [1]}}',
        b'{"combine": "mean", "seconds": -1}',
    ):
        assert (await ask(peer, path, body)).status == 400


async def test_garbage_on_the_port_leaves_the_peer_well(peer: Peer) -> None:
    """Bytes that are no HTTP are answered or dropped, and the next request is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.address[1])
    writer.write(bytes(range(256)) * 100)
    await writer.drain()
    await reader.read()
    writer.close()
    assert (await ask(peer, "/healthz")).status == 200
