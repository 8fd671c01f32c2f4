"""One answer of the ballots that came: by the rule that was asked for or the one that is left, and how sure it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from p2pml.ensemble.certainty import Certainty, likely, reach
from p2pml.ensemble.combine import DENSITY, Answer, Cast, blended, combine
from p2pml.ensemble.common import Common
from p2pml.ensemble.drift import ground_of, novelty
from p2pml.ensemble.home import Site, recognised
from p2pml.ensemble.knowledge import AUTO, LOCAL, STACKED, Decision
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.sketch import Sketch
from p2pml.ensemble.stack import Gram
from p2pml.ensemble.sums import Sum
from p2pml.ensemble.values import Floats
from p2pml.ensemble.vote import Vote
from p2pml.errors import NoVotes

from .adding import Partial
from .answers import CommonShare, Votes
from .ballots import Adding, Ballot
from .counting import Heard

MEAN, WEIGHTED = "mean", "weighted"
ALONE = "alone "
"""What stands before a peer's id where its own answer is meant."""
CHANGED = "the shared space changed while the votes came"
UNPOOLED = "this peer has not gathered yet what all rows say for the common vote"
UNTRIED = "this peer has not tried its own vote on its held-out rows yet"
NO_BOUNDS = "the peers have not told yet how wrong answers are on their held-out rows"


