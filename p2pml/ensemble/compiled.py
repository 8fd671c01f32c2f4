"""A model run by onnxruntime, from nothing but its encoder and its arrays: scikit-learn is not imported."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnxruntime

from p2pml.errors import BadInput, RemoteError

from .encoder import Encoder
from .fields import Schema
from .graph import INPUT, OUTPUT, build
from .models import Model
from .portable import Portable
from .values import Columns, Floats
from .vote import Vote

TOLERANCE = 1e-5
"""How far a compiled model may be from scikit-learn: in a probability, or as a part of a predicted number."""


class CompiledModel:
    """A model that votes as the `Model` it was made from, many times faster for few rows. Safe to use from several
    threads at once. The arrays are not kept. RemoteError where onnxruntime refuses it."""

    def __init__(self, portable: Portable) -> None:
        self.name = portable.name
        self.schema: Schema = portable.schema
        self.encoder: Encoder = portable.encoder
        self.classes = portable.classes
        self.rows = portable.rows
        self._widest = portable.arrays.body.widest(portable.arrays.width)
        self._none = np.empty((0, 1 if self.classes is None else len(self.classes)))
        graph = build(portable.arrays)
        try:
            self._session = onnxruntime.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base of their own; a model must not cost a peer its life
            raise RemoteError(f"onnxruntime refuses the model {self.name}: {error}") from error

    def vote(self, columns: Columns, first_row: int = 1) -> Vote:
        """What this model says about each row; BadInput where a cell cannot be read."""
        # In blocks, so that memory does not grow with the rows.
        said = [self._run(features) for _, features in self.encoder.blocks(columns, first_row, self._widest)]
        values = said[0] if len(said) == 1 else np.concatenate([self._none, *said])
        # A sum of finite numbers may overflow, but not one of probabilities or of anything that was trained on.
        if not math.isfinite(values.sum()):
            raise BadInput(f"the model {self.name} does not give one finite number a row: train it anew")
        return Vote(self.classes, values[:, 0] if self.classes is None else values)

    def _run(self, features: Floats) -> Floats:
        values: Floats = self._session.run([OUTPUT], {INPUT: features})[0]
        return values


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a compiled model is from the one it was made from: `largest` in a probability, or as a part of the
    number in regression; `flipped` rows get another class."""

    largest: float
    flipped: int

    @property
    def acceptable(self) -> bool:
        """Whether the compiled model may serve."""
        return self.largest <= TOLERANCE and not self.flipped


def verify(model: Model, compiled: CompiledModel, columns: Columns) -> Difference:
    """Compare the votes of both on these rows."""
    one, other = model.vote(columns).values, compiled.vote(columns).values
    if not len(one):
        return Difference(0.0, 0)
    apart = np.abs(one - other)
    if model.classes is None:
        # Numbers that are nearly 0 beside the others have no digits of their own.
        size = np.abs(one)
        return Difference(float((apart / np.maximum(size, 1e-6 * size.max() or 1.0)).max()), 0)
    return Difference(float(apart.max()), int(np.count_nonzero(one.argmax(axis=1) != other.argmax(axis=1))))


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # Peers share machines, and one row is done before a second thread has begun.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Without an arena memory goes back after a large block.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
