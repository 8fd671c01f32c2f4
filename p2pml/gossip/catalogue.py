"""The shared catalogue: a versioned map per owner, which only its owner writes (Scuttlebutt, LADIS 2008).

The invariant: whoever says that it knows an owner's run up to version v holds the last write of every key
whose last write is at v or before (a key written again after v may still be missing). So a delta is a
contiguous range of versions, cut at the end and never in the middle, and it is applied only where it
continues what is known. Deleted keys stay as tombstones until the owner collects them; who may have missed a
collected one is sent everything anew, as a delta since 0.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import TypeAlias

from p2pml.errors import BadInput

from . import limits
from .codec import is_key
from .directory import Directory
from .messages import Delta, Write
from .records import mark

Epoch: TypeAlias = tuple[int, int]
"""One run of an owner: its generation and its boot nonce."""

WRITE_OVERHEAD = 1 + 2 + 9 + 5
"""Bytes of an encoded write beside its key and value, at most."""

DELTA_OVERHEAD = 2 + 18 + 5 * 9 + 3
"""Bytes of an encoded delta beside its writes, at most."""


Shelf: TypeAlias = Delta
"""What is known of one owner: all that whoever knows nothing lacks, a delta since 0. Nodes of a simulation share it."""

EMPTY: Mapping[str, bytes] = {}

FEW = 4
"""Writes up to which entries are put together whenever they are asked for: a thousand nodes need not keep them too."""


class Catalogue:
    """The shelves of all owners, and a hash of them."""

    def __init__(self, directory: Directory | None = None) -> None:
        """Know nothing."""
        self._directory = directory or Directory()
        self._numbers = self._directory.numbers
        self._shelves: list[Shelf | None] = []
        self._shown: dict[str, Mapping[str, bytes]] = {}
        self._deleted: dict[str, float] = {}

    def entries(self, owner: str) -> Mapping[str, bytes]:
        """Read one owner's entries as far as they are known, those of its last run if this one has none yet."""
        shelf = self._get(owner)
        if shelf is None or not shelf.writes:
            return EMPTY
        if len(shelf.writes) <= FEW:
            return _values(shelf)
        # They are read far more often than written.
        shown = self._shown.get(owner)
        if shown is None:
            shown = self._shown[owner] = _values(shelf)
        return shown

    def known(self, owner: str, epoch: Epoch) -> tuple[int, int]:
        """Say how far this run of the owner is known: the version collected to, and the version."""
        shelf = self._get(owner)
        if shelf is None or shelf.nonce != epoch[1] or shelf.generation != epoch[0]:
            return (0, 0)
        return (shelf.collected, shelf.until)

    def reaches(self, owner: str, epoch: Epoch, version: int) -> bool:
        """Whether this run of the owner is known up to a version."""
        shelf = self._get(owner)
        return shelf is not None and shelf.until >= version and (shelf.generation, shelf.nonce) == epoch

    def mark(self, owner: str, epoch: Epoch) -> int:
        """Hash how far this run of the owner is known; 0 where nothing is."""
        version = self.known(owner, epoch)[1]
        return mark(owner, *epoch, version) if version else 0

    def wrote(self, owner: str, keys: Container[str], after: int) -> bool:
        """Whether one of these keys was written after a version of what is known of the owner."""
        shelf = self._get(owner)
        return shelf is not None and any(write.version > after and write.key in keys for write in shelf.writes)

    def copy(self, other: Catalogue) -> None:
        """Know what another catalogue of the same directory knows, in place of what was known."""
        assert self._directory is other._directory
        self._shelves = other._shelves[:]
        self._shown.clear()

    def _get(self, owner: str) -> Shelf | None:
        try:
            return self._shelves[self._numbers[owner]]
        except (KeyError, IndexError):
            return None

    def _set(self, shelf: Shelf) -> None:
        number = self._directory.number(shelf.owner)
        if number >= len(self._shelves):
            self._shelves.extend([None] * (number + 1 - len(self._shelves)))
        self._shelves[number] = shelf
        self._shown.pop(shelf.owner, None)

    # The owner's side.

    def write(self, owner: str, epoch: Epoch, key: str, value: bytes | None, now: float) -> bool:
        """Write one of our own keys, or delete it; say whether that changed anything. Raises `BadInput`."""
        self._check(owner, key, value)
        shelf = self._own(owner, epoch)
        old = next((write for write in shelf.writes if write.key == key), None)
        if (None if old is None else old.value) == value:
            return False
        version = shelf.until + 1
        writes = (*(write for write in shelf.writes if write.key != key), Write(key, version, value))
        self._set(shelf._replace(until=version, writes=writes))
        self._deleted.pop(key, None)
        if value is None:
            self._deleted[key] = now
        if len(writes) > limits.KEYS_LIMIT:
            self._collect(owner)
        return True

    def open(self, owner: str, epoch: Epoch) -> bool:
        """Say that this run of ours has no entries, if it has none, so that those of an earlier one go."""
        shelf = self._own(owner, epoch)
        if shelf.until:
            return False
        self._set(shelf._replace(until=1))
        return True

    def restart(self, owner: str, epoch: Epoch) -> None:
        """Write our own entries anew, for a new run."""
        values = self.entries(owner)
        self._deleted.clear()
        self._set(_blank(owner, epoch))
        for key, value in values.items():
            self.write(owner, epoch, key, value, 0.0)

    def collect(self, owner: str, before: float) -> None:
        """Drop those of our own tombstones that were written before this time."""
        while self._deleted and next(iter(self._deleted.values())) < before:
            self._collect(owner)

    def _collect(self, owner: str) -> None:
        """Drop our oldest tombstone."""
        shelf = self._get(owner)
        assert shelf is not None
        key = next(iter(self._deleted))
        del self._deleted[key]
        collected = next(write.version for write in shelf.writes if write.key == key)
        writes = tuple(write for write in shelf.writes if write.key != key)
        self._set(shelf._replace(collected=collected, writes=writes))

    def _own(self, owner: str, epoch: Epoch) -> Shelf:
        return self._get(owner) or _blank(owner, epoch)

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
        shelf = self._get(owner)
        if shelf is None or (shelf.generation, shelf.nonce) != epoch or known[1] >= shelf.until:
            return None, True
        missed = known[0] < shelf.collected and known[1] < shelf.collected
        since = 0 if missed else known[1]
        lacking = [write for write in shelf.writes if write.version > since]
        room -= DELTA_OVERHEAD
        fitting = tuple(_fitting(lacking, room))
        whole = len(fitting) == len(lacking)
        if not fitting and (lacking or room < 0):
            return None, False
        if whole and since == 0:
            return shelf, True
        until = shelf.until if whole else fitting[-1].version
        return shelf._replace(since=since, until=until, writes=fitting), whole

    def apply(self, delta: Delta) -> dict[str, bytes | None] | None:
        """Take a delta that continues what is known.

        Returns the values that changed, `None` if it does not continue anything or brings nothing.
        """
        owner, epoch = delta.owner, (delta.generation, delta.nonce)
        shelf = self._get(owner)
        collected, version = self.known(owner, epoch)
        gap = delta.since > version or (delta.since > 0 and version < delta.collected and collected < delta.collected)
        stale = shelf is not None and epoch < (shelf.generation, shelf.nonce)
        if gap or stale or delta.until <= version:
            return None
        base = () if delta.since == 0 or shelf is None else shelf.writes
        joined = _join(delta, base, max(collected, delta.collected))
        if len(joined.writes) > limits.KEYS_LIMIT:
            return None
        before = self.entries(owner)
        self._set(joined)
        after = self.entries(owner)
        return {key: after.get(key) for key in sorted({*before, *after}) if before.get(key) != after.get(key)}

    def forget(self, owner: str) -> list[str]:
        """Drop an owner; return the keys that could be read."""
        keys = list(self.entries(owner))
        if self._get(owner) is not None:
            self._shelves[self._numbers[owner]] = None
            self._shown.pop(owner, None)
        return keys


def _blank(owner: str, epoch: Epoch) -> Shelf:
    """Begin a run: nothing is written in it."""
    return Delta(owner, *epoch, 0, 0, 0, ())


def _values(shelf: Shelf) -> Mapping[str, bytes]:
    """Read the keys that are not deleted, in their order."""
    return {write.key: write.value for write in sorted(shelf.writes) if write.value is not None}


def _join(delta: Delta, base: tuple[Write, ...], collected: int) -> Shelf:
    """Put the writes of a delta over those known before; the tombstones that were collected go."""
    latest = {write.key: write for write in (*base, *delta.writes)}
    kept = [write for write in latest.values() if write.value is not None or write.version > collected]
    if delta.since == 0 and len(kept) == len(delta.writes) and collected == delta.collected:
        return delta
    kept.sort(key=lambda write: write.version)
    return delta._replace(collected=collected, since=0, writes=tuple(kept))


def _fitting(writes: list[Write], room: int) -> Iterator[Write]:
    """Take writes as long as they fit."""
    for write in writes:
        room -= WRITE_OVERHEAD + len(write.key.encode()) + len(write.value or b"")
        if room < 0:
            return
        yield write
