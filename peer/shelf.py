"""The replicas that this peer holds: on disk under the digests of their content, and ready to vote as they are asked.

Read, audit, construct: a model is plain arrays, checked before anything is built of them, beside the density that its
owner fitted and the moments of its rows. Nothing of another peer's is unpickled or run.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import structlog

from p2pml.ensemble.density import Density
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError

from .held import LastWords
from .store import Store

if TYPE_CHECKING:
    from p2pml.ensemble.compiled import CompiledModel

REPLICA = "replica-"
"""How the files of replicas begin; the digest of the content follows."""
HELD = "held-"
"""How the files begin that say what a replica is; the owner's id follows."""
LOADED_BYTES = 256 * 2**20
"""Bytes of packed models that are ready to vote at once; others are loaded when they are asked, in a third of a second
for a forest."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is copied of a peer: its model, the moments of its rows and, once it has one, its density, all packed."""

    model: bytes
    moments: bytes
    density: bytes | None


@dataclass(slots=True)
class Replica:
    """A replica that is ready to vote. In the space that its owner's density is in, that one counts; in any other,
    where only the owner could fit one, the Gaussian of its moments."""

    words: LastWords
    model: CompiledModel
    moments: Moments
    space: str | None
    density: Density | None
    size: int
    _gaussian: tuple[str, Density] | None = field(default=None)

    def cast(self, columns: Columns, first_row: int, space: Space | None) -> tuple[Vote, Floats | None]:
        """The vote on every row, and its log-density in `space`."""
        sheet = Sheet.of(columns)
        vote = self.model.vote(sheet, first_row)
        vote.check()
        if space is None:
            return vote, None
        density = self._density(space).log_density(space.project(sheet, first_row))
        if not np.isfinite(density).all():
            raise RemoteError("a density beside its vote is not finite")
        return vote, density

    def _density(self, space: Space) -> Density:
        if self.density is not None and self.space == space.digest:
            return self.density
        if self._gaussian is None or self._gaussian[0] != space.digest:
            self._gaussian = (space.digest, space.gaussian(self.moments))
        return self._gaussian[1]


def construct(words: LastWords, parcel: Parcel, before: Replica | None = None) -> Replica:
    """Audit a parcel from anybody and build what can vote; RemoteError where it is not what `words` name.

    A model that `before` has built already is not built again.
    """
    from p2pml.ensemble.compiled import CompiledModel
    from p2pml.ensemble.portable import Portable, digest

    if digest(parcel.model) != words.model:
        raise RemoteError("the model is not the one that its digest names")
    if before is not None and before.words.model == words.model:
        model = before.model
    else:
        model = CompiledModel(Portable.read(parcel.model))
    if model.schema.fingerprint != words.summary.schema or model.rows != words.summary.rows:
        raise RemoteError("the model has another schema, or other rows, than its owner said")
    moments = read_moments(parcel.moments)
    if moments.digest != words.knowledge.moments:
        raise RemoteError("the moments are not those that its owner named")
    space, density = (None, None) if parcel.density is None else Density.read(parcel.density)
    if parcel.density is not None and digest(parcel.density) != words.knowledge.density:
        raise RemoteError("the density is not the one that its owner named")
    return Replica(words, model, moments, space, density, len(parcel.model))


def read_moments(packed: bytes) -> Moments:
    """The moments in these bytes, from anybody; RemoteError if they are none."""
    try:
        data: Any = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        raise RemoteError("the moments cannot be read") from error
    return Moments.from_data(data)


