"""The trees of a fitted estimator of scikit-learn as plain arrays, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Trees
from .values import Floats


class Unknown(Exception):
    """What an estimator holds has no form as arrays."""


def forest(trees: Sequence[Any], classes: int | None) -> Trees:
    """From objects of `sklearn.tree._tree.Tree`. In classification a leaf adds its share of each class that it
    has seen, else its one value."""
    if any(tree.value.shape[1] != 1 for tree in trees):
        raise Unknown("its trees have several targets")
    values = np.concatenate([tree.value[:, 0, :] for tree in trees])
    left = np.concatenate([tree.children_left for tree in trees])
    said = (left < 0)[:, None] & ((values != 0) if classes else np.ones((1, 1), bool))
    node, output = np.nonzero(said)
    return _trees(
        [tree.node_count for tree in trees],
        left,
        np.concatenate([tree.children_right for tree in trees]),
        np.concatenate([tree.feature for tree in trees]),
        np.concatenate([tree.threshold for tree in trees]),
        node,
        output,
        values[node, output],
    )


def boosted(steps: Sequence[Sequence[NDArray[Any]]]) -> Trees:
    """From the nodes of gradient boosting: at each step a tree for each output, its leaves already shrunk by the
    learning rate. That a missing value goes left or right is left out: the encoder leaves none missing."""
    parts = [nodes for step in steps for nodes in step]
    if not parts:
        raise Unknown("it has no trees")
    sizes = [len(nodes) for nodes in parts]
    nodes = np.concatenate(parts)
    leaf = nodes["is_leaf"].astype(bool)
    output = np.repeat(np.tile(np.arange(len(steps[0])), len(steps)), sizes)
    return _trees(
        sizes,
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        nodes["feature_idx"],
        nodes["num_threshold"],
        np.flatnonzero(leaf),
        output[leaf],
        nodes["value"][leaf],
    )


def certain() -> Trees:
    """One leaf that says the only class."""
    return _trees([1], *(np.full(1, value) for value in (-1, -1, 0, 0.0, 0, 0, 1.0)))


def _trees(
    sizes: Sequence[int],
    left: NDArray[Any],
    right: NDArray[Any],
    feature: NDArray[Any],
    threshold: NDArray[Any],
    node: NDArray[Any],
    output: NDArray[Any],
    value: NDArray[Any],
) -> Trees:
    def whole(array: Any) -> NDArray[np.int32]:
        return np.ascontiguousarray(array, np.int32)

    def real(array: Any) -> Floats:
        return np.ascontiguousarray(array, np.float64)

    leaf = left < 0
    return Trees(
        whole(sizes), whole(left), whole(right), whole(np.where(leaf, 0, feature)), real(np.where(leaf, 0, threshold)),
        whole(node), whole(output), real(value),
    )  # fmt: skip
