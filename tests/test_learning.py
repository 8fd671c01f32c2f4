"""Laws of learning under churn on the layer core: real models, true answers, and bugs in answering that are found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2pml.ensemble.combine import combine
from p2pml.ensemble.electorate import Electorate
from p2pml.simulations import asking, core
from p2pml.simulations.asking import Clients
from p2pml.simulations.cluster import Host
from p2pml.simulations.core import run
from p2pml.simulations.lessons import ROWS, learn, lessons
from p2pml.simulations.operations import Operation
from p2pml.simulations.plans import Plan
from p2pml.simulations.reports import LATE, LIVENESS, SAFETY, UNTRUE, VOTES

ALL = (0, 1, 2, 3, 4)
QUIET = Plan("test", 1, 5, 20.0, (), ALL)


def plan(*operations: Operation) -> Plan:
    return replace(QUIET, operations=operations)


def test_parts_are_skewed_and_together_know_more_than_any_alone() -> None:
    """Eight models of real rows; the answer of all is better than the best of them."""
    known = learn(8)
    alone = [known.score(combine([("", part.vote, 1)])) for part in known.parts]
    together = known.score(combine([(str(at), part.vote, 1) for at, part in enumerate(known.parts)]))
    assert max(alone) < together
    assert all(len(part.vote.values) == ROWS == len(known.truth) for part in known.parts)


def test_a_table_of_the_user_is_learnt_and_asked_about_as_well(tmp_path: Path) -> None:
    """Numbers too: their score is R², and the plan says where the rows are."""
    rng, path = random.Random(1), tmp_path / "rows.csv"
    rows = [
        (a, b, round(3 * a - b + rng.gauss(0, 0.1), 3)) for a, b in ((rng.random(), rng.random()) for _ in range(500))
    ]
    path.write_text("a,c,b\n" + "\n".join(f"{a},{c},{b}" for a, b, c in rows) + "\n")
    given = replace(QUIET, data=str(path), target="c")
    assert Plan.from_data(given.to_data()) == given
    report = run(given)
    assert report.held, report.breach
    assert 0.8 < report.measures["score"] < 1.0


def test_the_prices_of_california_are_learnt_in_skewed_parts(shared_data: Path) -> None:
    """All parts together are better than most of them alone."""
    known = learn(32, str(shared_data / "california_housing" / "housing.csv"), "median_house_value")
    alone = [known.score(combine([("", part.vote, 1)])) for part in known.parts]
    together = known.score(combine([(str(at), part.vote, 1) for at, part in enumerate(known.parts)]))
    assert max(0.6, sum(alone) / len(alone)) < together


def test_more_hosts_than_parts_share_them() -> None:
    """And few hosts have a part each."""
    known = lessons(5)
    assert len(known.parts) == 8
    assert known.of(9) is known.parts[1]


def test_every_vote_is_cast_where_nothing_breaks() -> None:
    """By all, in milliseconds; what is seen of others is true within moments."""
    report = run(QUIET)
    assert report.held, report.breach
    assert report.measures["availability"] == 1.0
    assert report.measures["votes"] == 1.0
    assert report.measures["longest_answer"] < 0.1
    assert report.measures["staleness"] < 0.1
    assert {row["votes"] for row in report.timeline if "votes" in row} == {5.0}


@pytest.mark.parametrize(
    ("operation", "longest"),
    [
        (Operation(9.9, "black-hole", (1,), amount=8.0), asking.DEADLINE),
        (Operation(9.9, "crash", (1,)), 1.0),
        (Operation(9.9, "pause", (1,), amount=8.0), asking.DEADLINE),
        (Operation(9.9, "slow", (1,), amount=900.0), asking.DEADLINE),
        (Operation(9.9, "loss", (1,), amount=0.5), asking.DEADLINE),
        (Operation(9.9, "leave", (1,)), 1.0),
        (Operation(9.9, "torn", (1,)), 1.0),
    ],
    ids=lambda value: getattr(value, "what", ""),
)
def test_who_does_not_vote_costs_one_vote_and_no_answer(operation: Operation, longest: float) -> None:
    """Whatever is the matter with a peer, everybody else is answered in time, with all other votes."""
    report = run(plan(operation))
    assert report.held, report.breach
    assert report.measures["availability"] == 1.0
    assert min(row["votes"] for row in report.timeline if "votes" in row) >= 4.0 - (operation.what == "loss")
    assert report.measures["longest_answer"] <= longest + 1e-6


def test_a_retrained_model_is_stale_until_the_news_of_it_has_come() -> None:
    """For as long as the owner cannot be heard."""
    this = core.Run(plan(Operation(8.0, "partition", (1,)), Operation(9.0, "fit", (1,))))
    this.cluster.run(5.0)
    for operation in this.plan.operations:
        assert operation.at > this.cluster.clock.now
    this.cluster.run(9.0)
    host, other = this.cluster[1], this.cluster[0]
    seen = other.running.entries(host.id).get("summary")
    assert this.learners.outdated_for(host, seen) == pytest.approx(14.0 - 9.0 - 2.0)
    assert this.learners.outdated_for(host, host.running.entries(host.id)["summary"]) == 0.0


# Bugs that were planted, and what finds them.


def _counted_twice(patch: pytest.MonkeyPatch) -> None:
    """The first vote is combined twice, and counted once."""
    patch.setattr(asking, "combine", lambda ballots, rule: combine([*ballots, ballots[0]], rule))


def _late(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a vote at the deadline waits another second."""
    end = Clients._end

    def later(self: Clients, question: asking.Question) -> None:
        if question.waiting:
            self._cluster.clock.after(1.0, lambda: end(self, question))
        else:
            end(self, question)

    patch.setattr(Clients, "_end", later)


