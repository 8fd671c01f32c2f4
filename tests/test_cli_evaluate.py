from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakePeer, Refuse, Shell, votes
from sklearn.metrics import r2_score

from p2pml.cli import blocks
from p2pml.ensemble.combine import Answer
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, peer: FakePeer) -> Shell:
    monkeypatch.setenv("P2PML_PEER", peer.where)
    return Shell(capsys)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "READ_ROWS", 2)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)


def regression(peer: FakePeer) -> None:
    """The prediction of each row is its column a; the truth is its column y."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        table = np.array(body.get("data", [[1, 2], [3, 4]]), dtype=float)
        return scored(
            "regression", RegressionStatistics.of(table[:, 1], Answer(table[:, 0], None, None, np.ones(1))), body
        )

    peer.replies["/v1/evaluate"] = reply


def classification(peer: FakePeer) -> None:
    """Every row is predicted as class 1; the truth is its column y."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        truth = np.array([row[1] for row in body["data"]], dtype=object)
        sure = np.array([[1.0, 0.0]] * len(truth))
        total = ClassificationStatistics.of(truth, Answer(["1"] * len(truth), ("1", "2"), sure, np.ones(1)))
        answer = scored("classification", total, body)
        labels = [int(text) for text in total.classes]
        return answer | {"confusion_matrix": {"classes": labels, "counts": total.confusion.tolist()}}

    peer.replies["/v1/evaluate"] = reply


def scored(task: str, total: RegressionStatistics | ClassificationStatistics, body: dict[str, Any]) -> dict[str, Any]:
    answer = {"task": task, "rows": total.rows, "combine": body.get("combine", "mean"), "metrics": total.scores()}
    behind = votes(3, 4, bob="slow") if body.get("first_row", 1) == 1 else votes(4, 4)
    answer |= {"votes": behind, "took": 0.25}
    return answer | ({"statistics": total.to_data()} if body.get("statistics") else {})


def write(path: Path, rows: Sequence[tuple[object, object]]) -> Path:
    path.write_text("a,y\n" + "".join(f"{a},{y}\n" for a, y in rows))
    return path


def test_without_a_file_the_held_out_rows_are_scored(shell: Shell, peer: FakePeer) -> None:
    """Scores are the result; how many rows and votes are behind them goes to standard error."""
    regression(peer)
    done = shell("evaluate", "--combine", "median")
    assert peer.requests("/v1/evaluate") == [{"combine": "median"}]
    assert "r2" in done.out
    assert "regression on 2 held-out rows, 3 of 4 votes; missing: bob (slow); combined by median" in done.err


