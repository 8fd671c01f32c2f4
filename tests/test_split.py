from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import Shell
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.ensemble.cutting import FEW, MISSING, RANGES, cut, labels

HOWS = ["random", "stratified", "dirichlet", "by"]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def sizes(parts: list[np.ndarray]) -> list[int]:
    return [len(part) for part in parts]


@given(
    cells=st.lists(st.sampled_from(["a", "b", "c", "d", "NA"]), min_size=6, max_size=80)
    | st.lists(st.integers(-1000, 1000).map(str), min_size=6, max_size=80),
    parts=st.integers(2, 6),
    how=st.sampled_from(["random", "stratified", "dirichlet"]),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150)
def test_every_row_goes_to_exactly_one_part_and_parts_are_equal(
    cells: list[object], parts: int, how: str, alpha: float, seed: int
) -> None:
    """Whatever the column holds, and however the cut is drawn."""
    cut_parts = cut(cells, "x", parts, how, alpha, seed)
    assert sorted(np.concatenate(cut_parts)) == list(range(len(cells)))
    assert max(sizes(cut_parts)) - min(sizes(cut_parts)) <= 1
    assert all((np.diff(part) > 0).all() for part in cut_parts)


@pytest.mark.parametrize("how", HOWS)
def test_a_seed_gives_one_cut(how: str) -> None:
    """The same seed always cuts alike; another one cuts otherwise, where chance has a part in it."""
    cells: list[object] = [str(at * 7 % 101) for at in range(300)]
    first, again, other = (cut(cells, "x", 4, how, 0.5, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all((a.shape == b.shape and (a == b).all()) for a, b in zip(first, other, strict=True)) == (how == "by")


def test_stratified_parts_have_each_label_alike() -> None:
    """Counts of a label differ by one at most."""
    cells: list[object] = [*"a" * 50, *"b" * 31, *"c" * 3]
    for label in "abc":
        counts = [sum(cells[at] == label for at in part) for part in cut(cells, "x", 4, "stratified", 1.0, 0)]
        assert max(counts) - min(counts) <= 1


def test_a_small_alpha_makes_parts_unlike_and_a_large_one_alike() -> None:
    """The share of a part's most frequent label says how skewed it is."""
    cells: list[object] = [str(at % 10) for at in range(2000)]

    def skew(alpha: float) -> float:
        parts = cut(cells, "x", 8, "dirichlet", alpha, 0)
        return float(np.mean([max(Counter(cells[at] for at in part).values()) / len(part) for part in parts]))

    assert skew(0.1) > 0.4
    assert skew(1000.0) < 0.15


def test_by_a_number_cuts_its_range() -> None:
    """Every value of a part is at most every value of the next; what is missing comes last."""
    rng = np.random.default_rng(0)
    values = rng.permutation(100).astype(float)
    cells: list[object] = [None if at % 25 == 0 else str(value) for at, value in enumerate(values)]
    parts = cut(cells, "x", 4, "by", 1.0, 0)
    ranges = [[float(str(cells[at])) for at in part if cells[at] is not None] for part in parts]
    assert all(max(low) < min(high) for low, high in itertools.pairwise(ranges))
    assert sizes(parts) == [25] * 4
    assert sum(cells[at] is None for at in parts[-1]) == 4


def test_by_a_date_cuts_its_range() -> None:
    """Dates have an order as numbers have."""
    cells: list[object] = ["2024-03-01", "2023-01-01", "2024-01-01", "2023-06-01"]
    assert [list(part) for part in cut(cells, "x", 2, "by", 1.0, 0)] == [[1, 3], [0, 2]]


def test_by_a_category_keeps_categories_whole_and_parts_balanced() -> None:
    """The largest come first, each to the smallest part so far."""
    cells: list[object] = [*"aaaaabbbbccc", "NA", "NA", "NA"]
    parts = cut(cells, "x", 2, "by", 1.0, 0)
    homes = [{str(cells[at]) for at in part} for part in parts]
    assert homes[0] & homes[1] == set()
    assert sorted(sizes(parts)) == [7, 8]


def test_many_numbers_become_ranges_and_few_are_labels() -> None:
    """So a regression's target can be stratified too."""
    few: list[object] = [str(at % FEW) for at in range(100)]
    many: list[object] = [str(at) for at in range(1000)]
    assert labels(few, "x") == few
    assert set(Counter(labels(many, "x")).values()) == {1000 // RANGES}
    assert labels(many, "x")[0] == "0 to 99"
    assert labels([*many, ""], "x")[-1] == MISSING


def write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "in.csv", [["a", "kind"], *[[f" {at},0", "xyz"[at % 3]] for at in range(30)]])


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("how", HOWS)
def test_the_parts_together_are_the_file(shell: Shell, table: Path, tmp_path: Path, how: str) -> None:
    """Each has the head, and every row is in one, with its cells as they were."""
    done = shell("split", table, "--parts", 3, "--how", how, "--column", "kind", "--out", tmp_path / "out")
    assert done.code == 0
    parts = [read(path) for path in sorted((tmp_path / "out").iterdir())]
    assert all(part[0] == ["a", "kind"] for part in parts)
    assert sorted(row for part in parts for row in part[1:]) == sorted(read(table)[1:])
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["part_0.csv", "part_1.csv", "part_2.csv"]


def test_the_report_has_rows_and_shares(shell: Shell, table: Path, tmp_path: Path) -> None:
    """Of the labels of the column that was cut by; the last one by default."""
    done = shell("split", table, "--parts", "2", "--how", "stratified", "--out", tmp_path / "out")
    title, head, *rows = done.out.splitlines()
    assert title == "Shares of kind"
    assert head.split() == ["part", "rows", "x", "y", "z"]
    assert rows[0].split() == ["part_0.csv", "15", "33.3%", "33.3%", "33.3%"]
    assert "30 rows in 2 parts" in done.err


def test_ranges_are_reported_in_their_order(shell: Shell, tmp_path: Path) -> None:
    """From the lowest to the highest."""
    path = write(tmp_path / "in.csv", [["a", "b"], *[[1, at] for at in range(200)]])
    head = shell("split", path, "--parts", 2, "--how", "by", "--column", "b", "--out", tmp_path / "o").out.splitlines()[
        1
    ]
    assert head.split("  ")[-1].strip() == "180 to 199"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--parts 3 --how by --column nope", "'nope' is not in"),
        ("--parts 31 --how random", "has 30 rows, too few for 31 parts"),
        ("--parts 4 --how by --column kind", "has 3 categories, too few for 4 parts"),
        ("--parts 3 --how by", "--how by needs --column"),
        ("--parts 3 --how dirichlet --alpha 0", "--alpha"),
        ("--parts 3 --how thirds", "--how"),
    ],
)
def test_what_cannot_be_cut_is_bad_input(shell: Shell, table: Path, tmp_path: Path, flags: str, words: str) -> None:
    """One sentence, and no folder is left."""
    done = shell("split", table, *flags.split(), "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "out").exists()


def test_parts_of_an_earlier_cut_are_not_mixed_with_new_ones(shell: Shell, table: Path, tmp_path: Path) -> None:
    """Nor overwritten."""
    flags = ("--how", "random", "--out", tmp_path / "out")
    assert shell("split", table, "--parts", 4, *flags).code == 0
    again = shell("split", table, "--parts", 2, *flags)
    assert again.code == 2
    assert "has parts of an earlier cut" in again.err
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_folder_that_cannot_be_made_is_bad_input(shell: Shell, table: Path) -> None:
    """A file stands in its way."""
    done = shell("split", table, "--parts", 2, "--how", "random", "--out", table)
    assert done.code == 2
    assert "cannot be made" in done.err
