"""Polling the voters: each vote of one peer that can cast it, and by the deadline what came and who is missing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

from p2pml.ensemble.typed import Typed
from p2pml.errors import NoVotes, RemoteError
from p2pml.gossip import Member, Status

from . import relaying
from .adding import Partial, read_partial
from .ballots import Adding, Ballot, Cast, Question, SumQuestion, Wanted, read_ballots
from .colleagues import Colleague, Colleagues, Roll
from .counting import Count, Heard
from .covering import Choose, cover, firsts
from .pace import Pace
from .placing import keepers
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
LIKELY = 4
"""Peers that are asked for a vote which nobody known to hold its model has cast: two hold it, unless users say more."""
SEEKING = 0.5
"""Seconds that this may take, and for which a model that none of them holds is not sought again."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Put:
    """A question as it is put to the voters of a roll until `deadline`, in the time of the loop."""

    question: Question
    roll: Roll
    deadline: float


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
        self._sought: dict[str, float] = {}
        """Models that nobody was found to hold, and until when they are not sought again."""

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
    ) -> Heard:
        """What came within `seconds`, and who is missing; `choose` says whom to ask, by default by what that costs.
        With `adding` votes may come as sums, so where many would have to be asked, some of them ask the others."""
        deadline = asyncio.get_running_loop().time() + seconds
        question = await off_the_loop(asked.rows, Question, asked, first_row, space)
        put = _Put(question, roll, deadline)
        wanted = {voter.id: _wanted(voter) for voter in roll.voters}
        count = Count(roll)
        count.add(self._own(wanted, roll, question))
        if len(count.by) < len(wanted):
            open_votes = {id: each for id, each in wanted.items() if id not in count.by}
            round = self._round(open_votes, put, choose)
            count.lacks(round)
            if adding is not None and (groups := self._groups(round, open_votes, put)):
                await self._through(groups, open_votes, put, adding, count)
            else:
                await round.run(deadline)
                count.add(round.cast)
                count.lacks(round)
            if lost := count.lost:
                await self._seek(lost, put, count)
        return count.heard(seconds)

    async def _seek(self, lost: Sequence[Colleague], put: _Put, count: Count) -> None:
        """Ask those who should hold the models of these votes: who does may have had no time yet to say so."""
        now = asyncio.get_running_loop().time()
        end = min(now + SEEKING, put.deadline)
        self._sought = {model: until for model, until in self._sought.items() if until > now}
        wanted = {voter.id: _wanted(voter) for voter in lost if voter.summary is not None and voter.summary.portable}
        wanted = {id: each for id, each in wanted.items() if each.model not in self._sought}
        if not wanted or now >= end:
            return
        live = {colleague.id: colleague.member for colleague in self._colleagues.all() if colleague.live}
        holders: dict[str, tuple[Member, ...]] = {}
        for id in wanted:
            asked = {holder.id for holder in put.roll.holders[id]}
            holders[id] = tuple(live[each] for each in keepers(id, live, LIKELY) if each not in asked)
        put = replace(put, roll=replace(put.roll, holders=holders))
        round = self._round(wanted, put, firsts)
        # Cut off: who does not answer at once is not therefore unreachable.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await round.run(end + SEEKING)
        count.add(round.cast)
        self._sought |= {each.model: now + SEEKING for id, each in wanted.items() if id not in round.cast}

    def _groups(self, round: Round, wanted: Mapping[str, Wanted], put: _Put) -> dict[str, list[str]]:
        """Which votes to ask through whom; empty where few have to be asked, nobody can ask them, or time is short."""
        now = asyncio.get_running_loop().time()
        rushed = relaying.RUSHED * (put.deadline - now)
        if len(wanted) <= relaying.WIDE or self._like(wanted.values(), put.question.rows.rows) > rushed:
            return {}
        # Its own vote a peer may have to favour, so it is in no sum.
        others = {id: [voter for voter in voters if voter != self._me] for id, voters in round.first().items()}
        first = {id: voters for id, voters in others.items() if voters and id != self._me}
        if len(first) <= relaying.WIDE:
            return {}
        ahead = {id: self._relays.ahead(id, now) for id in first if self._rests.get(id, 0.0) <= now}
        return relaying.grouped(first, self._me, ahead)

    async def _through(
        self,
        groups: Mapping[str, Sequence[str]],
        wanted: Mapping[str, Wanted],
        put: _Put,
        adding: Adding,
        count: Count,
    ) -> None:
        """Ask the peers between for the sums of their groups' votes, and for the rest as ever."""
        members = {holder.id: holder for holders in put.roll.holders.values() for holder in holders}
        started: list[Group] = []
        for relay, voters in groups.items():
            usual = self._relays.hedge(relay, put.question.rows.rows * len(voters))
            group = Group(
                members[relay],
                voters,
                partial(self._sum_of, members[relay], [wanted[id] for id in voters], put, adding),
                None if usual is None else relaying.SLOW * usual,
                lambda left: self._round({id: wanted[id] for id in left}, put),
                self._reach.failed,
            )
            started.append(group)
        shared = {id for group in started for id in group.voters}
        rest = self._round({id: each for id, each in wanted.items() if id not in shared}, put)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rest.run(put.deadline))
            for group in started:
                tasks.create_task(group.run(put.deadline))
        count.add(rest.cast)
        count.lacks(rest)
        now = asyncio.get_running_loop().time()
        for group in started:
            count.add(group.cast)
            if group.partial is not None:
                count.add_sum(group.partial)
            if group.round is not None:
                count.lacks(group.round)
            if group.rest:
                self._rests[group.relay.id] = now + group.rest

    async def _sum_of(self, relay: Member, wanted: Sequence[Wanted], put: _Put, adding: Adding) -> Partial:
        """The sum of votes for which a peer asks the others; raises `RemoteError`."""
        rows, loop = put.question.rows.rows, asyncio.get_running_loop()
        began, size = loop.time(), rows * len(wanted)
        left = min(relaying.SHARE * (put.deadline - began), self._relays.patience(relay.id, size) or math.inf)
        try:
            data = await self._wire.add_up(relay, put.question.packed(wanted, adding), left)
        finally:
            # Also of one that was overtaken: the next answer had better go through another.
            took = loop.time() - began
            self._relays.apart(relay.id, max(0.0, took - self._like(wanted, rows) * len(wanted)), loop.time())
        self._relays.heard(relay.id, size, took)
        holders = {each.owner: {holder.id for holder in put.roll.holders[each.owner]} for each in wanted}
        total = await off_the_loop(rows, read_partial, data, rows, wanted, adding, holders)
        if put.roll.schema is not None and (total.plain.classes is None) != (put.roll.schema.task == "regression"):
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
        round = self._round(wanted, _Put(question, roll, deadline))
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

    def _round(self, wanted: Mapping[str, Wanted], put: _Put, choose: Choose | None = None) -> Round:
        """The votes that are asked for, each of whoever holds its model and can be reached."""
        roll, rows, loop = put.roll, put.question.rows.rows, asyncio.get_running_loop()
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
            return await self._from(holder, [wanted[id] for id in voters], put, like)

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

    async def _from(self, holder: Member, wanted: list[Wanted], put: _Put, like: float) -> Mapping[str, Cast]:
        """A holder's votes, each of which usually takes `like` seconds; raises `RemoteError` or `BadInput`."""
        question = put.question
        rows, loop = question.rows.rows, asyncio.get_running_loop()
        if holder.id == self._me:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            cast = await self._voting.cast(wanted, question.rows, question.first_row, question.space)
            return {each.owner: each for each in cast}
        began, size = loop.time(), rows * len(wanted)
        left = min(put.deadline - began, self._pace.patience(holder.id, size) or math.inf)
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
