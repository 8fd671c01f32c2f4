"""Polling the voters: each vote of one peer that can cast it, and by the deadline what came and who is missing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from p2pml.ensemble.typed import Typed
from p2pml.errors import NoVotes, RemoteError
from p2pml.gossip import Member, Status

from . import relaying
from .adding import Partial, read_partial
from .answers import Missing, StoodIn, Votes
from .ballots import Adding, Ballot, Cast, Question, SumQuestion, Wanted, read_ballots
from .colleagues import Colleague, Colleagues, Roll
from .covering import Choose, cover
from .pace import Pace
from .reach import Reach
from .relaying import Group
from .round import Round
from .voting import QUICK, Voting
from .wire import PeerWire

GUESS = 1e-5
"""Seconds that a vote on one row is taken to need before one was cast: what a forest takes."""
DOUBT = 1.0
"""Seconds that count against a holder which is suspected or about to leave: it is asked where nobody else is left."""
TURNS = 3
"""Turns of the loop after which a question is with the system: the others vote while this peer does."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Heard:
    """The votes that came: ballots by the id of the peer whose model cast each, and sums of others."""

    ballots: dict[str, Ballot]
    partials: tuple[Partial, ...] = ()


@dataclass(slots=True)
class _Found:
    """Who cast which vote, and what stands in the way of the others."""

    by: dict[str, Member] = field(default_factory=dict)
    ballots: dict[str, Ballot] = field(default_factory=dict)
    partials: list[Partial] = field(default_factory=list)
    why: dict[str, list[str]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)

    def add(self, cast: Mapping[str, tuple[Ballot, Member]]) -> None:
        """Count ballots, each with who cast it."""
        self.by |= {voter: member for voter, (_, member) in cast.items()}
        self.ballots |= {voter: ballot for voter, (ballot, _) in cast.items()}

    def sum(self, partial: Partial, members: Mapping[str, Member]) -> None:
        """Count the votes of a sum; `members` by id are those who may have cast them."""
        self.by |= {each.owner: members[each.by] for each in partial.counted}
        self.partials.append(partial)

    def lacks(self, round: Round) -> None:
        """Remember why votes did not come."""
        self.why |= round.why
        self.late |= round.late


