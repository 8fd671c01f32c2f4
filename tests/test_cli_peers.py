from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fakes import FakePeer, Shell


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, peer: FakePeer) -> Shell:
    monkeypatch.setenv("P2PML_PEER", peer.where)
    return Shell(capsys)


MODEL = {
    "name": "random-forest",
    "state": "ready",
    "reason": None,
    "task": "regression",
    "rows": 12_345,
    "epoch": {"counter": 3, "peer": "a" * 32},
    "metrics": {"mean_absolute_error": 2.0, "r2": 0.87654},
}


def cluster(peer: FakePeer, *rows: dict[str, object]) -> dict[str, object]:
    """What the peer answers: itself and these."""
    base = {"id": "b" * 32, "name": "bob", "address": "10.0.0.5:7733", "status": "alive", "generation": 2}
    answer: dict[str, object] = {"cluster": "default", "asked": "b" * 32, "peers": [base | row for row in rows]}
    peer.replies["/v1/peers"] = lambda body: answer
    return answer


def test_json_is_the_peers_answer_itself(shell: Shell, peer: FakePeer) -> None:
    """Nothing is added and nothing left out."""
    answer = cluster(peer, {"model": MODEL, "news": 1})
    done = shell("peers", "--json")
    assert json.loads(done.out) == answer
    assert done.err == ""


def test_each_peer_has_a_line(shell: Shell, peer: FakePeer) -> None:
    """With its status, model, rows, epoch and the score that people ask for; the asked one has a star."""
    cluster(peer, {"model": MODEL}, {"id": "c" * 32, "name": "cyd", "status": "dead", "model": None})
    done = shell("peers")
    head, bob, cyd = done.out.splitlines()
    assert head.split() == ["peer", "status", "address", "model", "rows", "replicas", "epoch", "r2"]
    for words in ("bob *", "alive", "10.0.0.5:7733", "random-forest", "12,345", "0.8765"):
        assert words in bob
    assert cyd.split()[:2] == ["cyd", "dead"]
    assert "1 of 2 peers of cluster default are alive" in done.err


@pytest.mark.parametrize(
    ("status", "words"), [("suspect", "does not answer"), ("dead", "until it is started again"), ("alive", "")]
)
def test_what_a_status_means_is_said(shell: Shell, peer: FakePeer, status: str, words: str) -> None:
    """Whoever reads that a peer is suspect or dead reads what that means, and what to do."""
    cluster(peer, {"status": status})
    notes = [line for line in shell("peers").err.splitlines() if line.startswith("p2pml: bob: ")]
    assert len(notes) == bool(words)
    assert words in "".join(notes)


def test_a_classification_shows_its_accuracy_and_no_metrics_show_a_dash(shell: Shell, peer: FakePeer) -> None:
    """Nothing is made up where a part has no held-out rows."""
    cluster(peer, {"model": MODEL | {"metrics": {"accuracy": 0.5}}}, {"model": MODEL | {"metrics": {}}})
    head, with_score, without = shell("peers").out.splitlines()
    assert head.endswith("accuracy")
    assert with_score.endswith("0.5000")
    assert without.endswith("–")


def test_why_a_model_takes_no_part_is_said(shell: Shell, peer: FakePeer) -> None:
    """The reason is not part of the result's lines."""
    cluster(peer, {"model": MODEL | {"state": "incompatible", "reason": "column 'a' is a date here"}})
    done = shell("peers")
    assert "alive, incompatible" in done.out
    assert "p2pml: bob: column 'a' is a date here\n" in done.err


def test_names_cannot_steer_the_terminal(shell: Shell, peer: FakePeer) -> None:
    """Another machine chose them."""
    cluster(peer, {"name": "\x1b[2J\nbob"})
    assert "\x1b" not in shell("peers").out
