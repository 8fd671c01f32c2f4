"""This peer's own model: it casts its vote, and is exchanged whole when a new one is trained.

A vote that takes no longer than a hop to a thread and back costs the event loop, a tenth of a millisecond or so for
one row of a compiled model, is cast on the loop; any other in a thread, so that the protocol keeps its beat.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pml.ensemble.compiled import CompiledModel
from p2pml.ensemble.density import Density
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet, row_count
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, RemoteError

from .ballots import Ballot, Cast, Refused, Wanted
from .shelf import Replica, Shelf
from .training import Trained

if TYPE_CHECKING:
    from p2pml.ensemble.models import Model

QUICK = 128
"""Rows that are read, voted on and combined on the event loop, where that takes no longer; of more, in a thread."""
THREADS = 2
"""Votes that run at once; more would only take turns, since a vote is bound by the processor."""
AT_ONCE = 0.002
"""Seconds that votes may take on the event loop at once: a fiftieth of the shortest time in which a probe must be
answered. Beyond it a thread's cost, about 0.1 ms, is small."""
LEARN = 0.1
"""How much of what votes usually take the last one decides."""
REMEMBERED = 1_000
"""Models and sizes of which it is known what votes take; then it is learnt anew."""


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
        self._took: dict[tuple[str, int], float] = {}
        """Seconds that votes took lately, by the model and the binary digits of the number of rows."""

    def serving(self) -> Trained:
        """The model that serves; `BadInput` where there is none yet."""
        if self.trained is None:
            raise BadInput("this peer has no model yet; ask again when its training is done")
        return self.trained

    async def vote(self, columns: Columns, first_row: int = 1, space: str | None = None) -> Ballot:
        """The vote on every row, with densities if this peer's is in `space`.

        Raises `BadInput` where the rows do not fit or there is no model yet.
        """
        return await self._cast(self._own(space), columns, first_row)

    def cast_at_once(
        self, wanted: Sequence[Wanted], columns: Columns, first_row: int = 1, space: str | None = None
    ) -> list[Cast] | None:
        """What `cast` gives, where that takes no longer than AT_ONCE; else None."""
        voters = [self._ready(each, space) for each in wanted]
        rows = row_count(columns)
        if rows > QUICK or sum(self._usual(voter, rows) for voter in voters) > AT_ONCE:
            return None
        said: list[Cast] = []
        for voter in voters:
            assert voter is not None, "one that is not ready takes long"
            try:
                said.append(self._said(voter, voter.say(columns, first_row)))
            except (BadInput, RemoteError) as error:
                said.append(Refused(voter.owner, str(error)))
        return said

    def usual(self, wanted: Wanted, rows: int) -> float | None:
        """Seconds that a vote here usually takes; None where nothing is known of it."""
        return self._took.get((wanted.model, rows.bit_length()))

    async def cast(
        self, wanted: Sequence[Wanted], columns: Columns, first_row: int = 1, space: str | None = None
    ) -> list[Cast]:
        """The vote of each of these models on every row, as `vote`, or why there is none."""
        at_once = self.cast_at_once(wanted, columns, first_row, space)
        return at_once or await asyncio.gather(*(self._one(each, columns, first_row, space) for each in wanted))

    def close(self) -> None:
        """Let no further vote begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _one(self, wanted: Wanted, columns: Columns, first_row: int, space: str | None) -> Cast:
        try:
            if wanted.owner == self._me and self.trained is not None:
                return await self._cast(self._own(space), columns, first_row)
            replica = self._shelf.loaded(wanted.owner, wanted.model)
            if replica is None:
                loop = asyncio.get_running_loop()
                replica = await loop.run_in_executor(self._threads, self._shelf.replica, wanted.owner, wanted.model)
            if replica is None:
                return Refused(wanted.owner, "it holds no replica of that model")
            return await self._cast(self._replica(replica, space), columns, first_row)
        except (BadInput, RemoteError) as error:
            return Refused(wanted.owner, str(error))

    async def _cast(self, voter: _Voter, columns: Columns, first_row: int) -> Ballot:
        rows = row_count(columns)
        if rows <= QUICK and self._usual(voter, rows) <= AT_ONCE:
            # The loop may have cast another one just now, and has other things to do.
            await asyncio.sleep(0)
            return self._said(voter, voter.say(columns, first_row))
        said = await asyncio.get_running_loop().run_in_executor(self._threads, voter.say, columns, first_row)
        return self._said(voter, said)

    def _usual(self, voter: _Voter | None, rows: int) -> float:
        """Seconds that this vote takes on so many rows."""
        if voter is None or not isinstance(voter.model, CompiledModel):
            return math.inf
        return self._took.get((voter.digest, rows.bit_length()), 0.0)

    def _said(self, voter: _Voter, said: _Said) -> Ballot:
        rows = len(said.vote.values)
        self.rows_voted += rows
        size = voter.digest, rows.bit_length()
        if size not in self._took and len(self._took) >= REMEMBERED:
            self._took.clear()
        # A mean that forgets: what one vote suffered from its neighbours is not held against the next for long.
        self._took[size] = said.took + (1 - LEARN) * (self._took.get(size, said.took) - said.took)
        return Ballot(voter.owner, voter.digest, voter.model.rows, said.vote, said.density)

    def _ready(self, wanted: Wanted, space: str | None) -> _Voter | None:
        """Who can cast this vote without reading a disk."""
        if wanted.owner == self._me and self.trained is not None:
            return self._own(space)
        replica = self._shelf.loaded(wanted.owner, wanted.model)
        return None if replica is None else self._replica(replica, space)

    def _own(self, space: str | None) -> _Voter:
        trained, ground = self.serving(), self.ground
        if ground is None or ground.space.digest != space or ground.sample_file != trained.sample_file:
            ground = None
        model = trained.model

        def cast(columns: Columns, first_row: int) -> tuple[Vote, Floats | None]:
            sheet = Sheet.of(columns)
            vote = model.vote(sheet, first_row)
            if ground is None:
                return vote, None
            return vote, ground.density.log_density(ground.space.project(sheet, first_row))

        return _Voter(self._me, trained.digest, model, cast)

    def _replica(self, replica: Replica, space: str | None) -> _Voter:
        ground = self.ground
        wanted = ground.space if ground is not None and ground.space.digest == space else None

        def cast(columns: Columns, first_row: int) -> tuple[Vote, Floats | None]:
            return replica.cast(columns, first_row, wanted)

        return _Voter(replica.words.owner, replica.words.model, replica.model, cast)


@dataclass(frozen=True, slots=True)
class _Said:
    """A vote, its densities, and the seconds of the processor that they took."""

    vote: Vote
    density: Floats | None
    took: float


@dataclass(frozen=True, slots=True)
class _Voter:
    """A model that votes here: this peer's own, or a replica."""

    owner: str
    digest: str
    model: Model | CompiledModel
    cast: Callable[[Columns, int], tuple[Vote, Floats | None]]

    def say(self, columns: Columns, first_row: int) -> _Said:
        """The vote; BadInput where the rows do not fit."""
        began = time.thread_time()
        if lacking := [field.name for field in self.model.schema.fields if field.name not in columns]:
            raise BadInput(f"the rows have no column {lacking[0]!r}, which this model was trained on")
        row_count(columns)
        return _Said(*self.cast(columns, first_row), time.thread_time() - began)
