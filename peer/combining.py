"""One answer of the ballots that came: by the rule that was asked for or the one that is left, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from p2pml.ensemble.certainty import Certainty, likely, reach
from p2pml.ensemble.combine import DENSITY, Answer, Cast, combine
from p2pml.ensemble.drift import ground_of, novelty
from p2pml.ensemble.knowledge import AUTO, LOCAL, STACKED, Decision
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.sketch import Sketch
from p2pml.ensemble.stack import Gram
from p2pml.ensemble.values import Floats
from p2pml.errors import NoVotes

from .answers import Votes
from .ballots import Ballot

MEAN = "mean"
ALONE = "alone "
"""What stands before a peer's id where its own answer is meant."""
CHANGED = "the shared space changed while the votes came"
UNTRIED = "this peer has not tried its own vote on its held-out rows yet"
NO_BOUNDS = "the peers have not told yet how wrong answers are on their held-out rows"


@dataclass(frozen=True, slots=True)
class Plan:
    """How votes are to become one answer, settled before they are asked for; densities come in `space`.

    `favour` is of the rule local and `gram` of stacked. `usual` is given where the caller asks how sure the answer is,
    and `level` and `errors` where it asks for bounds."""

    rule: str
    decision: Decision
    space: str | None = None
    favour: tuple[str, float] | None = None
    gram: Gram | None = None
    usual: Mapping[str, Sketch] | None = None
    level: float | None = None
    errors: Mapping[str, Sketch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, the schema that it was checked against, and whose votes it has.

    `combined` is the rule that was used, `because` why another than the one that was asked for. On request there is
    `certainty`, and for each row how wrong it may be, `wrong`, shape (rows,), or the classes that it may be, `sets`,
    shape (rows, classes)."""

    answer: Answer
    schema: Schema
    votes: Votes
    combined: str
    because: str | None
    certainty: Certainty | None = None
    wrong: Floats | None = None
    sets: NDArray[np.bool_] | None = None
    unlikely: Floats | None = None
    """How unlikely each row is to all who voted, where their densities came with the votes; `ground` names these."""
    ground: str | None = None

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


def combined(ballots: Mapping[str, Ballot], plan: Plan, schema: Schema, votes: Votes) -> Asked:
    """One answer of the ballots, by peer id; NoVotes where bounds were asked for and cannot be given."""
    casts: list[Cast] = [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]
    densities = {id: ballot.density for id, ballot in ballots.items() if ballot.density is not None}
    asked = _asked(casts, densities, plan, schema, votes)
    if plan.space is None or len(densities) < len(casts):
        return asked
    unlikely = novelty(list(densities.values()), [ballots[id].rows for id in densities])
    return replace(asked, unlikely=unlikely, ground=ground_of(plan.space, densities))


def _asked(casts: list[Cast], densities: Mapping[str, Floats], plan: Plan, schema: Schema, votes: Votes) -> Asked:
    answer, rule, because = _answer(casts, densities, plan)
    certainty = None
    if plan.usual is not None:
        certainty = Certainty.of(casts, answer, densities, plan.usual)
    if plan.level is None:
        return Asked(answer, schema, votes, rule, because, certainty)
    wrong = reach(casts, answer, plan.errors, plan.level) if rule == _chosen(plan.decision) else None
    if wrong is None:
        raise NoVotes(f"no interval is known: {plan.decision.because or NO_BOUNDS}; ask again shortly, or without one")
    if answer.classes is None:
        return Asked(answer, schema, votes, rule, because, certainty, wrong=wrong)
    return Asked(answer, schema, votes, rule, because, certainty, sets=likely(answer, wrong))


def _chosen(decision: Decision) -> str:
    return MEAN if decision.temperature is None else DENSITY


def _answer(casts: list[Cast], densities: Mapping[str, Floats], plan: Plan) -> tuple[Answer, str, str | None]:
    """The answer, the rule that was used, and why not the one that was asked for."""
    decision, heat = plan.decision, plan.decision.temperature
    if plan.rule not in (AUTO, LOCAL, STACKED, DENSITY):
        return combine(casts, plan.rule), plan.rule, None
    complete = len(densities) == len(casts)
    if plan.rule == STACKED:
        if plan.gram is None or not complete or any(id not in plan.gram.voters for id, *_ in casts):
            return combine(casts, MEAN), MEAN, decision.because or CHANGED
        return plan.gram.answer(casts, densities), STACKED, None
    if heat is not None and not complete:
        return combine(casts, MEAN), MEAN, CHANGED
    if plan.rule == LOCAL:
        known = plan.favour is not None and any(id == plan.favour[0] for id, *_ in casts)
        favour, because = (plan.favour, None) if known else (None, decision.because or UNTRIED)
        return (
            combine(casts, _chosen(decision), densities, heat or 1.0, favour),
            LOCAL if known else _chosen(decision),
            because,
        )
    if heat is None:
        return combine(casts, MEAN), MEAN, decision.because
    return combine(casts, DENSITY, densities, heat), DENSITY, None


def compared(ballots: Mapping[str, Ballot], plans: Iterable[Plan]) -> dict[str, Answer]:
    """The answer by each plan, named by its rule, and of each peer alone."""
    casts: list[Cast] = [(id, ballot.vote, ballot.rows) for id, ballot in ballots.items()]
    densities = {id: ballot.density for id, ballot in ballots.items() if ballot.density is not None}
    answers = {plan.rule: _answer(casts, densities, plan)[0] for plan in plans}
    return answers | {ALONE + cast[0]: combine([cast]) for cast in casts}
