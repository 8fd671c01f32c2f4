"""Laws of `p2pml drift`: what has moved stands first, with how far and from what to what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakePeer, Refuse, Shell


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, peer: FakePeer) -> Shell:
    monkeypatch.setenv("P2PML_PEER", peer.where)
    return Shell(capsys)


def side(median: float | None = None, share: float | None = None, missing: float = 0.0) -> dict[str, Any]:
    return {"median": median, "share": share, "missing": missing}


def column(name: str, **more: Any) -> dict[str, Any]:
    known = {"column": name, "kind": "number", "moved": False, "distance": 0.04, "p": 1.0, "level": None}
    return known | {"asked": side(2.5), "known": side(2.0)} | more


REPORT: dict[str, Any] = {
    "rows": 1_200,
    "different": 1_100.4,
    "columns": [
        column("area"),
        column(
            "colour",
            kind="category",
            moved=True,
            p=1e-4,
            level="red",
            asked=side(None, 0.4, 0.1),
            known=side(None, 0.125),
        ),
        column("rooms", moved=True, distance=0.31, p=1e-20),
        column("floor", asked=side(), known=side()),
    ],
    "peers": [
        {"id": "b" * 32, "name": "bob", "rows": 1_200, "share": 0.9},
        {"id": "c" * 32, "name": "cyd", "rows": 0, "share": 0.1},
    ],
    "alerts": [
        {"peer": "b" * 32, "name": "bob", "since": 9.0, "columns": ["rooms"], "more": 2, "rows": 500, "novel": True}
    ],
    "missing": [{"peer": "d" * 32, "name": "dan", "reason": "connection refused"}],
    "took": 0.1,
}


def test_what_has_moved_stands_first(shell: Shell, peer: FakePeer) -> None:
    """With its distance, its p, and what is usual on both sides."""
    peer.replies["/v1/drift"] = lambda _: REPORT
    done = shell("drift")
    assert done.code == 0
    head, first, second, *rest = done.out.splitlines()
    assert head.split() == ["column", "moved", "distance", "p", "asked", "about", "known"]
    assert first.split() == ["rooms", "yes", "0.3100", "<", "1e-9", "2.5", "2"]
    assert second.split()[:4] == ["colour", "yes", "0.0400", "0.0001"]
    assert "red 40%, 10% missing  red 12%" in second
    assert [line.split()[0] for line in rest] == ["area", "floor"]
    assert "dan is missing: connection refused" in done.err
    assert "bob has raised an alert for rooms, 2 more, novelty" in done.err
    assert "2 of 4 columns moved in 1,200 rows, worth 1,100 different ones" in done.err
    assert "most like those of 90% bob, 10% cyd" in done.err


def test_json_is_the_peers_answer_itself(shell: Shell, peer: FakePeer) -> None:
    """Nothing is added and nothing left out."""
    peer.replies["/v1/drift"] = lambda _: REPORT | {"news": 1}
    done = shell("drift", "--json")
    assert json.loads(done.out) == REPORT | {"news": 1}
    assert done.err == ""


def test_where_nobody_was_asked_there_is_nothing_to_compare(shell: Shell, peer: FakePeer) -> None:
    """Which is no failure; a peer that has not trained is one."""
    peer.replies["/v1/drift"] = lambda _: REPORT | {"rows": 0, "columns": [], "alerts": [], "missing": []}
    done = shell("drift")
    assert (done.code, done.out) == (0, "")
    assert "nothing to compare" in done.err

    def refused(_: object) -> None:
        raise Refuse(503, "no peer has told what its training rows are like yet")

    peer.replies["/v1/drift"] = refused
    assert shell("drift").code == 1
