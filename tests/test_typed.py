"""Laws of rows that are read once and travel as arrays."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from p2pml.ensemble.encoder import Encoder
from p2pml.ensemble.fields import Field, Schema
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.space import Space
from p2pml.ensemble.typed import CODED, Reader, Typed
from p2pml.ensemble.values import Kind, numbers, row_count, texts
from p2pml.errors import BadInput, RemoteError

SCHEMA = Schema(
    "y",
    "regression",
    Kind.NUMBER,
    (
        Field("size", Kind.NUMBER),
        Field("town", Kind.CATEGORY),
        Field("sold", Kind.DATE),
        Field("new", Kind.BOOLEAN),
        Field("age", Kind.NUMBER),
        Field("void", Kind.EMPTY),
    ),
)


def rows(count: int) -> dict[str, list[object]]:
    """Some of everything, missing cells among it."""
    return {
        "size": [None if at % 7 == 0 else at / 3 for at in range(count)],
        "town": [("rome", "oslo", " NA ", 3.0)[at % 4] for at in range(count)],
        "sold": [None if at % 5 == 0 else f"20{at % 90 + 10}-01-01" for at in range(count)],
        "new": [("yes", "NO", None)[at % 3] for at in range(count)],
        "age": [str(at) for at in range(count)],
        "void": [None] * count,
    }


def sent(columns: dict[str, list[object]]) -> Typed:
    """Read, and as the voter gets it."""
    return Typed.from_data(msgpack.unpackb(msgpack.packb(Reader(SCHEMA).read(columns).to_data())))


@pytest.mark.parametrize("count", [1, 3, CODED, 500])
def test_a_voter_sees_the_same_rows_as_from_their_cells(count: int) -> None:
    """Byte for byte, in the model's numbers and in the shared space."""
    columns, training = rows(count), rows(400)
    encoder, space = Encoder.fit(SCHEMA, training), Space.of([Moments.of(SCHEMA, training)])
    for typed in (Reader(SCHEMA).read(columns | {"y": [1.0] * count}), sent(columns)):
        assert row_count(typed) == count
        assert encoder.encode(typed).tobytes() == encoder.encode(columns).tobytes()
        assert space.project(typed).tobytes() == space.project(columns).tobytes()
        assert set(typed) == set(columns)
        assert len(typed) == len(columns)


def test_a_column_is_read_as_whatever_the_voter_takes_it_for() -> None:
    """A model that was just trained anew may hold another kind of it than the one that asked."""
    for count in (3, CODED):
        typed = sent(rows(count))
        assert texts(typed["size"], "size")[1] == texts([1 / 3], "size")[0]
        assert typed.read(texts, "age", 1) == [str(at) for at in range(count)]
        assert typed.matrix(["size", "age"], 1).shape == (count, 2)
        assert "town" in typed
        assert "street" not in typed
        with pytest.raises(KeyError):
            _ = typed["street"]
        with pytest.raises(BadInput, match="row 1, column 'town'"):
            typed.matrix(["town"], 1)
    other = Typed(2, ((), np.empty((2, 0))), ((), np.empty((2, 0))), {}, {"n": ["1", None]}, {})
    assert other.matrix(["n"], 1)[:, 0].tolist()[0] == numbers(["1"], "n")[0]


def test_what_does_not_fit_the_schema_is_named() -> None:
    """By row and column, as `Schema.check` does."""
    reader = Reader(SCHEMA)
    with pytest.raises(BadInput, match="row 12, column 'size'"):
        reader.read(rows(3) | {"size": [1, 2, "x"]}, 10)
    with pytest.raises(BadInput, match="'age' is missing"):
        reader.read({name: cells for name, cells in rows(3).items() if name != "age"})
    with pytest.raises(BadInput, match="holds 2 cells"):
        reader.read(rows(3) | {"age": [1, 2]})


def broken(**change: Any) -> dict[str, Any]:
    return Reader(SCHEMA).read(rows(CODED)).to_data() | change


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        broken(rows=-1),
        broken(rows=True),
        broken(rows=CODED + 1),
        broken(numbers=[["size"], b"1234"]),
        broken(numbers=[["size"], np.full(CODED, np.inf).tobytes()]),
        broken(numbers=[["size", "size"], np.zeros(2 * CODED).tobytes()]),
        broken(numbers=[[7], np.zeros(CODED).tobytes()]),
        broken(coded={"town": [["a"], bytes([1] * CODED)]}),
        broken(coded={"town": [[7], bytes(CODED)]}),
        broken(coded={"town": [["a"], bytes(3)]}),
        broken(texts={"x": ["a"]}),
        broken(texts={"x": [1.0] * CODED}),
        broken(others={"x": [[]] * CODED}),
    ],
)
def test_what_is_no_rows_is_refused(data: object) -> None:
    """Sizes, names, codes and numbers are checked before anything is used."""
    with pytest.raises(RemoteError, match="cannot be read"):
        Typed.from_data(data)
