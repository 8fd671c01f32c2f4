from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from fakes import Drop, FakePeer, Refuse, votes

from p2pml.errors import BadInput, NoVotes, PeerUnreachable, RemoteError
from p2pml.peer import client
from p2pml.peer.client import PeerClient


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


async def predict(peer: FakePeer, **settings: Any) -> Any:
    async with PeerClient(peer.address) as asked:
        return await asked.predict({"a": ["1", "2"]}, **settings)


async def test_a_block_of_rows_travels_as_it_is_and_comes_back_as_predictions(peer: FakePeer) -> None:
    """What was asked for arrives, and what was left open is left out, so that the peer decides."""
    answer = await predict(peer, proba=False)
    assert answer["predictions"] == ["1-ann", "2-ann"]
    assert peer.asked == [("/v1/predict", {"columns": ["a"], "data": [["1"], ["2"]], "proba": False})]


async def test_options_and_the_number_of_the_first_row_travel(peer: FakePeer) -> None:
    """A deadline, a rule, and where in a file the rows stand are part of the question."""
    await predict(peer, combine="median", deadline=2.5, first_row=501)
    (body,) = peer.requests("/v1/predict")
    assert (body["combine"], body["deadline"], body["first_row"]) == ("median", 2.5, 501)


async def test_what_a_newer_peer_says_besides_is_handed_on(peer: FakePeer) -> None:
    """Unknown parts of an answer are neither an error nor lost."""
    peer.replies["/v1/evaluate"] = lambda body: {
        "task": "regression", "rows": 2, "combine": "mean", "metrics": {"r2": 0.5}, "votes": votes(), "took": 0.1,
        "news": 1,
    }  # fmt: skip
    async with PeerClient(peer.address) as asked:
        answer: Any = await asked.evaluate()
    assert answer["news"] == 1
    assert peer.requests("/v1/evaluate") == [{}]


async def test_json_is_understood_as_well(peer: FakePeer) -> None:
    """The answer is read by its own content type."""
    peer.replies["/v1/fit"] = lambda body: web.json_response(
        {"epoch": {"counter": 1, "peer": "a"}, "peers": [], "took": 0.0}
    )
    async with PeerClient(peer.address) as asked:
        assert (await asked.fit("knn", wait=False))["epoch"]["counter"] == 1
    assert peer.requests("/v1/fit") == [{"model": "knn", "wait": False}]


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 415, 422])
async def test_a_refusal_is_bad_input_with_the_peers_sentence(peer: FakePeer, status: int) -> None:
    """What is wrong with the input is said by whoever looked at it."""

    def refuse(body: object) -> object:
        raise Refuse(status, "row 3 is short")

    peer.replies["/v1/predict"] = refuse
    with pytest.raises(BadInput, match=r"^row 3 is short$"):
        await predict(peer)


async def test_unavailable_means_no_votes(peer: FakePeer) -> None:
    """Status 503 is how a peer says that no vote was cast."""

    def refuse(body: object) -> object:
        raise Refuse(503, "no peer has a model")

    peer.replies["/v1/predict"] = refuse
    with pytest.raises(NoVotes, match="no peer has a model"):
        await predict(peer)


@pytest.mark.parametrize("status", [429, 500, 504])
async def test_any_other_failure_is_the_peers(peer: FakePeer, status: int) -> None:
    """A peer that is broken or busy is a remote error, and the sentence says which peer."""

    def refuse(body: object) -> object:
        raise Refuse(status, "too much")

    peer.replies["/v1/predict"] = refuse
    with pytest.raises(RemoteError, match=rf"^{peer.where}: too much$"):
        await predict(peer)


async def test_control_characters_of_a_complaint_are_taken_out(peer: FakePeer) -> None:
    """Another machine wrote the sentence, and a terminal would obey it."""

    def refuse(body: object) -> object:
        raise Refuse(400, "\x1b[2Jgone" + "x" * 5000)

    peer.replies["/v1/predict"] = refuse
    with pytest.raises(BadInput) as refusal:
        await predict(peer)
    assert str(refusal.value).startswith(" [2Jgone")
    assert len(str(refusal.value)) == client.MAX_DETAIL


