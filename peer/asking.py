"""Asking for all: one peer sends the rows to every voter at once and combines what came by the deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import ParamSpec, TypeVar, cast

import structlog

from p2pml.ensemble.combine import RULES, Answer, Cast
from p2pml.ensemble.electorate import SCHEMA_UNKNOWN
from p2pml.ensemble.knowledge import AUTO, LOCAL, NO_SPACE, STACKED, Decision
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.typed import Reader, Typed
from p2pml.ensemble.values import Columns
from p2pml.errors import BadInput, NoVotes, PeerUnreachable, RemoteError
from p2pml.gossip import Member

from .answers import Missing, StoodIn, Votes
from .ballots import Ballot, Question, Wanted, read_ballots
from .ballots import Cast as Said
from .batching import Batches
from .colleagues import Colleague, Colleagues, Roll
from .combining import Asked, Plan, combined, compared
from .knowing import Answered, Knowing
from .racing import Pace, race
from .reach import Reach
from .voting import Voting
from .wire import PeerWire

DEADLINE = 5.0
"""Seconds for an answer where the user sets none, beside those for its rows."""
DEADLINE_PER_ROW = 0.001
"""Seconds more for each row: the slowest models of the list need about this much on a busy machine."""
EVALUATION_DEADLINE = 60.0
"""Seconds for an evaluation where the user sets none: every peer asks every other for all its held-out rows."""
MAX_DEADLINE = 3600.0
"""Longest deadline that can be asked for: an hour bounds what a forgotten request can hold."""
SMALL = 16
"""Rows of a question that may share its way with others: one of more gains nothing."""
WAYS = 64
"""Ways of asking that are kept prepared: a few in practice, and levels may be any."""
QUICK = 64
"""Rows that are read, checked and combined on the event loop, in less than a millisecond; of more, in a thread."""

ALL_RULES = (AUTO, LOCAL, STACKED, *RULES)
"""Every rule that can be asked for."""

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """How questions of one kind are put, as long as no colleague changes."""

    version: int
    roll: Roll
    reader: Reader
    plan: Plan


_Way = tuple[str, bool, float | None]
"""The rule, whether to say how sure an answer is, and the level of its bounds."""


@dataclass(frozen=True, slots=True)
class _Small:
    """A question of a few rows, which may share its way with others."""

    columns: Columns
    rows: int
    first_row: int
    until: float


_Kind = tuple[_Way, str, tuple[str, ...]]
"""What small questions that go together have in common: the way, about the seconds, and the names of the columns."""


class Asker:
    """Fans a question out over the cluster."""

    def __init__(
        self, me: str, colleagues: Colleagues, voting: Voting, wire: PeerWire, reach: Reach, knowing: Knowing
    ) -> None:
        self._me = me
        self._knowing = knowing
        self._colleagues = colleagues
        self._voting = voting
        self._wire = wire
        self._reach = reach
        self._pace = Pace()
        self._prepared: dict[_Way, _Prepared] = {}
        self._batches: Batches[_Kind, _Small, Asked] = Batches(self._together)

    async def ask(
        self,
        columns: Columns,
        rows: int,
        *,
        rule: str,
        seconds: float,
        first_row: int = 1,
        sure: bool = False,
        level: float | None = None,
    ) -> Asked:
        """The ensemble's answer on `rows` rows within `seconds`; with `sure` how sure it is, and with `level` bounds
        that hold with that probability, for the rule auto alone.

        Raises `BadInput` where the rows do not fit the cluster's schema, and `NoVotes` where no vote came, or no bounds
        are known.
        """
        until = asyncio.get_running_loop().time() + seconds
        if any(why == SCHEMA_UNKNOWN for _, why in self._colleagues.roll().absent):
            await self._fetch_schemas(seconds / 2)
        small, way = _Small(columns, rows, first_row, until), (rule, sure, level)
        if rows > SMALL:
            return await self._alone(way, small)
        return await self._batches.ask((way, f"{seconds:.2g}", tuple(columns)), small)

    async def all_votes(self, columns: Columns, rows: int, space: str) -> Answered:
        """What every voter says of some rows, and its densities in `space`; raises as `ask` does."""
        roll = self._colleagues.roll()
        asked = await _off_the_loop(rows, Reader(_known(roll)).read, columns)
        heard, _ = await self._hear(roll, asked, 1, EVALUATION_DEADLINE, space)
        densities = {id: ballot.density for id, ballot in heard.items() if ballot.density is not None}
        return Answered(_casts(heard), densities, complete=len(densities) == len(roll.voters))

    async def compare(self, columns: Columns, rows: int, seconds: float) -> dict[str, Answer]:
        """The answers by all rules, and of each peer alone, from one round of votes; raises as `ask` does."""
        until = asyncio.get_running_loop().time() + seconds
        roll = self._colleagues.roll()
        plans = [await self._plan(rule, False, None, roll, seconds) for rule in ALL_RULES]
        asked = await _off_the_loop(rows, Reader(_known(roll)).read, columns)
        space = self._knowing.space_of(roll.voters)
        heard, _ = await self._hear(roll, asked, 1, until - asyncio.get_running_loop().time(), space)
        return await asyncio.to_thread(compared, heard, plans)

    async def _together(self, kind: _Kind, batch: list[_Small]) -> list[Asked | Exception]:
        """The answer to each question of a batch. Where one has a fault, all are asked alone: each hears of its own."""
        way = kind[0]
        if len(batch) > 1:
            columns = {name: list(chain.from_iterable(small.columns[name] for small in batch)) for name in kind[2]}
            rows = sum(small.rows for small in batch)
            try:
                asked = await self._alone(way, _Small(columns, rows, 1, min(small.until for small in batch)))
            except BadInput:
                log.debug("a batch is taken apart", questions=len(batch))
            else:
                ends = list(accumulate(small.rows for small in batch))
                return [asked.part(end - small.rows, end) for small, end in zip(batch, ends, strict=True)]
        outcomes = await asyncio.gather(*(self._alone(way, small) for small in batch), return_exceptions=True)
        return [cast("Asked | Exception", outcome) for outcome in outcomes]

    async def _alone(self, way: _Way, small: _Small) -> Asked:
        loop = asyncio.get_running_loop()
        prepared = self._prepared.get(way)
        if prepared is None or prepared.version != self._colleagues.version:
            version, roll = self._colleagues.version, self._colleagues.roll()
            reader = Reader(_known(roll))
            self._pace.keep_only({holder.id for holders in roll.holders.values() for holder in holders})
            prepared = _Prepared(version, roll, reader, await self._plan(*way, roll, small.until - loop.time()))
            self._prepared = {**self._prepared, way: prepared} if len(self._prepared) < WAYS else {way: prepared}
        plan, schema = prepared.plan, prepared.reader.schema
        asked = await _off_the_loop(small.rows, prepared.reader.read, small.columns, small.first_row)
        left = small.until - loop.time()
        heard, votes = await self._hear(prepared.roll, asked, small.first_row, left, plan.space)
        return await _off_the_loop(small.rows, combined, heard, plan, schema, votes)

    async def _plan(self, rule: str, sure: bool, level: float | None, roll: Roll, seconds: float) -> Plan:
        if level is not None and rule != AUTO:
            raise BadInput(f"an interval is calibrated for the rule auto, not for {rule}: leave out one of the two")
        knowing, voters = self._knowing, roll.voters
        agreed = knowing.space_of(voters)
        if rule in (AUTO, LOCAL):
            decision = knowing.decide(voters)
        else:
            decision = Decision(agreed, 1.0) if agreed else Decision(because=NO_SPACE)
        gram = None
        if rule == STACKED and agreed is not None:
            try:
                gram = await knowing.stack(voters, seconds / 2)
            except RemoteError as error:
                decision = Decision(because=str(error))
        return Plan(
            rule,
            decision,
            agreed if sure or rule == STACKED else decision.space,
            favour=knowing.favour(decision) if rule == LOCAL else None,
            gram=gram,
            usual=(knowing.usual(voters, agreed) if agreed else {}) if sure else None,
            level=level,
            errors=knowing.errors(voters, decision) if level is not None else {},
        )

    async def _hear(
        self, roll: Roll, asked: Typed, first_row: int, seconds: float, space: str | None
    ) -> tuple[dict[str, Ballot], Votes]:
        """The ballots by peer id that came within `seconds`, and who is missing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        question = await _off_the_loop(asked.rows, Question, asked, first_row, space)
        # On a few rows this peer votes itself with all that it holds; the others are asked first, and vote meanwhile.
        mine = [each for each in roll.voters if asked.rows <= QUICK and self._is_first(roll.holders[each.id])]
        theirs = [voter for voter in roll.voters if voter not in mine]
        tasks = self._ask_for(theirs, roll, question, deadline)
        if tasks:
            await asyncio.sleep(0)
        own = self._own(mine, roll, question)
        tasks |= self._ask_for([voter for voter in mine if voter.id not in own], roll, question, deadline)
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=max(0.0, deadline - loop.time()))
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        ballots: dict[str, Ballot] = {}
        stood_in: list[StoodIn] = []
        missing: list[Missing] = [_missing(m.id, m.name, why) for m, why in roll.absent]
        for voter in roll.voters:
            outcome = own.get(voter.id) or self._outcome(tasks[voter.id], seconds)
            if isinstance(outcome, str):
                missing.append(_missing(voter.id, voter.member.name, outcome))
                continue
            ballots[voter.id], by = outcome
            if by.id != voter.id:
                stood_in.append(StoodIn(peer=voter.id, name=voter.member.name, by=by.name))
        missing.sort(key=lambda entry: entry["peer"])
        if not ballots:
            raise NoVotes(_nobody(roll, missing))
        votes = Votes(cast=len(ballots), expected=roll.expected, missing=missing)
        if stood_in:
            votes["replicas"] = sorted(stood_in, key=lambda entry: entry["peer"])
        return ballots, votes

    def _ask_for(
        self, voters: list[Colleague], roll: Roll, question: Question, deadline: float
    ) -> dict[str, asyncio.Task[tuple[Ballot, Member]]]:
        loop = asyncio.get_running_loop()
        return {
            voter.id: loop.create_task(self._one(voter, roll.holders[voter.id], question, deadline)) for voter in voters
        }

    def _is_first(self, holders: tuple[Member, ...]) -> bool:
        return bool(holders) and holders[0].id == self._me

    async def _fetch_schemas(self, seconds: float) -> None:
        """Fetch the schemas that are named and not known yet."""
        try:
            async with asyncio.timeout(seconds):
                await self._colleagues.fetch_schemas()
        except TimeoutError:
            log.debug("some schemas did not arrive in time")

    def _own(self, voters: list[Colleague], roll: Roll, question: Question) -> dict[str, tuple[Ballot, Member]]:
        """The votes that this peer casts itself, of its own model and of replicas, if that takes no time."""
        wanted = [_wanted(voter) for voter in voters]
        cast = self._voting.cast_at_once(wanted, question.rows, question.first_row, question.space) if wanted else None
        return {each.owner: (each, roll.holders[each.owner][0]) for each in cast or () if isinstance(each, Ballot)}

    async def _one(
        self, voter: Colleague, holders: tuple[Member, ...], question: Question, deadline: float
    ) -> tuple[Ballot, Member]:
        """The vote of one model, and who cast it; RemoteError with what stood in each holder's way where none can."""
        why: list[str] = []

        def failed(holder: Member, error: Exception) -> None:
            if isinstance(error, PeerUnreachable):
                self._reach.failed(holder, str(error))
            elif not isinstance(error, RemoteError | BadInput):
                raise error
            why.append(str(error) if holder.id == voter.id else f"{holder.name}, which holds a replica: {error}")

        reachable = []
        for holder in holders:
            if (reason := self._reach.why_not(holder.id)) is None:
                reachable.append(holder)
            else:
                failed(holder, RemoteError(reason))
        rows = question.rows.rows
        if rows > QUICK:
            # Many rows are work: everybody does its own, at the same time.
            reachable.sort(key=lambda holder: (holder.id != voter.id, self._pace.usual(holder.id, rows) or 0.0))
        found = await race(
            reachable,
            lambda holder: self._from(holder, _wanted(voter), question, deadline),
            lambda holder: self._pace.hedge(holder.id, rows),
            failed,
        )
        if found is None:
            raise RemoteError("; ".join(why) or "nobody holds its model")
        return found

    async def _from(self, holder: Member, wanted: Wanted, question: Question, deadline: float) -> Ballot:
        """A holder's vote; raises `RemoteError` or `BadInput` where it casts none."""
        rows, loop = question.rows.rows, asyncio.get_running_loop()
        cast: Said
        if holder.id == self._me:
            (cast,) = await self._voting.cast([wanted], question.rows, question.first_row, question.space)
        else:
            began = loop.time()
            left = min(deadline - began, self._pace.patience(holder.id, rows) or math.inf)
            try:
                data = await self._wire.vote(holder, question.packed([wanted]), lambda: question.body([wanted]), left)
            except asyncio.CancelledError:
                # Whoever gave up is at its deadline, and the next asker need not wait for this peer as long.
                if loop.time() >= deadline:
                    self._reach.failed(holder, "it let a deadline pass")
                raise
            self._pace.heard(holder.id, rows, loop.time() - began)
            cast = (await _off_the_loop(rows, read_ballots, data, rows, [wanted], holder.id))[wanted.owner]
        if isinstance(cast, Ballot):
            return cast
        raise RemoteError(cast.why)

    def _outcome(self, task: asyncio.Task[tuple[Ballot, Member]], seconds: float) -> tuple[Ballot, Member] | str:
        """The ballot and who cast it, or why there is none."""
        if not task.done():
            task.cancel()
            # Its own timeout may strike in the same moment; what it says then comes too late to matter.
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            return f"no answer within {seconds:.3g} s"
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, RemoteError):
            raise error
        return str(error)


async def _off_the_loop(rows: int, work: Callable[P, T], *how: P.args, **more: P.kwargs) -> T:
    """Do some work on so many rows: at once where they are few, else in a thread."""
    if rows <= QUICK:
        return work(*how, **more)
    return await asyncio.to_thread(work, *how, **more)


def _wanted(voter: Colleague) -> Wanted:
    assert voter.summary is not None
    return Wanted(voter.id, voter.summary.digest or "")


def _casts(ballots: dict[str, Ballot]) -> list[Cast]:
    return [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]


def _known(roll: Roll) -> Schema:
    if roll.schema is None:
        reasons = "; ".join(f"{member.name}: {why}" for member, why in roll.absent)
        raise NoVotes(f"no peer can vote yet ({reasons}); wait for the training to end, or look at `p2pml peers`")
    return roll.schema


def _missing(id: str, name: str, reason: str) -> Missing:
    return Missing(peer=id, name=name, reason=reason)


def _nobody(roll: Roll, missing: list[Missing]) -> str:
    reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in missing)
    return f"none of the {roll.expected} peers cast a vote ({reasons})"
