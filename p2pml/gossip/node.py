"""The protocol's one door: an event goes in, effects come out, and nothing else changes state."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from .effects import Effect
from .events import Event
from .records import Me, Member, Status
from .settings import Settings


class Node:
    """One peer's side of the protocol: no IO, no clock, no randomness of its own."""

    def __init__(self, me: Me, settings: Settings, rng: random.Random) -> None:
        """Know nobody yet; `Start` begins."""
        self._me = me
        self._settings = settings
        self._rng = rng
        self._counters: Counter[str] = Counter()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at `now` (s, monotonic) and return what is to be done, in order."""
        return []

    @property
    def me(self) -> Me:
        """Who this node is, with the generation that it uses now."""
        return self._me

    @property
    def counters(self) -> Mapping[str, int]:
        """Packets and bytes by fate, since the start."""
        return self._counters

    def members(self) -> list[Member]:
        """List everyone remembered, this node and the gone included, by id."""
        me = self._me
        return [Member(me.id, me.name, me.address, Status.ALIVE, me.generation, 0)]

    def member(self, peer: str) -> Member | None:
        """Look one member up."""
        return next((member for member in self.members() if member.id == peer), None)

    def entries(self, owner: str) -> Mapping[str, bytes]:
        """Read the catalogue entries of one owner, as far as they are known here."""
        return {}

    def highest_generation_heard_of_me(self) -> int:
        """Say the highest generation that anybody claimed of this identity: start above it next time."""
        return self._me.generation
