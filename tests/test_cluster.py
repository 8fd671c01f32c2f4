"""Laws of several peers together, each a whole daemon in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import ROWS, Answer, call, peer_here, soon, write_part

from p2pml.peer.daemon import Peer


@asynccontextmanager
async def peers_here(
    folder: Path, parts: list[Path], options: list[dict[str, Any]] | None = None, voting: int | None = None
) -> AsyncIterator[list[Peer]]:
    """Peers that joined through the first one, once `voting` of them (all, by default) are seen to vote by each."""
    async with AsyncExitStack() as stack:
        peers: list[Peer] = []
        for number, part in enumerate(parts):
            join = (peers[0].address,) if peers else ()
            more = options[number] if options else {}
            peers.append(
                await stack.enter_async_context(peer_here(part, folder / f"state{number}", **({"join": join} | more)))
            )
        count = len(parts) if voting is None else voting
        await soon(lambda: all(votes(peer) >= count for peer in peers), f"every peer sees {count} voters")
        yield peers


def votes(peer: Peer) -> int:
    return sum(c.live and c.summary is not None and c.summary.voting for c in peer.colleagues.all())


async def ask(peer: Peer, path: str, body: Any = None) -> Answer:
    return await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", path, body)


async def test_eight_peers_give_one_answer(tmp_path: Path) -> None:
    """Whoever is asked, whatever the rule, the answers are equal."""
    models = ["decision-tree", "linear", "naive-bayes", "knn"] * 2
    parts = [write_part(tmp_path / f"p{seed}.csv", rows=40 + 10 * seed, seed=seed) for seed in range(8)]
    async with peers_here(tmp_path, parts, [{"model": model} for model in models]) as peers:
        for rule in ("mean", "median", "weighted"):
            answers = [(await ask(peer, "/v1/predict", ROWS | {"proba": True, "combine": rule})).data for peer in peers]
            assert {answer["votes"]["cast"] for answer in answers} == {8}
            first = np.array(answers[0]["probabilities"])
            for answer in answers[1:]:
                assert answer["predictions"] == answers[0]["predictions"]
                assert np.abs(np.array(answer["probabilities"]) - first).max() <= 1e-12


async def test_a_part_of_one_class_votes_for_what_it_knows_and_says_so(tmp_path: Path) -> None:
    """The answer has the union of the classes, and the peer's note is there for all to read."""
    parts = [
        write_part(tmp_path / "both.csv", seed=1),
        write_part(tmp_path / "one.csv", seed=2, classes=("maybe",)),
    ]
    async with peers_here(tmp_path, parts) as peers:
        answer = (await ask(peers[0], "/v1/predict", ROWS | {"proba": True})).data
        assert answer["classes"] == ["maybe", "no", "yes"]
        assert all(row[0] == pytest.approx(0.5) for row in answer["probabilities"])
        rows = {row["name"]: row for row in (await ask(peers[0], "/v1/peers")).data["peers"]}
        assert "maybe" in rows["one"]["model"]["reason"]


async def test_a_schema_that_does_not_fit_takes_no_part_and_names_the_column(tmp_path: Path) -> None:
    """The others answer without it, and say which column differs; the misfit itself still answers for all."""
    good = [write_part(tmp_path / f"p{seed}.csv", seed=seed) for seed in range(2)]
    odd = tmp_path / "odd.csv"
    odd.write_text(write_part(tmp_path / "x.csv", seed=3).read_text().replace("width", "breadth"))
    async with peers_here(tmp_path, [*good, odd]) as peers:
        await soon(lambda: all(len(peer.colleagues.roll().absent) == 1 for peer in peers), "the misfit is known")
        for peer in peers:
            answer = (await ask(peer, "/v1/predict", ROWS)).data
            assert (answer["votes"]["cast"], answer["votes"]["expected"]) == (2, 3)
            (missing,) = answer["votes"]["missing"]
            assert missing["name"] == "odd"
            assert "width" in missing["reason"] or "breadth" in missing["reason"]
        assert (await ask(peers[2], "/readyz")).status == 503
        rows = {row["name"]: row for row in (await ask(peers[0], "/v1/peers")).data["peers"]}
        assert rows["odd"]["model"]["state"] == "incompatible"


async def test_clusters_never_mix(tmp_path: Path) -> None:
    """A peer of another cluster that is told our address stays alone, and so do we."""
    parts = [write_part(tmp_path / f"p{seed}.csv", seed=seed) for seed in range(2)]
    async with peers_here(tmp_path, parts, [{}, {"cluster": "elsewhere"}], voting=1) as (ours, theirs):
        await soon(lambda: any("cluster" in name for name in ours.node.counters), "their greeting was refused")
        assert [row["name"] for row in ours.peers()["peers"]] == ["p0"]
        assert [row["name"] for row in theirs.peers()["peers"]] == ["p1"]