class Polling:
    """Asks for votes on rows, of this peer and of others."""

    def __init__(self, me: str, colleagues: Colleagues, voting: Voting, wire: PeerWire, reach: Reach) -> None:
        self._me = me
        self._colleagues = colleagues
        self._voting = voting
        self._wire = wire
        self._reach = reach
        self._pace, self._relays = Pace(), Pace()
        self._rests: dict[str, float] = {}
        """Who is not to ask others for a while, and until when."""

    def keep_only(self, roll: Roll) -> None:
        """Forget the pace of all who hold no model of the roll."""
        ids = {holder.id for holders in roll.holders.values() for holder in holders}
        self._pace.keep_only(ids)
        self._relays.keep_only(ids)
        self._rests = {id: until for id, until in self._rests.items() if id in ids}

    async def hear(
        self,
        roll: Roll,
        asked: Typed,
        first_row: int,
        seconds: float,
        space: str | None,
        *,
        choose: Choose | None = None,
        adding: Adding | None = None,
    ) -> tuple[Heard, Votes]:
        """What came within `seconds`, and who is missing; `choose` says whom to ask, by default by what that costs.
        With `adding` votes may come as sums, so where many would have to be asked, some of them ask the others."""
        deadline = asyncio.get_running_loop().time() + seconds
        question = await off_the_loop(asked.rows, Question, asked, first_row, space)
        wanted = {voter.id: _wanted(voter) for voter in roll.voters}
        found = _Found()
        found.add(self._own(wanted, roll, question))
        if len(found.by) < len(wanted):
            open_votes = {id: each for id, each in wanted.items() if id not in found.by}
            round = self._round(open_votes, roll, question, deadline, choose)
            groups = self._groups(round) if adding is not None and len(open_votes) > relaying.WIDE else {}
            if adding is not None and groups:
                await self._through(groups, open_votes, roll, question, deadline, adding, found)
                found.why = round.why | found.why
            else:
                await round.run(deadline)
                found.add(round.cast)
                found.lacks(round)
        ballots = {voter.id: found.ballots[voter.id] for voter in roll.voters if voter.id in found.ballots}
        return Heard(ballots, tuple(found.partials)), _votes(roll, found, seconds)

    def _groups(self, round: Round) -> dict[str, list[str]]:
        """Which votes to ask through whom; empty where few have to be asked, or nobody can ask them."""
        first, now = round.first(), asyncio.get_running_loop().time()
        first.pop(self._me, None)
        if len(first) <= relaying.WIDE:
            return {}
        ahead = {id: self._relays.ahead(id, now) for id in first if self._rests.get(id, 0.0) <= now}
        return relaying.grouped(first, self._me, ahead)

    async def _through(
        self,
        groups: Mapping[str, Sequence[str]],
        wanted: dict[str, Wanted],
        roll: Roll,
        question: Question,
        deadline: float,
        adding: Adding,
        found: _Found,
    ) -> None:
        """Ask the peers between for the sums of their groups' votes, and for the rest as ever."""
        members = {holder.id: holder for holders in roll.holders.values() for holder in holders}

        def directly(voters: Collection[str]) -> Round:
            return self._round({id: wanted[id] for id in voters}, roll, question, deadline, None)

        started: list[Group] = []
        for relay, all_voters in groups.items():
            # Its own vote a peer may have to favour.
            if not (voters := [id for id in all_voters if id != self._me]):
                continue
            ask = partial(self._sum_of, members[relay], [wanted[id] for id in voters], roll, question, deadline, adding)
            after = self._relays.hedge(relay, question.rows.rows * len(voters))
            hedge = None if after is None else relaying.SLOW * after
            started.append(Group(members[relay], voters, ask, hedge, directly, self._reach.failed))
        shared = {id for group in started for id in group.voters}
        rest = directly([id for id in wanted if id not in shared])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rest.run(deadline))
            for group in started:
                tasks.create_task(group.run(deadline))
        found.add(rest.cast)
        found.lacks(rest)
        for group in started:
            found.add(group.cast)
            if group.partial is not None:
                found.sum(group.partial, members)
            if group.round is not None:
                found.lacks(group.round)
            if group.failed:
                self._rests[group.relay.id] = asyncio.get_running_loop().time() + relaying.REST

    async def _sum_of(
        self,
        relay: Member,
        wanted: Sequence[Wanted],
        roll: Roll,
        question: Question,
        deadline: float,
        adding: Adding,
    ) -> Partial:
        """The sum of votes for which a peer asks the others; raises `RemoteError`."""
        rows, loop = question.rows.rows, asyncio.get_running_loop()
        began, size = loop.time(), rows * len(wanted)
        left = min(relaying.SHARE * (deadline - began), self._relays.patience(relay.id, size) or math.inf)
        try:
            data = await self._wire.add_up(relay, question.packed(wanted, adding), left)
        finally:
            # Also of one that was overtaken: the next answer had better go through another.
            took = loop.time() - began
            self._relays.apart(relay.id, max(0.0, took - self._like(wanted, rows) * len(wanted)), loop.time())
        self._relays.heard(relay.id, size, took)
        holders = {each.owner: {holder.id for holder in roll.holders[each.owner]} for each in wanted}
        total = await off_the_loop(rows, read_partial, data, rows, wanted, adding, holders)
        if roll.schema is not None and (total.plain.classes is None) != (roll.schema.task == "regression"):
            raise RemoteError("its sum is of another task")
        return total

    async def add_up(self, asked: SumQuestion, rows: Typed, seconds: float) -> Partial:
        """For another peer the sum of the votes that came, of this peer and of others, within a part of the `seconds`
        that are left for it; raises `NoVotes`."""
        deadline = asyncio.get_running_loop().time() + relaying.IN_TIME * seconds
        roll = self._colleagues.roll()
        known = {voter.id: _wanted(voter) for voter in roll.voters}
        # Who knows of another model would ask others for it than whoever wants this one.
        wanted = {each.owner: each for each in asked.models if known.get(each.owner) == each}
        question = await off_the_loop(rows.rows, Question, rows, asked.first_row, asked.space)
        round = self._round(wanted, roll, question, deadline, None)
        await round.run(deadline)
        cast = [(ballot, by.id) for ballot, by in round.cast.values() if ballot.model == wanted[ballot.owner].model]
        if not cast:
            raise NoVotes("none of the votes that were to be added up came")
        return await off_the_loop(rows.rows * len(cast), Partial.of, cast, asked.adding)

    def _own(self, wanted: dict[str, Wanted], roll: Roll, question: Question) -> dict[str, tuple[Ballot, Member]]:
        """All votes, where this peer holds all models and casts them in no time; else none."""
        if not all(holders and holders[0].id == self._me for holders in roll.holders.values()):
            return {}
        cast = self._voting.cast_at_once(list(wanted.values()), question.rows, question.first_row, question.space)
        return {each.owner: (each, roll.holders[each.owner][0]) for each in cast or () if isinstance(each, Ballot)}

    def _round(
        self, wanted: dict[str, Wanted], roll: Roll, question: Question, deadline: float, choose: Choose | None
    ) -> Round:
        """The votes that are asked for, each of whoever holds its model and can be reached."""
        rows, loop = question.rows.rows, asyncio.get_running_loop()
        took = {id: self._voting.usual(each, rows) for id, each in wanted.items()}
        like = self._like(wanted.values(), rows)
        doubtful = {voter.id for voter in roll.voters if voter.summary and voter.summary.leaving}
        doubtful |= {each.id for holders in roll.holders.values() for each in holders if each.status is Status.SUSPECT}

        def cheapest(holders: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
            return cover(
                holders,
                lambda voter: like if (seconds := took[voter]) is None else seconds,
                lambda holder: self._pace.ahead(holder, loop.time()) + (DOUBT if holder in doubtful else 0.0),
                self._me,
            )

        async def ask(holder: Member, voters: list[str]) -> Mapping[str, Cast]:
            return await self._from(holder, [wanted[id] for id in voters], question, deadline, like)

        round = Round(
            {id: roll.holders[id] for id in wanted},
            choose or cheapest,
            ask,
            lambda holder, votes: self._pace.hedge(holder.id, rows * votes),
            self._reach.failed,
        )
        for id in wanted:
            for holder in roll.holders[id]:
                if (reason := self._reach.why_not(holder.id)) is not None:
                    round.refused(id, holder, reason)
        return round

    def _like(self, wanted: Collection[Wanted], rows: int) -> float:
        """Seconds that each of these votes is taken to need: of models that this peer does not hold it knows no more
        than that they are like the others."""
        known = [seconds for each in wanted if (seconds := self._voting.usual(each, rows)) is not None]
        return sum(known) / len(known) if known else GUESS * rows

    async def _from(
        self, holder: Member, wanted: list[Wanted], question: Question, deadline: float, like: float
    ) -> Mapping[str, Cast]:
        """A holder's votes, each of which usually takes `like` seconds; raises `RemoteError` or `BadInput`."""
        rows, loop = question.rows.rows, asyncio.get_running_loop()
        if holder.id == self._me:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            cast = await self._voting.cast(wanted, question.rows, question.first_row, question.space)
            return {each.owner: each for each in cast}
        began, size = loop.time(), rows * len(wanted)
        left = min(deadline - began, self._pace.patience(holder.id, size) or math.inf)
        data = await self._wire.vote(holder, question.packed(wanted), lambda: question.body(wanted), left)
        now = loop.time()
        self._pace.heard(holder.id, size, now - began)
        self._pace.apart(holder.id, max(0.0, now - began - like * len(wanted)), now)
        return await off_the_loop(rows, read_ballots, data, rows, wanted, holder.id)


async def off_the_loop(rows: int, work: Callable[P, T], *how: P.args, **more: P.kwargs) -> T:
    """Do some work on so many rows: at once where they are few, else in a thread."""
    if rows <= QUICK:
        return work(*how, **more)
    return await asyncio.to_thread(work, *how, **more)


def _wanted(voter: Colleague) -> Wanted:
    assert voter.summary is not None
    return Wanted(voter.id, voter.summary.digest or "")


def _votes(roll: Roll, found: _Found, seconds: float) -> Votes:
    """Who voted, for whom, and who is missing and why; raises `NoVotes` where nobody did."""
    missing = [_missing(member.id, member.name, why) for member, why in roll.absent]
    for voter in roll.voters:
        if voter.id not in found.by:
            late = f"no answer within {seconds:.3g} s" if voter.id in found.late else None
            why = late or "; ".join(found.why.get(voter.id, ())) or "nobody holds its model"
            missing.append(_missing(voter.id, voter.member.name, why))
    missing.sort(key=lambda entry: entry["peer"])
    if not found.by:
        raise NoVotes(_nobody(roll, missing))
    votes = Votes(cast=len(found.by), expected=roll.expected, missing=missing)
    stood_in = [
        StoodIn(peer=voter.id, name=voter.member.name, by=found.by[voter.id].name)
        for voter in roll.voters
        if voter.id in found.by and found.by[voter.id].id != voter.id
    ]
    if stood_in:
        votes["replicas"] = sorted(stood_in, key=lambda entry: entry["peer"])
    return votes


def _missing(id: str, name: str, reason: str) -> Missing:
    return Missing(peer=id, name=name, reason=reason)


def _nobody(roll: Roll, missing: list[Missing]) -> str:
    reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in missing)
    return f"none of the {roll.expected} peers cast a vote ({reasons})"
