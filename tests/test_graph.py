"""Laws of the graph: onnxruntime says what the arrays say, whatever arrays the audit lets through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from p2pml.ensemble.arrays import Arrays, Trees
from p2pml.ensemble.graph import INPUT, OUTPUT, build

WIDTH = 3
THRESHOLDS = [-1e300, -1.5, -0.0, 0.0, 5e-324, 0.1, float(np.float32(0.1)), 1.5, 1e300]
FEATURES = [-1e6, -1.5, 0.0, float(np.float32(0.1)), 0.1, 1.5, 1e6]


def run(arrays: Arrays, features: Any) -> Any:
    session = onnxruntime.InferenceSession(build(arrays), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: features})[0]


def walked(trees: Trees, features: Any, outputs: int) -> Any:
    """The scores, leaf by leaf, as the arrays' own words have it."""
    scores = np.zeros((len(features), outputs))
    for row, numbers in enumerate(features):
        for start in trees.starts:
            at = int(start)
            while trees.left[at] >= 0:
                goes_left = numbers[trees.feature[at]] <= trees.threshold[at]
                at = int(start + (trees.left if goes_left else trees.right)[at])
            for entry in np.flatnonzero(trees.node == at):
                scores[row, trees.output[entry]] += trees.value[entry]
    return scores


@st.composite
def some_trees(draw: st.DrawFn, outputs: int, several: bool) -> Trees:
    """One to five trees; with `several`, a leaf may add to several outputs."""
    columns: dict[str, list[Any]] = {name: [] for name in Trees.__slots__}
    for _ in range(draw(st.integers(1, 5))):
        first = len(columns["left"])
        columns["sizes"].append(1)
        for name, value in (("left", -1), ("right", -1), ("feature", 0), ("threshold", 0.0)):
            columns[name].append(value)
        leaves = [0]
        for _ in range(draw(st.integers(0, 6))):
            at = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
            children = [columns["sizes"][-1], columns["sizes"][-1] + 1]
            sides = children if draw(st.booleans()) else children[::-1]
            columns["left"][first + at], columns["right"][first + at] = sides
            columns["feature"][first + at] = draw(st.integers(0, WIDTH - 1))
            columns["threshold"][first + at] = draw(st.sampled_from(THRESHOLDS))
            columns["sizes"][-1] += 2
            leaves += children
            for name, value in (("left", -1), ("right", -1), ("feature", 0), ("threshold", 0.0)):
                columns[name] += [value, value]
        for leaf in sorted(leaves):
            count = draw(st.integers(1, outputs)) if several else 1
            for output in sorted(draw(st.permutations(range(outputs)))[:count]):
                columns["node"].append(first + leaf)
                columns["output"].append(output)
                columns["value"].append(draw(st.floats(0, 100, width=32)))
    floats = ("threshold", "value")
    return Trees(**{name: np.array(cells, "<f8" if name in floats else "<i4") for name, cells in columns.items()})


@settings(max_examples=120)
@given(st.data())
def test_trees_are_walked_as_their_arrays_say(data: st.DataObject) -> None:
    """Left where the feature is at most the threshold, in float64; one leaf or many, alone or several outputs."""
    outputs = data.draw(st.integers(1, 3))
    trees = data.draw(some_trees(outputs, data.draw(st.booleans())))
    features = np.array(data.draw(st.lists(st.lists(st.sampled_from(FEATURES), min_size=3, max_size=3), min_size=1)))
    Arrays(trees, WIDTH, "softmax", np.zeros(outputs)).check(outputs)
    bare = Arrays(trees, WIDTH, "identity", np.zeros(outputs))
    assert run(bare, features) == pytest.approx(walked(trees, features, outputs), rel=1e-6)


@given(st.data())
def test_the_larger_of_two_subtrees_stands_on_the_right(data: st.DataObject) -> None:
    """That is where onnxruntime puts the next node, and most rows go there."""
    trees = data.draw(some_trees(1, several=False).filter(lambda trees: len(trees.sizes) > 1))
    model = onnx.load_from_string(build(Arrays(trees, WIDTH, "identity", np.zeros(1))))
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsemble")
    said = {each.name: helper.get_attribute_value(each) for each in node.attribute}

    def leaves(side: str, at: int) -> int:
        if said[f"nodes_{side}leafs"][at]:
            return 1
        below = said[f"nodes_{side}nodeids"][at]
        return leaves("true", below) + leaves("false", below)

    for at in range(len(said["nodes_featureids"])):
        assert leaves("true", at) <= leaves("false", at)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_shares_are_what_leaves_add_up_to_and_never_less_than_nothing(data: st.DataObject) -> None:
    """Of two classes too, whether all leaves of a tree weigh the same or not."""
    outputs = data.draw(st.integers(2, 3))
    trees = data.draw(some_trees(outputs, several=True))
    if data.draw(st.booleans()):
        weight = np.bincount(trees.node, trees.value, len(trees.left))[trees.node]
        even = np.bincount(trees.node, minlength=len(trees.left))[trees.node]
        trees = replace(trees, value=np.where(weight > 0, trees.value / np.where(weight > 0, weight, 1), 1 / even))
    features = np.array(data.draw(st.lists(st.lists(st.sampled_from(FEATURES), min_size=3, max_size=3), min_size=1)))
    scores = walked(trees, features, outputs)
    total = scores.sum(axis=1, keepdims=True)
    said = run(Arrays(trees, WIDTH, "shares", np.zeros(outputs)), features)
    assert said == pytest.approx(np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / outputs), abs=1e-6)
    assert (said >= 0).all()


@pytest.mark.parametrize(
    ("link", "scores", "said"),
    [
        ("identity", [-3.0], [-3.0]),
        ("exp", [2.0], [np.exp(2)]),
        ("sigmoid", [2.0], [1 - 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-2))]),
        ("softmax", [1000.0, 1000.0], [0.5, 0.5]),
        ("one-vs-rest", [-700.0, -701.0], [np.e / (1 + np.e), 1 / (1 + np.e)]),
        ("one-vs-rest", [-1e9, -1e9], [0.5, 0.5]),
        ("shares", [3.0, 1.0], [0.75, 0.25]),
        ("shares", [0.0, 0.0], [0.5, 0.5]),
    ],
)
def test_a_link_makes_scores_what_the_model_says(link: str, scores: list[float], said: list[float]) -> None:
    """Also where scores are so far off that numbers end."""
    outputs = len(scores)
    root, nothing = np.array([-1], np.int32), np.zeros(1, np.int32)
    leaves, ascending = np.zeros(outputs, np.int32), np.arange(outputs, dtype=np.int32)
    leaf = Trees(nothing + 1, root, root, nothing, np.zeros(1), leaves, ascending, np.array(scores))
    assert run(Arrays(leaf, WIDTH, link, np.zeros(outputs)), np.zeros((1, WIDTH)))[0] == pytest.approx(said, rel=1e-7)
