"""Asking for all: one peer sends the rows to every voter at once and combines what came by the deadline."""

from __future__ import annotations

import asyncio

import structlog

from p2pml.ensemble.combine import Cast
from p2pml.ensemble.knowledge import AUTO, LOCAL, NO_SPACE, STACKED, Decision
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.values import Columns
from p2pml.errors import BadInput, NoVotes, PeerUnreachable, RemoteError
from p2pml.gossip import Member

from .answers import Missing, StoodIn, Votes
from .ballots import Ballot, Question, Wanted, read_ballots
from .ballots import Cast as Said
from .colleagues import Colleague, Colleagues, Roll
from .combining import Asked, Plan, combined
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
VOTE_PATH = "/v1/peer/vote"

log = structlog.get_logger()


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
        deadline = asyncio.get_running_loop().time() + seconds
        roll = await self._roll(deadline)
        plan = await self._plan(rule, roll, seconds, sure, level)
        heard, votes = await self._hear(roll, columns, rows, seconds, first_row, plan.space)
        return await asyncio.to_thread(combined, heard, plan, _known(roll), votes)

    async def all_votes(self, columns: Columns, rows: int, space: str) -> Answered:
        """What every voter says of some rows, and its densities in `space`; raises as `ask` does."""
        roll = self._colleagues.roll()
        heard, _ = await self._hear(roll, columns, rows, EVALUATION_DEADLINE, 1, space)
        densities = {id: ballot.density for id, ballot in heard.items() if ballot.density is not None}
        return Answered(_casts(heard), densities, complete=len(densities) == len(roll.voters))

    async def _plan(self, rule: str, roll: Roll, seconds: float, sure: bool, level: float | None) -> Plan:
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
        self, roll: Roll, columns: Columns, rows: int, seconds: float, first_row: int, space: str | None
    ) -> tuple[dict[str, Ballot], Votes]:
        """The ballots by peer id that came within `seconds`, and who is missing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        question = await asyncio.to_thread(_prepare, _known(roll), columns, rows, first_row, space)
        tasks = {
            voter.id: asyncio.create_task(self._one(voter, roll.holders[voter.id], question, deadline))
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

    async def _roll(self, deadline: float) -> Roll:
        """Who votes, once the schemas are here that are named and not known yet."""
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left / 2):
                await self._colleagues.fetch_schemas()
        except TimeoutError:
            log.debug("some schemas did not arrive in time")
        return self._colleagues.roll()

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
            (cast,) = await self._voting.cast([wanted], question.columns, question.first_row, question.space)
            return cast
        left = deadline - asyncio.get_running_loop().time()
        try:
            data = await self._wire.post(holder, VOTE_PATH, question.body([wanted]), left)
        except asyncio.CancelledError:
            # Whoever gave up is at its deadline, and the next asker need not wait for this peer as long.
            if asyncio.get_running_loop().time() >= deadline:
                self._reach.failed(holder, "it let a deadline pass")
            raise
        return (await asyncio.to_thread(read_ballots, data, question.rows, [wanted], holder.id))[wanted.owner]

    def _outcome(self, task: asyncio.Task[tuple[Ballot, Member]], seconds: float) -> tuple[Ballot, Member] | str:
        """The ballot and who cast it, or why there is none."""
        if not task.done():
            task.cancel()
            # Its own timeout may strike in the same moment; what it says then comes too late to matter.
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            return f"no answer within {seconds:g} s"
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, RemoteError):
            raise error
        return str(error)


def _casts(ballots: dict[str, Ballot]) -> list[Cast]:
    return [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]


def _prepare(schema: Schema, columns: Columns, rows: int, first_row: int, space: str | None) -> Question:
    """Check the rows and write the question; the target, if the rows carry it, stays here."""
    schema.check(columns, first_row)
    asked = {name: cells for name, cells in columns.items() if name != schema.target}
    return Question(asked, rows, first_row, space)


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
