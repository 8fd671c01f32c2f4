"""Laws of the ensemble as programs call it."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Drop, FakePeer, Refuse, finder_of, votes
from running import peer_here, soon, write_part

from p2pml import AsyncEnsemble, Ensemble, VotesMissing
from p2pml.errors import BadInput, NoVotes
from p2pml.peer import blocks

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SCHEMA = {
    "target": "kind",
    "task": "classification",
    "target_kind": "category",
    "fields": [["height", "number"], ["colour", "category"]],
}


@pytest.fixture
def ann() -> Iterator[FakePeer]:
    with FakePeer("ann") as peer:
        peer.replies["/v1/peer/schema"] = lambda body: SCHEMA
        yield peer


@pytest.fixture
def ensemble(ann: FakePeer) -> Iterator[Ensemble]:
    with Ensemble.connect(ann.where) as connected:
        yield connected


def classified(body: dict[str, Any]) -> dict[str, Any]:
    count = len(body["data"])
    return {
        "predictions": ["no"] * count,
        "classes": ["no", "yes"],
        "probabilities": [[0.75, 0.25]] * count,
        "combine": "auto",
        "combined": "density",
        "votes": votes(2, 3, bob="connection refused"),
        "took": 0.01,
    }


def asked(peer: FakePeer) -> dict[str, list[Any]]:
    """The rows that a peer was asked about, by column."""
    bodies = peer.requests("/v1/predict")
    rows = [row for body in bodies for row in body["data"]]
    return {name: [row[at] for row in rows] for at, name in enumerate(bodies[0]["columns"])}


def loops() -> int:
    """How many ensembles have a loop of their own."""
    return sum(thread.name == "p2pml" for thread in threading.enumerate())


def test_an_answer_has_the_share_of_the_common_vote(ensemble: Ensemble, ann: FakePeer) -> None:
    """0 where it has none, as an older peer answers."""
    common = {"common": {"share": 0.3, "peers": 4, "rows": 900}}
    ann.replies["/v1/predict"] = classified
    assert ensemble.ask({"a": [1, 2]}).common == 0.0
    ann.replies["/v1/predict"] = lambda body: classified(body) | common
    assert ensemble.ask({"a": [1, 2]}).common == pytest.approx(0.3)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_travel_by_name_with_what_is_missing(ensemble: Ensemble, ann: FakePeer, library: str) -> None:
    """Texts, dates and gaps as the peers read them; neither library is needed by p2pml."""
    frames = pytest.importorskip(library)
    day = datetime(2024, 1, 2, 3)
    frame = frames.DataFrame({"height": [1.5, None], "colour": ["red", None], "new": [True, False], "day": [day, None]})
    ensemble.predict(frame)
    sent = asked(ann)
    assert sent["height"][0] == 1.5
    assert sent["height"][1] is None or sent["height"][1] != sent["height"][1]
    assert sent["new"] == [True, False]
    assert sent["day"] == ["2024-01-02T03:00:00", None]
    assert sent["colour"][0] == "red"
    assert sent["colour"][1] is None or sent["colour"][1] != sent["colour"][1]


def test_pandas_own_missing_values_are_missing(ensemble: Ensemble, ann: FakePeer) -> None:
    """Also in its nullable columns."""
    pandas = pytest.importorskip("pandas")
    ensemble.predict(pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64"), "b": pandas.array(["x", None])}))
    assert asked(ann)["a"] == [1, None]


@pytest.mark.parametrize(
    "rows",
    [
        {"height": [1, 2], "colour": ["red", None]},
        {"height": np.array([1, 2]), "colour": ("red", None)},
        [[1, "red"], [2, None]],
        np.array([[1, "red"], [2, None]], object),
    ],
)
def test_mappings_lists_and_arrays_are_the_same_table(ensemble: Ensemble, ann: FakePeer, rows: object) -> None:
    """What has no names has the columns of the peers' models, in their order."""
    assert ensemble.predict(rows).tolist() == ["1-ann", "2-ann"]
    assert asked(ann) == {"height": [1, 2], "colour": ["red", None]}


def test_names_can_be_given_to_an_array(ensemble: Ensemble, ann: FakePeer) -> None:
    """Then no peer is asked for them."""
    ensemble.predict([["red", 1]], columns=["colour", "height"])
    assert asked(ann) == {"colour": ["red"], "height": [1]}
    assert not ann.requests("/v1/peer/schema")


