"""Laws of how raw cells become typed arrays."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.values import (
    MANY,
    MAX_TEXT,
    MISSING_SPELLINGS,
    BadValue,
    Kind,
    booleans,
    canonical_number,
    cells_of,
    dates,
    kind_of,
    number_matrix,
    numbers,
    row_count,
    texts,
)
from p2pml.errors import BadInput

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite | st.integers(-(2**53), 2**53)))
def test_numbers_read_what_was_written_whatever_the_spelling(values: list[float]) -> None:
    """A number, its repr and its padded repr are the same number."""
    expected = np.array(values, float)
    for cells in (values, [repr(v) for v in values], [f" {v!r}\t" for v in values]):
        assert np.array_equal(numbers(cells, "x"), expected)


written = st.decimals(allow_nan=False, allow_infinity=False, places=12).map(str) | finite.map(repr) | st.just("")
odd = st.sampled_from([",", "1,2", "null", "[1", "2]", '"a', 'b"', "+1", "1.", "x", "\ud800", "true", " 1"])


@given(st.lists(written | odd))
def test_texts_read_in_one_go_are_what_each_is_alone(cells: list[str]) -> None:
    """To the last digit; and what is no number is one in no company."""

    def read(cells: list[str]) -> list[float] | None:
        try:
            return list(numbers(cells, "x"))
        except BadValue:
            return None

    alone = [read([cell, "-"]) for cell in cells]
    expected = None if None in alone else [each[0] for each in alone if each]
    assert str(read(cells)) == str(expected)


@pytest.mark.parametrize("spelling", [*sorted(MISSING_SPELLINGS), None, math.nan, Decimal("NaN")])
@pytest.mark.parametrize("dress", [str, str.upper, str.title, lambda text: f"  {text} "])
def test_each_usual_spelling_is_missing_in_every_kind_of_column(spelling: object, dress: object) -> None:
    """Case and spaces do not matter, and neither does the kind of the column."""
    cell = dress(spelling) if isinstance(spelling, str) and callable(dress) else spelling
    assert np.isnan(numbers([cell, 1], "x")).tolist() == [True, False]
    assert np.isnan(booleans([cell, "yes"], "x")).tolist() == [True, False]
    assert np.isnan(dates([cell, "2024-01-31"], "x")).tolist() == [True, False]
    assert texts([cell, "a"], "x") == [None, "a"]
    assert kind_of([cell], "x") is Kind.EMPTY


def test_text_among_numbers_names_row_column_and_value() -> None:
    """The first cell that is no number is named, counted from `first_row`."""
    with pytest.raises(BadValue, match=r"^row 12, column 'size': 'big' is not a number: ") as caught:
        numbers(["1", "NA", "big", "huge"], "size", first_row=10)
    assert (caught.value.row, caught.value.column, caught.value.value) == (12, "size", "big")


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", math.inf, 10**400, Decimal("Infinity")])
def test_infinities_are_refused_with_the_way_out(cell: object) -> None:
    """No model learns from an infinity, however it is spelled."""
    with pytest.raises(BadValue, match=r"row 3, column 'x': .* is infinite: give a finite number"):
        numbers(["1", "", cell], "x")
    with pytest.raises(BadValue, match="row 2"):
        kind_of(["1", cell, "2"], "x")


@pytest.mark.parametrize("cell", ["1_000", "0x10", "1,5", [1], {"a": 1}, 1j, datetime(2024, 1, 1)])
def test_what_only_looks_like_a_number_is_none(cell: object) -> None:
    """Python's own liberties, such as underscores, are no numbers in a table."""
    with pytest.raises(BadValue, match="is not a number"):
        numbers([1.0, cell], "x")


def test_a_long_value_is_cut_short_in_the_sentence() -> None:
    """A cell of free text does not flood the message."""
    with pytest.raises(BadValue) as caught:
        numbers(["x" * 5_000], "x")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("times", [1, MANY])
@given(st.lists(st.tuples(finite, finite, finite), max_size=20))
def test_a_matrix_is_its_columns_side_by_side(times: int, rows: list[tuple[float, float, float]]) -> None:
    """Reading columns at once or one by one is the same."""
    rows = times * rows
    columns = {name: [row[index] for row in rows] for index, name in enumerate("abc")}
    matrix = number_matrix(columns, list("abc"))
    assert matrix.shape == (len(rows), 3)
    assert np.array_equal(matrix, np.array(rows, float).reshape(-1, 3))


def test_a_matrix_names_the_cell_that_is_no_number() -> None:
    """The fast path gives way to the one that knows row and column."""
    with pytest.raises(BadValue, match="row 2, column 'b': 'x'"):
        number_matrix({"a": ["1", "2"], "b": ["1", "x"]}, ["a", "b"])
    with pytest.raises(BadValue, match="row 1, column 'b': inf"):
        number_matrix({"a": [1.0, 2.0], "b": [math.inf, 1.0]}, ["a", "b"])


