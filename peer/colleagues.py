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
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.summary import FitCommand, Summary
from p2pml.errors import RemoteError
from p2pml.gossip import Member, Node, Status

from .rare import buggify
from .wire import PeerWire

SUMMARY = "summary"
FIT = "fit"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Colleague:
    """One member and the summary of its model; None where it has not said anything that can be read."""

    member: Member
    summary: Summary | None

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

    def all(self) -> list[Colleague]:
        """Every member that is still remembered, by id."""
        return [Colleague(member, self.summary(member.id)) for member in self.node.members()]

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

    async def fetch_schemas(self) -> None:
        """Fetch the schemas that live members name and nobody has shown here yet; what fails is left for next time."""
        tasks = []
        for colleague in self.all():
            fingerprint = colleague.summary.schema if colleague.summary and colleague.live else None
            if fingerprint is None or self._electorate.knows(fingerprint):
                continue
            if fingerprint not in self._fetching:
                task = asyncio.create_task(self._fetch(colleague.member, fingerprint))
                self._fetching[fingerprint] = task
            tasks.append(self._fetching[fingerprint])
        if tasks:
            await asyncio.wait(tasks)

    def roll(self) -> Roll:
        """Who votes now. Live members without a model, or whose schema does not fit, are absent with the reason."""
        live = [colleague for colleague in self.all() if colleague.live]
        decided = self._electorate.decide({colleague.id: colleague.summary for colleague in live})
        voters = tuple(colleague for colleague in live if colleague.id not in decided.absent)
        absent = tuple((c.member, decided.absent[c.id]) for c in live if c.id in decided.absent)
        holders = {voter.id: (voter.member,) for voter in voters}
        return Roll(decided.schema, voters, absent, decided.misfits, holders)

    async def close(self) -> None:
        """Stop fetching."""
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def _fetch(self, member: Member, fingerprint: str) -> None:
        try:
            if buggify("colleagues.schema-lost"):
                return
            schema = Schema.from_data(await self._wire.get(member, "/v1/peer/schema"))
        except RemoteError as error:
            log.debug("a schema could not be fetched", peer=member.name, why=str(error))
            return
        finally:
            del self._fetching[fingerprint]
        self._electorate.learn(schema)
        if schema.fingerprint != fingerprint:
            log.debug("a peer showed another schema than it named", peer=member.name)


def _read_summary(id: str, raw: bytes) -> Summary | None:
    try:
        return Summary.from_data(_unpack(raw))
    except RemoteError as error:
        log.debug("a summary cannot be read", peer=id, why=str(error))
        return None


def _unpack(raw: bytes) -> object:
    try:
        data: object = msgpack.unpackb(raw)
    except ValueError as error:
        raise RemoteError("not msgpack") from error
    return data
