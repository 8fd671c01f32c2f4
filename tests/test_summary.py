"""Laws of the summary and of fit commands."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.summary import MAX_TEXT, Epoch, FitCommand, ModelState, Summary
from p2pml.errors import RemoteError

PEER = "0" * 32


def test_a_summary_survives_the_journey() -> None:
    """What one peer says is what another reads."""
    summary = Summary(
        ModelState.READY,
        "linear",
        Epoch(3, PEER),
        voting=True,
        schema="f" * 32,
        task="regression",
        target="y",
        rows=10,
        held_out=2,
        digest="d" * 64,
        metrics={"r2": 0.5, "mean_squared_log_error": None},
    )
    assert Summary.from_data(msgpack.unpackb(msgpack.packb(summary.to_data()))) == summary


def test_a_long_reason_is_cut_to_what_others_accept() -> None:
    """A sentence that is too long does not cost the summary."""
    summary = Summary(ModelState.FAILED, "linear", reason="x" * 10_000, target="y" * 10_000)
    assert len(Summary.from_data(summary.to_data()).reason or "") == MAX_TEXT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "dreaming"),
        ("voting", 1),
        ("voting", None),
        ("epoch", [1]),
        ("epoch", [-1, PEER]),
        ("epoch", [1, "short"]),
        ("rows", -1),
        ("rows", True),
        ("rows", 2**60),
        ("held_out", 1.5),
        ("reason", "x" * (MAX_TEXT + 1)),
        ("model", b"bytes"),
        ("metrics", []),
        ("metrics", {"r2": float("nan")}),
        ("metrics", {"r2": "good"}),
        ("metrics", {1: 1.0}),
        ("metrics", {str(number): 1.0 for number in range(17)}),
    ],
)
def test_a_summary_that_is_off_in_one_field_is_refused(field: str, value: Any) -> None:
    """Nothing that another peer claims is taken unchecked."""
    data = Summary(ModelState.READY, "linear").to_data() | {field: value}
    with pytest.raises(RemoteError):
        Summary.from_data(data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_data_makes_reading_fail_otherwise(data: Any) -> None:
    """Any plain data is read or refused, and nothing else happens."""
    for read in (Summary.from_data, FitCommand.from_data, Epoch.from_data):
        try:
            read(data)
        except RemoteError:
            continue


def test_the_later_epoch_wins_and_a_tie_goes_to_one_peer() -> None:
    """Two fits at once resolve to one, the same everywhere."""
    assert Epoch(2, "a") > Epoch(1, "b")
    assert Epoch(1, "b") > Epoch(1, "a") > Epoch()


def test_a_fit_cannot_name_code() -> None:
    """What code runs on a machine is said on that machine."""
    with pytest.raises(RemoteError, match="factory"):
        FitCommand.from_data({"epoch": [1, PEER], "model": "os:system"})
    command = FitCommand(Epoch(1, PEER), "linear")
    assert FitCommand.from_data(command.to_data()) == command
