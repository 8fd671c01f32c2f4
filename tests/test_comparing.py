"""Laws of comparisons: each rule's score is that of its answers, however rows are cut, and intervals hold it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from running import call, peer_here, soon, write_part
from sklearn.metrics import accuracy_score, auc, log_loss, mean_absolute_error, r2_score

from p2pml.ensemble.combine import Answer, combine
from p2pml.ensemble.comparing import DRAWS, Comparison
from p2pml.ensemble.metrics import ClassificationStatistics
from p2pml.ensemble.tallies import Tally
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, NoVotes, RemoteError
from p2pml.peer.asking import ALL_RULES
from p2pml.peer.comparing import read_part
from p2pml.peer.curves import calibration, curves, roc


def numbers(rows: int, seed: int = 0, noise: float = 1.0) -> tuple[Any, Answer]:
    rng = np.random.default_rng(seed)
    truth = 1e6 + rng.normal(size=rows)
    return truth, combine([("a", Vote(None, truth + noise * rng.normal(size=rows)), 1)])


def classes(rows: int, seed: int = 0) -> tuple[Any, Answer]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(["no", "yes"], rows).astype(object)
    share = np.clip(0.5 + 0.3 * (truth == "yes") - 0.15 + rng.normal(0, 0.2, rows), 0.01, 0.99)
    return truth, combine([("a", Vote(("no", "yes"), np.column_stack([1 - share, share])), 1)])


def test_scores_are_those_of_scikit_learn_however_the_rows_are_cut() -> None:
    """Parts add up, for numbers far from 0 too."""
    truth, answer = numbers(500)
    cut = [Comparison.of("regression", truth[s], {"mean": answer.part(s.start, s.stop)}, (1,)) for s in _thirds()]
    scores = cut[0].merge(cut[1]).merge(cut[2]).scores("mean")
    predicted = np.asarray(answer.predictions)
    assert scores["r2"].value == pytest.approx(r2_score(truth, predicted), abs=1e-9)
    assert scores["mean_absolute_error"].value == pytest.approx(mean_absolute_error(truth, predicted), abs=1e-9)
    labels, said = classes(500)
    parts = [Comparison.of("classification", labels[s], {"mean": said.part(s.start, s.stop)}, (1,)) for s in _thirds()]
    scores = parts[2].merge(parts[0]).merge(parts[1]).scores("mean")
    assert scores["accuracy"].value == pytest.approx(accuracy_score(labels.tolist(), said.predictions))
    assert scores["log_loss"].value == pytest.approx(log_loss(labels.tolist(), said.probabilities))


def _thirds() -> list[slice]:
    return [slice(0, 100), slice(100, 350), slice(350, 500)]


def test_an_interval_holds_the_score_that_more_rows_have_about_95_times_in_100() -> None:
    """Of 80 samples of 200 rows, between 85 and 100 %."""
    truth, answer = numbers(200_000)
    true = r2_score(truth, np.asarray(answer.predictions))
    held = 0
    for at in range(80):
        rows = slice(at * 200, at * 200 + 200)
        found = Comparison.of("regression", truth[rows], {"x": answer.part(rows.start, rows.stop)}, (at,)).scores("x")
        low, high = found["r2"].low, found["r2"].high
        assert low is not None
        assert high is not None
        held += low <= true <= high
    assert 68 <= held <= 80


def test_rules_are_drawn_alike_and_parts_apart() -> None:
    """So rules differ by their answers alone, and two parts do not share their luck."""
    truth, answer = numbers(50)
    both = Comparison.of("regression", truth, {"a": answer, "b": answer}, (1, 0))
    assert (both.sums[0] == both.sums[1]).all()
    other = Comparison.of("regression", truth, {"a": answer}, (2, 0))
    assert (other.sums[0, 1:, 0] != both.sums[0, 1:, 0]).any()


def test_who_voted_in_some_parts_alone_is_scored_on_these() -> None:
    """And says on how many rows; rows without a truth do not count."""
    truth, answer = numbers(50)
    truth[:10] = np.nan
    one = Comparison.of("regression", truth, {"a": answer, "b": answer}, (1,))
    both = one.merge(Comparison.of("regression", truth, {"a": answer}, (2,)))
    assert (both.rows("a"), both.rows("b")) == (80, 40)
    assert both.scores("b")["r2"].value == pytest.approx(one.scores("b")["r2"].value)


def test_a_score_that_is_not_defined_is_none() -> None:
    """Of no rows, and R² of a truth that is constant; a class that nobody knows is only missed."""
    _, answer = numbers(5)
    assert Comparison.of("regression", np.full(5, np.nan), {"a": answer}, (1,)).scores("a")["r2"].value is None
    assert Comparison.of("regression", np.full(5, 2.0), {"a": answer}, (1,)).scores("a")["r2"].value is None
    _, said = classes(3)
    found = Comparison.of("classification", np.array(["maybe"] * 3, object), {"a": said}, (1,)).scores("a")
    assert found["accuracy"].value == 0
    assert found["log_loss"].value == pytest.approx(36.04, abs=0.01)


GOOD = Comparison.of("regression", numbers(9)[0], {"a": numbers(9)[1]}, (1,)).to_data()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        GOOD | {"task": "else"},
        GOOD | {"names": ["b", "a"]},
        GOOD | {"names": [7]},
        GOOD | {"sums": b""},
        GOOD | {"sums": np.full((1, 1 + DRAWS, 5), np.nan).tobytes()},
        GOOD | {"sums": np.full((1, 1 + DRAWS, 5), -1.0).tobytes()},
    ],
)
def test_what_is_no_comparison_is_refused(bad: object) -> None:
    """Before anything is added to it."""
    with pytest.raises(RemoteError, match="cannot be read"):
        Comparison.from_data(bad)
    with pytest.raises(RemoteError, match="cannot be read"):
        read_part(bad)


def test_a_comparison_that_travelled_is_the_same() -> None:
    """To the last bit."""
    again = Comparison.from_data(msgpack.unpackb(msgpack.packb(GOOD)))
    assert again.to_data() == GOOD


def test_curves_go_from_corner_to_corner_and_hold_the_area() -> None:
    """The points are those of the table that the area is computed from."""
    truth, answer = classes(300)
    assert answer.probabilities is not None
    tally = Tally.of(answer.probabilities[:, 1], truth == "yes")
    points = np.array(roc(tally))
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert auc(points[:, 0], points[:, 1]) == pytest.approx(tally.area, abs=0.01)
    groups = calibration(tally)
    assert sum(rows for *_, rows in groups) == 300
    assert all(0 <= mean <= 1 and 0 <= share <= 1 for mean, share, _ in groups)


async def test_all_peers_compare_on_their_held_out_rows(tmp_path: Path) -> None:
    """Each rule and each peer, pooled and part by part; nothing to compare on is an error."""
    a_part, b_part = write_part(tmp_path / "a.csv", 100), write_part(tmp_path / "b.csv", 100, 1)
    async with (
        peer_here(a_part, tmp_path / "sa") as a,
        peer_here(b_part, tmp_path / "sb", join=(a.address,)) as b,
    ):
        await soon(lambda: all(len(peer.colleagues.roll().voters) == 2 for peer in (a, b)), "both vote")
        report = await a.evaluator.everyone(rule="mean", seconds=60, compare=True)
        compared = report["comparison"]
        assert compared is not None
        rules = {each["rule"]: each for each in compared["pooled"] if each["rule"]}
        assert set(rules) == set(ALL_RULES)
        assert sorted(each["name"] for each in compared["pooled"] if not each["rule"]) == ["a", "b"]
        assert rules["mean"]["scores"]["accuracy"][0] == pytest.approx(report["metrics"]["accuracy"])
        assert sum(each["scores"][0]["rows"] for each in compared["parts"]) == report["rows"] == 40
        assert [curve["label"] for curve in compared["curves"]] == ["yes"]
        asked = {"rows": [{"height": 1, "kind": "yes"}], "compare": True}
        refused = await asyncio.to_thread(call, f"127.0.0.1:{a.address[1]}", "/v1/evaluate", asked)
        assert (refused.status, "send no rows" in refused.data["detail"]) == (400, True)
        b.voting.trained = None
        with pytest.raises(BadInput, match="no model yet"):
            await b.comparer.own(9)
    async with peer_here(a_part, tmp_path / "sc", holdout=0.0) as alone:
        await soon(lambda: alone.voting.trained, "it has a model")
        with pytest.raises(NoVotes, match="no peer has held-out rows"):
            await alone.comparer.everyone(9)


def test_of_many_classes_only_those_that_occur_have_curves() -> None:
    """Each against the rest."""
    truth = np.array(["a", "b", "c", "a", "b", "c"], object)
    shares = np.full((6, 4), 0.1) + np.eye(4)[[0, 1, 2, 0, 1, 2]] * 0.6
    statistics = ClassificationStatistics.of(truth, combine([("p", Vote(("a", "b", "c", "d"), shares), 1)]))
    schema = type("S", (), {"label": staticmethod(lambda text: text)})
    assert [curve["label"] for curve in curves(statistics, schema)] == ["a", "b", "c"]  # type: ignore[arg-type]