STRANGE = {
    "a page": web.Response(text="<html>", content_type="text/html"),
    "not msgpack": web.Response(body=b"\xc1", content_type="application/msgpack"),
    "a deep nest": web.Response(body=b"[" * 100_000, content_type="application/json"),
    "a page that is not there": web.Response(status=404, text="[]", content_type="application/json"),
    "a problem without a word": web.Response(status=400, text="{}", content_type="application/problem+json"),
    "a redirect": web.Response(status=302, headers={"Location": "/v1/peers"}, text="{}"),
    "nothing": web.Response(),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_whatever_else_lives_at_the_port_is_a_remote_error(peer: FakePeer, what: str) -> None:
    """No answer, however strange, raises anything else, and no redirect is followed."""
    strange = STRANGE[what]
    peer.replies["/v1/predict"] = lambda body: web.Response(
        status=strange.status, body=strange.body, headers=strange.headers
    )
    with pytest.raises(RemoteError, match=peer.where):
        await predict(peer)
    assert len(peer.asked) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"predictions": ["1"]},
        {"predictions": "12"},
        {"predictions": [["1"], ["2"]]},
        {"votes": {"cast": "1", "expected": 1, "missing": []}},
        {"votes": None},
        {"classes": ["a", "b"], "probabilities": [[0.5, 0.5]]},
        {"classes": ["a", "b"], "probabilities": [[0.5, 0.5], [1.0]]},
        {"classes": ["a", "b"], "probabilities": [[0.5, "x"], [0.5, 0.5]]},
        {"classes": ["a", "b"]},
    ],
)
async def test_an_answer_of_another_shape_is_a_remote_error(peer: FakePeer, wrong: dict[str, Any]) -> None:
    """Counts and types are checked before anything is done with an answer."""
    good = {"predictions": ["1", "2"], "combine": "mean", "votes": votes(), "took": 0.1}
    peer.replies["/v1/predict"] = lambda body: good | wrong
    with pytest.raises(RemoteError, match=peer.where):
        await predict(peer, proba=True)


async def test_an_answer_past_the_limit_is_cut_off(peer: FakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer can fill the caller's memory."""
    monkeypatch.setattr(client, "MAX_ANSWER", 2**20)
    peer.replies["/v1/predict"] = lambda body: web.Response(body=b"x" * (2**20 + 1))
    with pytest.raises(RemoteError, match="more than 1 MiB"):
        await predict(peer)


async def test_a_peer_that_breaks_off_is_unreachable(peer: FakePeer) -> None:
    """A connection that is lost in mid-answer is no different from one that was never made."""

    def drop(body: object) -> object:
        raise Drop

    peer.replies["/v1/predict"] = drop
    with pytest.raises(PeerUnreachable, match=f"{peer.where} broke off"):
        await predict(peer)


async def test_a_closed_port_is_unreachable() -> None:
    """A refused connection says so, with the address."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with PeerClient(bound.getsockname()) as asked:
            with pytest.raises(PeerUnreachable, match=r"127.0.0.1:\d+ cannot be reached: connection refused"):
                await asked.peers()


async def test_a_silent_peer_is_unreachable_after_the_deadline(peer: FakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller waits for the deadline and a margin, and no longer."""
    import threading

    never = threading.Event()
    peer.replies["/v1/predict"] = lambda body: never.wait(30)
    monkeypatch.setattr(client, "MARGIN", 0.05)
    with pytest.raises(PeerUnreachable, match=r"did not answer within 0.1 s"):
        await predict(peer, deadline=0.05)
    never.set()


async def test_no_proxy_of_the_environment_is_asked(peer: FakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go to the peer and nowhere else."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await predict(peer))["predictions"] == ["1-ann", "2-ann"]


async def test_connections_leave_from_the_interface_that_was_named(peer: FakePeer) -> None:
    """An address that no interface has makes the peer unreachable, so nothing leaves by another way."""
    async with PeerClient(peer.address, host="203.0.113.77") as asked:
        with pytest.raises(PeerUnreachable):
            await asked.peers()
    async with PeerClient(peer.address, host="127.0.0.1") as asked:
        assert (await asked.peers())["cluster"] == "default"


async def test_one_peers_own_vote_can_be_asked_for(peer: FakePeer) -> None:
    """The vote comes as the peer casts it for others."""
    ballot = {"vote": {"classes": None}, "rows": 12, "model": "abc"}
    peer.replies["/v1/peer/vote"] = lambda body: ballot
    async with PeerClient(peer.address) as asked:
        assert await asked.vote({"a": [1, 2]}) == ballot
    assert peer.requests("/v1/peer/vote") == [{"columns": {"a": [1, 2]}}]
