"""Polling the voters: each vote of one peer that can cast it, and by the deadline what came and who is missing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from p2pml.ensemble.typed import Typed
from p2pml.errors import NoVotes
from p2pml.gossip import Member, Status

from .answers import Missing, StoodIn, Votes
from .ballots import Ballot, Cast, Question, Wanted, read_ballots
from .colleagues import Colleague, Roll
from .covering import Choose, cover
from .pace import Pace
from .reach import Reach
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


class Polling:
    """Asks for votes on rows, of this peer and of others."""

    def __init__(self, me: str, voting: Voting, wire: PeerWire, reach: Reach) -> None:
        self._me = me
        self._voting = voting
        self._wire = wire
        self._reach = reach
        self._pace = Pace()

    def keep_only(self, roll: Roll) -> None:
        """Forget the pace of all who hold no model of the roll."""
        self._pace.keep_only({holder.id for holders in roll.holders.values() for holder in holders})

    async def hear(
        self,
        roll: Roll,
        asked: Typed,
        first_row: int,
        seconds: float,
        space: str | None,
        choose: Choose | None = None,
    ) -> tuple[dict[str, Ballot], Votes]:
        """The ballots by peer id that came within `seconds`, and who is missing; `choose` says whom to ask, by default
        by what that costs."""
        deadline = asyncio.get_running_loop().time() + seconds
        question = await off_the_loop(asked.rows, Question, asked, first_row, space)
        wanted = {voter.id: _wanted(voter) for voter in roll.voters}
        cast = self._own(wanted, roll, question)
        missing: list[Missing] = [_missing(m.id, m.name, why) for m, why in roll.absent]
        if len(cast) < len(wanted):
            open_votes = {id: each for id, each in wanted.items() if id not in cast}
            round = self._round(open_votes, roll, question, deadline, choose)
            await round.run(deadline)
            cast |= round.cast
            for voter in roll.voters:
                if voter.id not in cast:
                    late = f"no answer within {seconds:.3g} s" if voter.id in round.late else None
                    why = late or "; ".join(round.why[voter.id]) or "nobody holds its model"
                    missing.append(_missing(voter.id, voter.member.name, why))
        missing.sort(key=lambda entry: entry["peer"])
        if not cast:
            raise NoVotes(_nobody(roll, missing))
        votes = Votes(cast=len(cast), expected=roll.expected, missing=missing)
        stood_in = [
            StoodIn(peer=voter.id, name=voter.member.name, by=cast[voter.id][1].name)
            for voter in roll.voters
            if voter.id in cast and cast[voter.id][1].id != voter.id
        ]
        if stood_in:
            votes["replicas"] = sorted(stood_in, key=lambda entry: entry["peer"])
        return {voter.id: cast[voter.id][0] for voter in roll.voters if voter.id in cast}, votes

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
        # Of models that this peer does not hold it knows no more than that they are like the others.
        known = [seconds for seconds in took.values() if seconds is not None]
        like = sum(known) / len(known) if known else GUESS * rows
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


def _missing(id: str, name: str, reason: str) -> Missing:
    return Missing(peer=id, name=name, reason=reason)


def _nobody(roll: Roll, missing: list[Missing]) -> str:
    reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in missing)
    return f"none of the {roll.expected} peers cast a vote ({reasons})"
