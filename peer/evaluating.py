"""The score of the ensemble itself: on every peer's held-out rows, or on rows that the user gives.

Each peer asks all voters about its own held-out rows and boils the answers down to statistics; those of all
peers add up exactly, so the score is that of the pooled rows and no mean of scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from p2pml.ensemble.metrics import ClassificationStatistics
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.values import Columns
from p2pml.errors import BadInput, NoVotes, RemoteError

from .answers import CommonShare, ConfusionMatrix, Evaluated, Missing, Votes
from .asking import Asker
from .colleagues import Colleague, Colleagues
from .comparing import Comparer
from .curves import curves
from .holdouts import Holdouts
from .reach import Reach
from .scoring import Statistics, merged, read_statistics, statistics_of
from .wire import PeerWire

EVALUATE_PATH = "/v1/peer/evaluate"


@dataclass(frozen=True, slots=True)
class Scored:
    """Statistics of some rows and whose votes they rest on; None where no row could be scored. `combined` is the rule
    that was used, `because` why another than the one that was asked for, `common` the share of the common vote."""

    statistics: Statistics | None
    missing: dict[str, Missing]
    expected: int
    combined: str | None = None
    because: str | None = None
    common: CommonShare | None = None


class Evaluator:
    """Scores the ensemble as it would answer now."""

    def __init__(
        self,
        me: str,
        colleagues: Colleagues,
        asker: Asker,
        holdouts: Holdouts,
        wire: PeerWire,
        reach: Reach,
        comparer: Comparer,
    ) -> None:
        self._comparer = comparer
        self._me = me
        self._colleagues = colleagues
        self._asker = asker
        self._holdouts = holdouts
        self._wire = wire
        self._reach = reach

    async def everyone(self, *, rule: str, seconds: float, compare: bool = False) -> Evaluated:
        """The ensemble's scores on all peers' held-out rows; raises `NoVotes` where there is nothing to score. With
        `compare` also those of every rule and of each peer alone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._colleagues.fetch_schemas()
        roll = self._colleagues.roll()
        parts = await asyncio.gather(*(self._of(voter, rule, seconds) for voter in roll.voters if not voter.words))
        missing = {m.id: Missing(peer=m.id, name=m.name, reason=why) for m, why in roll.absent}
        for part in parts:
            for id, entry in part.missing.items():
                missing.setdefault(id, entry)
        scored = [part.statistics for part in parts if part.statistics is not None]
        if roll.schema is None or not scored:
            reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in missing.values())
            none = reasons or "all were started with --holdout 0, or have too few rows; evaluate on a file instead"
            raise NoVotes(f"no peer has held-out rows that could be scored ({none})")
        used = min(parts, key=lambda part: (part.statistics is None, part.because is None))
        expected = max(roll.expected, *(part.expected for part in parts))
        everyone = Scored(merged(scored), missing, expected, used.combined, used.because, used.common)
        answer = _evaluated(everyone, roll.schema, rule, loop.time() - began, statistics=False)
        if compare:
            comparison = await self._comparer.everyone(began + seconds - loop.time())
            if isinstance(everyone.statistics, ClassificationStatistics):
                comparison["curves"] = curves(everyone.statistics, roll.schema)
            answer["comparison"] = comparison
            answer["took"] = loop.time() - began
        return answer

    async def given(
        self, columns: Columns, rows: int, *, rule: str, seconds: float, first_row: int, statistics: bool
    ) -> Evaluated:
        """The ensemble's scores on rows that carry the target; `statistics` also gives what adds up over blocks."""
        began = asyncio.get_running_loop().time()
        asked = await self._asker.ask(columns, rows, rule=rule, seconds=seconds, first_row=first_row)
        if asked.schema.target not in columns:
            raise BadInput(f"the rows have no column {asked.schema.target!r}, the target; add it to be scored")
        total = await asyncio.to_thread(statistics_of, asked.schema, columns, asked.answer)
        missing = {m["peer"]: m for m in asked.votes["missing"]}
        scored = Scored(total, missing, asked.votes["expected"], asked.combined, asked.because, asked.pooled)
        took = asyncio.get_running_loop().time() - began
        return _evaluated(scored, asked.schema, rule, took, statistics=statistics)

    async def own(self, *, rule: str, seconds: float) -> Scored:
        """The ensemble's statistics on this peer's held-out rows, within `seconds`."""
        trained = self._holdouts.trained()
        parts: list[Statistics] = []
        missing: dict[str, Missing] = {}
        expected = 0
        async for block in self._holdouts.blocks(trained, seconds):
            asked = await self._asker.ask(
                block.columns, block.rows, rule=rule, seconds=block.seconds, first_row=block.first_row
            )
            parts.append(await asyncio.to_thread(statistics_of, asked.schema, block.columns, asked.answer))
            missing.update({entry["peer"]: entry for entry in asked.votes["missing"]})
            expected = max(expected, asked.votes["expected"])
        if not parts:
            return Scored(None, missing, expected)
        total = merged(parts)
        # Through the very form in which it travels, which rounds large tables of scores: every asker adds up the same.
        statistics = read_statistics(trained.schema.task, total.to_data())
        return Scored(statistics, missing, expected, asked.combined, asked.because, asked.pooled)

    async def _of(self, voter: Colleague, rule: str, seconds: float) -> Scored:
        """The statistics of one peer's held-out rows; a peer that does not deliver them is missing."""
        member = voter.member
        try:
            if voter.id == self._me:
                return await self.own(rule=rule, seconds=seconds)
            # The peer's own deadline comes a little sooner than ours, so that its answer still arrives.
            body = msgspec.msgpack.encode({"combine": rule, "seconds": seconds * 0.95})
            with self._reach.asking(member):
                return _read(await self._wire.post(member, EVALUATE_PATH, body, seconds))
        except (RemoteError, BadInput, NoVotes) as error:
            reason = f"its held-out rows are not scored: {error}"
        return Scored(None, {member.id: Missing(peer=member.id, name=member.name, reason=reason)}, 0)