def test_a_matrix_of_odd_cells_is_read_cell_by_cell() -> None:
    """An unusual spelling in one column does not spoil the others."""
    matrix = number_matrix({"a": [" Na ", 1], "b": [2, 3]}, ["a", "b"])
    assert np.array_equal(matrix, np.array([[math.nan, 2], [1, 3]]), equal_nan=True)


def test_texts_are_the_same_from_files_and_from_json() -> None:
    """3, 3.0 and "3" name one category; so do True and "TRUE"."""
    assert texts(["3", " a ", "TRUE", "", None], "x") == ["3", "a", "true", None, None]
    assert texts([3, 3.0, True, -0.0, 0.5, Decimal(3), np.int64(3), np.bool_(False)], "x") == [
        *("3", "3", "true", "0", "0.5", "3", "3", "false")
    ]
    assert texts([date(2024, 1, 31), 10**30], "x") == ["2024-01-31", "1" + "0" * 30]


@pytest.mark.parametrize("cell", [math.inf, [1], {}, b"a", object()])
def test_a_cell_that_is_no_single_value_is_refused(cell: object) -> None:
    """Lists, objects and infinities are no categories."""
    with pytest.raises(BadValue, match=r"row 2, column 'x': .* is no single finite value"):
        texts(["a", cell], "x")


def test_long_texts_are_told_apart_by_their_beginning() -> None:
    """Free text cannot fill a table of levels."""
    assert texts(["a" * 1_000], "x") == ["a" * MAX_TEXT]


def test_booleans_are_one_and_minus_one_and_zero_for_neither() -> None:
    """What no boolean column held in training says neither true nor false."""
    cells: list[object] = ["yes", "N", "On", "f", True, False, 1, 0, "", "perhaps"]
    assert np.array_equal(booleans(cells, "x"), [1, -1, 1, -1, 1, -1, 1, -1, math.nan, 0], equal_nan=True)


def test_dates_are_seconds_since_1970_utc() -> None:
    """A zone is honoured, and a time without one counts as UTC."""
    moment = datetime(2024, 1, 31, 12, 0, tzinfo=UTC).timestamp()
    east = timezone(timedelta(hours=2))
    cells = ["2024-01-31T12:00", "2024/01/31 12:00:00", "2024-01-31T14:00+02:00", "2024-01-31T12:00Z"]
    assert dates(cells, "x").tolist() == [moment] * 4
    assert dates([datetime(2024, 1, 31, 12), datetime(2024, 1, 31, 14, tzinfo=east)], "x").tolist() == [moment] * 2
    assert dates([date(1970, 1, 2), "1970-01-02", "1970-01-02", "1969-12-31"], "x").tolist() == [86400] * 3 + [-86400]


@pytest.mark.parametrize("cell", ["2024-13-01", "31.01.2024", "20240131", "soon", 5, True])
def test_what_is_no_date_names_row_and_column(cell: object) -> None:
    """Only ISO 8601 is a date: all else is ambiguous somewhere."""
    with pytest.raises(BadValue, match=r"row 7, column 'when': .* is not a date: write it as 2024-01-31"):
        dates(["2024-01-31", cell], "when", first_row=6)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "NA", "2.5"], Kind.NUMBER),
        (["0", "1", "1"], Kind.NUMBER),
        ([" Na ", "1"], Kind.NUMBER),
        ([10**5, 0.5, None, True], Kind.NUMBER),
        ([Decimal("1.5")], Kind.NUMBER),
        ([True, None, False], Kind.BOOLEAN),
        (["Y", "n", ""], Kind.BOOLEAN),
        (["yes", "No", "maybe"], Kind.CATEGORY),
        (["2024-01-31", None], Kind.DATE),
        ([datetime(2024, 1, 31)], Kind.DATE),
        (["2024-01-31", "later"], Kind.CATEGORY),
        (["1", "2", "x"], Kind.CATEGORY),
        (["1_2", "3_4"], Kind.CATEGORY),
        (["", None, "?"], Kind.EMPTY),
        ([], Kind.EMPTY),
    ],
)
def test_a_column_is_the_first_kind_that_fits_every_cell(cells: list[object], kind: Kind) -> None:
    """Missing cells have no say."""
    assert kind_of(cells, "x") is kind


def test_columns_may_be_any_sequence() -> None:
    """Arrays of numpy, also of dates, and tuples are columns too."""
    moments = np.array(["2024-01-31", "NaT"], "datetime64[ns]")
    assert cells_of(moments) == [datetime(2024, 1, 31), None]
    assert kind_of(moments, "x") is Kind.DATE  # type: ignore[arg-type]
    assert numbers(np.array([1.5, np.nan]), "x")[0] == 1.5  # type: ignore[arg-type]
    assert texts(("a", "b"), "x") == ["a", "b"]


def test_columns_of_unequal_length_are_named() -> None:
    """Rows need a cell in every column."""
    assert row_count({}) == 0
    with pytest.raises(BadInput, match="column 'b' holds 1 cells and column 'a' holds 2"):
        row_count({"a": [1, 2], "b": [1]})


@given(finite)
def test_a_canonical_number_reads_back_exactly(value: float) -> None:
    """No number changes by being a label."""
    assert float(canonical_number(value)) == value