@dataclass(frozen=True, slots=True)
class Plan:
    """How votes are to become one answer, settled before they are asked for; densities come in `space`.

    `favour` is of the rule local, `gram` of stacked, `common` has a share under both auto and local, and
    `sites` are of auto: whose rows may be recognised. `usual` is given where the caller asks how sure the answer is,
    and `level` and `errors` where it asks for bounds."""

    rule: str
    decision: Decision
    space: str | None = None
    favour: tuple[str, float] | None = None
    gram: Gram | None = None
    common: Common | None = None
    sites: Mapping[str, Site] = field(default_factory=dict)
    usual: Mapping[str, Sketch] | None = None
    level: float | None = None
    errors: Mapping[str, Sketch] = field(default_factory=dict)

    @property
    def adding(self) -> Adding | None:
        """How others may add up votes for it; None where it takes every single one: a median does, a stack, and to say
        how sure the answer is."""
        if self.usual is not None or self.level is not None:
            return None
        if self.rule in (AUTO, LOCAL, DENSITY):
            return Adding(temperature=self.decision.temperature)
        return Adding(by_rows=self.rule == WEIGHTED) if self.rule in (MEAN, WEIGHTED) else None


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, the schema that it was checked against, and whose votes it has.

    `combined` is the rule that was used, `because` why another than the one that was asked for; `common` is the one
    whose vote has a share in the answer, and `like` the peer whose rows were recognised. On request there is
    `certainty`, and for each row how wrong it may be, `wrong`, shape (rows,), or the classes that it may be, `sets`,
    shape (rows, classes)."""

    answer: Answer
    schema: Schema
    votes: Votes
    combined: str
    because: str | None
    common: Common | None = None
    like: str | None = None
    certainty: Certainty | None = None
    wrong: Floats | None = None
    sets: NDArray[np.bool_] | None = None
    unlikely: Floats | None = None
    """How unlikely each row is to all who voted, where their densities came with the votes; `ground` names these."""
    ground: str | None = None

    @property
    def pooled(self) -> CommonShare | None:
        """The share of the common vote, as it is shown; None where it has none."""
        if self.common is None:
            return None
        return CommonShare(share=self.answer.common, peers=self.common.peers, rows=self.common.rows)

    def part(self, start: int, end: int) -> Asked:
        """The same of some of the rows."""
        return replace(
            self,
            answer=self.answer.part(start, end),
            certainty=None if self.certainty is None else self.certainty.part(start, end),
            wrong=None if self.wrong is None else self.wrong[start:end],
            sets=None if self.sets is None else self.sets[start:end],
            unlikely=None if self.unlikely is None else self.unlikely[start:end],
        )


def combined(heard: Heard, plan: Plan, schema: Schema, common: Vote | None = None) -> Asked:
    """One answer of the votes that came, as sums too where the plan allows them, and of the vote of the plan's `common`
    on the same rows; NoVotes where bounds were asked for and cannot be given."""
    if heard.partials:
        return _added_up(heard, plan, schema, common)
    ballots = heard.ballots
    casts: list[Cast] = [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]
    densities = {id: ballot.density for id, ballot in ballots.items() if ballot.density is not None}
    asked = _asked(casts, densities, common, plan, schema, heard.votes)
    if plan.space is None or len(densities) < len(casts):
        return asked
    unlikely = novelty(list(densities.values()), [ballots[id].rows for id in densities])
    return replace(asked, unlikely=unlikely, ground=ground_of(plan.space, densities))


def _added_up(heard: Heard, plan: Plan, schema: Schema, common: Vote | None) -> Asked:
    assert plan.adding is not None
    ballots, partials = heard.ballots.values(), heard.partials
    complete = all(ballot.density is not None for ballot in ballots) and all(
        partial.known is not None for partial in partials
    )
    rule, favour, named, because, share = _way(plan, {ballot.owner for ballot in ballots}, complete)
    own = [Partial.of([(ballot, ballot.owner) for ballot in ballots], plan.adding, favour)] if ballots else []
    parts = sorted([*own, *partials], key=lambda part: part.counted[0].owner)
    sums = [part.dense if rule == DENSITY else part.plain for part in parts]
    answer = Sum.total([each for each in sums if each is not None]).answer()
    if share and common is not None:
        answer = blended(answer, common, share)
    asked = Asked(answer, schema, heard.votes, named, because, plan.common if answer.common else None)
    if plan.space is None or not complete:
        return asked
    counted = [each for part in parts for each in part.counted]
    together = np.logaddexp.reduce([part.known for part in parts if part.known is not None], axis=0)
    unlikely = np.log(sum(max(each.rows, 1) for each in counted)) - together
    return replace(asked, unlikely=unlikely, ground=ground_of(plan.space, [each.owner for each in counted]))


def _asked(
    casts: list[Cast],
    densities: Mapping[str, Floats],
    common: Vote | None,
    plan: Plan,
    schema: Schema,
    votes: Votes,
) -> Asked:
    answer, rule, because, like = _answer(casts, densities, common, plan)
    asked = Asked(answer, schema, votes, rule, because, plan.common if answer.common else None, like)
    if plan.usual is not None:
        asked = replace(asked, certainty=Certainty.of(casts, answer, densities, plan.usual, common))
    if plan.level is None:
        return asked
    as_tried = rule == _chosen(plan.decision) and answer.common == plan.decision.share
    wrong = reach(casts, answer, plan.errors, plan.level) if as_tried else None
    if wrong is None:
        raise NoVotes(f"no interval is known: {plan.decision.because or NO_BOUNDS}; ask again shortly, or without one")
    if answer.classes is None:
        return replace(asked, wrong=wrong)
    return replace(asked, sets=likely(answer, wrong))


def _chosen(decision: Decision) -> str:
    return MEAN if decision.temperature is None else DENSITY


def _answer(
    casts: list[Cast], densities: Mapping[str, Floats], common: Vote | None, plan: Plan
) -> tuple[Answer, str, str | None, str | None]:
    """The answer, the rule that was used, why not the one that was asked for, and whose rows these are like."""
    complete = len(densities) == len(casts)
    if plan.rule == STACKED:
        if plan.gram is None or not complete or any(id not in plan.gram.voters for id, *_ in casts):
            return combine(casts, MEAN), MEAN, plan.decision.because or CHANGED, None
        return plan.gram.answer(casts, densities), STACKED, None, None
    rule, favour, named, because, share = _way(plan, {id for id, *_ in casts}, complete)
    temperature, like = plan.decision.temperature or 1.0, None
    if plan.sites and rule == DENSITY:
        favour = recognised(casts, densities, temperature, plan.sites)
        like = None if favour is None else plan.sites[favour[0]].name
    answer = combine(casts, rule, densities, temperature, favour)
    if share and common is not None:
        answer = blended(answer, common, share)
    return answer, named, because, like


def _way(
    plan: Plan, voters: Collection[str], complete: bool
) -> tuple[str, tuple[str, float] | None, str, str | None, float]:
    """How votes are combined under any rule but stacked, whose vote is favoured, what that is called, why it is not
    what was asked for, and the share of the common vote; `complete` says whether every vote came with its density."""
    decision = plan.decision
    if plan.rule not in (AUTO, LOCAL, DENSITY):
        return plan.rule, None, plan.rule, None, 0.0
    if decision.temperature is not None and not complete:
        return MEAN, None, MEAN, CHANGED, 0.0
    chosen, share = _chosen(decision), 0.0 if plan.common is None else decision.share
    because = UNPOOLED if decision.share > share else decision.because
    if plan.rule != LOCAL:
        return chosen, None, chosen, because, share
    if plan.favour is None or plan.favour[0] not in voters:
        return chosen, None, chosen, because or UNTRIED, share
    return chosen, plan.favour, LOCAL, None, share


def compared(ballots: Mapping[str, Ballot], plans: Iterable[Plan], common: Vote | None) -> dict[str, Answer]:
    """The answer by each plan, named by its rule, and of each peer alone."""
    casts: list[Cast] = [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]
    densities = {id: ballot.density for id, ballot in ballots.items() if ballot.density is not None}
    answers = {plan.rule: _answer(casts, densities, common, plan)[0] for plan in plans}
    return answers | {ALONE + cast[0]: combine([cast]) for cast in casts}
