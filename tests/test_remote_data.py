"""Laws of what other peers send: it is used, or refused with a RemoteError, and nothing else happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.combine import combine
from p2pml.ensemble.encoder import Encoder
from p2pml.ensemble.knowledge import Knowledge
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.schema import Schema, infer
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError

TABLE: dict[str, list[object]] = {"n": [1.5, None], "c": ["x", "y"], "d": ["2024-01-31", None], "y": ["a", "b"]}
SCHEMA = infer(TABLE, "y")
VOTE = Vote(("a", "b"), np.array([[0.25, 0.75], [0.5, 0.5]]))
ANSWER = combine([("", VOTE, 1)])
NUMBERS = combine([("", Vote(None, np.array([1.0, 2.0])), 1)])

KINDS: dict[str, tuple[dict[str, Any], Callable[[object], Any]]] = {
    "schema": (SCHEMA.to_data(), Schema.from_data),
    "encoder": (Encoder.fit(SCHEMA, TABLE).to_data(), Encoder.from_data),
    "vote": (VOTE.to_data(), lambda data: Vote.from_data(data, 2)),
    "moments": (Moments.of(SCHEMA, TABLE, 1).to_data(), Moments.from_data),
    "knowledge": (Knowledge("a" * 32, "b" * 32, Calibration(3)).to_data(), Knowledge.from_data),
    "sums": (RegressionStatistics.of(np.array([1.0, 3.0]), NUMBERS).to_data(), RegressionStatistics.from_data),
    "counts": (
        ClassificationStatistics.of(np.array(["a", "b"], object), ANSWER).to_data(),
        ClassificationStatistics.from_data,
    ),
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=40)
    | st.sampled_from(["number", "a", "b", "n", 2**64, -1])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4), max_leaves=9
)


def changed(data: Any, path: list[int], value: object) -> Any:
    """The same data with one place in it, somewhere below `path`, replaced."""
    if not path or not isinstance(data, dict | list) or not data:
        return value
    here = path[0] % len(data)
    if isinstance(data, dict):
        key = sorted(data)[here]
        return {**data, key: changed(data[key], path[1:], value)}
    return [*data[:here], changed(data[here], path[1:], value), *data[here + 1 :]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_peer_sends_is_read_unchanged(kind: str) -> None:
    """The untouched data are no error."""
    data, read = KINDS[kind]
    assert read(data).to_data() == data


@pytest.mark.parametrize("kind", KINDS)
@given(path=st.lists(st.integers(0, 20), max_size=4), value=anything)
def test_whatever_a_peer_sends_does_no_harm(kind: str, path: list[int], value: object) -> None:
    """One place replaced by anything at all either still reads, and writes again, or is a RemoteError."""
    data, read = KINDS[kind]
    with contextlib.suppress(RemoteError):
        read(changed(data, path, value)).to_data()
