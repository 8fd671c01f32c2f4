"""Who takes part in the ensemble, as this peer sees it: members, what they say of their models, and who fits.

Summaries come with gossip and name their schema by fingerprint; an unknown schema is fetched from its owner
once. `Colleagues.roll` is the one place that decides who is expected to vote, and why somebody is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgpack
import structlog

from p2pml.ensemble.electorate import Electorate
from p2pml.ensemble.knowledge import Knowledge
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.summary import FitCommand, Summary
from p2pml.errors import RemoteError
from p2pml.gossip import Member, Node, Status

from .held import Held, LastWords
from .rare import buggify
from .wire import PeerWire

SUMMARY = "summary"
KNOWLEDGE = "knowledge"
FIT = "fit"
SCHEMA_PATH = "/v1/peer/schema"

FRESH = 1.0
"""Seconds after which the roll is called anew without news: of who is forgotten, nobody tells."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Colleague:
    """One member and the summary of its model; None where it has not said anything that can be read."""

    member: Member
    summary: Summary | None
    words: LastWords | None = None
    """Its last words, where it cannot vote itself and others do so for it."""

    @property
    def id(self) -> str:
        return self.member.id

    @property
    def live(self) -> bool:
        return self.member.status in (Status.ALIVE, Status.SUSPECT)


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
        self._read: dict[str, tuple[bytes, Summary | None]] = {}
        self.version = 0
        """Raised whenever the roll may have changed."""
        self._roll: tuple[int, float, Roll] | None = None
        self._known: dict[str, tuple[bytes, Knowledge | None]] = {}
        self.held = Held(node)

    def changed(self) -> None:
        """A member, what one says, or a schema is new: look at everything anew with the next question."""
        self.version += 1

    def all(self) -> list[Colleague]:
        """Every member that is still remembered, and every owner of a model that somebody holds, by id."""
        known = [Colleague(member, self.summary(member.id)) for member in self.node.members()]
        ids = {colleague.id for colleague in known}
        forgotten = [self.held.words(owner) for owner in self.held.owners() if owner not in ids]
        known += [Colleague(_unknown(words), words.summary) for words in forgotten if words is not None]
        return sorted(known, key=lambda colleague: colleague.id)

    def held_by(self, colleague: Colleague) -> list[str]:
        """The names of the live peers that hold a replica of a peer's model."""
        model = colleague.summary.digest if colleague.summary else None
        return [member.name for member in self.held.holders(colleague.id, model or "")]

    def summary(self, id: str) -> Summary | None:
        """What a member says of its model; None where there is nothing, or nothing that can be read."""
        raw = self.node.entries(id).get(SUMMARY)
        if raw is None:
            self._read.pop(id, None)
            return None
        if (read := self._read.get(id)) is None or read[0] != raw:
            # Every answer looks at all summaries, and they seldom change.
            read = self._read[id] = (raw, _read_summary(id, raw))
        return read[1]

    def knowledge(self, id: str) -> Knowledge | None:
        """What a member says that it knows of the cluster; None where there is nothing, or nothing that can be read."""
        raw = self.node.entries(id).get(KNOWLEDGE)
        if raw is None:
            self._known.pop(id, None)
            return None
        if (read := self._known.get(id)) is None or read[0] != raw:
            read = self._known[id] = (raw, _read_knowledge(id, raw))
        return read[1]

    def highest_fit(self) -> FitCommand:
        """The fit with the highest epoch that any member knows of."""
        commands = [FitCommand.from_data({"epoch": [0, ""], "model": None})]
        for member in self.node.members():
            raw = self.node.entries(member.id).get(FIT)
            if raw is not None:
                try:
                    commands.append(FitCommand.from_data(_unpack(raw)))
                except RemoteError as error:
                    log.debug("a fit command cannot be read", peer=member.id, why=str(error))
        return max(commands, key=lambda command: command.epoch)

    def learn_schema(self, schema: Schema) -> None:
        """Remember a schema, this peer's own for one, under its fingerprint."""
        self._electorate.learn(schema)
        self.changed()

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
        now = asyncio.get_running_loop().time()
        if self._roll is None or self._roll[0] != self.version or now > self._roll[1] + FRESH:
            roll = self._call()
            if self._roll is not None and roll != self._roll[2]:
                self.changed()
            self._roll = self.version, now, roll
        return self._roll[2]

    def _call(self) -> Roll:
        everyone = [self._stood_in(colleague) for colleague in self.all()]
        alive = {c.summary.digest for c in everyone if c.summary and c.live and c.words is None}
        # Who comes back without its state folder is somebody new, with the model that it had.
        counted = [c for c in everyone if c.live or (c.words and c.words.model not in alive)]
        decided = self._electorate.decide({colleague.id: colleague.summary for colleague in counted})
        voters = tuple(colleague for colleague in counted if colleague.id not in decided.absent)
        absent = [(c.member, decided.absent[c.id]) for c in counted if c.id in decided.absent]
        absent += [(c.member, why) for c in everyone if c not in counted and (why := why_lost(c))]
        holders = {voter.id: self._holders(voter) for voter in voters}
        return Roll(decided.schema, voters, tuple(absent), decided.misfits, holders)

    def _stood_in(self, colleague: Colleague) -> Colleague:
        """The same with its last words, if it is gone or has no model, and others hold the one that it had."""
        if colleague.live and colleague.summary is not None and colleague.summary.voting:
            return colleague
        words = self.held.words(colleague.id)
        return colleague if words is None else Colleague(colleague.member, words.summary, words)

    def _holders(self, voter: Colleague) -> tuple[Member, ...]:
        """Who can cast a vote, the best to ask first: oneself, the owner, then who holds a replica."""
        assert voter.summary is not None
        holding = self.held.holders(voter.id, voter.summary.digest or "")
        mine = [member for member in holding if member.id == self.node.me.id]
        others = [member for member in holding if member.id != self.node.me.id]
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


def _read_summary(id: str, raw: bytes) -> Summary | None:
    try:
        return Summary.from_data(_unpack(raw))
    except RemoteError as error:
        log.debug("a summary cannot be read", peer=id, why=str(error))
        return None


def _read_knowledge(id: str, raw: bytes) -> Knowledge | None:
    try:
        return Knowledge.from_data(_unpack(raw))
    except RemoteError as error:
        log.debug("what a peer knows cannot be read", peer=id, why=str(error))
        return None


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
