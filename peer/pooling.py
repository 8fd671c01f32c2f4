"""The common vote, as this peer has it: what its own rows say for it, and what it gathers of the others.

Everybody holds everybody's equations, so that they outlive their owner for as long as all stand in the space that they
are of. Who tells none, as an older version does, adds nothing; whose cannot be of any rows is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from p2pml.ensemble.common import Common
from p2pml.ensemble.equations import Equations, most_bytes
from p2pml.ensemble.features import Features
from p2pml.ensemble.portable import digest
from p2pml.ensemble.space import Space
from p2pml.ensemble.typed import Typed
from p2pml.errors import RemoteError
from p2pml.gossip import Member

from .pieces import Fetcher
from .training import give_memory_back

TOGETHER = 8
"""Peers whose equations are fetched at once: each may be some MB."""

REGRESSION = "regression"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """Equations that a peer tells of: how many rows it has, its task, and who may have them, the best to ask first."""

    name: str
    rows: int
    task: str | None
    sources: Sequence[Member]


class Pooling:
    """Keeps the common vote in step with whose equations there are; all in memory, 128 MiB at most."""

    def __init__(self, fetcher: Fetcher, least: int, tells: bool) -> None:
        """`least` is how many rows a group must have before anything of it is told, and `tells` whether anything is."""
        self._fetcher = fetcher
        self._least = least
        self._tells = tells
        self._features: Features | None = None
        self._packed: dict[str, bytes] = {}
        self._refused: set[str] = set()
        self._added: set[str] = set()
        """Whose equations the common vote is of."""
        self.own: str | None = None
        """The digest of this peer's equations; None where it tells none."""
        self.common: Common | None = None

    def stand(self, space: Space, rows: Typed, truth: NDArray[Any], trained_on: int) -> None:
        """This peer stands in another space, or has other rows, of which these are a sample. Blocks."""
        self._features = features = Features.of(space)
        self.own, self.common, self._packed, self._refused, self._added = None, None, {}, set(), set()
        # What one peer has learned alone is its model.
        if len(space.members) < 2 or not self._tells:
            return
        equations = Equations.of(features, rows, truth, trained_on, self._least)
        packed = None if equations is None else equations.packed(features)
        if packed is not None:
            self.own = digest(packed)
            self._packed = {self.own: packed}

    def piece(self, named: str) -> bytes | None:
        """The equations of that digest, packed, if they are here."""
        return self._packed.get(named)

    async def gather(self, told: Mapping[str, Told]) -> bool:
        """Add up the equations of these digests, as far as they are to be had; whether that changed the common vote."""
        features = self._features
        if features is None:
            return False
        turns = asyncio.Semaphore(TOGETHER)
        lacking = sorted(told.keys() - self._packed.keys() - self._refused)
        most = most_bytes(features)
        fetched = await asyncio.gather(*(self._fetch(named, told[named], most, turns) for named in lacking))
        self._packed |= {named: packed for named, packed in zip(lacking, fetched, strict=True) if packed is not None}
        self._packed = {named: packed for named, packed in self._packed.items() if named in told or named == self.own}
        if self._added == self._packed.keys() & told.keys():
            return False
        self.common = await asyncio.to_thread(self._add_up, features, told)
        # Some 100 MB of products, at the most features.
        await asyncio.to_thread(give_memory_back)
        self._added = self._packed.keys() & told.keys()
        return True

    def _add_up(self, features: Features, told: Mapping[str, Told]) -> Common | None:
        total, peers = None, 0
        # Sums depend on their order in the last digit.
        for named in sorted(self._packed.keys() & told.keys()):
            try:
                equations, owner = Equations.read(self._packed[named], features), told[named]
                if equations.rows != owner.rows or (equations.classes is None) != (owner.task == REGRESSION):
                    raise RemoteError("they are of other rows, or of another task, than their owner's model")
            except RemoteError as error:
                log.warning("a peer's rows have no say in the common vote", peer=told[named].name, why=str(error))
                self._refused.add(named)
                del self._packed[named]
                continue
            total, peers = equations if total is None else total.merge(equations), peers + 1
        if total is None:
            return None
        try:
            return Common.fit(features, total, peers)
        except np.linalg.LinAlgError as error:
            log.warning("the equations of some peer are of no rows: there is no common vote", why=str(error))
            return None

    async def _fetch(self, named: str, told: Told, most: int, turns: asyncio.Semaphore) -> bytes | None:
        async with turns:
            try:
                return await self._fetcher.fetch(named, told.sources, most)
            except RemoteError as error:
                log.debug("equations could not be fetched yet", peer=told.name, why=str(error))
                return None
