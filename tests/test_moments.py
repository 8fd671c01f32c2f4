"""Laws of moments: exact under any grouping, silent about small groups, and safe to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.ensemble.coordinates import MOST_COLUMNS, MOST_FLAGGED, Key
from p2pml.ensemble.fields import Field, Schema
from p2pml.ensemble.moments import HUGE, Moments
from p2pml.ensemble.values import Columns, Kind
from p2pml.errors import RemoteError

SCHEMA = Schema(
    "y",
    "regression",
    Kind.NUMBER,
    (Field("a", Kind.NUMBER), Field("b", Kind.NUMBER), Field("c", Kind.CATEGORY), Field("d", Kind.DATE)),
)


def part(seed: int, rows: int = 30, offset: float = 0.0) -> dict[str, list[object]]:
    """Two numbers, one with gaps, a category and a date."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(rows) < 0.3
    return {
        "a": (rng.normal(size=rows) + offset).tolist(),
        "b": [None if gap else value for gap, value in zip(gaps, rng.normal(5, 2, rows).tolist(), strict=True)],
        "c": rng.choice(["red", "green", "blue"], rows).tolist(),
        "d": [f"2024-{month:02}-01" for month in rng.integers(1, 13, rows)],
    }


def together(*parts: dict[str, list[object]]) -> dict[str, list[object]]:
    return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}


def same(one: Moments, two: Moments) -> None:
    assert one.keys == two.keys
    assert one.centre == pytest.approx(two.centre, rel=1e-9, abs=1e-9)
    assert one.products == pytest.approx(two.products, rel=1e-9, abs=1e-7)


@settings(max_examples=20)
@given(st.permutations(range(4)), st.integers(0, 1000), st.sampled_from([0.0, 1e6]))
def test_any_grouping_and_order_gives_the_moments_of_all_rows(order: list[int], seed: int, offset: float) -> None:
    """To nine digits, also where a column lies far from zero."""
    parts = [part(seed + at, offset=offset) for at in range(4)]
    each = [Moments.of(SCHEMA, some, 1) for some in parts]
    a, b, c, d = (each[at] for at in order)
    whole = Moments.of(SCHEMA, together(*parts), 1)
    same(a.merge(b).merge(c).merge(d), whole)
    same(a.merge(b.merge(c.merge(d))), whole)
    same(a.merge(b).merge(c.merge(d)), whole)


def test_they_are_what_statistics_call_moments() -> None:
    """Counts, means and covariances stand in the products."""
    rows = part(1)
    found = Moments.of(SCHEMA, rows)
    at = {key: index for index, key in enumerate(found.keys, 1)}
    a = np.array(rows["a"], float)
    assert found.rows == 30
    assert found.centre[at["number", "a", ""] - 1] == pytest.approx(a.mean())
    assert found.products[at["number", "a", ""], at["number", "a", ""]] == pytest.approx(30 * a.var())
    assert found.products[0, at["level", "c", "red"]] == rows["c"].count("red")
    assert found.products[0, at["missing", "b", ""]] == rows["b"].count(None)
    reds = np.array([text == "red" for text in rows["c"]])
    expected = (a - a.mean())[reds].sum()
    assert found.products[at["number", "a", ""], at["level", "c", "red"]] == pytest.approx(expected)


def test_a_column_that_a_part_lacks_is_missing_there() -> None:
    """An empty column counts as missing, and the mean is that of the rows that have it."""
    empty = Schema("y", "regression", Kind.NUMBER, (Field("a", Kind.EMPTY), *SCHEMA.fields[1:]))
    lacking = Moments.of(empty, part(2) | {"a": [None] * 30})
    has = Moments.of(SCHEMA, part(3))
    both = lacking.merge(has)
    key: Key = ("number", "a", "")
    assert both.centre[both.keys.index(key)] == pytest.approx(has.centre[has.keys.index(key)])
    assert both.known([key]).tolist() == [30]
    assert both.known([("number", "nowhere", "")]).tolist() == [0]


