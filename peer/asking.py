"""Asking for all: one peer sends the rows to every voter at once and combines what came by the deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from p2pml.ensemble.combine import Answer, combine
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.values import Columns
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, NoVotes, PeerUnreachable, RemoteError

from .answers import Missing, Votes
from .colleagues import Colleague, Colleagues, Roll
from .reach import Reach
from .voting import Ballot, Voting
from .wire import PeerWire

DEADLINE = 5.0
"""Seconds for an answer where the user sets none."""
EVALUATION_DEADLINE = 60.0
"""Seconds for an evaluation where the user sets none: every peer asks every other for all its held-out rows."""
MAX_DEADLINE = 3600.0
"""Longest deadline that can be asked for: an hour bounds what a forgotten request can hold."""
VOTE_PATH = "/v1/peer/vote"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, the schema that it was checked against, and whose votes it has."""

    answer: Answer
    schema: Schema
    votes: Votes


class Asker:
    """Fans a question out over the cluster."""

    def __init__(self, me: str, colleagues: Colleagues, voting: Voting, wire: PeerWire, reach: Reach) -> None:
        self._me = me
        self._colleagues = colleagues
        self._voting = voting
        self._wire = wire
        self._reach = reach

    async def ask(self, columns: Columns, rows: int, *, rule: str, seconds: float, first_row: int = 1) -> Asked:
        """The ensemble's answer on `rows` rows within `seconds`.

        Raises `BadInput` where the rows do not fit the cluster's schema, and `NoVotes` where no vote came.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        roll = await self._roll(deadline)
        schema = _known(roll)
        body = await asyncio.to_thread(_prepare, schema, columns, first_row)
        tasks = {
            voter.id: asyncio.create_task(self._one(voter, body, columns, rows, first_row, deadline))
            for voter in roll.voters
            if self._reach.why_not(voter.id) is None
        }
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=max(0.0, deadline - loop.time()))
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        ballots: list[tuple[str, Vote, int]] = []
        missing: list[Missing] = [_missing(m.id, m.name, why) for m, why in roll.absent]
        for voter in roll.voters:
            outcome = self._outcome(voter, tasks.get(voter.id), seconds)
            if isinstance(outcome, Ballot):
                ballots.append((voter.id, outcome.vote, outcome.rows))
            else:
                missing.append(_missing(voter.id, voter.member.name, outcome))
        missing.sort(key=lambda entry: entry["peer"])
        if not ballots:
            raise NoVotes(_nobody(roll, missing))
        answer = await asyncio.to_thread(combine, ballots, rule)
        return Asked(answer, schema, Votes(cast=len(ballots), expected=roll.expected, missing=missing))

    async def _roll(self, deadline: float) -> Roll:
        """Who votes, once the schemas are here that are named and not known yet."""
        left = deadline - asyncio.get_running_loop().time()
        try:
            await asyncio.wait_for(self._colleagues.fetch_schemas(), left / 2)
        except TimeoutError:
            log.debug("some schemas did not arrive in time")
        return self._colleagues.roll()

    async def _one(
        self, voter: Colleague, body: bytes, columns: Columns, rows: int, first_row: int, deadline: float
    ) -> Ballot:
        if voter.id == self._me:
            return await self._voting.vote(columns, first_row)
        left = deadline - asyncio.get_running_loop().time()
        data = await self._wire.post(voter.member, VOTE_PATH, body, left)
        return await asyncio.to_thread(_read_ballot, data, rows)

    def _outcome(self, voter: Colleague, task: asyncio.Task[Ballot] | None, seconds: float) -> Ballot | str:
        """The ballot, or why there is none."""
        if task is None:
            return self._reach.why_not(voter.id) or "it is not reachable"
        if not task.done():
            task.cancel()
            # Its own timeout may strike in the same moment; what it says then comes too late to matter.
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            why = f"no answer within {seconds:g} s"
            if voter.id != self._me:
                self._reach.failed(voter.member, why)
            return why
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, PeerUnreachable):
            self._reach.failed(voter.member, str(error))
        elif not isinstance(error, RemoteError | BadInput):
            raise error
        return str(error)


def _prepare(schema: Schema, columns: Columns, first_row: int) -> bytes:
    """Check the rows and write the question; the target, if the rows carry it, stays here."""
    schema.check(columns, first_row)
    asked = {name: cells for name, cells in columns.items() if name != schema.target}
    return msgspec.msgpack.encode({"columns": asked, "first_row": first_row})


def _read_ballot(data: object, rows: int) -> Ballot:
    match data:
        case {"vote": vote, "rows": int(trained_on), "model": str(model)} if 0 <= trained_on < 2**53:
            return Ballot(Vote.from_data(vote, rows), trained_on, model)
    raise RemoteError("its vote cannot be read")


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
