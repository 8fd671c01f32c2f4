"""The shared catalogue: a versioned map per owner, which only its owner writes (Scuttlebutt, LADIS 2008).

The invariant: whoever says that it knows an owner's run up to version v holds the last write of every key
whose last write is at v or before (a key written again after v may still be missing). So a delta is a
contiguous range of versions, cut at the end and never in the middle, and it is applied only where it
continues what is known. Deleted keys stay as tombstones until the owner collects them; who may have missed a
collected one is sent everything anew, as a delta since 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from p2pml.errors import BadInput

from . import limits
from .codec import is_key
from .messages import Delta, Write
from .records import mark

Epoch: TypeAlias = tuple[int, int]
"""One run of an owner: its generation and its boot nonce."""

WRITE_OVERHEAD = 1 + 2 + 9 + 5
"""Bytes of an encoded write beside its key and value, at most."""

DELTA_OVERHEAD = 2 + 18 + 5 * 9 + 3
"""Bytes of an encoded delta beside its writes, at most."""


@dataclass(slots=True)
class Shelf:
    """What is known of one owner: its run, the version up to which it is known, and its keys."""

    epoch: Epoch
    version: int = 0
    collected: int = 0
    writes: dict[str, Write] = field(default_factory=dict)
    shown: Mapping[str, bytes] | None = None
    """What `values` says, as long as no write changed: it is read far more often than written."""

    def after(self, version: int) -> list[Write]:
        """List the writes that came after a version, in their order."""
        return sorted(
            (write for write in self.writes.values() if write.version > version), key=lambda write: write.version
        )

    def values(self) -> Mapping[str, bytes]:
        """Read the keys that are not deleted, in their order."""
        if self.shown is None:
            self.shown = {k: value for k, write in sorted(self.writes.items()) if (value := write.value) is not None}
        return self.shown


EMPTY: Mapping[str, bytes] = {}


class Catalogue:
    """The shelves of all owners, and a hash of them."""

    def __init__(self) -> None:
        """Know nothing."""
        self._shelves: dict[str, Shelf] = {}
        self._deleted: dict[str, float] = {}

    def entries(self, owner: str) -> Mapping[str, bytes]:
        """Read one owner's entries as far as they are known, those of its last run if this one has none yet."""
        shelf = self._shelves.get(owner)
        return EMPTY if shelf is None else shelf.values()

    def known(self, owner: str, epoch: Epoch) -> tuple[int, int]:
        """Say how far this run of the owner is known: the version collected to, and the version."""
        shelf = self._shelves.get(owner)
        return (shelf.collected, shelf.version) if shelf is not None and shelf.epoch == epoch else (0, 0)

    def mark(self, owner: str, epoch: Epoch) -> int:
        """Hash how far this run of the owner is known; 0 where nothing is."""
        version = self.known(owner, epoch)[1]
        return mark(owner, *epoch, version) if version else 0

    def wrote(self, owner: str, keys: Iterable[str], after: int) -> bool:
        """Whether one of these keys was written after a version of what is known of the owner."""
        shelf = self._shelves.get(owner)
        return shelf is not None and any(key in shelf.writes and shelf.writes[key].version > after for key in keys)

    # The owner's side.

    def write(self, owner: str, epoch: Epoch, key: str, value: bytes | None, now: float) -> bool:
        """Write one of our own keys, or delete it; say whether that changed anything. Raises `BadInput`."""
        self._check(owner, key, value)
        shelf = self._own(owner, epoch)
        old = shelf.writes.get(key)
        if (None if old is None else old.value) == value:
            return False
        shelf.version += 1
        shelf.writes[key] = Write(key, shelf.version, value)
        shelf.shown = None
        self._deleted.pop(key, None)
        if value is None:
            self._deleted[key] = now
        while len(shelf.writes) > limits.KEYS_LIMIT:
            self._collect(shelf)
        return True

    def open(self, owner: str, epoch: Epoch) -> bool:
        """Say that this run of ours has no entries, if it has none, so that those of an earlier one go."""
        shelf = self._own(owner, epoch)
        if shelf.version:
            return False
        shelf.version = 1
        return True

    def restart(self, owner: str, epoch: Epoch) -> None:
        """Write our own entries anew, for a new run."""
        values = self.entries(owner)
        self._deleted.clear()
        self._shelves[owner] = Shelf(epoch)
        for key, value in values.items():
            self.write(owner, epoch, key, value, 0.0)

    def collect(self, owner: str, before: float) -> None:
        """Drop those of our own tombstones that were written before this time."""
        while self._deleted and next(iter(self._deleted.values())) < before:
            self._collect(self._shelves[owner])

    def _collect(self, shelf: Shelf) -> None:
        key = next(iter(self._deleted))
        del self._deleted[key]
        shelf.collected = shelf.writes.pop(key).version
        shelf.shown = None

    def _own(self, owner: str, epoch: Epoch) -> Shelf:
        shelf = self._shelves.get(owner)
        if shelf is None:
            shelf = self._shelves[owner] = Shelf(epoch)
        return shelf

    def _check(self, owner: str, key: str, value: bytes | None) -> None:
        if not is_key(key):
            raise BadInput(f"{key!r} is no catalogue key: it takes 1 to {limits.KEY_LIMIT} bytes of printable text")
        if value is None:
            return
        if len(value) > limits.VALUE_LIMIT:
            raise BadInput(
                f"the catalogue entry {key!r} has {len(value)} bytes; name its digest instead, "
                f"as {limits.VALUE_LIMIT} are the limit"
            )
        values = self.entries(owner)
        if key not in values and len(values) >= limits.KEYS_LIMIT:
            raise BadInput(f"the catalogue entry {key!r} is one too many: {limits.KEYS_LIMIT} are the limit")

    # Everybody's side.

    def delta(self, owner: str, epoch: Epoch, known: tuple[int, int], room: int) -> tuple[Delta | None, bool]:
        """Say what somebody lacks who knows the run up to `known` (collected, version), in `room` bytes.

        Returns the delta, `None` if nothing of it fits or is lacking, and whether that was all.
        """
        shelf = self._shelves.get(owner)
        if shelf is None or shelf.epoch != epoch or known[1] >= shelf.version:
            return None, True
        missed = known[0] < shelf.collected and known[1] < shelf.collected
        since = 0 if missed else known[1]
        lacking = shelf.after(since)
        room -= DELTA_OVERHEAD
        fitting = list(_fitting(lacking, room))
        whole = len(fitting) == len(lacking)
        if not fitting and (lacking or room < 0):
            return None, False
        until = shelf.version if whole else fitting[-1].version
        return Delta(owner, *epoch, shelf.collected, since, until, tuple(fitting)), whole

    def apply(self, delta: Delta) -> dict[str, bytes | None] | None:
        """Take a delta that continues what is known.

        Returns the values that changed, `None` if it does not continue anything or brings nothing.
        """
        epoch = (delta.generation, delta.nonce)
        shelf = self._shelves.get(delta.owner)
        before = dict(self.entries(delta.owner))
        collected, version = self.known(delta.owner, epoch)
        gap = delta.since > version or (delta.since > 0 and version < delta.collected and collected < delta.collected)
        stale = shelf is not None and epoch < shelf.epoch
        if gap or stale or delta.until <= version:
            return None
        base = {} if delta.since == 0 or shelf is None else shelf.writes
        writes = {**base, **{write.key: write for write in delta.writes}}
        gone = max(collected, delta.collected)
        kept = {key: write for key, write in writes.items() if write.value is not None or write.version > gone}
        if len(kept) > limits.KEYS_LIMIT:
            return None
        shelf = self._shelves[delta.owner] = Shelf(epoch, delta.until, gone, kept)
        after = shelf.values()
        return {key: after.get(key) for key in sorted({*before, *after}) if before.get(key) != after.get(key)}

    def shelf(self, owner: str) -> Shelf:
        """Copy what is known of an owner, for others to share."""
        shelf = self._shelves[owner]
        return replace(shelf, writes=dict(shelf.writes))

    def fill(self, me: str, shelves: Mapping[str, Shelf]) -> None:
        """Know these shelves of others, besides our own."""
        self._shelves = {**shelves, me: self._shelves[me]}

    def forget(self, owner: str) -> list[str]:
        """Drop an owner; return the keys that could be read."""
        shelf = self._shelves.pop(owner, None)
        return [] if shelf is None else list(shelf.values())


def _fitting(writes: list[Write], room: int) -> Iterator[Write]:
    """Take writes as long as they fit."""
    for write in writes:
        room -= WRITE_OVERHEAD + len(write.key.encode()) + len(write.value or b"")
        if room < 0:
            return
        yield write
