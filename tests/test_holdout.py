"""Laws of holding rows out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.holdout import split
from p2pml.errors import BadInput


@given(st.integers(1, 500), st.floats(0, 0.999), st.integers(0, 2**32))
def test_every_row_is_on_one_side_and_one_at_least_trains(rows: int, share: float, seed: int) -> None:
    """Both sides ascend, and the same seed cuts the same."""
    train, held_out = split(rows, share, seed)
    assert sorted([*train, *held_out]) == list(range(rows))
    assert len(held_out) == min(round(rows * share), rows - 1)
    assert sorted(train) == train.tolist()
    assert sorted(held_out) == held_out.tolist()
    assert np.array_equal(split(rows, share, seed)[0], train)


def test_anyone_can_repeat_the_choice_with_numpy() -> None:
    """The first of a seeded permutation are held out."""
    order = np.random.default_rng(7).permutation(487)
    assert split(487, 0.2, 7)[1].tolist() == sorted(order[:97].tolist())


@pytest.mark.parametrize(
    ("rows", "share", "seed", "sentence"),
    [
        (9, 1.0, 0, "--holdout 1.0 is no share of the rows"),
        (9, -0.1, 0, "--holdout -0.1 is no share of the rows"),
        (9, float("nan"), 0, "--holdout nan is no share of the rows"),
        (0, 0.2, 0, "there are no rows to split"),
        (9, 0.2, -1, "--seed -1 is negative"),
    ],
)
def test_what_cannot_be_split_names_the_flag(rows: int, share: float, seed: int, sentence: str) -> None:
    """One sentence, with the way out."""
    with pytest.raises(BadInput, match=sentence):
        split(rows, share, seed)
