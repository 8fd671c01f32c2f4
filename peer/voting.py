"""This peer's own model: it casts its vote in a thread, and is exchanged whole when a new one is trained."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from p2pml.ensemble.values import Columns
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput

from .training import Trained

THREADS = 2
"""Votes that run at once; more would only take turns, since a vote is bound by the processor."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote with the number of rows that its model was trained on and the model's digest."""

    vote: Vote
    rows: int
    model: str


class Voting:
    """Holds the model that serves; `trained` is exchanged in one assignment, so no vote mixes two models."""

    def __init__(self) -> None:
        self.trained: Trained | None = None
        self.rows_voted = 0
        """Rows that this peer has voted on since it started."""
        self._threads = ThreadPoolExecutor(THREADS, "vote")

    async def vote(self, columns: Columns, first_row: int = 1) -> Ballot:
        """The vote on every row; raises `BadInput` where the rows do not fit or there is no model yet."""
        trained = self.trained
        if trained is None:
            raise BadInput("this peer has no model yet; ask again when its training is done")
        if lacking := [field.name for field in trained.schema.fields if field.name not in columns]:
            raise BadInput(f"the rows have no column {lacking[0]!r}, which this peer's model was trained on")
        if len({len(cells) for cells in columns.values()}) != 1:
            raise BadInput("the columns are not all of one length")
        vote = await asyncio.get_running_loop().run_in_executor(self._threads, trained.model.vote, columns, first_row)
        self.rows_voted += len(vote.values)
        return Ballot(vote, trained.rows, trained.digest)

    def close(self) -> None:
        """Let no further vote begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)
