"""Laws of how rows become numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.encoder import FAR, MAX_LEVELS, Encoder
from p2pml.ensemble.schema import Field, Kind, Schema
from p2pml.ensemble.values import BadValue
from p2pml.errors import BadInput, RemoteError

KINDS = {"n": Kind.NUMBER, "c": Kind.CATEGORY, "b": Kind.BOOLEAN, "d": Kind.DATE, "e": Kind.EMPTY}
ROWS: dict[str, list[object]] = {
    "n": ["1", "3", "NA", "8"],
    "c": ["x", "y", "x", "z"],
    "b": ["yes", "no", "no", "yes"],
    "d": ["2024-01-31T05:00", "2024-02-01", "", "1969-12-31T23:00"],
    "e": ["", "", "", ""],
}


def schema(names: str) -> Schema:
    return Schema("y", "regression", Kind.NUMBER, tuple(Field(name, KINDS[name]) for name in names))


def encode(cells: list[object], trained: list[object], kind: str) -> list[list[float]]:
    """One column's cells, as an encoder makes them that was fitted on `trained`."""
    rows: list[list[float]] = Encoder.fit(schema(kind), {kind: trained}).encode({kind: cells}).tolist()
    return rows


def test_an_estimator_sees_finite_float32_of_one_shape() -> None:
    """Whatever is missing, each row has the same width and no NaN."""
    encoder = Encoder.fit(schema("ncbde"), ROWS)
    encoded = encoder.encode(ROWS)
    assert np.array_equal(encoded, encoded.astype(np.float32))
    assert encoded.shape == (4, encoder.width)
    assert encoder.width == (1 + 1 + 4) + 2 + 3
    assert np.isfinite(encoded).all()


def test_a_missing_number_is_the_median_with_a_flag() -> None:
    """The flag is there only where training had missing values."""
    trained: list[object] = ["1", "3", "NA", "8"]
    scale, mean = np.std([1, 3, 8]), np.mean([1, 3, 8])
    expected = np.array([[(3 - mean) / scale, 1], [(8 - mean) / scale, 0]], np.float32)
    assert np.array_equal(encode([None, 8], trained, "n"), expected)
    assert encode([None, 2], [1, 3], "n") == [[0], [0]]


def test_a_category_is_one_hot_and_an_unseen_one_is_all_zeros() -> None:
    """Levels stand by frequency, then by name; missing has a place where training had it."""
    assert encode(["x", "z", "y", "new", None], ["x", "y", "x", "z"], "c") == [
        *([1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0])
    ]
    assert encode(["x", None], ["x", None], "c") == [[1, 0], [0, 1]]


def test_rare_levels_share_a_place_with_the_unseen() -> None:
    """Only the most frequent have one of their own."""
    trained: list[object] = [*(f"{index:03}" for index in range(MAX_LEVELS + 2)), "065"]
    rows = np.array(encode(["065", "000", "064", "new"], trained, "c"))
    assert rows.shape == (4, MAX_LEVELS + 1)
    assert rows.argmax(axis=1).tolist() == [0, 1, MAX_LEVELS, MAX_LEVELS]
    assert rows.sum(axis=1).tolist() == [1, 1, 1, 1]


def test_a_boolean_is_one_or_minus_one_and_else_zero() -> None:
    """Neither a missing nor an unknown one leans to a side; a flag tells the missing one."""
    assert encode(["yes", "no", None, "perhaps"], ["yes", None], "b") == [[1, 0], [-1, 0], [0, 1], [0, 0]]


def test_a_date_is_a_moment_a_month_a_weekday_and_an_hour() -> None:
    """Each has its own scale, and dates before 1970 count too."""
    encoder = Encoder.fit(schema("d"), ROWS)
    measures = encoder.encode({"d": ROWS["d"]}) * np.append(encoder.scale, 1) + np.append(encoder.mean, 0)
    assert np.round(measures[:, 1:]).tolist() == [[1, 2, 5, 0], [2, 3, 0, 0], [2, 2, 5, 1], [12, 2, 23, 0]]


def test_an_empty_column_is_not_looked_at() -> None:
    """It may hold anything, or not be there at all."""
    encoder = Encoder.fit(schema("ne"), ROWS)
    assert np.array_equal(encoder.encode({"n": ["1"]}), encoder.encode({"n": ["1"], "e": [object()]}))


def test_rows_of_nothing_known_have_no_width() -> None:
    """A schema of empty columns encodes to rows without numbers."""
    assert Encoder.fit(schema("e"), ROWS).encode(ROWS).shape == (4, 0)


