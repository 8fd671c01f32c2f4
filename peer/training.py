"""Training this peer's part in a workshop, and the trained model on disk."""

from __future__ import annotations

import asyncio
import importlib.metadata
import pickle
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgpack
import structlog
from numpy.typing import NDArray

import p2pml
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.space import Space
from p2pml.ensemble.summary import FitCommand
from p2pml.ensemble.typed import Typed
from p2pml.errors import BadInput

from .compiling import ARRAYS, PICKLED, load_compiled
from .memory import return_small_pieces
from .options import PeerOptions
from .showing import SAMPLE, read_moments, read_sample
from .store import Store, digest_of
from .table import Table
from .workshop import Workshop

if TYPE_CHECKING:
    from p2pml.ensemble.compiled import CompiledModel
    from p2pml.ensemble.models import Model

WISH = "fit"
"""The file with the fit that was asked for last."""
SPACE = "space"
"""The file with the shared space in which this peer stood last."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that can vote, with what is known of it."""

    model: Model | CompiledModel
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
    moments_file: str
    sample_file: str
    portable: bool
    """Whether it is served from plain arrays, which other peers may hold."""


class Trainer:
    """Trains this peer's part, one training at a time, and keeps the last model on disk."""

    def __init__(self, store: Store, options: PeerOptions, workshop: Workshop) -> None:
        self._store = store
        self._options = options
        self._workshop = workshop

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

    async def lost_model(self) -> str | None:
        """The digest of the model that `load` should have found, where all but its file is there."""
        record = await asyncio.to_thread(self._store.read_document, "trained", dict)
        try:
            if record is None or record["recipe"] != await asyncio.to_thread(self._recipe):
                return None
            kind, _, digest = record["outcome"]["model"].rpartition("-")
        except (KeyError, AttributeError, TypeError):
            return None
        return str(digest) if f"{kind}-" == ARRAYS and not self._store.has(ARRAYS + digest) else None

    def mend(self, digest: str, packed: bytes) -> None:
        """Put back this peer's own model, as others held it; its digest has been verified. Blocks."""
        self._store.write(ARRAYS + digest, packed)

    def whole(self, trained: Trained) -> bool:
        """Whether all that belongs to the model is on disk and verifies; blocks."""
        bodies = [self._store.read(name) for name in (trained.holdout_file, trained.moments_file, trained.sample_file)]
        return None not in bodies

    def wish(self) -> FitCommand | None:
        """The last fit that was asked for, though it may never have been trained for."""
        return self._store.read_document(WISH, FitCommand.from_data)

    def keep_wish(self, command: FitCommand) -> None:
        """Keep a fit that is asked for, before that is acknowledged; raises `BadInput` where the disk refuses."""
        self._store.write_document(WISH, command.to_data())

    async def train(self, command: FitCommand) -> Trained:
        """Train for `command` in a worker process; its model is on disk when this returns.

        Raises `BadInput` where the part, the model or the disk refuses, in the words that a user should read.
        A training that is cancelled ends its process and leaves the last model as it was.
        """
        outcome = await self._workshop.run(self._job(command.model or self._options.model))
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
        await self._workshop.close()

    @property
    def least(self) -> int:
        """Rows that a group must have before anything of it is told."""
        return self._options.min_count

    def held_out(self, trained: Trained) -> Table:
        """The held-out rows of `trained`, from disk; blocks, so call it in a thread.

        Raises `BadInput` where the file is gone or damaged; a fit writes it anew.
        """
        data = msgpack.unpackb(self._kept(trained.holdout_file, "held-out rows"), timestamp=3)
        return Table(data["columns"], data["rows"])

    def moments(self, trained: Trained) -> Moments:
        """The moments of the rows that `trained` was trained on; otherwise as `held_out`."""
        return read_moments(self._kept(trained.moments_file, "moments"))

    def packed_moments(self, trained: Trained) -> bytes:
        """The same as bytes."""
        return self._kept(trained.moments_file, "moments")

    def packed_model(self, trained: Trained) -> bytes | None:
        """The model as other peers may have it; None where it cannot leave this one. Otherwise as `held_out`."""
        return self._kept(ARRAYS + trained.digest, "model's arrays") if trained.portable else None

    def sample(self, trained: Trained) -> tuple[Typed, NDArray[Any]]:
        """Some of the rows that `trained` was trained on, and their truth; otherwise as `held_out`."""
        return read_sample(self._kept(trained.sample_file, "sample of training rows"), trained.schema)

    def space(self) -> Space | None:
        """The shared space that was kept last; None where none is, or not one that this version reads."""
        return self._store.read_document(SPACE, Space.from_data)

    def keep_space(self, space: Space) -> None:
        """Keep the shared space for the next run; raises `BadInput` where the disk refuses."""
        self._store.write_document(SPACE, space.to_data())

    def _kept(self, name: str, what: str) -> bytes:
        body = self._store.read(name)
        if body is None:
            raise BadInput(f"the {what} on disk are damaged or gone; run `p2pml fit` to make them anew")
        return body

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
            "min_count": options.min_count,
            "sample": SAMPLE,
            "p2pml": p2pml.__version__,
            **_versions(),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        }

    def _job(self, model: str) -> dict[str, Any]:
        options = self._options
        return {
            "data": str(options.data),
            "target": options.target,
            "task": options.task,
            "model": model,
            "holdout": options.holdout,
            "seed": options.seed,
            "min_count": options.min_count,
            "folder": str(self._store.folder),
        }

    def _restore(self, outcome: dict[str, Any], command: FitCommand) -> Trained | None:
        body = self._store.read(outcome["model"])
        if body is None:
            log.warning("the model on disk is damaged or gone; training anew")
            return None
        # A pickled file was written by this peer's own worker, and its digest has been verified; nothing that came
        # from another peer is ever unpickled.
        compiled = outcome["model"].startswith(ARRAYS)
        model: Model | CompiledModel = load_compiled(body) if compiled else pickle.loads(body)  # noqa: S301
        del body
        return_small_pieces()
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
            moments_file=outcome["knowledge"]["moments"],
            sample_file=outcome["knowledge"]["sample"],
            portable=compiled,
        )

    def _commit(self, record: dict[str, Any]) -> None:
        self._store.write_document("trained", record)
        outcome = record["outcome"]
        for prefix in (ARRAYS, PICKLED):
            self._store.keep_only(prefix, {outcome["model"]})
        self._store.keep_only("holdout-", {outcome["holdout"]})
        for kind, name in outcome["knowledge"].items():
            self._store.keep_only(f"{kind}-", {name})


@cache
def _versions() -> dict[str, str]:
    """Of the libraries that a model depends on: each is a file to be read."""
    return {name: importlib.metadata.version(name) for name in ("scikit-learn", "onnxruntime", "numpy")}
