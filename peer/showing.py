"""What a training leaves of its rows for the others to know this peer by: moments, and a sample for its density."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from p2pml.ensemble.moments import Moments
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.typed import Reader, Typed
from p2pml.ensemble.values import Columns

from .store import write_verified

SAMPLE = 2
"""Version of how a sample lies on disk."""
SAMPLE_ROWS = 5_000
"""Training rows that a density is fitted on, and the common vote: more move it less than its own error."""
SAMPLE_CELLS = 3_000_000
"""Cells of them, which bounds the memory of a fit in wide tables: some 100 MiB for a moment."""


def leave_knowledge(
    folder: Path, schema: Schema, columns: Columns, rows: NDArray[np.int64], least: int, seed: int
) -> dict[str, str]:
    """Write the moments of the training rows `rows`, and a sample of them, which stays on this machine; their names."""
    fields = [field.name for field in schema.fields]
    trained_on = {name: [columns[name][at] for at in rows] for name in fields}
    moments = Moments.of(schema, trained_on, least)
    most = max(1, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(fields)), len(rows)))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    some = {name: [cells[at] for at in chosen] for name, cells in trained_on.items()}
    sample = {
        "rows": Reader(schema).read(some).to_data(),
        "truth": schema.truth({schema.target: [columns[schema.target][at] for at in rows[chosen]]}).tolist(),
    }
    return {
        "moments": _leave(folder, "moments", msgpack.packb(moments.to_data())),
        "sample": _leave(folder, "sample", msgpack.packb(sample, datetime=True)),
    }


def read_moments(body: bytes) -> Moments:
    """The moments that `leave_knowledge` wrote."""
    return Moments.from_data(msgpack.unpackb(body))


def read_sample(body: bytes, schema: Schema) -> tuple[Typed, NDArray[Any]]:
    """The sample of training rows that `leave_knowledge` wrote, and their truth as `Schema.truth` gives it."""
    data = msgpack.unpackb(body, timestamp=3)
    return Typed.from_data(data["rows"]), np.array(data["truth"], float if schema.task == "regression" else object)


def _leave(folder: Path, kind: str, body: bytes) -> str:
    name = f"{kind}-{hashlib.sha256(body).hexdigest()}"
    write_verified(folder / name, body)
    return name