def test_a_frame_without_names_is_an_array(ensemble: Ensemble, ann: FakePeer) -> None:
    """As in scikit-learn."""
    pandas = pytest.importorskip("pandas")
    ensemble.predict(pandas.DataFrame([[1, "red"]]))
    assert asked(ann) == {"height": [1], "colour": ["red"]}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"height": 1}, r"a single row is \{'height': \[1\]\}"),
        ({"height": [1], "colour": []}, "holds 0 cells"),
        ({"height": [{}]}, "row 1, column 'height': .* and not dict"),
        ([1, 2], "has 1 dimensions"),
        ([[1, 2, 3]], r"3 columns, and names for 2 \('height', 'colour'\)"),
    ],
)
def test_a_table_that_is_none_is_bad_input(ensemble: Ensemble, rows: object, words: str) -> None:
    """The sentence says what to give, and nothing is sent."""
    with pytest.raises(BadInput, match=words):
        ensemble.predict(rows)


def test_an_answer_carries_its_classes_probabilities_and_votes(ensemble: Ensemble, ann: FakePeer) -> None:
    """Together in one object, so that nothing is shared between two questions."""
    ann.replies["/v1/predict"] = classified
    answer = ensemble.ask({"height": [1, 2, 3]}, combine="density", deadline=2.0)
    assert answer.values.tolist() == ["no"] * 3
    assert answer.classes is not None
    assert answer.classes.tolist() == ["no", "yes"]
    assert answer.probabilities is not None
    assert answer.probabilities.shape == (3, 2)
    assert answer.combine == "density"
    assert str(answer.votes) == "2 of 3 votes; missing: bob (connection refused)"
    (body,) = ann.requests("/v1/predict")
    assert (body["combine"], body["deadline"]) == ("density", 2.0)


def test_values_alone_warn_of_missing_votes(ensemble: Ensemble, ann: FakePeer) -> None:
    """Where the caller stands; an answer never hides that a vote is missing."""
    ann.replies["/v1/predict"] = classified
    for call in (ensemble.predict, ensemble.predict_proba):
        with pytest.warns(VotesMissing, match=r"2 of 3 votes; missing: bob \(connection refused\)") as caught:
            call({"height": [1]})
        assert caught[0].filename == __file__


def test_an_answer_says_how_sure_it_is_where_it_is_asked(ensemble: Ensemble, ann: FakePeer) -> None:
    """As arrays, infinite where there is no bound and NaN where nothing is known of novelty."""
    more = {"spread": [0.5, 0.5], "strongest": [1, 1], "novelty": None, "intervals": [[0, 2], [None, None]]}
    base = {"predictions": [1.5, 2.5], "combine": "auto", "votes": votes(), "took": 0.1}
    ann.replies["/v1/predict"] = lambda body: base | more
    answer = ensemble.ask([[1, "red"], [2, "red"]], sure=True, interval=0.9)
    assert answer.spread is not None
    assert answer.novelty is not None
    assert answer.intervals is not None
    assert answer.spread.tolist() == [0.5, 0.5]
    assert np.isnan(answer.novelty).all()
    assert answer.intervals.tolist() == [[0, 2], [-np.inf, np.inf]]
    ann.replies["/v1/predict"] = lambda body: base | {"predictions": ["x", "y"], "sets": [["x"], []]}
    assert ensemble.ask([[1, "red"], [2, "red"]], interval=0.9).sets == (("x",), ())
    assert ensemble.ask([[1, "red"], [2, "red"]]).spread is None


def test_numbers_have_no_probabilities(ensemble: Ensemble, ann: FakePeer) -> None:
    """predict_proba says so; predict gives float64."""
    ann.replies["/v1/predict"] = lambda body: {"predictions": [1.5], "combine": "mean", "votes": votes(), "took": 0.1}
    assert ensemble.predict({"height": [1]}).dtype == np.float64
    with pytest.raises(BadInput, match="target is a number"):
        ensemble.predict_proba({"height": [1]})


