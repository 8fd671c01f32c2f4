"""Asking for all: what one peer is asked, it asks every voter, and combines what came by the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import cast

import structlog

from p2pml.ensemble.combine import DENSITY, RULES, Answer, Cast
from p2pml.ensemble.common import Common
from p2pml.ensemble.electorate import SCHEMA_UNKNOWN
from p2pml.ensemble.knowledge import AUTO, LOCAL, NO_SPACE, STACKED, Decision
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.typed import Reader, Typed
from p2pml.ensemble.values import Columns
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, NoVotes, RemoteError

from .ballots import Ballot
from .batching import Batches
from .colleagues import Colleagues, Roll
from .combining import Asked, Plan, combined, compared
from .covering import firsts
from .knowing import Answered, Knowing
from .polling import Polling, off_the_loop

DEADLINE = 5.0
"""Seconds for an answer where the user sets none, beside those for its rows."""
DEADLINE_PER_ROW = 0.001
"""Seconds more for each row: the slowest models of the list need about this much on a busy machine."""
EVALUATION_DEADLINE = 60.0
"""Seconds for an evaluation where the user sets none: every peer asks every other for all its held-out rows."""
MAX_DEADLINE = 3600.0
"""Longest deadline that can be asked for: an hour bounds what a forgotten request can hold."""
QUICK_PRODUCTS = 4 * 10**6
"""Multiplications up to which the common vote is cast on the event loop: a fifth of a millisecond."""
SMALL = 16
"""Rows of a question that may share its way with others: one of more gains nothing."""
WAYS = 64
"""Ways of asking that are kept prepared: a few in practice, and levels may be any."""

ALL_RULES = (AUTO, LOCAL, STACKED, *RULES)
"""Every rule that can be asked for."""

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

    def __init__(self, colleagues: Colleagues, knowing: Knowing, polling: Polling) -> None:
        self._colleagues = colleagues
        self._knowing = knowing
        self._polling = polling
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
        asked = await off_the_loop(rows, Reader(_known(roll)).read, columns)
        heard = await self._polling.hear(_by_owner(roll), asked, 1, EVALUATION_DEADLINE, space, choose=firsts)
        ballots = heard.ballots
        densities = {id: ballot.density for id, ballot in ballots.items() if ballot.density is not None}
        return Answered(_casts(ballots), densities, complete=len(densities) == len(roll.voters))

    async def compare(self, columns: Columns, rows: int, seconds: float) -> dict[str, Answer]:
        """The answers by all rules, and of each peer alone, from one round of votes; raises as `ask` does."""
        until = asyncio.get_running_loop().time() + seconds
        roll = self._colleagues.roll()
        plans = [await self._plan(rule, False, None, roll, seconds) for rule in ALL_RULES]
        asked = await off_the_loop(rows, Reader(_known(roll)).read, columns)
        space = self._knowing.space_of(roll.voters)
        left = until - asyncio.get_running_loop().time()
        heard = await self._polling.hear(_by_owner(roll), asked, 1, left, space, choose=firsts)
        pooled = next((plan.common for plan in plans if plan.common is not None), None)
        common = None if pooled is None else await _common_vote(pooled, asked, 1)
        return await asyncio.to_thread(compared, heard.ballots, plans, common)

    async def _together(self, kind: _Kind, batch: list[_Small]) -> list[Asked | Exception]:
        """The answer to each question of a batch. Where one has a fault, all are asked alone: each hears of its own."""
        way = kind[0]
        if len(batch) > 1:
            columns = {name: list(chain.from_iterable(small.columns[name] for small in batch)) for name in kind[2]}
            rows = sum(small.rows for small in batch)
            try:
                asked = await self._alone(
                    way, _Small(columns, rows, 1, min(small.until for small in batch)), whole=False
                )
            except BadInput:
                log.debug("a batch is taken apart", questions=len(batch))
            else:
                ends = list(accumulate(small.rows for small in batch))
                return [asked.part(end - small.rows, end) for small, end in zip(batch, ends, strict=True)]
        outcomes = await asyncio.gather(*(self._alone(way, small) for small in batch), return_exceptions=True)
        return [cast("Asked | Exception", outcome) for outcome in outcomes]

    async def _alone(self, way: _Way, small: _Small, *, whole: bool = True) -> Asked:
        """The answer to one question, or to several that have nothing to do with each other."""
        loop = asyncio.get_running_loop()
        prepared = self._prepared.get(way)
        if prepared is None or prepared.version != self._colleagues.version:
            version, roll = self._colleagues.version, self._colleagues.roll()
            reader = Reader(_known(roll))
            self._polling.keep_only(roll)
            prepared = _Prepared(version, roll, reader, await self._plan(*way, roll, small.until - loop.time()))
            self._prepared = {**self._prepared, way: prepared} if len(self._prepared) < WAYS else {way: prepared}
        plan, schema = prepared.plan if whole else replace(prepared.plan, sites={}), prepared.reader.schema
        asked = await off_the_loop(small.rows, prepared.reader.read, small.columns, small.first_row)
        left = small.until - loop.time()
        hearing = self._polling.hear(prepared.roll, asked, small.first_row, left, plan.space, adding=plan.adding)
        if plan.common is None:
            return await off_the_loop(small.rows, combined, await hearing, plan, schema)
        # While the others vote.
        heard, common = await asyncio.gather(hearing, _common_vote(plan.common, asked, small.first_row))
        return await off_the_loop(small.rows, combined, heard, plan, schema, common)

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
        dense = sure or rule == STACKED or (rule in (AUTO, LOCAL, DENSITY) and decision.temperature is not None)
        return Plan(
            rule,
            decision,
            # What an answer does not need is not computed for drift alone: it costs a tenth of one by the mean.
            agreed if dense else None,
            common=knowing.common(decision) if rule in (AUTO, LOCAL) else None,
            sites=knowing.sites(voters, decision) if rule == AUTO else {},
            favour=knowing.favour(decision) if rule == LOCAL else None,
            gram=gram,
            usual=(knowing.usual(voters, agreed) if agreed else {}) if sure else None,
            level=level,
            errors=knowing.errors(voters, decision) if level is not None else {},
        )

    async def _fetch_schemas(self, seconds: float) -> None:
        """Fetch the schemas that are named and not known yet."""
        try:
            async with asyncio.timeout(seconds):
                await self._colleagues.fetch_schemas()
        except TimeoutError:
            log.debug("some schemas did not arrive in time")


async def _common_vote(common: Common, asked: Typed, first_row: int) -> Vote:
    if asked.rows * common.features.weights.size <= QUICK_PRODUCTS:
        return common.vote(asked, first_row)
    return await asyncio.to_thread(common.vote, asked, first_row)


def _casts(ballots: Mapping[str, Ballot]) -> list[Cast]:
    return [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]


def _by_owner(roll: Roll) -> Roll:
    """The same with each owner to be asked first: who holds a replica may lack the newest density."""
    holders = {id: tuple(sorted(all, key=lambda each: each.id != id)) for id, all in roll.holders.items()}
    return replace(roll, holders=holders)


def _known(roll: Roll) -> Schema:
    if roll.schema is None:
        reasons = "; ".join(f"{member.name}: {why}" for member, why in roll.absent)
        raise NoVotes(f"no peer can vote yet ({reasons}); wait for the training to end, or look at `p2pml peers`")
    return roll.schema
