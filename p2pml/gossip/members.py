"""The table of members: the strongest claim about each, where each was heard from, and a hash of it all."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

from .directory import Directory
from .records import Address, Member, Record, is_unspecified

CROWD = 64
"""How many more of the gone than of the live may stand in the order of probes: fewer are not worth going through it."""


class Members:
    """Everybody remembered. Only what differs from the common case costs memory beyond one reference."""

    def __init__(self, rng: random.Random, limit: int, directory: Directory | None = None) -> None:
        """Remember nobody, and at most `limit`."""
        self._rng = rng
        self._limit = limit
        self._directory = directory or Directory()
        self._numbers = self._directory.numbers
        self._records: list[Record | None] = []
        self._count = 0
        self.live = 0
        """How many take part, this node and the suspects included."""
        self._observed: dict[str, Address] = {}
        self._gone: dict[str, float] = {}
        self._order = array("I")
        self._ordered = bytearray()
        self._next = 0
        self.journal: list[Record] | None = None
        """The claims that were stored, for an onlooker who empties it."""

    def __len__(self) -> int:
        """Count everybody remembered."""
        return self._count

    def __iter__(self) -> Iterator[Record]:
        """Go through all claims, in no order to rely on but the same in each run."""
        return filter(None, self._records)

    def get(self, peer: str) -> Record | None:
        """Look up the strongest claim about a member."""
        try:
            return self._records[self._numbers[peer]]
        except (KeyError, IndexError):
            return None

    def is_live(self, peer: str) -> bool:
        """Whether a member takes part."""
        record = self.get(peer)
        return record is not None and record.live

    def put(self, record: Record, now: float) -> bool:
        """Store a claim, stronger than what is there. False if the table is full of live members."""
        peer = record.id
        known = self.get(peer)
        if known is None:
            if self._count >= self._limit:
                return False
            self._count += 1
        number = self._directory.number(peer)
        if number >= len(self._records):
            more = number + 1 - len(self._records)
            self._records.extend([None] * more)
            self._ordered.extend(bytes(more))
        self._records[number] = record
        if self.journal is not None:
            self.journal.append(record)
        if known is not None and (known.epoch, known.address) != (record.epoch, record.address):
            self._observed.pop(peer, None)
        was_live = known is not None and known.live
        if record.live and not was_live:
            self.live += 1
            self._gone.pop(peer, None)
            if not self._ordered[number]:
                self._ordered[number] = True
                self._order.append(number)
        elif not record.live and (was_live or known is None):
            self.live -= was_live
            self._gone[peer] = now
            if len(self._order) > 2 * self.live + CROWD:
                self._drop_gone()
        return True

    def forget(self, peer: str) -> None:
        """Drop a member that is dead or has left."""
        self._records[self._numbers[peer]] = None
        self._count -= 1
        del self._gone[peer]
        self._observed.pop(peer, None)
        self._directory.free(peer)

    def gone(self, before: float) -> list[str]:
        """List those that went before a time, the longest gone first."""
        found = []
        for peer, since in self._gone.items():
            if since >= before:
                break
            found.append(peer)
        return found

    def all_gone(self) -> list[Record]:
        """List what is claimed of all who are gone, the longest gone first."""
        return [record for peer in self._gone if (record := self.get(peer)) is not None]

    def longest_gone(self) -> str | None:
        """Who should be forgotten first, if there is anybody to forget."""
        return next(iter(self._gone), None)

    def copy(self, other: Members) -> None:
        """Know whom another table of the same directory knows, all of them live, in place of whoever was known."""
        assert self._directory is other._directory
        assert not other._gone
        self._records, self._count, self.live = other._records[:], other._count, other.live
        self._order, self._ordered, self._next = other._order[:], other._ordered[:], 0
        self._observed.clear()
        self._gone.clear()
        if self.journal is not None:
            self.journal.extend(self)

    # Addresses.

    def address(self, record: Record) -> Address:
        """Where to send to a member: where it was last heard from, before what is claimed."""
        return self._observed.get(record.id, record.address)

    def observe(self, record: Record, source: Address) -> bool:
        """Note where a member was heard from; say whether that is new."""
        if source == record.address and record.id not in self._observed:
            return False
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
        for peer, observed in self._observed.items():
            if observed == address and self.is_live(peer):
                return self.get(peer)
        return next((one for one in self if one.address == address and one.live), None)

    # Choosing. The order has the gone still in it: they are skipped, and dropped after each round or where they are
    # most of it. It is shuffled as the round goes (Fisher-Yates), so that a newcomer takes a random place of what is
    # left (SWIM §4.3).

    def next_target(self, me: str) -> Record | None:
        """Go on with the round of probes; a new round has a new order."""
        for _ in range(2):
            order, size = self._order, len(self._order)
            while self._next < size:
                place = self._next + int(self._rng.random() * (size - self._next))
                number = order[place]
                order[place], order[self._next] = order[self._next], number
                self._next += 1
                record = self._records[number]
                if record is not None and record.live and record.id != me:
                    return record
            self._next = 0
            self._drop_gone()
        return None

    def _drop_gone(self) -> None:
        """Leave the gone out of the order, and go on in the round where it was."""
        kept, following = array("I"), 0
        for place, number in enumerate(self._order):
            record = self._records[number]
            if record is not None and record.live:
                kept.append(number)
                following += place < self._next
            else:
                self._ordered[number] = False
        self._order, self._next = kept, following

    def sample(self, count: int, *but: str) -> list[Record]:
        """Choose up to `count` different live members at random, except some."""
        if not count:
            return []
        order, records = self._order, self._records
        size, chance = len(order), self._rng.random
        chosen: dict[str, Record] = {}
        # Tries at random are fast where half of the list or more is live; a small cluster is simply shuffled.
        for _ in range(8 * count if size > 4 * count else 0):
            record = records[order[int(chance() * size)]]
            if record is not None and record.live and record.id not in but:
                chosen[record.id] = record
                if len(chosen) == count:
                    return list(chosen.values())
        for number in self._rng.sample(list(order), size):
            if len(chosen) == count:
                break
            record = records[number]
            if record is not None and record.live and record.id not in but:
                chosen[record.id] = record
        return list(chosen.values())