def told(columns: Columns, *fields: Field) -> dict[Key, float]:
    """The sum of each coordinate's squares."""
    found = Moments.of(Schema("y", "regression", Kind.NUMBER, fields), columns, 5)
    return dict(zip(found.keys, found.products.diagonal()[1:].tolist(), strict=True))


def test_groups_smaller_than_the_least_are_not_told_of() -> None:
    """Whether a rare level, a rare gap, a value that few differ from, or a part of few rows."""
    number, text = Field("n", Kind.NUMBER), Field("c", Kind.CATEGORY)
    assert set(told({"c": ["x"] * 4 + ["y"] * 20}, text)) == {("level", "c", "y")}
    assert told({"c": ["x"] * 4 + ["y"] * 20}, text)["level", "c", "y"] == 24
    assert told({"c": ["x"] * 6 + ["y"] * 20}, text) == {("level", "c", "x"): 6, ("level", "c", "y"): 20}
    assert told({"n": [None] * 4 + list(range(20))}, number).keys() == {("number", "n", "")}
    assert told({"n": [None] * 20 + [1, 2, 3, 4]}, number) == {("missing", "n", ""): 24}
    assert told({"n": [0] * 20 + [7, 8, 9, 9]}, number) == {("number", "n", ""): 0}
    assert told({"n": [HUGE * 10] * 9}, number) == {("missing", "n", ""): 9}
    few = Moments.of(SCHEMA, part(1, rows=4), 5)
    assert (few.keys, few.rows) == ((), 0)
    same(few.merge(Moments.of(SCHEMA, part(2))), Moments.of(SCHEMA, part(2)))


def test_wide_tables_stay_within_bounds() -> None:
    """Gaps have no coordinates beyond one number of columns, and columns none beyond another."""
    many = [Field(f"n{at}", Kind.NUMBER) for at in range(MOST_COLUMNS + 50)]
    columns = {field.name: [1.0, 2.0, None, 4.0, 5.0, 6.0] for field in many}
    found = Moments.of(Schema("y", "regression", Kind.NUMBER, tuple(many)), columns, 1)
    assert len(found.keys) == MOST_COLUMNS
    assert {key[0] for key in found.keys} == {"number"}
    fewer = tuple(many[: MOST_FLAGGED + 1])
    assert len(Moments.of(Schema("y", "regression", Kind.NUMBER, fewer), columns, 1).keys) == len(fewer)


def test_moments_survive_the_way_and_keep_their_digest() -> None:
    """The digest names the content."""
    found = Moments.of(SCHEMA, part(1))
    again = Moments.from_data(found.to_data())
    assert again.digest == found.digest
    assert again.digest != Moments.of(SCHEMA, part(2)).digest
    same(again, found)


GOOD = Moments.of(SCHEMA, part(1)).to_data()
ZEROS = b"\0" * 8


@pytest.mark.parametrize(
    "data",
    [
        None,
        {**GOOD, "more": 1},
        {**GOOD, "keys": GOOD["keys"][::-1]},
        {**GOOD, "keys": [["colour", "a", ""]]},
        {**GOOD, "keys": [["number", "a", "b"]]},
        {**GOOD, "keys": [["number", "", ""]]},
        {**GOOD, "centre": GOOD["centre"][8:]},
        {**GOOD, "centre": "a"},
        {**GOOD, "products": np.full(len(GOOD["products"]) // 8, np.nan).tobytes()},
        {**GOOD, "products": np.full(len(GOOD["products"]) // 8, -1.0).tobytes()},
        {"keys": [["number", "a", ""]], "centre": np.array([1e70]).tobytes(), "products": ZEROS * 3},
        {"keys": [["number", "a", ""]], "centre": ZEROS, "products": np.array([1.0, 9.0, 1.0]).tobytes()},
        {"keys": [["missing", "a", ""]], "centre": np.ones(1).tobytes(), "products": ZEROS * 3},
        {"keys": [["number", f"{at:04}", ""] for at in range(9_000)], "centre": b"", "products": b""},
    ],
)
def test_what_cannot_be_moments_is_refused(data: Any) -> None:
    """With a RemoteError, before anything is computed from it."""
    with pytest.raises(RemoteError, match="the moments that a peer sent"):
        Moments.from_data(data)
