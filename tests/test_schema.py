"""Laws of what a part's columns are, and of who can vote together."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.fields import MAX_CLASSES, MAX_NAME, check_classes
from p2pml.ensemble.schema import Field, Kind, Schema, consensus, infer
from p2pml.errors import BadInput, RemoteError

TABLE: dict[str, list[object]] = {
    "size": ["1.5", "2", "NA"],
    "town": ["a", "b", "a"],
    "sold": ["yes", "no", "yes"],
    "when": ["2024-01-31", "", "2024-02-01"],
    "none": ["", "", ""],
    "price": ["100.5", "200.5", "300.5"],
}


def schema(task: str = "regression", **kinds: str) -> Schema:
    return Schema("y", task, Kind.NUMBER, tuple(Field(name, Kind(kind)) for name, kind in kinds.items()))


def test_the_last_column_is_the_target_unless_one_is_named() -> None:
    """Columns keep their order, and the target is none of the fields."""
    found = infer(TABLE, None)
    assert (found.target, found.task, found.target_kind) == ("price", "regression", Kind.NUMBER)
    assert {field.name: field.kind.value for field in found.fields} == {
        **{"size": "number", "town": "category", "sold": "boolean", "when": "date", "none": "empty"}
    }
    assert infer(TABLE, "town").target == "town"


@pytest.mark.parametrize(
    ("target", "task", "kind"),
    [
        (["a", "b"], "classification", Kind.CATEGORY),
        (["yes", "no"], "classification", Kind.CATEGORY),
        (["True", "false"], "classification", Kind.BOOLEAN),
        ([True, False], "classification", Kind.BOOLEAN),
        (["a", None, ""], "classification", Kind.CATEGORY),
        (["0", "1"], "classification", Kind.NUMBER),
        (["7.0", "7", ""], "classification", Kind.NUMBER),
        ([1, 2, 3] * 3, "classification", Kind.NUMBER),
        ([1, 2, 3], "regression", Kind.NUMBER),
        (list(range(20)) * 3, "classification", Kind.NUMBER),
        (list(range(21)) * 9, "regression", Kind.NUMBER),
        ([0.5, 1.5] * 9, "regression", Kind.NUMBER),
    ],
)
def test_the_task_follows_from_the_target(target: list[object], task: str, kind: Kind) -> None:
    """Text, booleans and few whole numbers are classes; one class alone is fine."""
    found = infer({"x": [1] * len(target), "y": target}, None)
    assert (found.task, found.target_kind) == (task, kind)


def test_the_task_can_be_set() -> None:
    """A flag overrules what the target looks like."""
    columns = {"x": [1, 2, 3], "y": [0, 1, 1]}
    assert infer(columns, "y", "regression").task == "regression"
    assert infer({"x": [1, 2, 3], "y": [0.5, 1.5, 2.5]}, "y", "classification").task == "classification"


@pytest.mark.parametrize(
    ("columns", "target", "task", "sentence"),
    [
        ({}, None, "auto", "there are no columns"),
        ({"x": [1, 2], "y": [1, 2]}, "y", "cluster", "--task 'cluster' is unknown: choose auto, class"),
        ({"x": [1, 2], "price": [1, 2]}, "prize", "auto", "no column 'prize' for --target: did you mean 'price'"),
        ({"x": [1, 2], "y": [1, 2]}, "qqq", "auto", "no column 'qqq' for --target: the columns are 'x', 'y'"),
        ({"x": [], "y": []}, None, "auto", "there are no rows: training needs at least two"),
        ({"x": [1], "y": [1]}, None, "auto", "there is one row: training needs at least two"),
        ({"x": [1, 2], "y": ["", "NA"]}, None, "auto", "the target 'y' is missing in every row: choose another"),
        ({"x": [1, 2], "y": ["2024-01-31"] * 2}, None, "auto", "the target 'y' holds dates, which no model"),
        ({"y": [1, 2]}, None, "auto", "no column besides the target 'y' holds a value"),
        ({"x": ["", ""], "y": [1, 2]}, None, "auto", "no column besides the target 'y' holds a value"),
        ({"x": [1, 2], "y": ["1", "b"]}, "y", "regression", "row 2, column 'y': 'b' is not a number: regression"),
        ({"x": [1, 2], "y": ["inf", "b"]}, "y", "regression", "row 2, column 'y': 'b' is not a number: regression"),
        ({"x": [1, 2], "y": [None, True]}, "y", "regression", "row 2, column 'y': True is not a number"),
        ({"x": [1, 2], "y": [1]}, None, "auto", "column 'y' holds 1 cells and column 'x' holds 2"),
    ],
)
def test_a_part_that_cannot_be_learnt_from_says_why(
    columns: dict[str, list[object]], target: str | None, task: str, sentence: str
) -> None:
    """One sentence names what is wrong and the way out."""
    with pytest.raises(BadInput) as caught:
        infer(columns, target, task)
    assert sentence in str(caught.value)


def test_a_target_of_free_text_or_identifiers_is_no_class() -> None:
    """Votes hold a probability for every class, so there is a limit, and the sentence names the flag."""
    many = MAX_CLASSES + 1
    with pytest.raises(BadInput, match=r"1001 distinct values, too many for classes: .* with --target$"):
        infer({"x": [1] * many, "y": [f"id {i}" for i in range(many)]}, None)
    with pytest.raises(BadInput, match="or --task regression"):
        infer({"x": [1] * many, "y": list(range(many))}, None, "classification")


def test_rows_may_come_in_any_order_and_with_the_target() -> None:
    """Checking looks at names and cells alone, and never at the target or an empty column."""
    found = infer(TABLE, None)
    rows: dict[str, list[object]] = {name: TABLE[name] for name in reversed(TABLE)}
    found.check(rows)
    found.check({**rows, "price": ["no", "number", "here"], "none": ["now", "there", "is"]})
    del rows["price"]
    found.check(rows)
    found.check({name: [] for name in rows})
    found.check({})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": None}, "column 'size' is missing from the rows: add it"),
        ({"size": None, "sizes": ["1"] * 3}, "is 'sizes' meant to be 'size'?"),
        ({"size": None, "town": None}, "columns 'size', 'town' are missing from the rows: add them"),
        ({"age": ["1"] * 3}, "column 'age' is unknown to the models: take it out"),
        ({"size": ["1", "2", "big"]}, "row 13, column 'size': 'big' is not a number"),
        ({"size": ["1", "inf", "2"]}, "row 12, column 'size': 'inf' is infinite"),
        ({"when": ["2024-01-31", "x", ""]}, "row 12, column 'when': 'x' is not a date"),
        ({"town": ["a", ["b"], "c"]}, "row 12, column 'town': ['b'] is no single finite value"),
        ({"sold": [{}, "no", "no"]}, "row 11, column 'sold': {} is no single finite value"),
        ({"town": ["a"]}, "column 'town' holds 1 cells"),
    ],
)
def test_rows_that_do_not_fit_say_which_column_and_row(change: dict[str, Any], sentence: str) -> None:
    """Each fault is one sentence with the row, as counted by the caller, and the column."""
    rows = {name: cells for name, cells in {**TABLE, **change}.items() if cells is not None}
    with pytest.raises(BadInput) as caught:
        infer(TABLE, None).check(rows, first_row=11)
    assert sentence in str(caught.value)


def test_truth_is_numbers_or_canonical_labels() -> None:
    """The same class has the same label however a file spells it."""
    rows: dict[str, list[object]] = {"x": [1] * 4, "y": ["1", "2.0", " 1.0", "NA"]}
    assert infer(rows, "y", "classification").truth(rows).tolist() == ["1", "2", "1", None]
    numbers = infer(rows, "y", "regression").truth(rows)
    assert np.array_equal(numbers, [1, 2, 1, np.nan], equal_nan=True)
    words: dict[str, list[object]] = {"x": [1, 2], "y": ["TRUE", "b "]}
    assert infer(words, "y").truth(words).tolist() == ["true", "b"]
    with pytest.raises(BadInput, match="the target 'y' is missing from the rows"):
        infer(rows, "y").truth({"x": [1]})


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.NUMBER, "3", 3),
        (Kind.NUMBER, "0.5", 0.5),
        (Kind.BOOLEAN, "true", True),
        (Kind.BOOLEAN, "false", False),
        (Kind.CATEGORY, "true", "true"),
        (Kind.CATEGORY, "3", "3"),
    ],
)
def test_labels_are_shown_as_the_target_spells_them(kind: Kind, text: str, value: object) -> None:
    """JSON gets a number, a boolean or a string."""
    label = Schema("y", "classification", kind, ()).label(text)
    assert (label, type(label)) == (value, type(value))


def test_a_schema_survives_its_journey() -> None:
    """Plain data gives the same schema back, through JSON too."""
    found = infer(TABLE, None)
    assert Schema.from_data(json.loads(json.dumps(found.to_data()))) == found


def test_the_fingerprint_depends_on_content_and_not_on_order() -> None:
    """Files whose columns stand in another order are the same; another kind is another schema."""
    one, two = schema(a="number", b="date"), schema(b="date", a="number")
    assert one.fingerprint == two.fingerprint
    assert len({one.fingerprint, schema(a="number", b="category").fingerprint, schema(a="number").fingerprint}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"fields": []},
        {"fields": [["a", "number"], ["a", "date"]]},
        {"fields": [["y", "number"]]},
        {"fields": [["a", "colour"]]},
        {"fields": [["", "number"]]},
        {"fields": [["a" * (MAX_NAME + 1), "number"]]},
        {"fields": [[5, "number"]]},
        {"fields": [["a"]]},
        {"fields": 5},
        {"task": "clustering"},
        {"task": []},
        {"target": None},
        {"target_kind": "date"},
        {"target_kind": "category"},
        {"more": 1},
    ],
)
def test_a_schema_that_cannot_be_is_a_remote_error(change: dict[str, Any]) -> None:
    """Nothing is built from what another peer sends before it is checked."""
    with pytest.raises(RemoteError):
        Schema.from_data({**schema(a="number").to_data(), **change})


@pytest.mark.parametrize("data", [None, 5, "schema", [], {}, {"fields": [["a", "number"]]}])
def test_anything_else_is_no_schema(data: object) -> None:
    """Any data is refused in the same way."""
    with pytest.raises(RemoteError):
        Schema.from_data(data)


@pytest.mark.parametrize("data", [None, "ab", [], ["b", "a"], ["a", "a"], ["a", 1], [""], ["a" * 300]])
def test_classes_are_distinct_texts_in_order(data: object) -> None:
    """Whatever else a peer names is refused."""
    with pytest.raises(ValueError, match="class"):
        check_classes(data)


def test_no_peer_has_no_consensus() -> None:
    """There is nothing to agree on."""
    assert consensus({}) == (None, {})


def test_an_empty_column_fits_any_and_booleans_fit_categories() -> None:
    """The consensus is as wide as its peers need."""
    agreed, refused = consensus(
        {
            "1": (schema(a="empty", b="boolean", c="number"), 5),
            "2": (schema(c="empty", a="date", b="category"), 5),
            "3": (schema(b="boolean", a="empty", c="empty"), 5),
        }
    )
    assert refused == {}
    assert agreed is not None
    assert {field.name: field.kind.value for field in agreed.fields} == {"a": "date", "b": "category", "c": "number"}


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        (schema(a="number"), "column 'b' is missing, which the other peers have"),
        (schema(a="number", b="date", z="date"), "column 'z' is there, which the other peers do not have"),
        (schema(a="category", b="date"), "its column 'a' holds categories and that of the other peers numbers"),
        (schema("classification", a="number", b="date"), "its task is classification and that"),
        (Schema("z", "regression", Kind.NUMBER, schema(a="number", b="date").fields), "its target is 'z' and"),
    ],
)
def test_a_peer_that_does_not_fit_is_told_which_column_differs(odd: Schema, sentence: str) -> None:
    """The majority decides, and the odd one gets a sentence."""
    usual = schema(a="number", b="date")
    agreed, refused = consensus({"1": (usual, 1), "2": (odd, 900), "3": (usual, 1)})
    assert agreed == usual
    assert list(refused) == ["2"]
    assert sentence in refused["2"]


def test_targets_of_numbers_and_of_text_do_not_mix() -> None:
    """Classes 1 and 2 are not "one" and "two"."""
    one = Schema("y", "classification", Kind.NUMBER, schema(a="number").fields)
    two = Schema("y", "classification", Kind.BOOLEAN, schema(a="number").fields)
    _, refused = consensus({"1": (one, 2), "2": (two, 1)})
    assert "its target 'y' holds booleans and that of the other peers numbers" in refused["2"]


def test_between_two_peers_the_one_with_more_rows_is_right() -> None:
    """Rows settle what peers do not."""
    one, two = schema(a="number"), schema(a="number", b="number")
    assert consensus({"1": (one, 5), "2": (two, 9)})[0] == two
    assert consensus({"1": (one, 9), "2": (two, 5)})[0] == one


def test_somebody_always_takes_part() -> None:
    """Where each peer lacks another column, no majority fits anyone, and the largest part leads."""
    peers = {
        "1": (schema(b="number", c="number"), 5),
        "2": (schema(a="number", c="number"), 9),
        "3": (schema(a="number", b="number"), 5),
    }
    agreed, refused = consensus(peers)
    assert agreed == peers["2"][0]
    assert sorted(refused) == ["1", "3"]


kinds = st.sampled_from(list(Kind))
schemas = st.builds(
    lambda a, b, extra: Schema(
        "y", "regression", Kind.NUMBER, (Field("a", a), Field("b", b), *((Field("c", Kind.DATE),) if extra else ()))
    ),
    *(kinds, kinds, st.booleans()),
)


@given(st.lists(st.tuples(schemas, st.integers(1, 3)), min_size=1, max_size=5))
def test_the_consensus_does_not_depend_on_who_looks(peers: list[tuple[Schema, int]]) -> None:
    """Every order of the same peers gives the same consensus, under which all who take part fit each other."""
    named = {str(index): peer for index, peer in enumerate(peers)}
    agreed, refused = consensus(named)
    for order in itertools.islice(itertools.permutations(named), 6):
        assert consensus({name: named[name] for name in order}) == (agreed, refused)
    assert len(refused) < len(named)
    for one, two in itertools.combinations(set(named) - set(refused), 2):
        assert consensus({one: named[one], two: named[two]})[1] == {}
