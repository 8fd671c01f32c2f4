"""What peers say that they hold: for each replica whose and which, and once its owner cannot vote its last words.

A holder then repeats what the owner told of its model and of what it knows, in an entry of its own in the catalogue. So
also who joins after the owner is gone can count its vote, and weigh it as everybody else does. Before, it would only
say twice what the owner says itself, with every word that this adds.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import msgpack
import structlog

from p2pml.ensemble.knowledge import Knowledge
from p2pml.ensemble.summary import Summary
from p2pml.errors import RemoteError
from p2pml.gossip import Member, Node, Status
from p2pml.gossip.limits import NAME_LIMIT, VALUE_LIMIT

HELD = "held."
"""How the keys of such entries begin; the number of a slot follows."""
SLOTS = 32
"""Replicas that one peer holds, at most: each has an entry of its catalogue, which has 64 in all."""

log = structlog.get_logger()


class Holding(NamedTuple):
    """A replica whose owner speaks for itself: its owner's id, and the digest of the model."""

    owner: str
    model: str

    def packed(self) -> bytes:
        """As an entry of the catalogue."""
        packed: bytes = msgpack.packb(self)
        return packed


@dataclass(frozen=True)
class LastWords:
    """What a peer said of its model last: `owner` is its id, `gone` when it went (s since 1970; 0 while it lives)."""

    owner: str
    name: str
    summary: Summary
    knowledge: Knowledge
    gone: int = 0

    @property
    def model(self) -> str:
        """The digest of the model."""
        return self.summary.digest or ""

    @property
    def holding(self) -> Holding:
        """What a holder says while the owner votes itself."""
        return Holding(self.owner, self.model)

    def packed(self) -> bytes:
        """As an entry of the catalogue, or in the state folder."""
        said = [self.owner, self.name, self.summary.to_data(), self.knowledge.to_data(), self.gone]
        packed: bytes = msgpack.packb(said)
        return packed

    @classmethod
    def read(cls, packed: bytes) -> LastWords:
        """What another peer holds; RemoteError where it is nothing of the kind."""
        try:
            owner, name, summary, knowledge, gone = msgpack.unpackb(packed)
        except (ValueError, TypeError) as error:
            raise RemoteError("what a peer holds cannot be read") from error
        if not _is_id(owner) or not isinstance(name, str) or not name.isprintable() or len(name.encode()) > NAME_LIMIT:
            raise RemoteError("what a peer holds is nobody's")
        read = cls(owner, name, Summary.from_data(summary), Knowledge.from_data(knowledge), gone)
        if not read.summary.voting or not _is_digest(read.model) or type(gone) is not int or not 0 <= gone < 2**53:
            raise RemoteError("what a peer holds is no model")
        return read

    @property
    def fits(self) -> bool:
        """Whether it fits into an entry of the catalogue."""
        return len(self.packed()) <= VALUE_LIMIT

    @cached_property
    def said(self) -> bytes:
        """All but the time, packed."""
        return replace(self, gone=0).packed()

    def votes_as(self, other: LastWords) -> bool:
        """Whether a replica of one casts the same vote as of the other, for a peer that went at the same time."""
        return (self.model, self.knowledge.density, self.gone) == (other.model, other.knowledge.density, other.gone)

    def same(self, other: LastWords | None) -> bool:
        """Whether the same was said of the same model, whenever it went."""
        return other is not None and self.said == other.said


class Held:
    """Reads from the catalogue who holds what: anew only of those who say something else than before."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._unread: dict[str, None] = {}
        self._said: dict[str, list[Holding | LastWords]] = {}
        """By holder, of those that live: what each says."""
        self._by: dict[str, dict[str, Member]] = {}
        """By owner who says to hold some model of its, by id."""
        self._known: dict[str, tuple[dict[str, list[Member]], LastWords | None]] = {}
        """By owner the holders of each model, and its last words; only as far as somebody asked since they changed."""

    def heard(self, holder: str) -> None:
        """A member is another one than before, or says something else of what it holds."""
        self._unread[holder] = None

    def holders(self, owner: str, model: str) -> list[Member]:
        """The live peers that hold a replica of this very model, by id."""
        known = self._look(owner)
        return [] if known is None else known[0].get(model, [])

    def words(self, owner: str) -> LastWords | None:
        """The last words of a peer that most of those say who hold its newest model; None where nobody says any."""
        known = self._look(owner)
        return None if known is None else known[1]

    def owners(self) -> list[str]:
        """Whose models somebody holds."""
        self._catch_up()
        return sorted(self._by)

    def read(self, raw: bytes | None) -> Holding | LastWords | None:
        """What an entry of the catalogue says; None where it is empty, or cannot be read."""
        if not raw:
            return None
        try:
            return _read(raw)
        except RemoteError as error:
            log.debug("what a peer holds cannot be read", why=str(error))
            return None

    def _look(self, owner: str) -> tuple[dict[str, list[Member]], LastWords | None] | None:
        self._catch_up()
        if owner not in self._by:
            return None
        if owner not in self._known:
            holders: dict[str, list[Member]] = {}
            said = []
            for holder, member in sorted(self._by[owner].items()):
                for words in self._said[holder]:
                    if words.owner == owner:
                        holders.setdefault(words.model, []).append(member)
                        if isinstance(words, LastWords):
                            said.append(words)
            self._known[owner] = holders, _most_said(said) if said else None
        return self._known[owner]

    def _catch_up(self) -> None:
        """Read what those say who say something new."""
        while self._unread:
            holder, _ = self._unread.popitem()
            for words in self._said.pop(holder, ()):
                self._known.pop(words.owner, None)
                self._by[words.owner].pop(holder, None)
                if not self._by[words.owner]:
                    del self._by[words.owner]
            member = self._node.member(holder)
            if member is None or member.status not in (Status.ALIVE, Status.SUSPECT):
                continue
            entries = self._node.entries(holder)
            read = (self.read(entries[key]) for key in sorted(key for key in entries if key.startswith(HELD)))
            said = [words for words in read if words is not None and words.owner != holder]
            for words in said:
                self._known.pop(words.owner, None)
                self._by.setdefault(words.owner, {})[holder] = member
            if said:
                self._said[holder] = said


@lru_cache(maxsize=1024)
def _read(raw: bytes) -> Holding | LastWords:
    with suppress(ValueError, TypeError):
        holding = Holding(*msgpack.unpackb(raw))
        if _is_id(holding.owner) and _is_digest(holding.model):
            return holding
    return LastWords.read(raw)


def entry(slot: int) -> str:
    """The key of the catalogue under which a peer says what it holds; empty where it holds nothing there."""
    return f"{HELD}{slot}"


def _most_said(all_words: list[LastWords]) -> LastWords:
    """The newest epoch, then what most say; which of two, all who read the same choose alike."""
    first = all_words[0]
    if all(words is first for words in all_words):
        return first
    count = Counter(words.said for words in all_words)
    best = max(all_words, key=lambda words: (words.summary.epoch, count[words.said], words.said))
    return replace(best, gone=min(words.gone for words in all_words if words.same(best)))


def _is_id(text: object) -> bool:
    return isinstance(text, str) and len(text) == 32 and all(sign in "0123456789abcdef" for sign in text)


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
