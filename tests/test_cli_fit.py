from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Drop, FakePeer, Shell, finder_of


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, peer: FakePeer) -> Shell:
    for name in ("HOST", "JOIN", "CLUSTER", "PEER"):
        monkeypatch.delenv(f"P2PML_{name}", raising=False)
    monkeypatch.setattr("p2pml.peer.finder.find", finder_of(peer.address))
    return Shell(capsys)


def outcome(peer: FakePeer, *rows: dict[str, Any]) -> dict[str, Any]:
    answer = {"epoch": {"counter": 7, "peer": "a" * 32}, "peers": list(rows), "took": 1.25}
    peer.replies["/v1/fit"] = lambda body: answer
    return answer


ANN = {"id": "a" * 32, "name": "ann", "status": "trained", "rows": 1200, "took": 1.5, "metrics": {"r2": 0.5}}
BOB = {"id": "b" * 32, "name": "bob", "status": "failed", "reason": "the file is gone"}


def test_every_peer_is_told_to_train_and_waited_for(shell: Shell, peer: FakePeer) -> None:
    """What became of each is a line, and the epoch is in the summary."""
    outcome(peer, ANN, BOB)
    done = shell("fit")
    assert done.code == 0
    assert peer.requests("/v1/fit") == [{"wait": True}]
    assert done.out.splitlines()[1].split() == ["ann", "trained", "1,200", "1.5"]
    assert "the file is gone" in done.out.splitlines()[2]
    assert "1 of 2 peers trained in epoch 7" in done.err


def test_the_model_and_not_waiting_travel(shell: Shell, peer: FakePeer) -> None:
    """With --no-wait a fit that has started is a success."""
    outcome(peer, ANN | {"status": "started"})
    done = shell("fit", "--model", "knn", "--no-wait")
    assert done.code == 0
    assert peer.requests("/v1/fit") == [{"model": "knn", "wait": False}]
    assert "1 of 1 peers started to train in epoch 7" in done.err


def test_json_is_the_peers_answer_itself(shell: Shell, peer: FakePeer) -> None:
    """Nothing is added and nothing left out."""
    answer = outcome(peer, ANN, BOB)
    assert json.loads(shell("fit", "--json").out) == answer


def test_a_fit_in_which_nobody_trained_exits_1(shell: Shell, peer: FakePeer) -> None:
    """The table says why, and the code says that it failed."""
    outcome(peer, BOB)
    done = shell("fit")
    assert done.code == 1
    assert "the file is gone" in done.out
    assert "No peer trained" in done.err


def test_a_peer_that_falls_silent_in_mid_fit_is_not_replaced(
    shell: Shell, peer: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others know of the fit already; asking one of them would be a second fit."""

    def drop(body: object) -> object:
        raise Drop

    peer.replies["/v1/fit"] = drop
    with FakePeer("bob") as bob:
        monkeypatch.setattr("p2pml.peer.finder.find", finder_of(peer.address, bob.address))
        done = shell("fit")
        assert not bob.requests("/v1/fit")
    assert done.code == 1
    assert "The fit may go on without it" in done.err


def test_a_peer_that_was_silent_before_the_fit_is_passed_over(
    shell: Shell, peer: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked of it yet."""

    def drop(body: object) -> object:
        raise Drop

    peer.replies["/v1/peers"] = drop
    with FakePeer("bob") as bob:
        outcome(bob, ANN)
        monkeypatch.setattr("p2pml.peer.finder.find", finder_of(peer.address, bob.address))
        assert shell("fit").code == 0
        assert bob.requests("/v1/fit")
