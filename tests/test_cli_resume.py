"""Laws of `p2pml predict --resume`: an interrupted run goes on, and nobody sees from the result that it was one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakePeer, Refuse, Shell, finder_of, votes

from p2pml.cli import blocks as blocks_module
from p2pml.cli import partial as partial_module
from p2pml.peer import finder

ROWS = 40


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePeer]:
    """A peer that knows two classes; blocks are of four rows, and each is noted at once."""
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(blocks_module, "READ_ROWS", 2)
    monkeypatch.setattr(partial_module, "APART", 0.0)
    with FakePeer() as peer:
        peer.replies["/v1/predict"] = answer
        monkeypatch.setattr(finder, "find", finder_of(peer.address))
        yield peer


def answer(body: dict[str, Any]) -> Any:
    labels = [f"{row[0]}-ann" for row in body["data"]]
    shares = [[1 / (2 + int(row[0])), 1 - 1 / (2 + int(row[0]))] for row in body["data"]]
    found = {"predictions": labels, "classes": ["no", "yes"], "probabilities": shares}
    return found | {"combine": "mean", "votes": votes(), "took": 0.01}


def failing_at(row: int) -> Any:
    """Answers until the block that begins with this row."""

    def reply(body: dict[str, Any]) -> Any:
        if body.get("first_row", 1) >= row:
            raise Refuse(503, "nobody votes any more")
        return answer(body)

    return reply


def numbered(path: Path, rows: int = ROWS) -> Path:
    path.write_text("a,b\n" + "".join(f"{at},x{at}\n" for at in range(1, rows + 1)))
    return path


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("stop", [5, 21, 37])
def test_a_run_that_goes_on_gives_the_bytes_of_one_that_was_not_disturbed(
    shell: Shell, peer: FakePeer, tmp_path: Path, form: str, stop: int
) -> None:
    """No row is lost or stands there twice, and no row that is noted is asked again."""
    source = numbered(tmp_path / "in.csv")
    assert shell("predict", "--proba", source, "--output", tmp_path / f"whole.{form}").code == 0
    peer.replies["/v1/predict"] = failing_at(stop)
    broken = shell("predict", "--proba", source, "--output", tmp_path / f"out.{form}")
    assert broken.code != 0
    assert "--resume" in broken.err
    assert not (tmp_path / f"out.{form}").exists()
    # What was written after the last note is cut off.
    with open(tmp_path / f".out.{form}.part", "ab") as part:
        part.write(b"torn")
    peer.replies["/v1/predict"], before = answer, len(peer.asked)
    resumed = shell("predict", "--proba", source, "--output", tmp_path / f"out.{form}", "--resume")
    assert (resumed.code, f"going on after {stop - 1} rows" in resumed.err) == (0, True)
    assert f"{ROWS} rows predicted" in resumed.err
    asked = [body["first_row"] for path, body in peer.asked[before:] if path == "/v1/predict"]
    assert min(asked) == stop
    assert (tmp_path / f"out.{form}").read_bytes() == (tmp_path / f"whole.{form}").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in.csv", f"out.{form}", f"whole.{form}"]


def test_parquet_holds_rows_types_and_predictions(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Numbers are numbers where the input says so; Parquet goes in as it comes out."""
    parquet = pytest.importorskip("pyarrow.parquet")
    assert shell("predict", numbered(tmp_path / "in.csv"), "--proba", "--output", tmp_path / "one.parquet").code == 0
    table = parquet.read_table(tmp_path / "one.parquet")
    assert table.column_names == ["a", "b", "prediction", "proba_no", "proba_yes"]
    assert table["a"].to_pylist() == [str(at) for at in range(1, ROWS + 1)]
    assert table["prediction"].to_pylist()[-1] == f"{ROWS}-ann"
    assert str(table["proba_no"].type) == "double"
    numbers = table.drop_columns(["prediction", "proba_no", "proba_yes"])
    numbers = numbers.set_column(0, "a", numbers["a"].cast("int64"))
    parquet.write_table(numbers, tmp_path / "in.parquet")
    assert shell("predict", tmp_path / "in.parquet", "--output", tmp_path / "two.parquet").code == 0
    assert str(parquet.read_table(tmp_path / "two.parquet")["a"].type) == "int64"


def test_parquet_holds_texts_of_any_script(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Empty ones and long ones, beside columns of ASCII alone."""
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = ["", "Åse", "日本", "x" * 1000, "", "z"]
    (tmp_path / "in.csv").write_text("a,b\n" + "".join(f"{at},{text}\n" for at, text in enumerate(texts)))
    assert shell("predict", tmp_path / "in.csv", "--output", tmp_path / "out.parquet").code == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    table.validate(full=True)
    assert table["b"].to_pylist() == texts
    assert table["a"].to_pylist() == [str(at) for at in range(len(texts))]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_full_disk_costs_no_row_that_was_noted(
    shell: Shell, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The sentence names the output and how many rows are kept, and the run goes on once there is room."""
    source, notes = numbered(tmp_path / "in.csv"), iter(range(3))
    keep = partial_module.Partial.keep

    def full(self: partial_module.Partial) -> None:
        if next(notes, None) is None:
            raise OSError(28, "No space left on device")
        keep(self)

    with monkeypatch.context() as disk:
        disk.setattr(partial_module.Partial, "keep", full)
        broken = shell("predict", source, "--output", tmp_path / f"out.{form}")
    assert (broken.code, "no space left on device. 12 rows are kept" in broken.err) == (2, True)
    assert f"out.{form} cannot be written" in broken.err
    assert "going on after 12 rows" in shell("predict", source, "--output", tmp_path / f"out.{form}", "--resume").err
    assert sorted(os.listdir(tmp_path)) == ["in.csv", f"out.{form}"]


def test_another_run_is_not_gone_on_with(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Another file or other settings begin anew, and the sentence says so; so does a damaged journal."""
    source, out = numbered(tmp_path / "in.csv"), tmp_path / "out.csv"
    peer.replies["/v1/predict"] = failing_at(9)
    shell("predict", source, "--output", out)
    other = shell("predict", source, "--output", out, "--resume", "--combine", "median")
    assert (other.code, "its settings differs" in other.err) == (2, True)
    (tmp_path / ".out.csv.journal").write_text("{")
    damaged = shell("predict", source, "--output", out, "--resume")
    assert (damaged.code, "is damaged" in damaged.err) == (2, True)
    peer.replies["/v1/predict"] = answer
    assert shell("predict", source, "--output", out).code == 0
    # With nothing to go on with, it begins at the beginning.
    assert shell("predict", source, "--output", out, "--resume").code == 0


def test_what_cannot_be_gone_on_with_says_so(shell: Shell, peer: FakePeer, tmp_path: Path) -> None:
    """Standard input and output, and JSON."""
    source = numbered(tmp_path / "in.csv")
    for arguments in ((source,), (source, "--json", "--output", tmp_path / "out.json"), ("-", "--output", "x.csv")):
        done = shell("predict", *arguments, "--resume")
        assert (done.code, "--resume needs" in done.err) == (2, True)
    with partial_module.partial(tmp_path / "out.csv", {}, False):
        busy = shell("predict", source, "--output", tmp_path / "out.csv")
    assert (busy.code, "another run is writing" in busy.err) == (2, True)
