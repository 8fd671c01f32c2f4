"""This peer's own model: it casts its vote in a thread, and is exchanged whole when a new one is trained."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from p2pml.ensemble.density import Density
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, RemoteError

from .training import Trained

THREADS = 2
"""Votes that run at once; more would only take turns, since a vote is bound by the processor."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A shared space, and this peer's density in it."""

    space: Space
    density: Density


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote with the number of rows that its model was trained on and the model's digest; and, where one was asked
    for in the space that the peer is in, its log-density at each row."""

    vote: Vote
    rows: int
    model: str
    density: Floats | None = None

    def to_data(self) -> dict[str, object]:
        """As plain data for msgpack; `read_ballot` is the other end."""
        density = None if self.density is None else self.density.astype("<f8").tobytes()
        return {"vote": self.vote.to_data(), "rows": self.rows, "model": self.model, "density": density}


def read_ballot(data: object, rows: int) -> Ballot:
    """The ballot that another peer cast on `rows` rows; RemoteError if it is none."""
    match data:
        case {"vote": vote, "rows": int(trained_on), "model": str(model), **more} if 0 <= trained_on < 2**53:
            return Ballot(Vote.from_data(vote, rows), trained_on, model, _read_density(more.get("density"), rows))
    raise RemoteError("its vote cannot be read")


def _read_density(raw: object, rows: int) -> Floats | None:
    if raw is None:
        return None
    if not isinstance(raw, bytes) or len(raw) != 8 * rows:
        raise RemoteError("the densities beside its vote cannot be read")
    density = np.frombuffer(raw, "<f8").astype(np.float64)
    if not np.isfinite(density).all():
        raise RemoteError("a density beside its vote is not finite")
    return density


class Voting:
    """Holds the model that serves; `trained` is exchanged in one assignment, so no vote mixes two models."""

    def __init__(self) -> None:
        self.trained: Trained | None = None
        self.ground: Ground | None = None
        self.rows_voted = 0
        """Rows that this peer has voted on since it started."""
        self._threads = ThreadPoolExecutor(THREADS, "vote")

    async def vote(self, columns: Columns, first_row: int = 1, space: str | None = None) -> Ballot:
        """The vote on every row, with densities if this peer's is in `space`.

        Raises `BadInput` where the rows do not fit or there is no model yet.
        """
        trained = self.trained
        if trained is None:
            raise BadInput("this peer has no model yet; ask again when its training is done")
        if lacking := [field.name for field in trained.schema.fields if field.name not in columns]:
            raise BadInput(f"the rows have no column {lacking[0]!r}, which this peer's model was trained on")
        if len({len(cells) for cells in columns.values()}) != 1:
            raise BadInput("the columns are not all of one length")
        ground = self.ground if self.ground is not None and self.ground.space.digest == space else None
        vote, density = await asyncio.get_running_loop().run_in_executor(
            self._threads, _cast, trained, ground, columns, first_row
        )
        self.rows_voted += len(vote.values)
        return Ballot(vote, trained.rows, trained.digest, density)

    def close(self) -> None:
        """Let no further vote begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _cast(trained: Trained, ground: Ground | None, columns: Columns, first_row: int) -> tuple[Vote, Floats | None]:
    if ground is None:
        return trained.model.vote(columns, first_row), None
    sheet = Sheet(columns)
    vote = trained.model.vote(sheet, first_row)
    return vote, ground.density.log_density(ground.space.project(sheet, first_row))