async def test_two_peers_of_one_name_are_two_peers(tmp_path: Path) -> None:
    """A name is for people; both vote."""
    (tmp_path / "other").mkdir()
    parts = [write_part(tmp_path / "same.csv", seed=1), write_part(tmp_path / "other" / "same.csv", seed=2)]
    async with peers_here(tmp_path, parts) as peers:
        assert len(peers[0].peers()["peers"]) == 2
        assert (await ask(peers[0], "/v1/predict", ROWS)).data["votes"]["cast"] == 2


async def test_mdns_brings_peers_together_on_the_loopback(tmp_path: Path) -> None:
    """Two peers that were told nothing of each other meet, and a stranger's cluster stays a stranger's."""
    parts = [write_part(tmp_path / f"p{seed}.csv", seed=seed) for seed in range(3)]
    told: list[dict[str, Any]] = [{"mdns": True, "join": (), "cluster": f"mdns-{tmp_path.name}"} for _ in parts]
    told[2]["cluster"] += "-other"
    async with peers_here(tmp_path, parts, told, voting=1) as peers:
        await soon(lambda: all(votes(peer) == 2 for peer in peers[:2]), "the two met")
        assert votes(peers[2]) == 1


async def test_an_evaluation_is_what_scikit_learn_says_of_the_pooled_rows(tmp_path: Path) -> None:
    """The statistics of all peers add up to the score of the pooled held-out rows and votes."""
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    from p2pml.ensemble.holdout import split
    from p2pml.peer.table import read_table

    parts = [write_part(tmp_path / f"p{seed}.csv", rows=50 + seed, seed=seed) for seed in range(3)]
    async with peers_here(tmp_path, parts, [{"model": "naive-bayes"}] * 3) as peers:
        report = (await ask(peers[1], "/v1/evaluate", {"combine": "weighted"})).data
        truth, probabilities, predictions = [], [], []
        for part in parts:
            table = read_table(part)
            _, held_out = split(table.rows, 0.2, 0)
            data = [[table.columns[name][i] for name in ROWS["columns"]] for i in held_out]
            body = {"columns": ROWS["columns"], "data": data, "proba": True, "combine": "weighted"}
            answer = (await ask(peers[0], "/v1/predict", body)).data
            truth += [table.columns["kind"][i] for i in held_out]
            predictions += answer["predictions"]
            probabilities += answer["probabilities"]
    assert (report["votes"]["cast"], report["rows"]) == (3, len(truth))
    metrics = report["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predictions), abs=1e-9)
    assert metrics["f1_macro"] == pytest.approx(f1_score(truth, predictions, average="macro"), abs=1e-9)
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, probabilities), abs=1e-9)


async def test_a_restart_trains_anew_only_where_something_changed(tmp_path: Path) -> None:
    """Same part and options: the model from disk; another option: a new one; a damaged file: a new one."""
    part, state = write_part(tmp_path / "p.csv"), tmp_path / "state"

    async def digest(**options: Any) -> tuple[str, int]:
        async with peer_here(part, state, **options) as peer:
            await soon(lambda: peer.why_not_ready() is None, "it is ready")
            assert peer.voting.trained is not None
            return peer.voting.trained.digest, peer.node.me.generation

    first, generation = await digest()
    written = (state / f"arrays-{first}").stat().st_mtime_ns
    assert await digest() == (first, generation + 1)
    assert (state / f"arrays-{first}").stat().st_mtime_ns == written
    other, _ = await digest(seed=5)
    assert other != first
    (state / f"arrays-{other}").write_bytes(b"damaged")
    again, _ = await digest(seed=5)
    assert again == other
    assert list(state.glob("*.corrupt"))


async def test_without_held_out_rows_there_is_nothing_to_evaluate_but_a_file(tmp_path: Path) -> None:
    """The sentence says what to do."""
    async with peers_here(tmp_path, [write_part(tmp_path / "a.csv")], [{"holdout": 0.0}]) as (peer,):
        answer = await ask(peer, "/v1/evaluate", {})
    assert answer.status == 503
    assert "evaluate on a file instead" in answer.data["detail"]


async def test_a_peer_that_is_closed_amid_news_ends(tmp_path: Path) -> None:
    """News that comes together with the end does not keep a peer alive."""
    async with peer_here(write_part(tmp_path / "p.csv"), tmp_path / "state") as peer:
        await asyncio.sleep(0)
        peer.knowing.nudge()
