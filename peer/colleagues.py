"""Who takes part in the ensemble, as this peer sees it: members, what they say of their models, and who fits.

Summaries come with gossip and name their schema by fingerprint; an unknown schema is fetched from its owner
once. `Colleagues.roll` is the one place that decides who is expected to vote, and why somebody is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import msgpack
import structlog

from p2pml.ensemble.electorate import Electorate
from p2pml.ensemble.knowledge import Knowledge
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.summary import Epoch, FitCommand, Summary
from p2pml.errors import RemoteError
from p2pml.gossip import Change, EntryChanged, Member, MemberChanged, Node, Status
from p2pml.gossip.value import value

from .held import HELD, Held, LastWords
from .rare import buggify
from .wire import PeerWire

SUMMARY = "summary"
KNOWLEDGE = "knowledge"
FIT = "fit"
SCHEMA_PATH = "/v1/peer/schema"

READ = 1024
"""Entries that stay read: everybody looks at all of them again and again, and they seldom change."""

log = structlog.get_logger()

T = TypeVar("T")


@value
class Colleague:
    """One member and the summary of its model; None where it has not said anything that can be read."""

    member: Member
    summary: Summary | None
    words: LastWords | None = None
    """Its last words, where it cannot vote itself and others do so for it."""
    id: str = field(init=False, compare=False, repr=False)
    live: bool = field(init=False, compare=False, repr=False)
    """Whether the member takes part."""
    votes: bool = field(init=False, compare=False, repr=False)
    """Whether it can cast its vote itself."""

    def __post_init__(self) -> None:
        """Compute once what is asked for often."""
        self.id = self.member.id  # type: ignore[misc]
        self.live = self.member.status in (Status.ALIVE, Status.SUSPECT)  # type: ignore[misc]
        self.votes = self.live and self.summary is not None and self.summary.voting  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Roll:
    """Whom an answer can count on: the voters by id, and who is expected but cannot vote, with the reason."""

    schema: Schema | None
    voters: tuple[Colleague, ...]
    absent: tuple[tuple[Member, str], ...]
    misfits: Mapping[str, str]
    """Why a peer's schema does not fit the cluster's, by id."""
    holders: Mapping[str, tuple[Member, ...]]
    """Who can cast each voter's vote, by the voter's id: live peers, the best to ask first."""

    @property
    def expected(self) -> int:
        return len(self.voters) + len(self.absent)


class Colleagues:
    """Reads the node's view; keeps the schemas that it has fetched."""

    def __init__(self, node: Node, wire: PeerWire) -> None:
        self.node = node
        self._wire = wire
        self._electorate = Electorate()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self.version = 0
        """Raised whenever an answer may be another one than before, by who votes or by what they know."""
        self._roll: Roll | None = None
        self._me = node.me
        self._unread: dict[str, None] = {}
        self._members: dict[str, Colleague] = {}
        self._summaries: dict[str, Summary] = {}
        self._knowledge: dict[str, Knowledge] = {}
        """What members say, as far as it was read since they said it: everybody looks at all of it again and again."""
        self._before: dict[str, tuple[Summary, Knowledge]] = {}
        """What members said of the model that they had before, and of what they knew then."""
        self._everyone: list[Colleague] | None = None
        self.held = Held(node)

    def heard(self, change: Change) -> None:
        """A member, or what one says, is new: look at that one anew with the next question."""
        match change:
            case MemberChanged(member):
                self._unread[member.id] = None
                self.held.heard(member.id)
            case EntryChanged(owner, key) if key == SUMMARY:
                self._keep(owner)
                self._summaries.pop(owner, None)
                self._unread[owner] = None
            case EntryChanged(owner, key) if key.startswith(HELD):
                self.held.heard(owner)
            case EntryChanged(owner, key, value) if key == KNOWLEDGE:
                if value is None:
                    self._keep(owner)
                self._knowledge.pop(owner, None)
                if (colleague := self._members.get(owner)) is not None and colleague.votes:
                    self.version += 1
                    return
            case _:
                return
        self._changed()

    def _keep(self, owner: str) -> None:
        """Remember what a peer said, as it says something else: the model that it had may have to vote, where nobody
        holds the new one yet, or where it starts again and has said nothing yet."""
        summary, knowledge = self._summaries.get(owner), self._knowledge.get(owner)
        if summary is not None and summary.voting and knowledge is not None:
            self._before[owner] = summary.last_words(), knowledge

    def renew(self) -> None:
        """An answer may be another one from now on, by what this peer has come to know."""
        self.version += 1

    def _changed(self) -> None:
        self.version += 1
        self._roll = self._everyone = None

    def _catch_up(self) -> None:
        """Read what is new. Nobody tells of this peer itself, nor that somebody is forgotten who never said a word."""
        if self._me is not (me := self.node.me):
            self._me = me
            self._unread[me.id] = None
            self.held.heard(me.id)
            self._changed()
        while self._unread:
            id, _ = self._unread.popitem()
            if (member := self.node.member(id)) is None:
                self._members.pop(id, None)
                self._before.pop(id, None)
            else:
                self._members[id] = Colleague(member, self.summary(id))
        if len(self._members) != self.node.remembered():
            self._members = {member.id: Colleague(member, self.summary(member.id)) for member in self.node.members()}
            self._changed()

    def all(self) -> list[Colleague]:
        """Every member that is still remembered, and every owner of a model that somebody holds, by id."""
        self._catch_up()
        if self._everyone is None:
            forgotten = [self.held.words(owner) for owner in self.held.owners() if owner not in self._members]
            known = [*self._members.values()]
            known += [Colleague(_unknown(words), words.summary) for words in forgotten if words is not None]
            self._everyone = sorted(known, key=lambda colleague: colleague.id)
        return self._everyone

    def held_by(self, colleague: Colleague) -> list[str]:
        """The names of the live peers that hold a replica of a peer's model."""
        model = colleague.summary.digest if colleague.summary else None
        return [member.name for member in self.held.holders(colleague.id, model or "")]

    def summary(self, id: str) -> Summary | None:
        """What a member says of its model; None where there is nothing, or nothing that can be read."""
        return self._summaries.get(id) or self._entry(id, SUMMARY, _read_summary, self._summaries)

    def knowledge(self, id: str) -> Knowledge | None:
        """What a member says that it knows of the cluster; None where there is nothing, or nothing that can be read."""
        return self._knowledge.get(id) or self._entry(id, KNOWLEDGE, _read_knowledge, self._knowledge)

    def fit(self, id: str) -> FitCommand:
        """The last fit that a member has heard of."""
        return self._entry(id, FIT, _read_fit, {}) or FitCommand(Epoch())

    def _entry(self, id: str, key: str, read: Callable[[bytes], T], known: dict[str, T]) -> T | None:
        """An entry of a member, which is then known; None where there is none, or none that can be read."""
        if (raw := self.node.entries(id).get(key)) is None:
            return None
        try:
            known[id] = read(raw)
        except RemoteError as error:
            log.debug("an entry of a peer cannot be read", peer=id, entry=key, why=str(error))
            return None
        return known[id]

    def highest_fit(self) -> FitCommand:
        """The fit with the highest epoch that any member knows of."""
        return max((self.fit(member.id) for member in self.node.members()), key=lambda command: command.epoch)

    def learn_schema(self, schema: Schema) -> None:
        """Remember a schema, this peer's own for one, under its fingerprint."""
        self._electorate.learn(schema)
        self._changed()

    def schema(self, fingerprint: str) -> Schema | None:
        """The schema of that fingerprint, whoever's it is; None where nobody has shown it here."""
        return self._electorate.schema(fingerprint)

    async def fetch_schemas(self) -> None:
        """Fetch the schemas that are named and nobody has shown here yet; what fails is left for next time."""
        tasks = []
        for colleague in map(self._stood_in, self.all()):
            fingerprint = colleague.summary.schema if colleague.summary else None
            if fingerprint is None or self._electorate.schema(fingerprint) or not (colleague.live or colleague.words):
                continue
            source = next((member for member in self._holders(colleague) if member.id != self.node.me.id), None)
            if fingerprint not in self._fetching and source is not None:
                task = asyncio.create_task(self._fetch(source, fingerprint))
                self._fetching[fingerprint] = task
            if fingerprint in self._fetching:
                tasks.append(self._fetching[fingerprint])
        if tasks:
            await asyncio.wait(tasks)

    def roll(self) -> Roll:
        """Whose votes there are to count now: those of live members with a model, and of replicas where a member has
        none or is gone. Others are absent with the reason: who cannot vote yet, does not fit, or was lost."""
        self._catch_up()
        if self._roll is None:
            self._roll = self._call()
        return self._roll

    def _call(self) -> Roll:
        everyone = [self._stood_in(colleague) for colleague in self.all()]
        alive = {c.summary.digest for c in everyone if c.summary and c.live and c.words is None}
        # Who comes back without its state folder is somebody new, with the model that it had.
        counted = [c for c in everyone if c.live or (c.words and c.words.model not in alive)]
        ids = {colleague.id for colleague in counted}
        decided = self._electorate.decide({colleague.id: colleague.summary for colleague in counted})
        voters = tuple(colleague for colleague in counted if colleague.id not in decided.absent)
        absent = [(c.member, decided.absent[c.id]) for c in counted if c.id in decided.absent]
        absent += [(c.member, why) for c in everyone if c.id not in ids and (why := why_lost(c))]
        holders = {voter.id: self._holders(voter) for voter in voters}
        return Roll(decided.schema, voters, tuple(absent), decided.misfits, holders)

    def _stood_in(self, colleague: Colleague) -> Colleague:
        """The same with its last words, if it is gone or has no model, and others hold the one that it had."""
        if colleague.votes:
            return colleague
        words = self.last_words(colleague)
        return colleague if words is None else Colleague(colleague.member, words.summary, words)

    def last_words(self, colleague: Colleague) -> LastWords | None:
        """What is said of a peer by those who hold its model, or what it said itself until they say it, or where that
        was of a later model; None where nobody holds one."""
        id, name, told = colleague.id, colleague.member.name, self.held.words(colleague.id)
        for summary, knowledge in ((colleague.summary, self.knowledge(id)), self._before.get(id, (None, None))):
            if summary is None or not summary.voting or knowledge is None:
                continue
            if told is not None and told.summary.epoch >= summary.epoch:
                break
            own = LastWords(id, name, summary.last_words(), knowledge)
            if self.held.holders(id, own.model):
                return own
        return told

    def _holders(self, voter: Colleague) -> tuple[Member, ...]:
        """Who can cast a vote, the best to ask first: oneself, the owner, then who holds a replica."""
        assert voter.summary is not None
        holding = self.held.holders(voter.id, voter.summary.digest or "")
        me = self._me.id
        mine = [member for member in holding if member.id == me]
        others = [member for member in holding if member.id != me]
        if voter.words is not None:
            return (*mine, *others)
        if voter.member.status is Status.SUSPECT or voter.summary.leaving:
            return (*mine, *others, voter.member)
        return (*mine, voter.member, *others)

    async def close(self) -> None:
        """Stop fetching."""
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def _fetch(self, member: Member, fingerprint: str) -> None:
        try:
            if buggify("colleagues.schema-lost"):
                return
            schema = Schema.from_data(await self._wire.get(member, f"{SCHEMA_PATH}?fingerprint={fingerprint}"))
        except RemoteError as error:
            log.debug("a schema could not be fetched", peer=member.name, why=str(error))
            return
        finally:
            del self._fetching[fingerprint]
        self.learn_schema(schema)
        if schema.fingerprint != fingerprint:
            log.debug("a peer showed another schema than it named", peer=member.name)


