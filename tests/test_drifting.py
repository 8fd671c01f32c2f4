"""Laws of drift among peers: what counts, who hears of it, when it is over, and what is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from running import call, peer_here, soon, write_part

from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import SetEntry
from p2pml.peer.alerts import DRIFT, MOST, Alert, read, write
from p2pml.peer.daemon import Peer


def moved_rows(rows: int, by: float, seed: int = 5) -> dict[str, Any]:
    """A question on rows like those of `write_part`, with heights that have moved."""
    rng = random.Random(seed)
    data = [[rng.uniform(0, 10) + by, rng.uniform(0, 10), rng.choice(["red", "blue"])] for _ in range(rows)]
    return {"columns": ["height", "width", "colour"], "data": data}


async def ask(peer: Peer, path: str, body: Any = None) -> Any:
    answer = await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", path, body)
    assert answer.status == 200, answer.data
    return answer.data if answer.content_type == "application/json" else answer.body.decode()


@asynccontextmanager
async def two_peers(folder: Path, rows: int = 400) -> AsyncIterator[tuple[Peer, Peer]]:
    async with AsyncExitStack() as stack:
        parts = [write_part(folder / f"{name}.csv", rows, seed) for seed, name in enumerate("ab")]
        a = await stack.enter_async_context(peer_here(parts[0], folder / "sa"))
        b = await stack.enter_async_context(peer_here(parts[1], folder / "sb", join=(a.address,)))
        await soon(lambda: all(len(peer.colleagues.roll().voters) == 2 for peer in (a, b)), "both vote")
        yield a, b


async def test_rows_that_have_moved_are_told_to_all_and_over_once_they_are_known(tmp_path: Path) -> None:
    """By the catalogue, the events, the metrics and `GET /v1/drift`; a fit on such rows ends it."""
    async with two_peers(tmp_path) as (a, b):
        await ask(a, "/v1/predict", moved_rows(300, 4))
        await a.drifting.look()
        await soon(b.observer.alerts, "the other one hears of it")
        (alert,) = b.observer.alerts()
        assert (alert["name"], alert["columns"], alert["rows"]) == ("a", ["height"], 300)
        events = [event for _, event in b.observer.events.missed_since(f"{b.observer.events._run}.0") or []]
        assert [event["name"] for event in events if event["kind"] == "drift"] == ["a"]
        assert b.observer.state()["alerts"] == [alert]
        page = await ask(b, "/metrics")
        assert f'p2pml_drift_columns{{id="{a.id[:12]}",peer="a"}} 1.0' in page
        assert "p2pml_drifts_total 1.0" in page
        report = await ask(b, "/v1/drift")
        assert [column["column"] for column in report["columns"] if column["moved"]] == ["height"]
        assert [(peer["name"], peer["rows"]) for peer in report["peers"]] == [
            (peer.name, 300 if peer is a else 0) for peer in sorted((a, b), key=lambda peer: peer.id)
        ]
        assert (report["alerts"], report["missing"]) == ([alert], [])

        for peer in (a, b):
            _move(peer.options.data, 4)
        await ask(a, "/v1/fit", {})
        await soon(lambda: a.colleagues.roll().absent == (), "both vote again")
        await a.drifting.look()
        await soon(lambda: not b.observer.alerts(), "it is over")
        assert [event["name"] for _, event in b.observer.events._kept if event["kind"] == "drift-over"] == ["a"]


def _move(path: Path, by: float) -> None:
    head, *lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    path.write_text("\n".join([head, *(",".join([str(float(row[0]) + by), *row[1:]]) for row in cells)]) + "\n")


async def test_a_row_counts_once_and_only_if_a_user_asked_for_its_prediction(tmp_path: Path) -> None:
    """Not at the voters, and neither evaluations nor what peers ask each other count."""
    async with two_peers(tmp_path) as (a, b):
        await soon(lambda: a.knowing.novelty and b.knowing.novelty, "they have asked each other")
        await ask(a, "/v1/evaluate", {})
        assert [peer.drifting.rows_asked for peer in (a, b)] == [0, 0]
        await ask(b, "/v1/predict", moved_rows(4, 0))
        assert (await ask(a, "/v1/drift"))["columns"] == [], "so few rows are not told"
        await ask(a, "/v1/predict", moved_rows(30, 0))
        assert [peer.drifting.rows_asked for peer in (a, b)] == [30, 4]
        assert [(await peer.drifting.lately()).rows for peer in (a, b)] == [30, 0]
        assert (await ask(b, "/v1/drift"))["rows"] == 30


async def test_without_a_profile_of_each_peer_nothing_is_raised_and_the_report_says_who_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows might be what is asked about."""
    async with two_peers(tmp_path) as (a, b):

        async def refused() -> None:
            raise BadInput("the sample is damaged")

        monkeypatch.setattr(b.drifting, "profile", refused)
        # An entry that cannot be read is passed over: another peer may write anything into its own.
        b.pump.handle(SetEntry(DRIFT, b"\xff"))
        b.pump.handle(SetEntry("seen", b""))
        await ask(a, "/v1/predict", moved_rows(300, 4))
        await a.drifting.look()
        await soon(lambda: "seen" in a.node.entries(b.id), "it came")
        assert a.observer.alerts() == []
        (missing,) = (await ask(a, "/v1/drift"))["missing"]
        assert missing["name"] == "b"
        assert "the sample is damaged" in missing["reason"]


async def test_a_peer_that_has_not_trained_knows_no_drift(tmp_path: Path) -> None:
    """It says so, to people and to peers."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer:
        where = f"127.0.0.1:{peer.address[1]}"
        if peer.voting.trained is None:
            assert (await asyncio.to_thread(call, where, "/v1/drift")).status == 503
            assert (await asyncio.to_thread(call, where, "/v1/peer/profile")).status == 400


def test_an_alert_names_some_columns_and_counts_the_rest() -> None:
    """However many there are, and however long their names are; novelty is no column."""
    alert = Alert.of(
        1.0, [("number", "x" * 4_000), *[("category", f"c{at}") for at in range(20)], ("novelty", "")], 500
    )
    assert read(write(alert)) == alert
    assert (len(alert.columns), alert.more, alert.novel) == (MOST, 13, True)
    assert len(write(alert)) < 4_096


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff",
        msgspec.msgpack.encode({"since": 1.0}),
        msgspec.msgpack.encode({"since": float("inf"), "columns": ["x"], "more": 0, "rows": 1}),
        msgspec.msgpack.encode({"since": 1.0, "columns": ["x"] * (MOST + 1), "more": 0, "rows": 1}),
        msgspec.msgpack.encode({"since": 1.0, "columns": ["x" * 999], "more": 0, "rows": 1}),
    ],
)
def test_what_is_no_alert_is_refused(bad: bytes) -> None:
    """Its bounds are those of what a peer writes."""
    with pytest.raises(RemoteError, match="not an alert"):
        read(bad)
