"""Audited arrays become an ONNX graph, in float64 throughout.

Features are float32 values, so that a float64 comparison is exactly scikit-learn's. Trees whose leaves each add to
one output are operator TreeEnsemble (ai.onnx.ml 5), which adds up in float64. The leaves of a forest that
classifies add to several, which that operator cannot say: they are TreeEnsembleRegressor (ai.onnx.ml 3), which
adds up in float64 and rounds the sum to float32, 6e-8 of it. Of two classes the share of the second says all, and
such a forest has one output: onnxruntime then takes each tree through all rows while it is in the cache, in place
of each row through all trees.

onnxruntime stores a node's right child next to it, and lets the processor guess that a row goes there. Trees are
therefore turned so that most rows do, which takes a fifth to a half off their time: where the left subtree is the
larger one the two change places, and the node compares the feature's negative. So trees see each feature twice;
for one tree alone that costs more than it saves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .arrays import Arrays, Gaussian, Layers, Trees

INPUT = "features"
OUTPUT = "said"

_ML = "ai.onnx.ml"
_OPERATORS = 20
"""Version of the standard operators; with IR 10 any onnxruntime since 1.18 reads it."""
_IR = 10
_PIECE = 65_536
_MODES = (b"BRANCH_LEQ", b"LEAF")
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def build(arrays: Arrays) -> bytes:
    """The serialised graph: float64 features (rows, width) in; out come float64 probabilities (rows, classes), or
    values (rows, 1). The arrays must have passed their audit."""
    return _Builder(arrays).serialised()


class _Builder:
    """Collects nodes and constants; `steps` return the name of their result."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = _second(arrays) or arrays
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._trees = 5
        self._seen = INPUT

    def serialised(self) -> bytes:
        arrays = self._arrays
        scores = self._body()
        if arrays.factor != 1.0:
            scores = self._add("Mul", scores, self._constant(arrays.factor))
        if arrays.offset.any():
            scores = self._add("Add", scores, self._constant(arrays.offset))
        self._add("Identity", self._linked(scores), name=OUTPUT)
        double = onnx.TensorProto.DOUBLE
        graph = helper.make_graph(
            self._nodes,
            "model",
            [helper.make_tensor_value_info(INPUT, double, [None, arrays.width])],
            [helper.make_tensor_value_info(OUTPUT, double, [None, None])],
            self._constants,
        )
        versions = [helper.make_opsetid("", _OPERATORS), helper.make_opsetid(_ML, self._trees)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=_IR)
        return bytes(model.SerializeToString())

    def _body(self) -> str:
        body = self._arrays.body
        if isinstance(body, Layers):
            return self._layers(body)
        if isinstance(body, Gaussian):
            return self._gaussian(body)
        if len(body.sizes) > 1:
            body = _turned(body, self._arrays.width)
            self._seen = self._add("Concat", INPUT, self._add("Neg", INPUT), axis=1)
        if len(body.node) == np.count_nonzero(body.left < 0):
            return self._single(body)
        return self._several(body)

    def _linked(self, scores: str) -> str:
        match self._arrays.link:
            case "exp":
                return self._add("Exp", scores)
            case "softmax":
                return self._add("Softmax", scores, axis=-1)
            case "sigmoid":
                return self._both(self._add("Sigmoid", scores))
            case "second":
                # The shares of a row may add up to more than 1 in the last digit.
                return self._both(self._add("Min", scores, self._constant(1.0)))
            case "one-vs-rest":
                return self._shares(self._logistic(scores))
            case "shares":
                return self._shares(scores)
        return scores

    def _both(self, second: str) -> str:
        first = self._add("Sub", self._constant(1.0), second)
        return self._add("Concat", first, second, axis=1)

    def _shares(self, scores: str) -> str:
        """Divided by their sum, or even where all are 0."""
        total = self._add("ReduceSum", scores, self._constant(np.array([1])), keepdims=1)
        usable = self._add("Greater", total, self._constant(0.0))
        even = self._constant(1 / len(self._arrays.offset))
        divisor = self._add("Where", usable, total, self._constant(1.0))
        return self._add("Where", usable, self._add("Div", scores, divisor), even)

    def _logistic(self, scores: str) -> str:
        """Step by step: the operator Sigmoid gives 0 below -37, where a class may still be likelier than the rest."""
        powers = self._add("Exp", self._add("Neg", scores))
        return self._add("Div", self._constant(1.0), self._add("Add", powers, self._constant(1.0)))

    def _layers(self, layers: Layers) -> str:
        numbers = INPUT
        for at, (weights, biases) in enumerate(zip(layers.weights, layers.biases, strict=True)):
            if at and layers.activation != "identity":
                numbers = self._add(_ACTIVATIONS[layers.activation], numbers)
            numbers = self._add("MatMul", numbers, self._constant(weights))
            numbers = self._add("Add", numbers, self._constant(biases))
        return numbers

    def _gaussian(self, gaussian: Gaussian) -> str:
        # Not multiplied out: where a variance is tiny, the terms would cancel.
        apart = self._add(
            "Sub", self._add("Unsqueeze", INPUT, self._constant(np.array([1]))), self._constant(gaussian.mean)
        )
        squares = self._add("Div", self._add("Mul", apart, apart), self._constant(gaussian.variance))
        total = self._add("ReduceSum", squares, self._constant(np.array([2])), keepdims=0)
        level = np.log(gaussian.prior) - 0.5 * np.log(2 * np.pi * gaussian.variance).sum(axis=1)
        return self._add("Add", self._add("Mul", total, self._constant(-0.5)), self._constant(level))

    def _single(self, trees: Trees) -> str:
        """Inner nodes and leaves are counted apart. A tree of one leaf becomes a node with that leaf on the left and a
        copy on the right: onnxruntime 1.28 reads one that has the same leaf on both sides as another tree's."""
        starts = trees.starts
        alone = starts[trees.sizes == 1]
        leaf = trees.left < 0
        inner = ~leaf
        inner[alone] = True
        place = np.where(leaf, np.cumsum(leaf), np.cumsum(inner)) - 1
        root = np.repeat(starts, trees.sizes)
        own = np.arange(len(root))
        left, right = (np.where(leaf, own, root + child)[inner] for child in (trees.left, trees.right))
        after = place[right]
        after[(np.cumsum(inner) - 1)[alone]] = len(trees.node) + np.arange(len(alone))
        copied = np.concatenate([np.arange(len(trees.node)), place[alone]])
        return self._add(
            "TreeEnsemble",
            self._seen,
            domain=_ML,
            n_targets=len(self._arrays.offset),
            aggregate_function=1,
            post_transform=0,
            tree_roots=(np.cumsum(inner) - 1)[starts],
            nodes_featureids=trees.feature[inner],
            nodes_splits=_tensor(trees.threshold[inner]),
            nodes_modes=_tensor(np.zeros(np.count_nonzero(inner), np.uint8)),
            nodes_truenodeids=place[left],
            nodes_trueleafs=leaf[left],
            nodes_falsenodeids=after,
            nodes_falseleafs=leaf[right],
            leaf_targetids=trees.output[copied],
            leaf_weights=_tensor(trees.value[copied]),
        )

    def _several(self, trees: Trees) -> str:
        self._trees = 3
        leaf = trees.left < 0
        tree = np.repeat(np.arange(len(trees.sizes)), trees.sizes)
        own = np.arange(len(tree)) - np.repeat(trees.starts, trees.sizes)
        total = self._add(
            "TreeEnsembleRegressor",
            self._seen,
            domain=_ML,
            n_targets=len(self._arrays.offset),
            aggregate_function="SUM",
            nodes_treeids=tree,
            nodes_nodeids=own,
            nodes_modes=[_MODES[at] for at in leaf.tolist()],
            nodes_featureids=trees.feature,
            nodes_values_as_tensor=_tensor(trees.threshold),
            nodes_truenodeids=np.where(leaf, 0, trees.left),
            nodes_falsenodeids=np.where(leaf, 0, trees.right),
            target_treeids=tree[trees.node],
            target_nodeids=own[trees.node],
            target_ids=trees.output,
            target_weights_as_tensor=_tensor(trees.value),
        )
        return self._add("Cast", total, to=onnx.TensorProto.DOUBLE)

    def _add(self, operator: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        name = name or f"step{len(self._nodes)}"
        node = helper.make_node(operator, inputs, [name], domain=domain)
        for attribute, value in attributes.items():
            node.attribute.append(
                _integers(attribute, value)
                if isinstance(value, np.ndarray)
                else helper.make_attribute(attribute, value)
            )
        self._nodes.append(node)
        return name

    def _constant(self, value: float | NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        array = np.asarray(value)
        self._constants.append(_tensor(array, name))
        return name


def _second(arrays: Arrays) -> Arrays | None:
    """The share of the second class of two as the only score, linked by "second"; None where the counts in a row's
    leaves add up to more in one row than in another, so that it takes both to know the share."""
    body = arrays.body
    if arrays.link != "shares" or len(arrays.offset) != 2 or not isinstance(body, Trees):
        return None
    leaves = np.flatnonzero(body.left < 0)
    counts = np.zeros((len(body.left), 2))
    counts[body.node, body.output] = body.value
    weights = counts[leaves].sum(axis=1)
    tree = np.searchsorted(body.starts, leaves, side="right") - 1
    first = np.searchsorted(tree, np.arange(len(body.sizes)))
    total = weights[first].sum()
    if not total > 0 or not np.allclose(weights, weights[first][tree], rtol=1e-12, atol=0):
        return None
    zeros = np.zeros(len(leaves), np.int32)
    trees = replace(body, node=leaves.astype(np.int32), output=zeros, value=counts[leaves, 1])
    return replace(arrays, body=trees, link="second", offset=np.zeros(1), factor=1 / total)


def _turned(trees: Trees, width: int) -> Trees:
    """The same trees with the subtree of more leaves always on the right; from `width` on features are negatives."""
    root = np.repeat(trees.starts, trees.sizes)
    left, right = root + trees.left, root + trees.right
    inner = trees.left >= 0
    levels, level = [], trees.starts
    while len(level := level[inner[level]]):
        levels.append(level)
        level = np.concatenate([left[level], right[level]])
    leaves = np.ones(len(root), np.int64)
    for level in reversed(levels):
        leaves[level] = leaves[left[level]] + leaves[right[level]]
    turned = inner.copy()
    turned[inner] = leaves[left[inner]] > leaves[right[inner]]
    return replace(
        trees,
        left=np.where(turned, trees.right, trees.left),
        right=np.where(turned, trees.left, trees.right),
        feature=trees.feature + turned * np.int32(width),
        # x > t is -x < -t, which is -x <= the next number below -t.
        threshold=np.where(turned, np.nextafter(-trees.threshold, -np.inf), trees.threshold),
    )


def _tensor(array: NDArray[Any], name: str = "") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def _integers(name: str, values: NDArray[Any]) -> onnx.AttributeProto:
    """A piece at a time: as Python's own numbers all of them would take five times the room of the graph."""
    attribute = onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS)
    for start in range(0, len(values), _PIECE):
        attribute.ints.extend(values[start : start + _PIECE].astype(np.int64).tolist())
    return attribute
