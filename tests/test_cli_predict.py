from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Drop, FakePeer, Refuse, Shell, finder_of, votes

from p2pml.cli import blocks


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, peer: FakePeer) -> Shell:
    for name in ("HOST", "JOIN", "CLUSTER"):
        monkeypatch.delenv(f"P2PML_{name}", raising=False)
    monkeypatch.setenv("P2PML_PEER", peer.where)
    return Shell(capsys)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "READ_ROWS", 2)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def numbered(path: Path, rows: int) -> Path:
    return write(path, "a,b\n" + "".join(f"{at},x\n" for at in range(1, rows + 1)))


def classes_of(peer: FakePeer, *labels: object, **more: Any) -> dict[str, Any]:
    """An answer with these classes, each row sure of the first."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        rows = len(body["data"])
        sure = [1.0, *[0.0] * (len(labels) - 1)]
        answer = {"predictions": [labels[0]] * rows, "classes": list(labels), "probabilities": [sure] * rows}
        return answer | {"combine": "mean", "votes": votes(), "took": 0.1} | more

    peer.replies["/v1/predict"] = reply
    return more


def test_rows_come_back_as_they_were_with_the_prediction_after_them(shell: Shell, tmp_path: Path) -> None:
    """Columns, their order, and every cell are kept: quotes, blanks, zeros in front, letters of any language."""
    text = 'a,b,"c, d"\n007,"say ""hi""", x \n1.50,"two\nlines",\nø,é,NA\n'
    done = shell("predict", write(tmp_path / "in.csv", text))
    assert done.code == 0
    rows = list(csv.reader(io.StringIO(done.out, newline="")))
    assert rows == [
        ["a", "b", "c, d", "prediction"],
        ["007", 'say "hi"', " x ", "007-ann"],
        ["1.50", "two\nlines", "", "1.50-ann"],
        ["ø", "é", "NA", "ø-ann"],
    ]


