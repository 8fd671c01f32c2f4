"""Models by name, and what training one on a part gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder import Encoder
from .schema import Schema
from .values import Columns
from .vote import Vote

MODELS: dict[str, Any] = {}
DEFAULT_MODEL = "hist-gradient-boosting"


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model in two pieces."""

    name: str
    schema: Schema
    encoder: Encoder
    estimator: Any
    classes: tuple[str, ...] | None
    rows: int
    skipped: int

    def vote(self, columns: Columns, first_row: int = 1) -> Vote:
        """What this model says about each row."""
        raise NotImplementedError


def check_model(name: str, task: str) -> None:
    """Raise BadInput unless `name` is a model for `task`."""
    raise NotImplementedError


def train(
    schema: Schema, columns: Columns, indices: Sequence[int] | NDArray[np.int64], model: str, seed: int
) -> Model:
    """Train on the rows at `indices`."""
    raise NotImplementedError