def _made_up(patch: pytest.MonkeyPatch) -> None:
    """A peer that refuses is counted as if it had voted."""

    def counted(self: Clients, question: asking.Question, voter: Host, why: str) -> None:
        question.ballots[voter.id] = self._learners.lesson(voter)
        self._done(question, voter.id)

    patch.setattr(Clients, "_fail", counted)


def _dropped(patch: pytest.MonkeyPatch) -> None:
    """A peer that is expected is neither asked nor named."""
    begin = Clients._begin

    def but_the_last(self: Clients, question: asking.Question, member: object, decided: object) -> None:
        if member is question.live[-1]:
            question.waiting.discard(member.id)
        else:
            begin(self, question, member, decided)  # type: ignore[arg-type]

    patch.setattr(Clients, "_begin", but_the_last)


def _never_again(patch: pytest.MonkeyPatch) -> None:
    """Who did not answer once is never asked again."""
    patch.setattr(Clients, "_passes", lambda self, here, there: False)


def _shut_out(patch: pytest.MonkeyPatch) -> None:
    """One peer's model is never taken for one that can vote."""
    decide = Electorate.decide

    def planted(self: Electorate, said: dict[str, object]) -> object:
        decided = decide(self, said)  # type: ignore[arg-type]
        return replace(decided, absent={**decided.absent, max(said): "it is starting"})

    patch.setattr(Electorate, "decide", planted)


SILENT = Operation(7.9, "black-hole", (1,), amount=12.0)
GONE = Operation(11.9, "crash", (2,))
PLANTED: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, str]] = {
    _counted_twice: (SAFETY, UNTRUE),
    _late: (SAFETY, LATE),
    _made_up: (SAFETY, UNTRUE),
    _dropped: (SAFETY, UNTRUE),
    _never_again: (LIVENESS, VOTES),
    _shut_out: (LIVENESS, VOTES),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_in_answering_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the property that it breaks."""
    plant(monkeypatch)
    monkeypatch.setattr(core, "PATIENCE", 15.0)
    breach = run(plan(SILENT, GONE)).breach
    assert breach is not None
    assert (breach.kind, breach.property) == PLANTED[plant]
