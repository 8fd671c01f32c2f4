"""Laws of votes and of how they travel."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError

CLASSES = ("no", "yes")


def shares(*rows: tuple[float, float]) -> Vote:
    return Vote(CLASSES, np.array(rows, float).reshape(-1, 2))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.booleans())
def test_a_vote_survives_its_journey_bit_for_bit(values: list[float], classes: bool) -> None:
    """Through msgpack the values are the same floats."""
    vote = Vote(None, np.array(values, float))
    if classes:
        vote = shares(*((1 / (2 + index), 1 - 1 / (2 + index)) for index in range(len(values))))
    read = Vote.from_data(msgpack.unpackb(msgpack.packb(vote.to_data())), len(values))
    assert read.classes == vote.classes
    assert np.array_equal(read.values, vote.values)
    assert read.values.flags.writeable


def raw(*values: float) -> bytes:
    return np.array(values, "<f8").tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"values": raw(0.5, 0.5, 0.5)},
        {"values": raw(0.5, 0.5, 0.5, 0.5, 0.5)},
        {"values": raw(0.5, 0.5, float("nan"), 0.5)},
        {"values": raw(0.5, 0.5, float("inf"), 0.5)},
        {"values": raw(-0.5, 1.5, 0.5, 0.5)},
        {"values": raw(0.5, 0.5, 0.5, 0.6)},
        {"values": [0.5, 0.5, 0.5, 0.5]},
        {"values": None},
        {"shape": [4]},
        {"shape": [1, 4]},
        {"shape": [2, 2, 1]},
        {"shape": None},
        {"classes": ["yes", "no"]},
        {"classes": ["no", "no"]},
        {"classes": ["no"]},
        {"classes": None},
        {"classes": "no"},
        {"more": 1},
    ],
)
def test_a_vote_that_cannot_be_is_a_remote_error(change: dict[str, Any]) -> None:
    """Shape, finiteness and sums are checked before anything is counted."""
    data = {**shares((0.25, 0.75), (1, 0)).to_data(), **change}
    with pytest.raises(RemoteError, match="the vote that a peer cast cannot be read"):
        Vote.from_data(data, 2)


@pytest.mark.parametrize("data", [None, 5, [], {}, "vote", {"classes": None, "shape": [2]}])
def test_anything_else_is_no_vote(data: object) -> None:
    """Any data is refused in the same way."""
    with pytest.raises(RemoteError):
        Vote.from_data(data, 2)


def test_a_vote_on_other_rows_is_refused() -> None:
    """Who asks knows how many rows were asked about."""
    for rows in (0, 1, 3):
        with pytest.raises(RemoteError):
            Vote.from_data(Vote(None, np.zeros(2)).to_data(), rows)
