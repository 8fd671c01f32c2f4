"""This peer's own model: it casts its vote in a thread, and is exchanged whole when a new one is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from p2pml.ensemble.density import Density
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput

from .ballots import Ballot, Cast, Refused, Wanted
from .training import Trained

THREADS = 2
"""Votes that run at once; more would only take turns, since a vote is bound by the processor."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A shared space, and this peer's density in it."""

    space: Space
    density: Density


class Voting:
    """Holds the model that serves; `trained` is exchanged in one assignment, so no vote mixes two models."""

    def __init__(self, me: str) -> None:
        """`me` is the id of this peer, which every ballot of its own model names."""
        self._me = me
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
        return Ballot(self._me, trained.digest, trained.rows, vote, density)

    async def cast(
        self, wanted: Sequence[Wanted], columns: Columns, first_row: int = 1, space: str | None = None
    ) -> list[Cast]:
        """The vote of each of these models on every row, as `vote`, or why there is none."""
        return [await self._one(each, columns, first_row, space) for each in wanted]

    async def _one(self, wanted: Wanted, columns: Columns, first_row: int, space: str | None) -> Cast:
        if wanted.owner != self._me:
            return Refused(wanted.owner, "it holds no replica of that model")
        try:
            return await self.vote(columns, first_row, space)
        except BadInput as error:
            return Refused(wanted.owner, str(error))

    def close(self) -> None:
        """Let no further vote begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _cast(trained: Trained, ground: Ground | None, columns: Columns, first_row: int) -> tuple[Vote, Floats | None]:
    if ground is None:
        return trained.model.vote(columns, first_row), None
    sheet = Sheet(columns)
    vote = trained.model.vote(sheet, first_row)
    return vote, ground.density.log_density(ground.space.project(sheet, first_row))
