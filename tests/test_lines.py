"""Laws of a column as one text: whatever is done to it comes to what it would with a list of its cells."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.lines import Lines
from p2pml.ensemble.values import BadValue, numbers, texts

CELLS = st.lists(st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"])), min_size=1)
NUMBERS = st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.just("")), min_size=1)


@given(CELLS)
def test_lines_are_the_cells_that_they_were_made_of(cells: list[str]) -> None:
    """One by one, in slices, and put together again."""
    lines = Lines.of(cells)
    assert lines is not None
    places = range(0, len(cells), 2)
    assert lines.picked(places) == cells[::2]
    assert (list(lines), len(lines), lines[-1], lines[1:3]) == (cells, len(cells), cells[-1], cells[1:3])
    assert list(Lines.joined([lines, lines])) == 2 * cells
    assert lines.picked(places) == cells[::2]
    raw, ends = lines.encoded()
    assert [raw[start:end].decode() for start, end in pairwise(ends)] == cells


@given(NUMBERS)
def test_numbers_are_read_to_the_last_digit(cells: list[str]) -> None:
    """And an empty cell is missing."""
    lines = Lines.of(cells)
    assert lines is not None
    expected = np.array([float(cell) if cell else np.nan for cell in cells])
    for found in (lines.floats(), numbers(lines, "x"), numbers(cells, "x")):
        assert found is not None
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("cells", [["a", "b\nc"], ["a", None], [1.0, "a"], []])
def test_other_cells_are_no_lines(cells: list[object]) -> None:
    """A line feed would be read as one more cell, and no cells at all as one."""
    assert Lines.of(cells) is None


@pytest.mark.parametrize("odd", ["1,2", "[1", "1e999x", "å", "nan", " NA ", "1_2", '"1"'])
def test_a_cell_that_is_no_plain_number_is_left_to_a_closer_look(odd: str) -> None:
    """Which knows how people write what is missing, and names the row of what is no number."""
    lines = Lines.of(["1", odd, "2"])
    assert lines is not None
    assert lines.floats() is None
    if odd in ("nan", " NA "):
        assert np.array_equal(numbers(lines, "x"), [1, np.nan, 2], equal_nan=True)
    else:
        with pytest.raises(BadValue, match="row 2, column 'x'"):
            numbers(lines, "x")


def test_categories_are_read_as_from_a_list() -> None:
    """The same canonical texts."""
    cells = ["3.0", "", "TRUE", " red ", "NA"]
    lines = Lines.of(cells)
    assert lines is not None
    assert texts(lines, "x") == texts(cells, "x")
