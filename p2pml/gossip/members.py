"""The table of members: the strongest claim about each, where each was heard from, and a hash of it all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from .records import Address, Member, Record, is_unspecified


class Members:
    """Everybody remembered. Only what differs from the common case costs memory beyond one reference."""

    def __init__(self, rng: random.Random, limit: int) -> None:
        """Remember nobody, and at most `limit`."""
        self._rng = rng
        self._limit = limit
        self._records: dict[str, Record] = {}
        self._observed: dict[str, Address] = {}
        self._gone: dict[str, float] = {}
        self._order: list[str] = []
        self._next = 0
        self._live = 0
        self.journal: list[Record] | None = None
        """The claims that were stored, for an onlooker who empties it."""

    def __len__(self) -> int:
        """Count everybody remembered."""
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """Go through all claims, in the order in which their members were first heard of."""
        return iter(self._records.values())

    @property
    def live(self) -> int:
        """How many take part, this node and the suspects included."""
        return self._live

    def get(self, peer: str) -> Record | None:
        """Look up the strongest claim about a member."""
        return self._records.get(peer)

    def is_live(self, peer: str) -> bool:
        """Whether a member takes part."""
        record = self._records.get(peer)
        return record is not None and record.live

    def put(self, record: Record, now: float) -> bool:
        """Store a claim, stronger than what is there. False if the table is full of live members."""
        known = self._records.get(record.id)
        if known is None and len(self._records) >= self._limit:
            return False
        was_live = known is not None and known.live
        self._records[record.id] = record
        if self.journal is not None:
            self.journal.append(record)
        if known is not None and (known.epoch, known.address) != (record.epoch, record.address):
            self._observed.pop(record.id, None)
        if record.live and not was_live:
            self._live += 1
            self._gone.pop(record.id, None)
            if known is None or record.id not in self._order:
                self._order.append(record.id)
        elif not record.live and (was_live or known is None):
            self._live -= was_live
            self._gone[record.id] = now
        return True

    def forget(self, peer: str) -> None:
        """Drop a member that is dead or has left."""
        del self._records[peer], self._gone[peer]
        self._observed.pop(peer, None)

    def gone(self, before: float) -> list[str]:
        """List those that went before a time, the longest gone first."""
        found = []
        for peer, since in self._gone.items():
            if since >= before:
                break
            found.append(peer)
        return found

    def longest_gone(self) -> str | None:
        """Who should be forgotten first, if there is anybody to forget."""
        return next(iter(self._gone), None)

    def fill(self, records: Mapping[str, Record]) -> None:
        """Know these members, all live, in place of whoever was known."""
        self._records = dict(records)
        if self.journal is not None:
            self.journal.extend(records.values())
        self._order = list(records)
        self._observed.clear()
        self._gone.clear()
        self._next, self._live = 0, len(records)

    # Addresses.

    def address(self, record: Record) -> Address:
        """Where to send to a member: where it was last heard from, before what is claimed."""
        return self._observed.get(record.id, record.address)

    def observe(self, record: Record, source: Address) -> bool:
        """Note where a member was heard from; say whether that is new."""
        if source == self.address(record):
            return False
        if source == record.address:
            del self._observed[record.id]
        else:
            self._observed[record.id] = source
        return True

    def unobserve(self, record: Record) -> bool:
        """Go back to the claimed address, as the member no longer answers at the other; say whether it differs."""
        return not is_unspecified(record.address) and self._observed.pop(record.id, None) is not None

    def view(self, record: Record) -> Member:
        """Show a member as the daemon sees it."""
        return Member(
            record.id, record.name, self.address(record), record.status, record.generation, record.incarnation
        )

    def at(self, address: Address) -> Record | None:
        """Find a live member that is reached at an address."""
        return next((one for one in self if one.live and address in (one.address, self.address(one))), None)

    # Choosing. The order is a list with the gone still in it: they are skipped, and dropped after each round. It is
    # shuffled as the round goes (Fisher-Yates), so that a newcomer takes a random place of what is left (SWIM §4.3).

    def next_target(self, me: str) -> Record | None:
        """Go on with the round of probes; a new round has a new order."""
        for _ in range(2):
            order = self._order
            while self._next < len(order):
                place = self._next + int(self._rng.random() * (len(order) - self._next))
                peer = order[place]
                order[place], order[self._next] = order[self._next], peer
                record = self._records.get(peer)
                self._next += 1
                if record is not None and record.live and record.id != me:
                    return record
            # Who was forgotten and came back within one round is in the list twice.
            self._order = [peer for peer in dict.fromkeys(self._order) if self.is_live(peer)]
            self._next = 0
        return None

    def sample(self, count: int, *but: str) -> list[Record]:
        """Choose up to `count` different live members at random, except some."""
        chosen: dict[str, Record] = {}
        # Tries at random are fast while most of the list is live; a small cluster is simply shuffled.
        for _ in range(3 * count if len(self._order) > 8 * count else 0):
            self._consider(self._order[int(self._rng.random() * len(self._order))], but, chosen)
            if len(chosen) == count:
                return list(chosen.values())
        for peer in self._rng.sample(self._order, len(self._order)):
            if len(chosen) == count:
                break
            self._consider(peer, but, chosen)
        return list(chosen.values())

    def _consider(self, peer: str, but: tuple[str, ...], chosen: dict[str, Record]) -> None:
        record = self._records.get(peer)
        if record is not None and record.live and peer not in but:
            chosen[peer] = record
