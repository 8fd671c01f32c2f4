"""This peer's own model: it casts its vote in a thread, and is exchanged whole when a new one is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from p2pml.ensemble.density import Density
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, RemoteError

from .ballots import Ballot, Cast, Refused, Wanted
from .shelf import Shelf
from .training import Trained

THREADS = 2
"""Votes that run at once; more would only take turns, since a vote is bound by the processor."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A shared space, and this peer's density in it, which was fitted on the sample of training rows in that file: a
    newer model votes without it until there is one of its own rows."""

    space: Space
    density: Density
    sample_file: str


class Voting:
    """Holds the model that serves; `trained` is exchanged in one assignment, so no vote mixes two models."""

    def __init__(self, me: str, shelf: Shelf) -> None:
        """`me` is the id of this peer, which every ballot of its own model names; on `shelf` are its replicas."""
        self._me = me
        self._shelf = shelf
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
        _check(columns, trained.schema)
        ground = self.ground
        if ground is None or ground.space.digest != space or ground.sample_file != trained.sample_file:
            ground = None
        vote, density = await asyncio.get_running_loop().run_in_executor(
            self._threads, _cast, trained, ground, columns, first_row
        )
        self.rows_voted += len(vote.values)
        return Ballot(self._me, trained.digest, trained.rows, vote, density)

    async def cast(
        self, wanted: Sequence[Wanted], columns: Columns, first_row: int = 1, space: str | None = None
    ) -> list[Cast]:
        """The vote of each of these models on every row, as `vote`, or why there is none."""
        return [await self._one(each, columns, first_row, space) for each in wanted]

    async def _one(self, wanted: Wanted, columns: Columns, first_row: int, space: str | None) -> Cast:
        try:
            if wanted.owner == self._me and self.trained is not None:
                return await self.vote(columns, first_row, space)
            return await self._stand_in(wanted, columns, first_row, space)
        except (BadInput, RemoteError) as error:
            return Refused(wanted.owner, str(error))

    async def _stand_in(self, wanted: Wanted, columns: Columns, first_row: int, space: str | None) -> Cast:
        """The vote of a replica that is held here."""
        if (ground := self.ground) is not None and ground.space.digest != space:
            ground = None
        loop = asyncio.get_running_loop()
        replica = await loop.run_in_executor(self._threads, self._shelf.replica, wanted.owner, wanted.model)
        if replica is None:
            return Refused(wanted.owner, "it holds no replica of that model")
        _check(columns, replica.model.schema)
        vote, density = await loop.run_in_executor(
            self._threads, replica.cast, columns, first_row, ground.space if ground else None
        )
        self.rows_voted += len(vote.values)
        return Ballot(wanted.owner, wanted.model, replica.model.rows, vote, density)

    def close(self) -> None:
        """Let no further vote begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check(columns: Columns, schema: Schema) -> None:
    if lacking := [field.name for field in schema.fields if field.name not in columns]:
        raise BadInput(f"the rows have no column {lacking[0]!r}, which this model was trained on")
    if len({len(cells) for cells in columns.values()}) != 1:
        raise BadInput("the columns are not all of one length")


def _cast(trained: Trained, ground: Ground | None, columns: Columns, first_row: int) -> tuple[Vote, Floats | None]:
    if ground is None:
        return trained.model.vote(columns, first_row), None
    sheet = Sheet(columns)
    vote = trained.model.vote(sheet, first_row)
    return vote, ground.density.log_density(ground.space.project(sheet, first_row))
