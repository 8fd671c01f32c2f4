"""What an estimator has learnt, as plain arrays for each kind of model, and the audit that they pass before use.

Scores come first, a link after. A body gives each row its scores, shape (rows, outputs); they are multiplied by
`factor`, `offset` is added, and the link makes of them what the model says:

- `identity` and `exp`: the value of a regression, from one score.
- `sigmoid`: of two classes, the probability of the second, from one score.
- `softmax`, and `one-vs-rest` (a sigmoid each, divided by their sum): probabilities, a score a class.
- `shares`: scores that are counts or fractions of classes, divided by their sum.

Three bodies cover what is compiled: `Trees`, `Layers` (a linear model is one layer) and `Gaussian`. The audit is
for arrays from anybody: it lets nothing through that could crash the runtime, cycle, or ask for more memory than
the arrays themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .encoder import MAX_WIDTH
from .values import Floats

Ints = NDArray[np.int32]
Named = Mapping[str, NDArray[Any]]

MAX_NODES = 1_000_000
"""Nodes of all trees: each takes 400 bytes while onnxruntime loads it and 70 afterwards. The forests of this package
stay below 700,000."""

MAX_DEPTH = 512
"""Nodes from root to leaf. onnxruntime reads a tree by recursion, and a chain of 100,000 overflows its stack."""

MAX_NUMBERS = 8_388_608
"""Numbers in one array: 64 MiB of float64."""

MAX_LAYERS = 32
"""Layers of a network: far above what is trained on a table."""

ACTIVATIONS = ("identity", "relu", "tanh", "logistic")
LINKS = ("identity", "exp", "sigmoid", "softmax", "one-vs-rest", "shares")

_LEAF = -1


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Binary trees one after another; a row goes left where its feature is <= the threshold, and the leaves that
    it reaches are added up.

    `sizes` has shape (trees,). `left`, `right` (counted from the tree's root, -1 at a leaf), `feature` and
    `threshold` have shape (nodes,); a child comes after its parent. `node`, `output` and `value` have shape
    (entries,): what the leaf `node`, counted over all trees, adds to which output, in ascending order.
    """

    kind: ClassVar = "trees"
    sizes: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    node: Ints
    output: Ints
    value: Floats

    def named(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in the order in which they travel."""
        return {name: getattr(self, name) for name in _TREES}

    @classmethod
    def of(cls, named: Named, _: str) -> Trees:
        """From arrays of somebody's: their names, dtypes and numbers of axes are checked; raises ValueError."""
        return cls(**_typed(named, {name: (dtype, 1) for name, dtype in _TREES.items()}))

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each tree's root stands among all nodes."""
        sizes = self.sizes.astype(np.int64)
        return np.cumsum(sizes) - sizes

    def widest(self, width: int) -> int:
        """Most numbers that one row becomes on its way: each feature, and its negative."""
        return 2 * width

    def check(self, width: int, outputs: int) -> None:
        """Raise ValueError unless these are trees on `width` features."""
        nodes = len(self.left)
        if not 0 < nodes <= MAX_NODES or {len(self.right), len(self.feature), len(self.threshold)} != {nodes}:
            raise ValueError(f"{nodes} nodes, or arrays of nodes that differ in length; at most {MAX_NODES}")
        if len(self.sizes) == 0 or self.sizes.min() < 1 or self.sizes.sum(dtype=np.int64) != nodes:
            raise ValueError("the sizes of the trees do not add up to their nodes")
        if (self.feature < 0).any() or (self.feature >= width).any():
            raise ValueError(f"a tree asks for a feature outside 0 to {width - 1}")
        _finite(self.threshold, "a threshold")
        self._check_children()
        self._check_entries(outputs)

    def _check_children(self) -> None:
        inner, starts = self.left != _LEAF, self.starts
        if ((self.right != _LEAF) != inner).any():
            raise ValueError("a node has one child")
        root = np.repeat(starts, self.sizes)
        own = np.arange(len(root)) - root
        children = np.stack([self.left, self.right])
        if (children[:, inner] <= own[inner]).any() or (children >= np.repeat(self.sizes, self.sizes)).any():
            raise ValueError("a child does not come after its parent in the same tree")
        # With children after their parents, one parent each leaves no cycle and no node out of reach.
        parents = np.bincount((children[:, inner] + root[inner]).ravel(), minlength=len(root))
        parents[starts] += 1
        if (parents != 1).any():
            raise ValueError("a node has no parent, or several")
        level = starts
        for _ in range(MAX_DEPTH):
            below = level[inner[level]]
            if not len(below):
                return
            level = (children[:, below] + root[below]).ravel()
        raise ValueError(f"a tree is deeper than {MAX_DEPTH} nodes")

    def _check_entries(self, outputs: int) -> None:
        leaf = self.left == _LEAF
        entries = len(self.node)
        if entries > MAX_NUMBERS or {len(self.output), len(self.value)} != {entries}:
            raise ValueError(f"{entries} values of leaves, or arrays of them that differ in length")
        if (self.node < 0).any() or (self.node >= len(leaf)).any() or not leaf[self.node].all():
            raise ValueError("a value belongs to no leaf")
        if (self.output < 0).any() or (self.output >= outputs).any():
            raise ValueError(f"a leaf adds to an output outside 0 to {outputs - 1}")
        if (np.diff(self.node.astype(np.int64) * outputs + self.output) <= 0).any():
            raise ValueError("the values of the leaves are not in ascending order")
        if np.count_nonzero(np.bincount(self.node, minlength=len(leaf))) != np.count_nonzero(leaf):
            raise ValueError("a leaf has no value")
        _finite(self.value, "the value of a leaf")


_TREES = dict.fromkeys(("sizes", "left", "right", "feature"), "<i4") | {
    "threshold": "<f8",
    "node": "<i4",
    "output": "<i4",
    "value": "<f8",
}


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A network without loops: `weights` of shape (numbers before, numbers after) and `biases`, and the activation
    after each layer but the last."""

    kind: ClassVar = "layers"
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str = "identity"

    def named(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in the order in which they travel."""
        pairs = zip(self.weights, self.biases, strict=True)
        return {f"{name}{at}": array for at, pair in enumerate(pairs) for name, array in zip(_LAYER, pair, strict=True)}

    @classmethod
    def of(cls, named: Named, activation: str) -> Layers:
        """From arrays of somebody's: their names, dtypes and numbers of axes are checked; raises ValueError."""
        count = len(named) // 2
        if not 0 < count <= MAX_LAYERS:
            raise ValueError(f"{count} layers; 1 to {MAX_LAYERS} are known")
        typed = _typed(named, {f"{name}{at}": ("<f8", axes) for at in range(count) for name, axes in _LAYER.items()})
        weights, biases = ([typed[f"{name}{at}"] for at in range(count)] for name in _LAYER)
        return cls(tuple(weights), tuple(biases), activation)

    def widest(self, width: int) -> int:
        """Most numbers that one row becomes on its way."""
        return max(width, *(len(bias) for bias in self.biases))

    def check(self, width: int, outputs: int) -> None:
        """Raise ValueError unless these are layers from `width` features to `outputs`."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"the activation is none of {', '.join(ACTIVATIONS)}")
        before = width
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.shape != (before, len(bias)) or weight.size > MAX_NUMBERS or not len(bias):
                raise ValueError(f"a layer of shape {weight.shape} does not follow {before} numbers")
            _finite(weight, "a weight")
            _finite(bias, "a bias")
            before = len(bias)
        if before != outputs:
            raise ValueError(f"the last layer gives {before} numbers and not {outputs}")


_LAYER = {"weight": 2, "bias": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Naive Bayes: the score of a class is the log of its prior times the densities of independent normal features.
    `mean` and `variance` have shape (classes, features), `prior` (classes,)."""

    kind: ClassVar = "gaussian"
    mean: Floats
    variance: Floats
    prior: Floats

    def named(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in the order in which they travel."""
        return {"mean": self.mean, "variance": self.variance, "prior": self.prior}

    @classmethod
    def of(cls, named: Named, _: str) -> Gaussian:
        """From arrays of somebody's: their names, dtypes and numbers of axes are checked; raises ValueError."""
        return cls(**_typed(named, {"mean": ("<f8", 2), "variance": ("<f8", 2), "prior": ("<f8", 1)}))

    def widest(self, width: int) -> int:
        """Most numbers that one row becomes on its way."""
        return int(self.mean.size)

    def check(self, width: int, outputs: int) -> None:
        """Raise ValueError unless these describe `width` features of `outputs` classes."""
        shape = (outputs, width)
        if self.mean.shape != shape or self.variance.shape != shape or self.prior.shape != (outputs,):
            raise ValueError(f"means, variances or priors are not of shape {shape}")
        if self.mean.size > MAX_NUMBERS:
            raise ValueError(f"more than {MAX_NUMBERS} numbers in an array")
        for array, name in ((self.mean, "a mean"), (self.variance, "a variance"), (self.prior, "a prior")):
            _finite(array, name)
        if (self.variance < np.finfo(np.float64).tiny).any() or (self.prior <= 0).any():
            raise ValueError("a variance or a prior is not positive")


Body = Trees | Layers | Gaussian
BODIES: Mapping[str, type[Body]] = {body.kind: body for body in (Trees, Layers, Gaussian)}


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """A whole estimator: what it makes of `width` features. `offset` has shape (outputs,)."""

    body: Body
    width: int
    link: str
    offset: Floats
    factor: float = 1.0

    def check(self, classes: int | None) -> None:
        """The audit: raise ValueError unless this is a model of that many classes, or of a regression if None."""
        if not 0 < self.width <= MAX_WIDTH:
            raise ValueError(f"{self.width} features; 1 to {MAX_WIDTH} are known")
        if self.link not in LINKS or (self.link in ("identity", "exp")) != (classes is None):
            raise ValueError(f"the link is none of {', '.join(LINKS)}, or does not fit the task")
        outputs = 1 if classes is None or (self.link == "sigmoid" and classes == 2) else classes
        if self.offset.shape != (outputs,) or (self.link == "sigmoid" and classes != 2):
            raise ValueError(f"{len(self.offset)} scores do not make {classes or 'no'} classes by {self.link}")
        _finite(self.offset, "an offset")
        if not math.isfinite(self.factor) or self.factor < 0:
            raise ValueError("the factor is not finite, or negative")
        if self.link == "shares" and (not isinstance(self.body, Trees) or (self.body.value < 0).any()):
            raise ValueError("shares are of trees whose values are not negative")
        if self.link == "shares" and self.offset.any():
            raise ValueError("shares have no offset")
        self.body.check(self.width, outputs)


def _typed(named: Named, layout: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    if named.keys() != layout.keys():
        raise ValueError(f"the arrays are not {', '.join(layout)}")
    for name, (dtype, axes) in layout.items():
        if named[name].dtype != np.dtype(dtype) or named[name].ndim != axes:
            raise ValueError(f"{name} is not of {dtype} with {axes} axes")
    return dict(named)


def _finite(array: Floats, what: str) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{what} is not finite")
