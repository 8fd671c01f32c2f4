"""The training process: reads one job, trains on the part, leaves the model in the state folder, and ends.

It runs as `python -m p2pml.peer.worker` with the job as one line of JSON on standard input, which stays open
as the lifeline: the process ends with its peer, even one that was killed. Its outcome is one line of JSON on
standard output; what a user's own estimator prints goes to standard error instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np
from numpy.typing import NDArray

from p2pml.ensemble.holdout import split
from p2pml.ensemble.models import Model, train
from p2pml.ensemble.schema import Schema, infer
from p2pml.ensemble.values import Kind
from p2pml.errors import BadInput

from .compiling import ARRAYS, PICKLED, compile_model
from .scoring import score_alone
from .showing import leave_knowledge
from .store import digest_of, write_verified
from .table import Table, read_table

PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>: the signal that the kernel sends to this process when its parent dies (Linux alone)."""
NICENESS = 10
"""Training yields to answering: an answer is waited for, a training is not. Of a core that both want, Linux gives a
process of this niceness 110 shares beside 1,024 (`sched_prio_to_weight`): answers lose a tenth of it, and a training
still comes forward."""


def main() -> None:
    """Run the one job; exit code 0 also where the input was refused, since the outcome says so."""
    outcome_pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.buffer.readline())
    _end_with_parent(sys.stdin.buffer)
    os.nice(NICENESS)
    # Where a user's own `package.module:factory` lies; last, so that it cannot hide a library.
    sys.path.append(os.getcwd())
    try:
        outcome = run(job)
    except BadInput as error:
        outcome = {"refused": str(error)}
    except MemoryError:
        outcome = {"refused": "there is not enough memory to train on this part; give it fewer rows"}
    except OSError as error:  # reading the part has errors of its own, so this is the disk of the state folder
        outcome = {"refused": f"the model could not be written: {(error.strerror or str(error)).lower()}"}
    except Exception as error:  # noqa: BLE001 (a user's own estimator may raise anything, and a peer outlives it)
        outcome = {"refused": f"the model {job['model']} failed while it trained: {type(error).__name__}: {error}"}
    outcome_pipe.write(json.dumps(outcome).encode() + b"\n")
    outcome_pipe.flush()
    # Threads of numerical libraries and the lifeline's own may still run; there is nothing left to clean up.
    os._exit(0)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train as `job` says; the model and the held-out rows lie in its folder under names with their digests."""
    data, folder = Path(job["data"]), Path(job["folder"])
    table = read_table(data)
    schema = infer(table.columns, job["target"], job["task"])
    train_rows, held_out_rows = split(table.rows, job["holdout"], job["seed"])
    model = train(schema, table.columns, train_rows, job["model"], job["seed"])
    held_out = _take(table, held_out_rows)
    packed, reason = compile_model(model, (held_out if held_out.rows else _take(table, train_rows)).columns)
    return {
        "data": digest_of(data),
        "schema": schema.to_data(),
        "knowledge": leave_knowledge(folder, schema, table.columns, train_rows, job["min_count"], job["seed"]),
        "rows": model.rows,
        "held_out": held_out.rows,
        "metrics": score_alone(model, held_out),
        "notes": notes(schema, model, reason),
        "model": _leave(folder, PICKLED, _pickled(model)) if packed is None else _leave(folder, ARRAYS, packed),
        "holdout": _leave(folder, "holdout-", _packed(held_out)),
    }


def notes(schema: Schema, model: Model, uncompiled: str | None) -> list[str]:
    """What a user should know of this part, one sentence each."""
    said = []
    if model.skipped:
        said.append(f"{model.skipped} rows have no {schema.target!r} and were not trained on")
    if model.classes is not None and len(model.classes) == 1:
        said.append(
            f"every row of this part has {schema.target!r} = {model.classes[0]}; this peer votes for that alone"
        )
    if empty := [field.name for field in schema.fields if field.kind is Kind.EMPTY]:
        said.append(
            f"no row has a value in {', '.join(map(repr, empty[:5]))}{' and others' * (len(empty) > 5)}; ignored"
        )
    if uncompiled:
        said.append(f"scikit-learn serves the model {model.name}, uncompiled: {uncompiled}")
    return said


def _take(table: Table, rows: NDArray[np.int64]) -> Table:
    return Table({name: [cells[i] for i in rows] for name, cells in table.columns.items()}, len(rows))


def _pickled(model: Model) -> bytes:
    return pickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL)


def _packed(table: Table) -> bytes:
    packed: bytes = msgpack.packb({"columns": table.columns, "rows": table.rows}, datetime=True)
    return packed


def _leave(folder: Path, prefix: str, body: bytes) -> str:
    name = f"{prefix}{hashlib.sha256(body).hexdigest()}"
    write_verified(folder / name, body)
    return name


def _end_with_parent(lifeline: BinaryIO) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        lifeline.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
