"""The common vote, as this peer has it: what its own rows say for it, and what it gathers of the others.

Everybody holds everybody's equations, on disk, so that they outlive their owner for as long as all stand in the space
that they are of. Who tells none, as an older version does, adds nothing; whose cannot be of any rows is left out.
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
from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Member

from .pieces import Fetcher
from .store import Store

SUMS = "sums-"
"""How the files begin that hold others' equations; the digest of the content follows."""
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
    """Keeps the common vote in step with whose equations there are: 128 MiB at most."""

    def __init__(self, fetcher: Fetcher, store: Store, least: int, tells: bool) -> None:
        """`least` is how many rows a group must have before anything of it is told, and `tells` whether anything is."""
        self._fetcher = fetcher
        self._store = store
        self._least = least
        self._tells = tells
        self._features: Features | None = None
        self._packed: dict[str, bytes] = {}
        """This peer's own, and those that the disk did not take."""
        self._stored: set[str] = set()
        """Those on disk."""
        self._refused: set[str] = set()
        self._added: set[str] = set()
        """Whose equations the common vote is of."""
        self.own: str | None = None
        """The digest of this peer's equations; None where it tells none."""
        self.common: Common | None = None

    def stand(self, space: Space, rows: Typed, truth: NDArray[Any], trained_on: int) -> None:
        """This peer stands in another space, or has other rows, of which these are a sample. Blocks."""
        self._features = features = Features.of(space)
        # Those of another space are not told any more, and go when the next are gathered.
        self._stored = {name.removeprefix(SUMS) for name in self._store.names(SUMS)}
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
        """The equations of that digest, packed, if they are here. Blocks."""
        if named in self._packed or named not in self._stored:
            return self._packed.get(named)
        body = self._store.read(SUMS + named)
        if body is None:
            # Damaged, and set aside: they are fetched anew.
            self._stored.discard(named)
        return body

    async def gather(self, told: Mapping[str, Told]) -> bool:
        """Add up the equations of these digests, as far as they are to be had; whether that changed the common vote."""
        features = self._features
        if features is None:
            return False
        turns, most = asyncio.Semaphore(TOGETHER), most_bytes(features)
        lacking = sorted(told.keys() - self._packed.keys() - self._stored - self._refused)
        await asyncio.gather(*(self._fetch(named, told[named], most, turns) for named in lacking))
        self._packed = {named: packed for named, packed in self._packed.items() if named in told or named == self.own}
        here = (self._packed.keys() | self._stored) & told.keys()
        if self._added == here:
            return False
        self.common = await asyncio.to_thread(self._add_up, features, told, here)
        return True

    def _add_up(self, features: Features, told: Mapping[str, Told], here: set[str]) -> Common | None:
        self._store.keep_only(SUMS, {SUMS + named for named in self._stored & told.keys()})
        self._stored &= told.keys()
        self._added = set()
        total: Equations | None = None
        # Sums depend on their order in the last digit.
        for named in sorted(here):
            packed, owner = self.piece(named), told[named]
            if packed is None:
                continue
            try:
                equations = Equations.read(packed, features)
                if equations.rows != owner.rows or (equations.classes is None) != (owner.task == REGRESSION):
                    raise RemoteError("they are of other rows, or of another task, than their owner's model")
            except RemoteError as error:
                log.warning("a peer's rows have no say in the common vote", peer=owner.name, why=str(error))
                self._refused.add(named)
                self._packed.pop(named, None)
                self._stored.discard(named)
                continue
            self._added.add(named)
            total = equations if total is None else total.merge(equations)
        if total is None:
            return None
        try:
            return Common.fit(features, total, len(self._added))
        except np.linalg.LinAlgError as error:
            log.warning("the equations of some peer are of no rows: there is no common vote", why=str(error))
            return None

    async def _fetch(self, named: str, told: Told, most: int, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                packed = await self._fetcher.fetch(named, told.sources, most)
            except RemoteError as error:
                log.debug("equations could not be fetched yet", peer=told.name, why=str(error))
                return
            try:
                await asyncio.to_thread(self._store.write, SUMS + named, packed)
            except BadInput as error:
                log.warning("what other peers' rows say is kept in memory alone", peer=told.name, why=str(error))
                self._packed[named] = packed
            else:
                self._stored.add(named)