def test_what_is_not_the_result_goes_to_standard_error(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """The summary says how many votes there were, who is missing, and why."""
    peer.replies["/v1/predict"] = lambda body: {
        "predictions": [1.5], "combine": "mean", "votes": votes(3, 4, bob="connection refused"), "took": 0.1,
    }  # fmt: skip
    done = shell("predict", write(tmp_path / "in.csv", "a\n1\n"))
    assert done.out == "a,prediction\n1,1.5\n"
    assert "1 rows predicted with 3 of 4 votes; missing: bob (connection refused)" in done.err


@pytest.mark.usefixtures("small_blocks")
def test_a_large_file_travels_in_blocks_and_comes_back_in_order(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Each block says where in the file it starts."""
    done = shell("predict", numbered(tmp_path / "in.csv", 11))
    assert [line.split(",")[-1] for line in done.out.splitlines()[1:]] == [f"{at}-ann" for at in range(1, 12)]
    asked = sorted((body.get("first_row", 1), len(body["data"])) for body in peer.requests("/v1/predict"))
    assert asked == [(1, 4), (5, 4), (9, 3)]


@pytest.mark.usefixtures("small_blocks")
def test_at_most_three_blocks_are_at_a_peer(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """The first answer is awaited before the fourth block is sent, and the file is not read ahead."""
    answer = peer.replies["/v1/predict"]
    now, most, lock, all_three = 0, 0, threading.Lock(), threading.Barrier(3, timeout=20)

    def reply(body: dict[str, Any]) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if body.get("first_row", 1) <= 9:
            all_three.wait()
        with lock:
            now -= 1
        return answer(body)

    peer.replies["/v1/predict"] = reply
    assert shell("predict", numbered(tmp_path / "in.csv", 20)).code == 0
    assert most == 3


@pytest.mark.usefixtures("small_blocks")
def test_wide_rows_make_smaller_blocks(
    shell: Shell, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No block comes near the size that a peer refuses."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 30)
    wide = "y" * 20
    done = shell("predict", write(tmp_path / "in.csv", "a,b\n" + f"1,{wide}\n" * 5))
    assert done.out.count("1-ann") == 5
    assert [len(body["data"]) for body in peer.requests("/v1/predict")] == [1] * 5


@pytest.mark.usefixtures("small_blocks")
def test_another_peer_takes_over_in_mid_file(
    shell: Shell, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows before and after the death are there once each, in order."""
    answer = peer.replies["/v1/predict"]

    def dies(body: dict[str, Any]) -> Any:
        if body.get("first_row", 1) > 4:
            raise Drop
        return answer(body)

    peer.replies["/v1/predict"] = dies
    with FakePeer("bob") as bob:
        monkeypatch.setattr("p2pml.peer.finder.find", finder_of(peer.address, bob.address))
        done = shell("predict", "--any-peer", numbered(tmp_path / "in.csv", 10))
    answers = [line.split(",")[-1] for line in done.out.splitlines()[1:]]
    assert answers == [f"{at}-{'ann' if at <= 4 else 'bob'}" for at in range(1, 11)]


def test_probabilities_stand_in_a_column_for_each_class(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Classes are written as they are, whatever their type."""
    classes_of(peer, True, 3, "x y")
    done = shell("predict", "--proba", write(tmp_path / "in.csv", "a\n1\n"))
    assert done.out == "a,prediction,proba_true,proba_3,proba_x y\n1,true,1.0,0.0,0.0\n"
    assert peer.requests("/v1/predict")[0]["proba"] is True


@pytest.mark.usefixtures("small_blocks")
def test_a_class_that_is_lost_in_mid_file_keeps_its_column(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """With the only peer that knew it gone, its probability is 0."""

    def reply(body: dict[str, Any]) -> Any:
        rows = len(body["data"])
        classes, row = (["x", "y"], [0.25, 0.75]) if body.get("first_row", 1) == 1 else (["y"], [1.0])
        answer = {"predictions": ["y"] * rows, "classes": classes, "probabilities": [row] * rows}
        return answer | {"combine": "mean", "votes": votes(), "took": 0.1}

    peer.replies["/v1/predict"] = reply
    done = shell("predict", "--proba", numbered(tmp_path / "in.csv", 5))
    assert done.out.splitlines()[0] == "a,b,prediction,proba_x,proba_y"
    assert [line.split(",", 2)[2] for line in done.out.splitlines()[1:]] == ["y,0.25,0.75"] * 4 + ["y,0.0,1.0"]


@pytest.mark.usefixtures("small_blocks")
def test_a_class_that_comes_in_mid_file_is_an_error(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Its column cannot be added any more, and leaving it out would be a lie; the file is not written."""

    def reply(body: dict[str, Any]) -> Any:
        rows = len(body["data"])
        classes = ["x"] if body.get("first_row", 1) == 1 else ["new", "x"]
        answer = {"predictions": ["x"] * rows, "classes": classes, "probabilities": [[1.0] * len(classes)] * rows}
        return answer | {"combine": "mean", "votes": votes(), "took": 0.1}

    peer.replies["/v1/predict"] = reply
    done = shell("predict", "--proba", numbered(tmp_path / "in.csv", 5), "--output", tmp_path / "out.csv")
    assert done.code == 1
    assert "The class new came in with a peer that did not vote before row 5" in done.err
    assert os.listdir(tmp_path) == ["in.csv"]


def test_probabilities_of_a_regression_are_bad_input(shell: Shell, tmp_path: Path) -> None:
    """The way out is said."""
    done = shell("predict", "--proba", write(tmp_path / "in.csv", "a\n1\n"))
    assert (done.code, done.out) == (2, "")
    assert "--proba is for classification" in done.err


@pytest.mark.parametrize("taken", ["prediction", "proba_x"])
def test_a_column_that_predict_would_add_must_not_exist(
    shell: Shell, peer: FakePeer, tmp_path: Path, taken: str
) -> None:
    """Nothing of the input is overwritten or doubled."""
    classes_of(peer, "x")
    done = shell("predict", "--proba", write(tmp_path / "in.csv", f"a,{taken}\n1,2\n"))
    assert (done.code, done.out) == (2, "")
    assert f"has a column {taken!r} already" in done.err


def test_the_output_file_is_whole_or_not_there(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """A failure leaves what was there before; a success replaces it, and keeps a link a link."""
    target = write(tmp_path / "out.csv", "before")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    bad = shell("predict", write(tmp_path / "bad.csv", "a,b\n1,2\n1\n"), "--output", link)
    assert bad.code == 2
    assert target.read_text() == "before"
    good = shell("predict", write(tmp_path / "in.csv", "a\n1\n"), "--output", link)
    assert (good.code, good.out) == (0, "")
    assert target.read_text() == "a,prediction\n1,1-ann\n"
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["bad.csv", "in.csv", "link.csv", "out.csv"]


def test_a_device_is_written_to_and_never_replaced(shell: Shell, tmp_path: Path) -> None:
    """Above all /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert shell("predict", write(tmp_path / "in.csv", "a\n1\n"), "--output", pipe).code == 0
    reader.join()
    assert got == ["a,prediction\n1,1-ann\n"]
    assert pipe.is_fifo()


def test_an_output_that_cannot_be_written_is_bad_input(shell: Shell, tmp_path: Path) -> None:
    """A directory, and a folder that is not there."""
    source = write(tmp_path / "in.csv", "a\n1\n")
    assert "is a directory" in shell("predict", source, "--output", tmp_path).err
    missing = shell("predict", source, "--output", tmp_path / "no" / "out.csv")
    assert missing.code == 2
    assert "cannot be written: no such file or directory" in missing.err


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1\n", b"a\n\xff\n", b"\x00\x01\x02"])
def test_a_file_that_is_no_table_is_bad_input(shell: Shell, tmp_path: Path, content: bytes | None) -> None:
    """One sentence that names the file, and nothing on standard output."""
    path = tmp_path / "in.csv"
    if content is not None:
        path.write_bytes(content)
    done = shell("predict", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("p2pml: ")
    assert done.err.count("\n") == 1
    assert "in.csv" in done.err


def test_what_the_peer_refuses_is_bad_input(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """The peer's sentence reaches the person as it is."""

    def refuse(body: object) -> object:
        raise Refuse(400, "row 1, column 'a': 'x' is not a number")

    peer.replies["/v1/predict"] = refuse
    done = shell("predict", write(tmp_path / "in.csv", "a\nx\n"))
    assert (done.code, done.out) == (2, "")
    assert done.err == "p2pml: row 1, column 'a': 'x' is not a number.\n"


def test_no_vote_exits_1(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """There is no made-up number on standard output."""

    def refuse(body: object) -> object:
        raise Refuse(503, "none of 4 peers voted in time")

    peer.replies["/v1/predict"] = refuse
    done = shell("predict", write(tmp_path / "in.csv", "a\nx\n"))
    assert (done.code, done.out, done.err) == (1, "", "p2pml: none of 4 peers voted in time.\n")


def test_rule_and_deadline_are_the_peers_to_keep(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """They travel as they were given."""
    shell("predict", write(tmp_path / "in.csv", "a\n1\n"), "--combine", "weighted", "--deadline", "1.5")
    (body,) = peer.requests("/v1/predict")
    assert (body["combine"], body["deadline"]) == ("weighted", 1.5)
    assert shell("predict", tmp_path / "in.csv", "--combine", "best").code == 2
    assert shell("predict", tmp_path / "in.csv", "--deadline", "0").code == 2


def test_json_is_the_peers_answer_itself(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """One block's answer is printed as it came, with whatever the peer said besides."""
    classes_of(peer, "ø", news={"a": 1})
    done = shell("predict", "--json", "--proba", write(tmp_path / "in.csv", "a\n1\n2\n"))
    assert json.loads(done.out) == {
        "predictions": ["ø", "ø"],
        "classes": ["ø"],
        "probabilities": [[1.0], [1.0]],
        "combine": "mean",
        "votes": votes(),
        "took": 0.1,
        "news": {"a": 1},
    }


def test_the_note_says_what_share_the_common_vote_has_and_whose_rows_these_are(
    shell: Shell, peer: FakePeer, tmp_path: Path
) -> None:
    """The peer's name comes from another machine, and is shown without control characters."""
    classes_of(peer, "ø", combined="density", common={"share": 0.3, "peers": 4, "rows": 900}, like="an\nn")
    done = shell("predict", write(tmp_path / "in.csv", "a\n1\n2\n"))
    assert "combined by density, as for rows of an n, with 30% for the common vote." in done.err


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("proba", [True, False])
def test_json_of_several_blocks_is_one_answer(shell: Shell, peer: FakePeer, tmp_path: Path, proba: bool) -> None:
    """Predictions and probabilities are joined; votes are the fewest cast and everyone who was missing."""

    def reply(body: dict[str, Any]) -> Any:
        rows, first = len(body["data"]), body.get("first_row", 1) == 1
        answer = {"predictions": [row[0] for row in body["data"]], "classes": ["1", "2"]}
        if proba:
            answer["probabilities"] = [[0.5, 0.5]] * rows
        behind = votes(3, 4, bob="slow") if first else votes(4, 4)
        return answer | {"combine": "mean", "votes": behind, "took": 0.1}

    peer.replies["/v1/predict"] = reply
    extra = ["--proba"] if proba else []
    done = shell("predict", "--json", numbered(tmp_path / "in.csv", 10), *extra)
    answer = json.loads(done.out)
    assert answer["predictions"] == [str(at) for at in range(1, 11)]
    assert answer["classes"] == ["1", "2"]
    assert answer.get("probabilities") == ([[0.5, 0.5]] * 10 if proba else None)
    assert answer["votes"] == votes(3, 4, bob="slow")
    assert "3 to 4 of 4 votes; missing: bob (slow)" in done.err


def test_gzip_and_parquet_are_read_as_well(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Numbers and what is missing keep their meaning; dates travel as text."""
    with gzip.open(tmp_path / "in.csv.gz", "wt") as stream:
        stream.write("a\n1\n")
    assert shell("predict", tmp_path / "in.csv.gz").out == "a,prediction\n1,1-ann\n"
    import datetime

    table = pa.table({"a": [1, None], "b": [0.1, 2.0], "c": [True, False], "d": [datetime.date(2024, 1, 31), None]})
    pq.write_table(table, tmp_path / "in.parquet")
    done = shell("predict", tmp_path / "in.parquet")
    assert done.out.splitlines()[1] == "1,0.1,true,2024-01-31,1-ann"
    assert done.out.splitlines()[2].startswith(",2.0,false,,")
    assert peer.requests("/v1/predict")[-1]["data"] == [[1, 0.1, True, "2024-01-31"], [None, 2.0, False, None]]


def test_a_dash_is_standard_input(peer: FakePeer) -> None:
    """Rows come down a pipe, and the result goes up another."""
    done = subprocess.run(
        [sys.executable, "-m", "p2pml.cli", "predict", "-", "--peer", peer.where],
        input="a\n1\n2\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "a,prediction\n1,1-ann\n2,2-ann\n")


def test_a_head_without_rows_asks_the_peer_what_it_thinks(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """One block with no row travels, so that columns are checked all the same."""
    done = shell("predict", write(tmp_path / "in.csv", "a,b\n"))
    assert done.out == "a,b,prediction\n"
    assert peer.requests("/v1/predict")[0]["data"] == []


def sure_of(peer: FakePeer, numbers: bool) -> None:
    """Answers with all that can be asked for beside predictions; each block's first row is new to all."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        rows = len(body["data"])
        beside = {"spread": [0.5] * rows, "strongest": [0.75] * rows, "novelty": [1.0] + [0.25] * (rows - 1)}
        bounds = {"intervals": [[1.0, 3.0]] + [[None, None]] * (rows - 1)} if numbers else {"sets": [["x", 7]] * rows}
        answer = {"predictions": [2.0 if numbers else "x"] * rows, "combine": "auto", "votes": votes(), "took": 0.1}
        return answer | ({} if numbers else {"classes": ["x", 7]}) | beside | bounds

    peer.replies["/v1/predict"] = reply


def test_how_sure_an_answer_is_stands_beside_it(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Three columns, and two of bounds, empty where there are none."""
    sure_of(peer, numbers=True)
    done = shell("predict", numbered(tmp_path / "in.csv", 2), "--sure", "--interval", "0.9")
    assert done.out.splitlines() == [
        "a,b,prediction,spread,strongest,novelty,low,high",
        "1,x,2.0,0.5,0.75,1.0,1.0,3.0",
        "2,x,2.0,0.5,0.75,0.25,,",
    ]
    (asked,) = peer.requests("/v1/predict")
    assert (asked["sure"], asked["interval"]) == (True, 0.9)


def test_a_set_of_classes_is_one_cell(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """And nobody is asked for what nobody wants to know."""
    sure_of(peer, numbers=False)
    done = shell("predict", numbered(tmp_path / "in.csv", 1), "--interval", "0.5")
    assert done.out.splitlines()[1].endswith(",x|7")
    assert "sure" not in peer.requests("/v1/predict")[0]
    assert shell("predict", numbered(tmp_path / "in.csv", 1), "--interval", "1").code == 2


@pytest.mark.usefixtures("small_blocks")
def test_json_of_several_blocks_has_all_that_was_asked_for(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """For each row of each block, in order."""
    sure_of(peer, numbers=True)
    done = shell("predict", numbered(tmp_path / "in.csv", 6), "--sure", "--interval", "0.9", "--json")
    answer = json.loads(done.out)
    assert answer["novelty"] == [1.0, 0.25, 0.25, 0.25, 1.0, 0.25]
    assert answer["intervals"][4:] == [[1.0, 3.0], [None, None]]
    assert (len(answer["predictions"]), len(answer["spread"])) == (6, 6)


def test_what_does_not_fit_the_rows_is_refused(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """A peer that gives three spreads for one row is not believed."""
    peer.replies["/v1/predict"] = lambda body: {
        "predictions": [1.5], "spread": [1, 2, 3], "combine": "auto", "votes": votes(), "took": 0.1,
    }  # fmt: skip
    done = shell("predict", numbered(tmp_path / "in.csv", 1), "--sure")
    assert done.code == 1
    assert "more or fewer of something" in done.err
