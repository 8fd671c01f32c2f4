"""A town of peers without sockets or models: the real polling of each, over a wire that counts what is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from p2pml.ensemble.combine import DENSITY
from p2pml.ensemble.fields import Field, Schema
from p2pml.ensemble.knowledge import Decision
from p2pml.ensemble.summary import ModelState, Summary
from p2pml.ensemble.typed import Reader, Typed
from p2pml.ensemble.values import Floats, Kind
from p2pml.ensemble.vote import Vote
from p2pml.errors import PeerUnreachable, RemoteError
from p2pml.gossip import Member, Status
from p2pml.peer.ballots import Ballot, PackedQuestion, Refused, SumQuestion, Wanted, ballots_data
from p2pml.peer.ballots import Cast as Said
from p2pml.peer.colleagues import Colleague, Roll
from p2pml.peer.combining import Asked, Plan, combined
from p2pml.peer.placing import keepers
from p2pml.peer.polling import Polling

SPACE = "s" * 32
HEAT = 2.0


def plan(rule: str, heat: float | None = HEAT, **more: Any) -> Plan:
    """How to answer by a rule, where the held-out rows chose this temperature, or none."""
    decision = Decision(SPACE, heat) if heat else Decision(because="densities do not gain")
    return Plan(rule, decision if rule != DENSITY else Decision(SPACE, 1.0), SPACE, **more)


class Town:
    """Peers by number; each holds its own model, and replicas of two others'."""

    def __init__(self, peers: int, rows: int = 3, classes: int | None = 3, seed: int = 0, replicas: int = 2) -> None:
        rng = np.random.default_rng(seed)
        ids = [f"{at:032x}" for at in range(peers)]
        task = "regression" if classes is None else "classification"
        names = None if classes is None else tuple("abcdefghij"[:classes])
        self.schema = Schema("y", task, Kind.NUMBER if classes is None else Kind.CATEGORY, (Field("x", Kind.NUMBER),))
        self.rows: Typed = Reader(self.schema).read({"x": [0] * rows})
        self.members = {id: Member(id, f"p{at}", ("127.0.0.1", 1), Status.ALIVE, 1, 0) for at, id in enumerate(ids)}
        self.ballots: dict[str, Ballot] = {}
        self.holders = {id: (id, *keepers(id, ids, replicas)) for id in ids}
        for id in ids:
            values = rng.normal(size=rows) if classes is None else rng.dirichlet(np.ones(classes), rows)
            density: Floats = rng.normal(-50, 30, rows)
            self.ballots[id] = Ballot(id, f"model-{id}", int(rng.integers(1, 500)), Vote(names, values), density)
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often who was asked for what: "vote" or "sum"."""
        self.by: Counter[str] = Counter()
        """How many questions each peer put."""
        self.gone: set[str] = set()
        self.silent: set[str] = set()
        self.usual: float | None = None
        """Seconds that votes usually take, as everybody believes."""
        self.slow: set[str] = set()
        """Whose sums take for ever."""
        self.old: set[str] = set()
        self.mute: set[tuple[str, str]] = set()
        """Who cannot be reached from whom."""
        self.twist: dict[str, Callable[[Any], Any]] = {}
        """What becomes of the sums that a peer sends."""
        self.unreachable: dict[tuple[str, str], str] = {}
        """Who knows that who does not answer, and why."""
        self.pollings = {id: self._polling(id) for id in ids}

    def roll(self, me: str) -> Roll:
        """As a peer sees it: what it holds itself is asked of itself first."""
        voters = tuple(Colleague(member, _summary(self.ballots[id])) for id, member in self.members.items())
        holders = {
            id: tuple(self.members[each] for each in sorted(all, key=lambda each: each != me))
            for id, all in self.holders.items()
        }
        return Roll(self.schema, voters, (), {}, holders)

    async def answer(
        self, me: str, how: Plan, seconds: float = 30.0, *, add: bool = True, common: Vote | None = None
    ) -> Asked:
        """One answer of a peer, also of sums unless it must not `add`, and with a common vote."""
        adding = how.adding if add else None
        heard = await self.pollings[me].hear(self.roll(me), self.rows, 1, seconds, SPACE, adding=adding)
        return combined(heard, how, self.schema, common)

    def _polling(self, me: str) -> Polling:
        town = _Seen(self, me)
        return Polling(me, *cast(Any, (town, town, town, town)))


class _Seen:
    """The town as one peer's colleagues, voting, wire and reach."""

    def __init__(self, town: Town, me: str) -> None:
        self._town, self._me = town, me

    def roll(self) -> Roll:
        return self._town.roll(self._me)

    def all(self) -> list[Colleague]:
        return list(self.roll().voters)

    def usual(self, wanted: Wanted, rows: int) -> float | None:
        return self._town.usual

    def cast_at_once(self, *question: Any) -> None:
        return None

    async def cast(self, wanted: Sequence[Wanted], rows: Typed, first_row: int, space: str | None) -> list[Said]:
        ballots, holders = self._town.ballots, self._town.holders
        return [
            ballots[each.owner] if self._me in holders[each.owner] else Refused(each.owner, "it holds no replica")
            for each in wanted
        ]

    def why_not(self, id: str) -> str | None:
        return self._town.unreachable.get((self._me, id))

    def failed(self, member: Member, why: str) -> None:
        self._town.unreachable[self._me, member.id] = why

    async def vote(self, member: Member, packed: bytes, plain: Callable[[], bytes], seconds: float) -> Any:
        await self._reach(member, "vote", seconds)
        asked = msgspec.msgpack.decode(packed, type=PackedQuestion)
        other = _Seen(self._town, member.id)
        rows = Typed.from_data(asked.rows)
        return _travelled(ballots_data(await other.cast(asked.models, rows, asked.first_row, asked.space)))

    async def add_up(self, member: Member, packed: bytes, seconds: float) -> Any:
        await self._reach(member, "sum", seconds)
        if member.id in self._town.old:
            raise RemoteError("there is no question 3 on a link")
        asked = msgspec.msgpack.decode(packed, type=SumQuestion)
        partial = await self._town.pollings[member.id].add_up(asked, Typed.from_data(asked.rows), seconds)
        return self._town.twist.get(member.id, lambda data: data)(_travelled(partial.to_data()))

    async def _reach(self, member: Member, what: str, seconds: float) -> None:
        town = self._town
        town.asked[member.id, what] += 1
        town.by[self._me] += 1
        if member.id in town.gone or (self._me, member.id) in town.mute:
            raise PeerUnreachable("connection refused")
        if member.id in town.silent or (what == "sum" and member.id in town.slow):
            await asyncio.sleep(seconds)
            raise PeerUnreachable(f"no answer within {seconds:.3g} s")


def _travelled(data: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(data))


def _summary(ballot: Ballot) -> Summary:
    return Summary(ModelState.READY, "forest", digest=ballot.model, rows=ballot.rows)
