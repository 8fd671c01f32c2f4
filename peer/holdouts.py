"""This peer's held-out rows, in blocks of as many as go into one question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from p2pml.ensemble.values import Columns
from p2pml.errors import NoVotes

from .training import Trained, Trainer
from .voting import Voting

BLOCK = 5_000
"""Rows in one question: a few MiB, so that a large part does not travel as one body."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some of the rows, counted from 1, and the seconds that are left to ask about them."""

    columns: Columns
    rows: int
    first_row: int
    seconds: float


class Holdouts:
    """The rows that the model which serves has not seen."""

    def __init__(self, voting: Voting, trainer: Trainer) -> None:
        self._voting = voting
        self._trainer = trainer

    def trained(self) -> Trained:
        """The model that serves; BadInput where there is none yet."""
        return self._voting.serving()

    async def blocks(self, trained: Trained, seconds: float) -> AsyncIterator[Block]:
        """All of the model's held-out rows; raises NoVotes where they are not done with within `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        held_out = await asyncio.to_thread(self._trainer.held_out, trained)
        for start in range(0, held_out.rows, BLOCK):
            if (left := deadline - loop.time()) <= 0:
                raise NoVotes(f"the held-out rows could not all be asked about within {seconds:g} s")
            columns = {name: cells[start : start + BLOCK] for name, cells in held_out.columns.items()}
            yield Block(columns, min(BLOCK, held_out.rows - start), start + 1, left)