def scored_data(task: str, scored: Scored) -> dict[str, object]:
    """How statistics travel from peer to peer; `_read` is the other end."""
    return {
        "task": task,
        "statistics": scored.statistics.to_data() if scored.statistics else None,
        "missing": list(scored.missing.values()),
        "expected": scored.expected,
        "combined": scored.combined,
        "because": scored.because,
        "common": scored.common,
    }


def _read(data: object) -> Scored:
    match data:
        case {"task": str(task), "statistics": raw, "missing": list(entries), "expected": int(expected), **more}:
            try:
                missing = msgspec.convert(entries, list[Missing])
                common = msgspec.convert(more.get("common"), CommonShare | None)
            except msgspec.ValidationError as error:
                raise RemoteError(f"its evaluation cannot be read: {error}") from error
            statistics = None if raw is None else read_statistics(task, raw)
            used = (_text(more.get("combined")), _text(more.get("because")))
            return Scored(statistics, {entry["peer"]: entry for entry in missing}, expected, *used, common)
    raise RemoteError("its evaluation cannot be read")


def _text(value: object) -> str | None:
    """A rule or a reason: a short text, or nothing."""
    if value is None or (isinstance(value, str) and len(value) <= 200 and value.isprintable()):
        return value
    raise RemoteError("its evaluation names a rule that cannot be read")


def _evaluated(scored: Scored, schema: Schema, rule: str, took: float, *, statistics: bool) -> Evaluated:
    total = scored.statistics
    assert total is not None
    missing: Sequence[Missing] = [scored.missing[id] for id in sorted(scored.missing)]
    answer = Evaluated(
        task=schema.task,
        rows=total.rows,
        combine=rule,
        metrics=total.scores(),
        votes=Votes(cast=scored.expected - len(missing), expected=scored.expected, missing=list(missing)),
        took=took,
    )
    if scored.combined is not None:
        answer["combined"] = scored.combined
    if scored.because is not None:
        answer["because"] = scored.because
    if scored.common is not None:
        answer["common"] = scored.common
    if isinstance(total, ClassificationStatistics):
        answer["confusion_matrix"] = ConfusionMatrix(
            classes=[schema.label(text) for text in total.classes], counts=total.confusion.tolist()
        )
    if statistics:
        answer["statistics"] = total.to_data()
    return answer