@lru_cache(maxsize=READ)
def _read_summary(raw: bytes) -> Summary:
    return Summary.from_data(_unpack(raw))


@lru_cache(maxsize=READ)
def _read_knowledge(raw: bytes) -> Knowledge:
    return Knowledge.from_data(_unpack(raw))


def _read_fit(raw: bytes) -> FitCommand:
    return FitCommand.from_data(_unpack(raw))


def _unknown(words: LastWords) -> Member:
    """A member of whom nothing is known but what others hold: it went before this peer came."""
    return Member(words.owner, words.name, ("0.0.0.0", 0), Status.DEAD, 0, 0)  # noqa: S104 (nowhere)


def why_lost(gone: Colleague) -> str | None:
    """Why the vote of a peer that is gone is missing; None where none is expected.

    Who left has said goodbye, and who never had a model has taken nothing along.
    """
    if gone.words is not None or gone.member.status is not Status.DEAD:
        return None
    if gone.summary is None or not gone.summary.voting:
        return None
    held = "nobody who lives holds a replica of its model" if gone.summary.portable else "its model cannot leave it"
    return f"it is dead, and {held}"


def _unpack(raw: bytes) -> object:
    try:
        data: object = msgpack.unpackb(raw)
    except ValueError as error:
        raise RemoteError("not msgpack") from error
    return data
