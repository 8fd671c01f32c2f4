"""Training in a process of its own, and the trained model on disk.

The event loop never trains: it starts `p2pml.peer.worker`, keeps a pipe open to it, and awaits its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.metadata
import json
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import structlog

import p2pml
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.summary import FitCommand
from p2pml.errors import BadInput

from .options import PeerOptions
from .store import Store, digest_of
from .table import Table

if TYPE_CHECKING:
    from p2pml.ensemble.models import Model

OUTCOME_BYTES = 16 * 1024 * 1024
"""Most bytes of a worker's outcome: a schema of 4,096 columns and its scores stay far below."""

SMALL_PART = 4 * 2**20
"""Bytes of a data file below which training uses one thread: measured, a fifth of the time beside busy neighbours."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that can vote, with what is known of it."""

    model: Model
    schema: Schema
    command: FitCommand
    """The fit that it answers; epoch 0 is the training at the start."""
    name: str
    rows: int
    held_out: int
    metrics: dict[str, float | None]
    notes: tuple[str, ...]
    digest: str
    holdout_file: str


class Trainer:
    """Trains this peer's part, one training at a time, and keeps the last model on disk."""

    def __init__(self, store: Store, options: PeerOptions) -> None:
        self._store = store
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def load(self) -> Trained | None:
        """The model of the last run; None where there is none that was trained on this part with these options."""
        record = await asyncio.to_thread(self._store.read_document, "trained", dict)
        if record is None:
            return None
        try:
            unchanged = record["recipe"] == await asyncio.to_thread(self._recipe)
            if not unchanged:
                log.info("the part, the options or the software changed since the last training; training anew")
                return None
            return await asyncio.to_thread(self._restore, record["outcome"], FitCommand.from_data(record["command"]))
        except (KeyError, TypeError, ValueError, p2pml.errors.RemoteError) as error:
            self._store.set_aside("trained", f"it does not hold what it should ({error})")
            return None

    async def train(self, command: FitCommand) -> Trained:
        """Train for `command` in a worker process; its model is on disk when this returns.

        Raises `BadInput` where the part, the model or the disk refuses, in the words that a user should read.
        A training that is cancelled ends its process and leaves the last model as it was.
        """
        outcome = await self._run_worker(command.model or self._options.model)
        trained = await asyncio.to_thread(self._restore, outcome, command)
        if trained is None:
            raise BadInput("the model that was just written could not be read back; check the disk")
        recipe = await asyncio.to_thread(self._recipe)
        record = {
            "recipe": recipe | {"data": outcome["data"]},
            "outcome": outcome,
            "command": command.to_data(),
        }
        await asyncio.to_thread(self._commit, record)
        return trained

    async def close(self) -> None:
        """End a training that still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def held_out(self, trained: Trained) -> Table:
        """The held-out rows of `trained`, from disk; blocks, so call it in a thread.

        Raises `BadInput` where the file is gone or damaged; a fit writes it anew.
        """
        body = self._store.read(trained.holdout_file)
        if body is None:
            raise BadInput("the held-out rows on disk are damaged or gone; run `p2pml fit` to make them anew")
        data = msgpack.unpackb(body, timestamp=3)
        return Table(data["columns"], data["rows"])

    def _recipe(self) -> dict[str, Any]:
        """All that a model depends on; equal recipes mean that training again would change nothing."""
        options = self._options
        return {
            "data": digest_of(options.data) if options.data.is_file() else None,
            "target": options.target,
            "task": options.task,
            "model": options.model,
            "holdout": options.holdout,
            "seed": options.seed,
            "p2pml": p2pml.__version__,
            "scikit-learn": importlib.metadata.version("scikit-learn"),
            "numpy": importlib.metadata.version("numpy"),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        }

    async def _run_worker(self, model: str) -> dict[str, Any]:
        await self.close()
        options = self._options
        job = {
            "data": str(options.data),
            "target": options.target,
            "task": options.task,
            "model": model,
            "holdout": options.holdout,
            "seed": options.seed,
            "folder": str(self._store.folder),
        }
        environment = dict(os.environ)
        if await asyncio.to_thread(_is_small, options.data):
            environment.setdefault("OMP_NUM_THREADS", "1")
        # -P: a file called numpy.py in the folder where the user stands must not shadow the library.
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "p2pml.peer.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=OUTCOME_BYTES,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            await process.wait()
        except ConnectionError:
            line = b""
            await process.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        return self._outcome(line, process.returncode)

    def _outcome(self, line: bytes, code: int | None) -> dict[str, Any]:
        if not line:
            how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            raise BadInput(
                f"the training process {how} and left no model; its own words stand above. "
                "If memory ran out, give this peer fewer rows or a smaller model"
            )
        outcome: dict[str, Any] = json.loads(line)
        if "refused" in outcome:
            raise BadInput(outcome["refused"])
        return outcome

    def _restore(self, outcome: dict[str, Any], command: FitCommand) -> Trained | None:
        body = self._store.read(outcome["model"])
        if body is None:
            log.warning("the model on disk is damaged or gone; training anew")
            return None
        # The file was written by this peer's own worker and its digest has been verified; nothing that came
        # from another peer is ever unpickled.
        model: Model = pickle.loads(body)  # noqa: S301
        del body
        _give_memory_back()
        return Trained(
            model=model,
            schema=Schema.from_data(outcome["schema"]),
            command=command,
            name=command.model or self._options.model,
            rows=outcome["rows"],
            held_out=outcome["held_out"],
            metrics=outcome["metrics"],
            notes=tuple(outcome["notes"]),
            digest=outcome["model"].rpartition("-")[2],
            holdout_file=outcome["holdout"],
        )

    def _commit(self, record: dict[str, Any]) -> None:
        self._store.write_document("trained", record)
        outcome = record["outcome"]
        self._store.keep_only("model-", {outcome["model"]})
        self._store.keep_only("holdout-", {outcome["holdout"]})


def _is_small(data: Path) -> bool:
    """Whether one thread trains this part faster than several that wait for each other."""
    return data.is_file() and data.stat().st_size < SMALL_PART


def _give_memory_back() -> None:
    """Return what unpickling freed to the system: a forest's worth again, which glibc would keep."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