class Shelf:
    """The replicas of one peer. Its methods block, and may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: OrderedDict[str, Replica] = OrderedDict()
        self._lock = threading.Lock()
        self.words: dict[str, LastWords] = {}
        """What is held, by the owner's id; exchanged whole, so that it may be read at any time."""
        self.sizes: dict[str, int] = {}
        """Bytes of each model, by the owner's id."""

    def open(self) -> None:
        """Find what was held when this peer last ran; what does not verify is set aside, and is fetched anew."""
        words, sizes = {}, {}
        for name in self._store.names(HELD):
            record = self._store.read_document(name, lambda data: LastWords.read(data["words"]))
            if record is None or name != HELD + record.owner:
                continue
            if (parcel := self.parcel(record, {})) is None:
                log.warning("a replica on disk is not whole; it will be fetched anew", owner=record.name)
                continue
            words[record.owner], sizes[record.owner] = record, len(parcel.model)
        self.words, self.sizes = words, sizes
        self._clear_out()

    def put(self, words: LastWords, parcel: Parcel) -> Replica:
        """Audit a parcel and keep it, in place of what was held of that owner; RemoteError leaves that as it was.

        On return it is on disk: the pieces first, then the record that names them.
        """
        with self._lock:
            before = self._loaded.get(words.owner)
        replica = construct(words, parcel, before)
        pieces = {words.model: parcel.model, words.knowledge.moments: parcel.moments}
        if parcel.density is not None:
            pieces[str(words.knowledge.density)] = parcel.density
        for digest, piece in pieces.items():
            if not self._store.has(REPLICA + digest):
                self._store.write(REPLICA + digest, piece)
        self._record(words)
        self.sizes = {**self.sizes, words.owner: len(parcel.model)}
        self._keep(words.owner, replica)
        self._clear_out()
        return replica

    def drop(self, owner: str) -> None:
        """Hold a replica no more."""
        self.words = {id: words for id, words in self.words.items() if id != owner}
        self.sizes = {id: size for id, size in self.sizes.items() if id != owner}
        with self._lock:
            self._loaded.pop(owner, None)
        self._store.keep_only(HELD, {HELD + id for id in self.words})
        self._clear_out()

    def lacks(self, words: LastWords) -> list[str]:
        """The digests of what `words` name and is not held."""
        named = (words.model, words.knowledge.moments, words.knowledge.density)
        return [digest for digest in named if digest and not self._store.has(REPLICA + digest)]

    def parcel(self, words: LastWords, fetched: Mapping[str, bytes]) -> Parcel | None:
        """What `words` name, from what was fetched and what is held; None where a piece is missing all the same."""
        pieces = {}
        for digest in (words.model, words.knowledge.moments, words.knowledge.density):
            if digest is not None:
                piece = fetched.get(digest) or self.piece(digest)
                if piece is None:
                    return None
                pieces[digest] = piece
        density = words.knowledge.density
        return Parcel(pieces[words.model], pieces[words.knowledge.moments], pieces[density] if density else None)

    def piece(self, digest: str) -> bytes | None:
        """What is held under a digest; None where nothing is."""
        return self._store.read(REPLICA + digest)

    def replica(self, owner: str, model: str) -> Replica | None:
        """The replica of that very model, ready to vote; None where it is not held or its files are damaged."""
        words = self.words.get(owner)
        if words is None or words.model != model:
            return None
        with self._lock:
            loaded = self._loaded.get(owner)
            if loaded is not None and loaded.words.same(words):
                self._loaded.move_to_end(owner)
                return loaded
        parcel = self.parcel(words, {})
        if parcel is None:
            self.drop(owner)
            return None
        return self._keep(owner, construct(words, parcel, loaded))

    def loaded(self, owner: str, model: str) -> Replica | None:
        """The replica of that very model if it is ready to vote; this does not block."""
        words = self.words.get(owner)
        replica = self._loaded.get(owner)
        if words is None or words.model != model or replica is None:
            return None
        return replica if replica.words is words or replica.words.same(words) else None

    def _keep(self, owner: str, replica: Replica) -> Replica:
        with self._lock:
            self._loaded[owner] = replica
            self._loaded.move_to_end(owner)
            while len(self._loaded) > 1 and sum(each.size for each in self._loaded.values()) > LOADED_BYTES:
                self._loaded.popitem(last=False)
        return replica

    def _record(self, words: LastWords) -> None:
        self._store.write_document(HELD + words.owner, {"words": words.packed(), "at": int(time.time())})
        self.words = {**self.words, words.owner: words}

    def _clear_out(self) -> None:
        """Delete what no record names."""
        named = {
            REPLICA + digest
            for words in self.words.values()
            for digest in (words.model, words.knowledge.moments, words.knowledge.density)
            if digest
        }
        self._store.keep_only(REPLICA, named)
