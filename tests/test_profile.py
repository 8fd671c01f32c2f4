"""Laws of profiles: they say how values are spread, of groups large enough, and what is no profile is refused."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.lines import Lines
from p2pml.ensemble.profile import BINS, LEVELS, MOST_COLUMNS, Profile, Shares, Spread, watched
from p2pml.ensemble.schema import Field, Kind, Schema
from p2pml.ensemble.window import PANE, WINDOW, Window
from p2pml.errors import RemoteError

SCHEMA = Schema(
    "y",
    "regression",
    Kind.NUMBER,
    (Field("size", Kind.NUMBER), Field("colour", Kind.CATEGORY), Field("day", Kind.DATE), Field("none", Kind.EMPTY)),
)
ROWS: dict[str, list[object]] = {
    "size": [1.0, 2.0, 2.0, 5.0, None, 7.0] * 4,
    "colour": ["red", "red", "blue", "red", None, "green"] * 4,
    "day": ["2024-01-31"] * 24,
    "none": [None] * 24,
}


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5]) | st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 20))
def test_every_bin_is_large_enough_and_its_share_exact_at_its_edges(values: list[float], least: int) -> None:
    """Whatever the values, and however often they come again."""
    spread = Spread.of(np.array(values), least)
    assert spread.known in (0, len(values))
    assert all(count == 0 or count >= least for count in spread.counts)
    assert (np.diff(spread.edges) > 0).all()
    assert len(spread.counts) <= 3 * BINS
    low, high = spread.below(spread.edges)
    assert (low == high).all()
    if least == 1:
        assert low == pytest.approx([np.mean(np.array(values) <= edge) for edge in spread.edges])


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=200), st.floats(-11, 11))
def test_between_edges_the_truth_lies_within_the_bounds(values: list[float], at: float) -> None:
    """So what is not told can be anything that is true."""
    low, high = Spread.of(np.array(values), 1).below(np.array([at]))
    assert low[0] - 1e-12 <= np.mean(np.array(values) <= at) <= high[0] + 1e-12


def test_a_value_that_many_share_is_told_as_it_is_and_the_few_beside_it_too() -> None:
    """Three rows of another value hide among them."""
    spread = Spread.of(np.array([1.0] * 3 + [5.0] * 90), 5)
    assert spread.counts.tolist() == [0, 93, 0]
    assert [share[0] for share in spread.below(np.array([4.999]))] == [0, 0]
    assert Spread.of(np.array([5.0] * 90 + [7.0, 8.0]), 5).counts.tolist() == [0, 92, 0]


def test_small_groups_are_not_told() -> None:
    """Neither levels, nor gaps, nor columns, nor the whole."""
    assert Shares.of(["red"] * 6 + ["blue"] * 5 + ["green"] * 4 + [None] * 4, 5) == Shares({"red": 6, "blue": 5})
    assert Shares.of(["a", "b", "c", "d", "e", *[None] * 6], 5) == Shares({}, 5, 6)
    assert Spread.of(np.array([1.0] * 9 + [np.nan] * 4), 5).missing == 0
    assert Spread.of(np.array([np.nan] * 9 + [1.0] * 4), 5).missing == 13
    few = Profile.of(SCHEMA, {name: cells[:4] for name, cells in ROWS.items()}, 5)
    assert (few.rows, few.numbers, few.categories) == (0, {}, {})


def test_a_profile_is_of_numbers_and_categories_and_comes_back_from_the_wire() -> None:
    """Dates are left out, as new rows have new ones."""
    profile = Profile.of(SCHEMA, ROWS, 2, {"a" * 32: np.arange(9.0)})
    assert watched(SCHEMA) == ("size", "colour")
    assert profile.categories == {"colour": Shares({"red": 12, "blue": 4, "green": 4}, 0, 4)}
    assert profile.alike == pytest.approx((6 * 4 * 3) / (24 * 23))
    again = Profile.from_data(msgpack.unpackb(msgpack.packb(profile.to_data())))
    assert again.to_data() == profile.to_data()
    assert again.numbers["size"].missing == 4


def test_a_wide_table_has_a_bounded_profile() -> None:
    """Of columns that every peer chooses alike."""
    fields = tuple(Field(f"x{at}", Kind.NUMBER) for at in range(MOST_COLUMNS + 50))
    names = watched(Schema("y", "regression", Kind.NUMBER, fields))
    assert len(names) == MOST_COLUMNS
    assert set(names) == set(watched(Schema("y", "regression", Kind.NUMBER, fields[::-1])))


GOOD = Profile.of(SCHEMA, ROWS, 2, {"a" * 32: np.arange(9.0)}).to_data()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {},
        GOOD | {"rows": -1},
        GOOD | {"rows": True},
        GOOD | {"rows": 3},
        GOOD | {"least": 1.5},
        GOOD | {"alike": 2.0},
        GOOD | {"alike": float("nan")},
        GOOD | {"more": 1},
        GOOD | {"numbers": {"": GOOD["numbers"]["size"]}},
        GOOD | {"numbers": {f"x{at}": GOOD["numbers"]["size"] for at in range(MOST_COLUMNS + 1)}},
        GOOD | {"numbers": {"size": [b"", b"", 0]}},
        GOOD | {"numbers": {"size": ["", b"", 0]}},
        GOOD | {"numbers": {"size": [b"\0" * 8 * (3 * BINS + 1), b"", 0]}},
        GOOD | {"numbers": {"size": [b"\0" * 16, b"\0" * 12, 0]}},
        GOOD | {"numbers": {"size": [np.array([np.inf]).tobytes(), b"\0" * 8, 0]}},
        GOOD | {"categories": {"colour": [{"red": "x"}, 0, 0]}},
        GOOD | {"categories": {"colour": [{1: 2}, 0, 0]}},
        GOOD | {"categories": {"colour": [{str(at): 1 for at in range(LEVELS + 1)}, 0, 0]}},
        GOOD | {"categories": {"colour": [{}, 2**60, 0]}},
    ],
)
def test_what_cannot_be_a_profile_is_refused(bad: object) -> None:
    """Before anything is computed from it."""
    with pytest.raises(RemoteError, match="cannot be read"):
        Profile.from_data(bad)


def rows(start: int, count: int) -> dict[str, list[object]]:
    return {"size": [float(at) for at in range(start, start + count)], "colour": ["red"] * count}


def test_a_window_keeps_some_hundred_of_the_newest_rows_however_many_come() -> None:
    """A pane keeps a fair sample, and the oldest go."""
    window = Window(SCHEMA, 0)
    window.add(rows(0, PANE - 1), PANE - 1)
    assert not window.turn()
    window.add(rows(PANE - 1, 1), 1)
    assert window.turn()
    assert [row.cells[0] for row in window.rows(filling=False)] == [float(at) for at in range(PANE)]
    window.add(rows(1_000, 20_000), 20_000)
    assert window.turn()
    sizes = [float(str(row.cells[0])) for row in window.rows(filling=True)]
    assert len(sizes) == WINDOW
    assert 9_500 < np.mean(sizes) < 12_500
    window.add(rows(0, 5), 5)
    assert len(window.rows(filling=True)) == WINDOW + 5
    assert window.turns == 2


def test_a_window_keeps_the_same_rows_of_columns_that_are_one_text() -> None:
    """Whole rows, whatever they came as."""
    cells = [str(at) for at in range(2_000)]
    listed, packed = Window(SCHEMA, 0), Window(SCHEMA, 0)
    listed.add({"size": cells, "colour": cells}, 2_000)
    packed.add({name: Lines.of(cells) or [] for name in ("size", "colour")}, 2_000)
    kept = packed.rows(filling=True)
    assert kept == listed.rows(filling=True)
    assert {row.cells[0] == row.cells[1] for row in kept} == {True}


def test_a_window_knows_the_novelty_of_the_voters_that_answered_most() -> None:
    """Values under other voters cannot be compared."""
    window = Window(SCHEMA, 0)
    window.add(rows(0, 3), 3, np.array([1.0, 2.0, 3.0]), "a")
    window.add(rows(3, 6), 6, np.arange(6.0), "b")
    window.add(rows(9, 2), 2)
    assert window.profile(window.rows(filling=True), 1).novelty["b"].known == 6
    assert window.profile(window.rows(filling=True), 7).novelty == {}