def test_json_is_the_peers_answer_itself(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Without a file, and with one that is a single block."""
    regression(peer)
    expected = peer.replies["/v1/evaluate"]({})
    assert json.loads(shell("evaluate", "--json").out) == expected
    path = write(tmp_path / "in.csv", [(1, 2), (3, 4)])
    assert json.loads(shell("evaluate", path, "--json").out) == expected


@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_a_file_add_up_exactly(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """The score is that of all rows together, never a mean over blocks."""
    regression(peer)
    rng = np.random.default_rng(0)
    rows = [(float(a), float(y)) for a, y in rng.normal(size=(11, 2))]
    answer = json.loads(shell("evaluate", write(tmp_path / "in.csv", rows), "--json").out)
    predicted, truth = zip(*rows, strict=True)
    assert answer["rows"] == 11
    assert answer["metrics"]["r2"] == pytest.approx(r2_score(truth, predicted), abs=1e-9)
    assert answer["votes"] == votes(3, 4, bob="slow")
    assert answer["took"] == pytest.approx(0.75)
    assert "statistics" not in answer
    # They may overtake each other on their way.
    assert sorted(body.get("first_row", 1) for body in peer.requests("/v1/evaluate")) == [1, 5, 9]


@pytest.mark.usefixtures("small_blocks")
def test_confusions_add_up_with_the_labels_as_they_are(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Also of a class that appears in the last block alone."""
    classification(peer)
    path = write(tmp_path / "in.csv", [(0, 1)] * 4 + [(0, 2)] * 3 + [(0, 3)] * 2)
    answer = json.loads(shell("evaluate", path, "--json").out)
    assert answer["confusion_matrix"] == {"classes": [1, 2, 3], "counts": [[4, 0, 0], [3, 0, 0], [2, 0, 0]]}
    assert answer["metrics"]["accuracy"] == pytest.approx(4 / 9)


def test_a_confusion_matrix_is_shown_where_it_is_small(
    shell: Shell, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True classes are rows, predicted ones columns."""
    classification(peer)
    path = write(tmp_path / "in.csv", [(0, 1), (0, 2)])
    lines = shell("evaluate", path).out.splitlines()
    assert [line.split() for line in lines[-2:]] == [["1", "1", "0"], ["2", "1", "0"]]
    monkeypatch.setattr("p2pml.cli.evaluate.WIDEST", 1)
    assert "predicted" not in shell("evaluate", path).out


def test_statistics_that_cannot_be_read_are_the_peers_fault(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Exit code 1, and no score."""
    regression(peer)
    reply = peer.replies["/v1/evaluate"]
    peer.replies["/v1/evaluate"] = lambda body: reply(body) | {"statistics": {"strange": 1}}
    done = shell("evaluate", write(tmp_path / "in.csv", [(1, 2), (3, 4)]))
    assert (done.code, done.out) == (1, "")


def test_rows_without_the_target_are_bad_input(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """The peer's sentence reaches the person."""

    def refuse(body: object) -> object:
        raise Refuse(400, "the rows have no column 'y', the target; add it to be scored")

    peer.replies["/v1/evaluate"] = refuse
    done = shell("evaluate", write(tmp_path / "in.csv", [(1, 2)]))
    assert done.code == 2
    assert "no column 'y'" in done.err


def score(name: str, value: float, peer: bool = False) -> dict[str, Any]:
    """One line of a comparison."""
    who = {"rule": None, "peer": f"{name:0<32}"} if peer else {"rule": name, "peer": None}
    scores = {"accuracy": [value, value - 0.05, value + 0.05], "log_loss": [0.5, None, None]}
    return {**who, "name": name, "rows": 40, "scores": scores}


LINES = [score("auto", 0.9), score("mean", 0.8), score("ann", 0.7, True), score("bob", 0.6, True)]
CURVE = {"label": "yes", "roc": [[0.0, 0.0], [0.2, 0.9], [1.0, 1.0]], "calibration": [[0.1, 0.2, 5], [0.9, 0.8, 5]]}
COMPARED: dict[str, Any] = {
    "task": "classification",
    "rows": 40,
    "combine": "auto",
    "metrics": {"accuracy": 0.9},
    "votes": votes(2, 2),
    "took": 0.1,
    "confusion_matrix": {"classes": ["no", "yes"], "counts": [[18, 2], [2, 18]]},
    "comparison": {
        "pooled": LINES,
        "parts": [
            {"peer": "a" * 32, "name": "ann", "scores": LINES, "residuals": None},
            {"peer": "b" * 32, "name": "<b>", "scores": LINES[:3], "residuals": [-2.0, -1.0, 0.0, 1.0, 2.0]},
        ],
        "curves": [CURVE, CURVE | {"label": "no"}],
    },
}


def test_rules_and_peers_stand_side_by_side(shell: Shell, peer: FakePeer) -> None:
    """All rows together with an interval, and part by part; a peer that did not vote on one has a dash."""
    peer.replies["/v1/evaluate"] = lambda _: COMPARED
    done = shell("evaluate", "--compare")
    assert done.code == 0
    assert peer.requests("/v1/evaluate") == [{"compare": True}]
    lines = [line.split() for line in done.out.splitlines() if line]
    assert ["auto", "40", "0.9000", "0.8500", "to", "0.9500", "0.5000"] in lines
    assert ["ann", "alone", "40", "0.7000", "0.6500", "to", "0.7500", "0.5000"] in lines
    assert ["bob", "alone", "0.6000", "–"] in lines


def test_a_report_is_one_file_that_needs_nothing_else(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """With a plot for each thing, and names that cannot write into the page."""
    pytest.importorskip("matplotlib")
    peer.replies["/v1/evaluate"] = lambda _: COMPARED
    path = tmp_path / "report.html"
    assert shell("evaluate", "--report", path).code == 0
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    for words in ("Confusion matrix", "characteristic", "Calibration", "Residuals", "Who knows what", "ann alone"):
        assert words in page
    assert "<b>" not in page
    assert not re.search(r"(src|href)=.(http|//)", page)
    numbers = {**COMPARED, "task": "regression", "confusion_matrix": None}
    numbers["comparison"] = {name: COMPARED["comparison"][name] for name in ("pooled", "parts")}
    peer.replies["/v1/evaluate"] = lambda _: numbers
    assert shell("evaluate", "--report", path).code == 0
    assert path.read_text(encoding="utf-8").count("<svg") == 3


def test_a_comparison_is_on_held_out_rows_alone(shell: Shell, tmp_path: Path) -> None:
    """A file has no parts."""
    done = shell("evaluate", tmp_path / "rows.csv", "--compare")
    assert done.code == 2
    assert "leave FILE out" in done.err


def test_without_matplotlib_a_report_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any peer is asked."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = shell("evaluate", "--report", "x.html")
    assert done.code == 2
    assert "p2pml[plot]" in done.err
