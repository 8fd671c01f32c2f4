"""Asking for all: one peer sends the rows to every voter at once and combines what came by the deadline."""

from __future__ import annotations

import asyncio
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
        tasks = {
            voter.id: loop.create_task(self._one(voter, roll.holders[voter.id], question, deadline))
            for voter in roll.voters
        }
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
            outcome = self._outcome(tasks[voter.id], seconds)
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

    async def _fetch_schemas(self, seconds: float) -> None:
        """Fetch the schemas that are named and not known yet."""
        try:
            async with asyncio.timeout(seconds):
                await self._colleagues.fetch_schemas()
        except TimeoutError:
            log.debug("some schemas did not arrive in time")

    async def _one(
        self, voter: Colleague, holders: tuple[Member, ...], question: Question, deadline: float
    ) -> tuple[Ballot, Member]:
        """The vote of one model, and who cast it: the holders are asked one after the other until one can.

        RemoteError with what stood in each one's way where none can.
        """
        assert voter.summary is not None
        wanted = Wanted(voter.id, voter.summary.digest or "")
        why = []
        for holder in holders:
            if (reason := self._reach.why_not(holder.id)) is None:
                try:
                    cast = await self._from(holder, wanted, question, deadline)
                except PeerUnreachable as error:
                    self._reach.failed(holder, str(error))
                    reason = str(error)
                except (RemoteError, BadInput) as error:
                    reason = str(error)
                else:
                    if isinstance(cast, Ballot):
                        return cast, holder
                    reason = cast.why
            why.append(reason if holder.id == voter.id else f"{holder.name}, which holds a replica: {reason}")
        raise RemoteError("; ".join(why) or "nobody holds its model")

    async def _from(self, holder: Member, wanted: Wanted, question: Question, deadline: float) -> Said:
        if holder.id == self._me:
            # After the others were asked: they vote meanwhile.
            await asyncio.sleep(0)
            (own,) = await self._voting.cast([wanted], question.rows, question.first_row, question.space)
            return own
        left = deadline - asyncio.get_running_loop().time()
        try:
            data = await self._wire.vote(holder, question.packed([wanted]), lambda: question.body([wanted]), left)
        except asyncio.CancelledError:
            # Whoever gave up is at its deadline, and the next asker need not wait for this peer as long.
            if asyncio.get_running_loop().time() >= deadline:
                self._reach.failed(holder, "it let a deadline pass")
            raise
        rows = question.rows.rows
        return (await _off_the_loop(rows, read_ballots, data, rows, [wanted], holder.id))[wanted.owner]

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
