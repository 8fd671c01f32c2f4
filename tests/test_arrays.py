"""Laws of models as plain data: what is written is read back, and nothing else gets through the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.ensemble import arrays as limits
from p2pml.ensemble import portable as packing
from p2pml.ensemble.arrays import Arrays, Gaussian, Layers, Trees
from p2pml.ensemble.compiled import CompiledModel
from p2pml.ensemble.encoder import Encoder
from p2pml.ensemble.extraction import NotCompiled
from p2pml.ensemble.portable import Portable, digest
from p2pml.ensemble.schema import infer
from p2pml.errors import BadInput, RemoteError

ROWS: dict[str, list[object]] = {"x": [1.0, 2.0, 4.0, 8.0], "z": ["a", "b", "a", "b"]}
CLASSES: dict[str, list[object]] = {**ROWS, "y": ["no", "yes", "no", "yes"]}
NUMBERS: dict[str, list[object]] = {**ROWS, "y": [0.5, 1.5, 2.5, 9.5]}
WIDTH = 3


def whole(*values: int) -> Any:
    return np.array(values, np.int32)


def real(*values: Any) -> Any:
    return np.array(values, np.float64)


# A root over a leaf and a node with two leaves, and a second tree of one leaf.
TREES = Trees(
    sizes=whole(5, 1),
    left=whole(1, -1, 3, -1, -1, -1),
    right=whole(2, -1, 4, -1, -1, -1),
    feature=whole(0, 0, 2, 0, 0, 0),
    threshold=real(0.0, 0, 0.5, 0, 0, 0),
    node=whole(1, 3, 4, 5),
    output=whole(0, 0, 0, 0),
    value=real(1, 2, 3, 10),
)
FOREST = replace(TREES, node=whole(1, 3, 3, 4, 5), output=whole(0, 0, 1, 1, 0), value=real(1, 0.5, 0.5, 1, 1))
LAYERS = Layers((np.ones((3, 2)), np.ones((2, 1))), (real(0, 1), real(2)), "relu")
NORMAL = Gaussian(np.ones((2, 3)), np.full((2, 3), 0.5), real(0.25, 0.75))

BODIES = {
    "trees": Arrays(TREES, WIDTH, "identity", real(4), 0.5),
    "forest": Arrays(FOREST, WIDTH, "shares", np.zeros(2), 0.5),
    "layers": Arrays(LAYERS, WIDTH, "sigmoid", np.zeros(1)),
    "gaussian": Arrays(NORMAL, WIDTH, "softmax", np.zeros(2)),
}


def portable(arrays: Arrays) -> Portable:
    regression = arrays.link in ("identity", "exp")
    columns = NUMBERS if regression else CLASSES
    schema = infer(columns, "y", "regression" if regression else "classification")
    classes = None if regression else ("no", "yes")
    return Portable("some-model", schema, Encoder.fit(schema, columns), classes, 4, arrays)


def with_header(packed: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    size = int.from_bytes(packed[:4], "little")
    header = msgpack.unpackb(packed[4 : 4 + size])
    change(header)
    arrays = packed[4 + size + -(4 + size) % 8 :]
    changed: bytes = msgpack.packb(header)
    return len(changed).to_bytes(4, "little") + changed + bytes(-(4 + len(changed)) % 8) + arrays


@pytest.mark.parametrize("name", BODIES)
def test_what_is_written_is_read_back(name: str) -> None:
    """Equal models give equal bytes, and so one digest; what was read votes."""
    packed = portable(BODIES[name]).packed()
    again = Portable.read(packed)
    assert again.packed() == packed
    assert digest(again.packed()) == digest(packed)
    assert np.isfinite(CompiledModel(again).vote(ROWS).values).all()


def test_trees_say_what_their_arrays_say() -> None:
    """Left is <=; the leaves that are reached are added up, times the factor, plus the offset."""
    model = CompiledModel(Portable.read(portable(BODIES["trees"]).packed()))
    # Scaled, x is below 0 in the first two rows; feature 2 is whether z is "b".
    assert model.vote(ROWS).values == pytest.approx([4 + (1 + 10) / 2] * 2 + [4 + (2 + 10) / 2, 4 + (3 + 10) / 2])


CORRUPT_TREES: dict[str, dict[str, Any]] = {
    "no trees": {"sizes": whole()},
    "sizes that do not add up": {"sizes": whole(5, 2)},
    "an empty tree": {"sizes": whole(6, 0)},
    "a negative size": {"sizes": whole(7, -1)},
    "a size that overflows": {"sizes": whole(2**31 - 1, 2**31 - 1)},
    "no nodes": dict.fromkeys(("left", "right", "feature"), whole()) | {"threshold": real(), "sizes": whole()},
    "nodes of several lengths": {"right": whole(2, -1, 4, -1, -1)},
    "a node that is its own child": {"left": whole(0, -1, 3, -1, -1, -1)},
    "a cycle": {"left": whole(1, -1, 0, -1, -1, -1)},
    "a child in the next tree": {"right": whole(2, -1, 5, -1, -1, -1)},
    "a child past the end": {"right": whole(2, -1, 2**31 - 1, -1, -1, -1)},
    "a child below the root": {"left": whole(-2, -1, 3, -1, -1, -1)},
    "one child alone": {"right": whole(2, -1, -1, -1, -1, -1)},
    "a child of two parents": {"left": whole(2, -1, 3, -1, -1, -1)},
    "a node that nobody reaches": {"left": whole(1, -1, 4, -1, -1, -1)},
    "a feature too far": {"feature": whole(3, 0, 2, 0, 0, 0)},
    "a negative feature": {"feature": whole(-1, 0, 2, 0, 0, 0)},
    "a feature too far in a leaf": {"feature": whole(0, 9, 2, 0, 0, 0)},
    "a threshold that is no number": {"threshold": real(np.nan, 0, 0.5, 0, 0, 0)},
    "an infinite threshold": {"threshold": real(0.25, 0, np.inf, 0, 0, 0)},
    "a value of an inner node": {"node": whole(0, 1, 3, 4)},
    "a value past the end": {"node": whole(1, 3, 4, 6)},
    "a negative node": {"node": whole(-1, 3, 4, 5)},
    "a value twice": {"node": whole(1, 3, 3, 5)},
    "values out of order": {"node": whole(3, 1, 4, 5)},
    "a leaf without a value": {"node": whole(1, 3, 4), "output": whole(0, 0, 0), "value": real(1, 2, 3)},
    "values of several lengths": {"value": real(1, 2, 3)},
    "an output too far": {"output": whole(0, 0, 0, 1)},
    "a negative output": {"output": whole(0, -1, 0, 0)},
    "a value that is no number": {"value": real(1, np.nan, 3, 10)},
    "an infinite value": {"value": real(1, 2, 3, -np.inf)},
    "an array of another type": {"left": TREES.left.astype(np.float64)},
    "an array of another shape": {"value": TREES.value[:, None]},
}

CORRUPT: dict[str, Arrays] = {
    **{name: replace(BODIES["trees"], body=replace(TREES, **change)) for name, change in CORRUPT_TREES.items()},
    "a negative share": replace(BODIES["forest"], body=replace(FOREST, value=real(1, -0.5, 0.5, 1, 1))),
    "shares with an offset": replace(BODIES["forest"], offset=real(1, 0)),
    "shares of no trees": replace(BODIES["gaussian"], link="shares"),
    "layers that do not fit": replace(
        BODIES["layers"], body=replace(LAYERS, weights=(np.ones((3, 2)), np.ones((3, 1))))
    ),
    "a first layer that does not fit": replace(BODIES["layers"], body=Layers((np.ones((4, 1)),), (real(0),))),
    "a bias that does not fit": replace(BODIES["layers"], body=replace(LAYERS, biases=(real(0, 1, 2), real(2)))),
    "too many scores": replace(BODIES["layers"], body=Layers((np.ones((3, 2)),), (real(0, 1),))),
    "a layer of nothing": replace(
        BODIES["layers"], body=Layers((np.ones((3, 0)), np.ones((0, 1))), (real(), real(1)), "relu")
    ),
    "a weight that is no number": replace(BODIES["layers"], body=Layers((np.full((3, 1), np.nan),), (real(0),))),
    "an infinite bias": replace(BODIES["layers"], body=Layers((np.ones((3, 1)),), (real(np.inf),))),
    "an unknown activation": replace(BODIES["layers"], body=replace(LAYERS, activation="loop")),
    "a mean too few": replace(BODIES["gaussian"], body=replace(NORMAL, mean=np.ones((2, 2)))),
    "a variance of nothing": replace(BODIES["gaussian"], body=replace(NORMAL, variance=np.zeros((2, 3)))),
    "a negative variance": replace(BODIES["gaussian"], body=replace(NORMAL, variance=np.full((2, 3), -1.0))),
    "a mean that is no number": replace(BODIES["gaussian"], body=replace(NORMAL, mean=np.full((2, 3), np.nan))),
    "a prior of nothing": replace(BODIES["gaussian"], body=replace(NORMAL, prior=real(0, 1))),
    "priors of other classes": replace(BODIES["gaussian"], body=replace(NORMAL, prior=real(0.2, 0.2, 0.6))),
    "an unknown link": replace(BODIES["gaussian"], link="loop"),
    "a link of regression": replace(BODIES["gaussian"], link="sigmoid"),
    "an offset too many": replace(BODIES["gaussian"], offset=np.zeros(3)),
    "an offset that is no number": replace(BODIES["trees"], offset=real(np.nan)),
    "an infinite factor": replace(BODIES["trees"], factor=np.inf),
    "a negative factor": replace(BODIES["trees"], factor=-1.0),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_field_is_refused(name: str) -> None:
    """Whatever a peer may have sent, the model is not built."""
    with pytest.raises(RemoteError, match="the model cannot be read"):
        Portable.read(portable(CORRUPT[name]).packed())


@pytest.mark.parametrize("classes", [1, 3])
def test_scores_of_other_classes_are_refused(classes: int) -> None:
    """The classes of the header and the outputs of the arrays are one number."""
    names = ["a", "b", "c"][:classes]
    for kind in ("forest", "layers", "gaussian"):
        packed = with_header(portable(BODIES[kind]).packed(), lambda header: header.update(classes=names))
        with pytest.raises(RemoteError):
            Portable.read(packed)


HEADER: dict[str, tuple[str, object]] = {
    "a newer format": ("format", 2),
    "no format": ("format", None),
    "a name that is no text": ("name", 3),
    "a long name": ("name", "x" * 2_000),
    "no schema": ("schema", None),
    "no encoder": ("encoder", []),
    "classes out of order": ("classes", ["yes", "no"]),
    "a regression with a classifier's arrays": ("classes", None),
    "no rows": ("rows", 0),
    "rows that are no number": ("rows", True),
    "an unknown kind": ("kind", "graph"),
    "a kind that is no text": ("kind", []),
    "another kind": ("kind", "gaussian"),
    "an activation that is no text": ("activation", {}),
    "a link that is no text": ("link", []),
    "a factor that is no number": ("factor", "1"),
    "an offset that is no list": ("offset", 3.0),
    "an offset of texts": ("offset", ["0"]),
    "no arrays": ("arrays", []),
    "arrays that are no list": ("arrays", 3),
    "a name alone": ("arrays", [["weight0"]]),
    "a type that could hold objects": ("arrays", [["weight0", "|O", [3, 2]]]),
    "a shape of no axes": ("arrays", [["weight0", "<f8", []]]),
    "a negative shape": ("arrays", [["weight0", "<f8", [-3, -2]]]),
    "a shape of floats": ("arrays", [["weight0", "<f8", [3.0, 2]]]),
    "more than there is": ("arrays", [["weight0", "<f8", [8_388_608, 1]]]),
    "more than anybody has": ("arrays", [["weight0", "<f8", [8_388_608, 8_388_608]]]),
    "an axis without end": ("arrays", [["weight0", "<f8", [2**62, 2**62]]]),
    "an array twice": ("arrays", [["weight0", "<f8", [3, 2]]] * 2),
}


@pytest.mark.parametrize("name", HEADER)
def test_a_corrupt_header_is_refused(name: str) -> None:
    """Sizes are compared with the bytes at hand before anything is allocated."""
    field, value = HEADER[name]
    packed = with_header(portable(BODIES["layers"]).packed(), lambda header: header.update({field: value}))
    with pytest.raises(RemoteError, match="cannot be read"):
        Portable.read(packed)


@pytest.mark.parametrize(
    "field",
    [
        *("format", "name", "schema", "encoder", "classes", "rows"),
        *("kind", "activation", "link", "factor", "offset", "arrays"),
    ],
)
def test_a_header_without_one_of_its_entries_is_refused(field: str) -> None:
    """So is one with an entry that nobody knows."""
    packed = portable(BODIES["layers"]).packed()
    for change in (lambda header: header.pop(field), lambda header: header.update(more=1)):
        with pytest.raises(RemoteError):
            Portable.read(with_header(packed, change))


def test_a_newer_format_is_named() -> None:
    """The sentence says the way out."""
    packed = with_header(portable(BODIES["layers"]).packed(), lambda header: header.update(format=7))
    with pytest.raises(RemoteError, match="its format is 7, and this p2pml reads 1; bring both to one version"):
        Portable.read(packed)


def test_an_encoder_of_other_columns_is_refused() -> None:
    """Every column that the encoder reads is one of the schema, or a vote would ask for what no row has."""

    def rename(header: dict[str, Any]) -> None:
        header["encoder"]["numbers"] = ["w"]

    with pytest.raises(RemoteError, match="its encoder reads 'w', which its schema does not name"):
        Portable.read(with_header(portable(BODIES["layers"]).packed(), rename))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(junk: bytes) -> None:
    """What is no model raises one kind of error."""
    with pytest.raises(RemoteError):
        Portable.read(junk)


PACKED = {name: portable(arrays).packed() for name, arrays in BODIES.items()}


@settings(max_examples=150)
@given(st.data())
def test_changed_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    """A model of which some bytes were changed is refused, or votes without harm."""
    packed = bytearray(PACKED[data.draw(st.sampled_from(sorted(PACKED)))])
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = CompiledModel(Portable.read(bytes(packed)))
        model.vote(ROWS)
    except (RemoteError, BadInput):
        pass


@settings(max_examples=50)
@given(st.sampled_from(sorted(PACKED)), st.data())
def test_a_model_cut_off_or_followed_by_more_is_refused(name: str, data: st.DataObject) -> None:
    """The bytes are all there, and nothing else."""
    packed = PACKED[name]
    for other in (packed[: data.draw(st.integers(0, len(packed) - 1))], packed + bytes(data.draw(st.integers(1, 9)))):
        with pytest.raises(RemoteError):
            Portable.read(other)


def chain(depth: int) -> Trees:
    """One tree in which each level has one inner node more."""
    inner = np.arange(0, 2 * depth, 2)
    left, right = np.full(2 * depth + 1, -1, np.int32), np.full(2 * depth + 1, -1, np.int32)
    left[inner], right[inner] = inner + 1, inner + 2
    leaves = np.flatnonzero(left < 0).astype(np.int32)
    zeros = np.zeros(2 * depth + 1, np.int32)
    threshold = np.linspace(-2, 2, 2 * depth + 1)
    return Trees(
        whole(2 * depth + 1), left, right, zeros, threshold, leaves, np.zeros_like(leaves), leaves.astype(np.float64)
    )


def test_a_tree_that_would_overflow_the_stack_is_refused() -> None:
    """The runtime reads trees by recursion; the deepest that is let through is built."""
    deepest = replace(BODIES["trees"], body=chain(limits.MAX_DEPTH - 1))
    assert np.isfinite(CompiledModel(Portable.read(portable(deepest).packed())).vote(ROWS).values).all()
    for depth in (limits.MAX_DEPTH, 200_000):
        with pytest.raises(RemoteError, match="deeper than 512 nodes"):
            Portable.read(portable(replace(BODIES["trees"], body=chain(depth))).packed())


@pytest.mark.parametrize(
    ("limit", "kind"), [("MAX_NODES", "trees"), ("MAX_LAYERS", "layers"), ("MAX_NUMBERS", "gaussian")]
)
def test_a_model_past_a_bound_is_refused(limit: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bound is looked at before anything is built."""
    packed = PACKED[kind]
    monkeypatch.setattr(limits, limit, 1)
    with pytest.raises(RemoteError):
        Portable.read(packed)


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_HEADER"])
def test_a_model_too_large_to_be_read_is_not_written(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner learns so, and goes on with the model that it has."""
    monkeypatch.setattr(packing, limit, 100)
    with pytest.raises(NotCompiled, match="its arrays take 0 MiB"):
        portable(BODIES["trees"]).packed()
    with pytest.raises(RemoteError, match="too many, or cut off"):
        Portable.read(PACKED["trees"])
