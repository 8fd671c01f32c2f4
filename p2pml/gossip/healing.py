"""Healing: the dead are remembered and greeted, and so are the seeds, so that network partitions end by themselves."""

from __future__ import annotations

from collections.abc import Iterable

from . import limits
from .context import Context
from .membership import Membership
from .messages import Claim
from .records import Address, Status
from .sync import Sync


class Healing:
    """Who should be looked for, and when they are given up."""

    def __init__(self, context: Context, membership: Membership, sync: Sync) -> None:
        """Have no seeds."""
        self._context = context
        self._membership = membership
        self._sync = sync
        self._seeds: dict[Address, None] = {}

    def join(self, addresses: Iterable[Address]) -> None:
        """Greet those at whom no live member is known, and remember them all."""
        for address in addresses:
            if address == self._context.me.address:
                continue
            self._seeds.pop(address, None)
            self._seeds[address] = None
            if len(self._seeds) > limits.SEEDS_LIMIT:
                del self._seeds[next(iter(self._seeds))]
            if self._context.members.at(address) is None:
                self._sync.greet(address)

    def is_me(self, address: Address) -> None:
        """Drop a seed at which this node found itself."""
        self._seeds.pop(address, None)

    def greet_seed(self) -> None:
        """Greet one of the seeds at which no live member is known."""
        context = self._context
        absent = [address for address in self._seeds if context.members.at(address) is None]
        if absent:
            self._sync.greet(context.rng.choice(absent))

    def tick(self) -> None:
        """Greet one of the dead, with probability dead/alive, and one seed; forget those gone long ago."""
        context = self._context
        members = context.members
        for peer in members.gone(context.now - context.settings.forget_after):
            self._membership.forget(peer)
        context.catalogue.collect(context.me.id, context.now - context.settings.tombstone_after)
        if not context.settings.lifeguard:
            return
        dead = [record for record in members.all_gone() if record.status is Status.DEAD]
        if dead and context.rng.random() < len(dead) / members.live:
            record = context.rng.choice(dead)
            self._sync.greet(members.address(record), Claim(record))
        self.greet_seed()