def test_no_rows_encode_to_no_rows() -> None:
    """The width is known all the same."""
    encoder = Encoder.fit(schema("ncbd"), ROWS)
    assert encoder.encode({name: [] for name in "ncbd"}).shape == (0, encoder.width)


def test_a_column_without_any_training_value_still_encodes() -> None:
    """The rows held out may be the only ones that had one."""
    encoder = Encoder.fit(schema("ncbd"), {name: [None, None] for name in "ncbd"})
    assert np.isfinite(encoder.encode(ROWS)).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2), st.floats(allow_infinity=False))
def test_no_number_is_too_large_to_encode(trained: list[float], value: float) -> None:
    """Scaling neither overflows nor divides by nothing, and what is far is cut off."""
    column: list[object] = [*trained]
    encoded = np.array(encode([*column, value], column, "n"))
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max() <= FAR


def test_a_category_without_a_place_makes_no_number() -> None:
    """No training gives such an encoder, but another peer may send one."""
    told = Encoder.fit(schema("c"), {"c": ["a"]}).to_data() | {"categories": [["c", [], False, False]]}
    assert Encoder.from_data(told).encode({"c": ["a", "b"]}).shape == (2, 0)


def test_a_constant_column_encodes_to_zero() -> None:
    """Rounding in the mean is not blown up to a difference."""
    assert np.abs(encode([0.1, 0.1], [0.1] * 7, "n")).max() < 1e-12


def test_scaling_is_done_in_float64() -> None:
    """Moments that float32 cannot tell apart stay apart."""
    trained: list[object] = [1_700_000_000.0 + index for index in range(10)]
    assert len(np.unique(encode(trained, trained, "n"))) == 10


def test_a_cell_that_cannot_be_read_names_its_row() -> None:
    """Rows count from `first_row`."""
    encoder = Encoder.fit(schema("n"), ROWS)
    with pytest.raises(BadValue, match="row 101, column 'n': 'x'"):
        encoder.encode({"n": ["1", "x"]}, first_row=100)
    with pytest.raises(BadInput, match="column 'z' holds 2 cells"):
        encoder.encode({"n": ["1"], "z": [1, 2]})


def test_rows_encode_alike_alone_and_together() -> None:
    """A row's numbers do not depend on its neighbours."""
    encoder = Encoder.fit(schema("ncbd"), ROWS)
    alone = [encoder.encode({name: cells[index : index + 1] for name, cells in ROWS.items()}) for index in range(4)]
    assert np.array_equal(np.vstack(alone), encoder.encode(ROWS))


def test_an_encoder_survives_its_journey_bit_for_bit() -> None:
    """The same data give the same digest and the same numbers."""
    encoder = Encoder.fit(schema("ncbde"), ROWS)
    read = Encoder.from_data(json.loads(json.dumps(encoder.to_data())))
    assert read.digest == encoder.digest
    assert np.array_equal(read.encode(ROWS), encoder.encode(ROWS))
    assert Encoder.fit(schema("nc"), ROWS).digest != encoder.digest


@pytest.mark.parametrize(
    "change",
    [
        {"fill": [0.0]},
        {"fill": None},
        {"mean": [float("nan")] * 6},
        {"mean": [0] * 6},
        {"scale": [0.0] * 6},
        {"scale": [-1.0] * 6},
        {"flags": [6]},
        {"flags": [1, 0]},
        {"flags": [True]},
        {"flags": 5},
        {"numbers": ["c"]},
        {"numbers": [5]},
        {"numbers": [""]},
        {"numbers": "n"},
        {"numbers": [["n"]]},
        {"categories": [["c", ["x"], 1, False]]},
        {"categories": [["c", ["x", "x"], True, False]]},
        {"categories": [["c", ["x" * 300], True, False]]},
        {"categories": [["c", [str(i) for i in range(MAX_LEVELS + 1)], True, False]]},
        {"categories": [["c", ["x"], True]]},
        {"categories": [[f"c{i}", [f"{j}" for j in range(64)], False, False] for i in range(4_200)]},
        {"more": 1},
    ],
)
def test_an_encoder_that_cannot_be_is_a_remote_error(change: dict[str, Any]) -> None:
    """Counts, ranges and names are checked before anything is built."""
    data = Encoder.fit(schema("ncbd"), ROWS).to_data()
    with pytest.raises(RemoteError, match="the encoder that a peer sent cannot be read"):
        Encoder.from_data({**data, **change})


@pytest.mark.parametrize("data", [None, 5, [], {}, "encoder"])
def test_anything_else_is_no_encoder(data: object) -> None:
    """Any data is refused in the same way."""
    with pytest.raises(RemoteError):
        Encoder.from_data(data)