def test_many_rows_travel_in_blocks_and_come_back_in_order(
    ensemble: Ensemble, ann: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block says where it begins, so that an error names the caller's row."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    assert ensemble.predict({"a": list(range(10))}).tolist() == [f"{at}-ann" for at in range(10)]
    assert sorted(body.get("first_row", 1) for body in ann.requests("/v1/predict")) == [1, 5, 9]


def test_a_class_that_comes_in_between_blocks_gets_its_column(
    ensemble: Ensemble, ann: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has probability 0 in the rows before it."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1)

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        more = body["data"] != [[0]]
        classes, shares = ([1, 3], [0.5, 0.5]) if not more else ([1, 2, 3], [0.2, 0.6, 0.2])
        answer = {"predictions": [1 + more], "classes": classes, "probabilities": [shares]}
        return answer | {"combine": "mean", "votes": votes(), "took": 0.1}

    ann.replies["/v1/predict"] = reply
    assert ensemble.predict_proba({"a": [0, 1]}).tolist() == [[0.5, 0.0, 0.5], [0.2, 0.6, 0.2]]


def test_another_peer_answers_when_the_first_one_dies(ann: FakePeer) -> None:
    """An address is a door to the cluster, whose name need not be known."""
    with FakePeer("bob", cluster="houses") as bob:
        ann.cluster = "houses"
        ann.others = [bob]
        with Ensemble.connect(ann.where) as ensemble:
            ann.stop()
            assert ensemble.predict({"a": [1]}).tolist() == ["1-bob"]
            assert [row["name"] for row in ensemble.peers()] == ["bob"]


def test_a_cluster_is_found_by_its_name(ann: FakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By mDNS, as by the command line; where nobody answers, the sentence says where was looked."""
    monkeypatch.setattr("p2pml.peer.finder.find", finder_of(ann.address))
    with Ensemble.connect() as ensemble:
        assert len(ensemble.peers()) == 1
    with pytest.raises(NoVotes, match="No peer of cluster 'houses' answered, looked for by mDNS"):
        Ensemble.connect(cluster="houses")
    with pytest.raises(NoVotes, match="is of cluster 'default'"):
        Ensemble.connect(ann.where, cluster="houses")
    with pytest.raises(BadInput, match="'7733' is not HOST:PORT"):
        Ensemble.connect("7733")


def test_a_peers_refusal_is_bad_input(ensemble: Ensemble, ann: FakePeer) -> None:
    """In the peer's own words."""

    def refuse(body: object) -> object:
        raise Refuse(400, "row 1, column 'height': 'x' is not a number")

    ann.replies["/v1/predict"] = refuse
    with pytest.raises(BadInput, match="row 1, column 'height'"):
        ensemble.predict({"height": ["x"]})


def test_a_fit_is_announced_once(ensemble: Ensemble, ann: FakePeer) -> None:
    """It gives what became of each peer, and raises where none trained."""
    told = {"id": "1", "name": "ann", "status": "trained", "rows": 8}
    ann.replies["/v1/fit"] = lambda body: {"epoch": {"counter": 1, "peer": "1"}, "peers": [told], "took": 0.1}
    assert ensemble.fit("linear")["peers"][0]["status"] == "trained"
    assert ann.requests("/v1/fit") == [{"model": "linear", "wait": True}]
    told["status"] = "failed"
    with pytest.raises(NoVotes, match="No peer trained"):
        ensemble.fit()


def test_what_is_closed_says_so_and_what_is_forgotten_is_closed(ann: FakePeer) -> None:
    """No thread outlives its ensemble."""
    before = loops()
    ensemble = Ensemble.connect(ann.where)
    ensemble.close()
    ensemble.close()
    with pytest.raises(BadInput, match="connect again"):
        ensemble.peers()
    forgotten = Ensemble.connect(ann.where)
    assert loops() == before + 1
    del forgotten
    gc.collect()
    assert loops() == before


async def test_it_works_where_a_loop_runs_and_from_several_threads(ann: FakePeer) -> None:
    """As in Jupyter; answers do not mix."""
    ensemble = Ensemble.connect(ann.where)
    assert ensemble.predict({"a": [1]}).tolist() == ["1-ann"]
    answers = await asyncio.gather(*(asyncio.to_thread(ensemble.predict, {"a": [at]}) for at in range(8)))
    assert [answer.tolist() for answer in answers] == [[f"{at}-ann"] for at in range(8)]
    ensemble.close()


async def test_coroutines_await_the_same_answers(ann: FakePeer) -> None:
    """Many at once."""
    ann.replies["/v1/predict"] = classified
    async with await AsyncEnsemble.connect(ann.where) as ensemble:
        with pytest.warns(VotesMissing):
            answers = await asyncio.gather(*(ensemble.predict({"a": [1]}) for _ in range(4)))
        assert [answer.tolist() for answer in answers] == [["no"]] * 4
        with pytest.warns(VotesMissing):
            assert (await ensemble.predict_proba({"a": [1]})).tolist() == [[0.75, 0.25]]
        assert [row["name"] for row in await ensemble.peers()] == ["ann"]


async def test_a_connection_that_fails_leaves_nothing_open(ann: FakePeer) -> None:
    """Neither session nor thread: an open one would be a warning, which fails a test."""

    def drop(body: object) -> object:
        raise Drop

    ann.replies["/v1/peers"] = drop
    before = loops()
    with pytest.raises(NoVotes):
        await AsyncEnsemble.connect(ann.where)
    with pytest.raises(NoVotes):
        Ensemble.connect(ann.where)
    assert loops() <= before


async def test_a_real_peer_predicts_evaluates_and_trains(tmp_path: Path) -> None:
    """On every form of rows alike, and its scores on given rows are those of its predictions."""
    part = write_part(tmp_path / "part.csv", rows=80)
    async with peer_here(part, tmp_path / "state") as peer:
        await soon(lambda: peer.why_not_ready() is None, "the model is there")
        async with await AsyncEnsemble.connect(f"127.0.0.1:{peer.address[1]}") as ensemble:
            table = {"colour": ["red", "blue", None], "height": [1.0, 9.0, 9.5], "width": [1, 9, 8]}
            answer = await ensemble.ask(table)
            assert answer.values.tolist() == ["no", "yes", "yes"]
            assert (answer.votes.cast, answer.votes.expected) == (1, 1)
            array = [[1.0, 1, "red"], [9.0, 9, "blue"], [9.5, 8, None]]
            assert (await ensemble.predict(array)).tolist() == ["no", "yes", "yes"]
            given = await ensemble.evaluate(array, ["no", "yes", "no"])
            assert given.scores["accuracy"] == pytest.approx(2 / 3)
            assert given.confusion_matrix is not None
            assert given.confusion_matrix.tolist() == [[1, 1], [0, 1]]
            same = await ensemble.evaluate(table | {"kind": ["no", "yes", "no"]})
            assert same.scores == given.scores
            held_out = await ensemble.evaluate()
            assert held_out.rows == 16
            with pytest.raises(BadInput, match="y has 2 values"):
                await ensemble.evaluate(array, ["no", "yes"])
            with pytest.raises(BadInput, match="y and no X"):
                await ensemble.evaluate(y=["no"])
            fitted = await ensemble.fit("linear")
            assert [row["status"] for row in fitted["peers"]] == ["trained"]
            (row,) = await ensemble.peers()
            assert (row["model"] or {})["name"] == "linear"


HOUSES = "rooms,area,district,price\n" + "".join(
    f"{2 + at % 5},{40 + 3 * at},{('north', 'south')[at % 2]},{100_000 + 9_000 * at}\n" for at in range(40)
)


async def test_the_readmes_python_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block, one after the other, as a reader would type them; a peer of that cluster lives."""
    assert "Ensemble.connect(" in EXAMPLES[0]
    assert "AsyncEnsemble.connect(" in "".join(EXAMPLES)
    assert "GossipClassifier(" in "".join(EXAMPLES)
    (tmp_path / "houses.csv").write_text(HOUSES)
    async with peer_here(tmp_path / "houses.csv", tmp_path / "state", cluster="houses") as peer:
        await soon(lambda: peer.why_not_ready() is None, "the model is there")
        monkeypatch.setattr("p2pml.peer.finder.find", finder_of(("127.0.0.1", peer.address[1])))
        names: dict[str, Any] = {"__name__": "__main__"}
        for block in EXAMPLES:
            # In a thread, as a program of its own, while the peer lives in this loop.
            await asyncio.to_thread(exec, compile(block, "README.md", "exec"), names)
        assert len(names["prices"]) == 2
        names["ensemble"].close()
        del names
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gc.collect()
