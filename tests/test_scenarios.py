"""Laws of plans and of scenarios: data that means the same tomorrow, held by the protocol, and able to find bugs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plants import PLANTS, hasty_verdict

from p2pml.errors import BadInput
from p2pml.gossip import Node, limits
from p2pml.simulations import core, recovery
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.core import run
from p2pml.simulations.invariants import LAWS
from p2pml.simulations.operations import Operation
from p2pml.simulations.plans import Plan
from p2pml.simulations.recovery import ENTRIES, QUIET, VIEWS, Complaint
from p2pml.simulations.reports import CRASH, DETERMINISM, EXIT_CODES, LIVENESS, SAFETY, Breach, Report
from p2pml.simulations.scenarios import SCENARIOS, draw
from p2pml.simulations.shrinking import RUNS, shrink
from p2pml.simulations.stored import load, store, stored_breach
from p2pml.simulations.sweeps import SAME_TRACE, compared, sweep

FAILING = Plan("test", 1, 4, 20.0, (Operation(8.0, "crash", (1,)), Operation(9.0, "restart", (2,))), (0, 2, 3))


# Plans.


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_plan_is_data(scenario: str) -> None:
    """It comes back from JSON as it was, prints, and is the same whenever it is drawn."""
    for seed in range(20):
        plan = draw(scenario, seed, 6, 45.0)
        assert Plan.from_data(json.loads(json.dumps(plan.to_data()))) == plan == draw(scenario, seed, 6, 45.0)
        assert len(str(plan).splitlines()) == len(plan.operations) + 2
        assert all(0 <= one.at < plan.seconds for one in plan.operations)
        assert 0 in plan.core


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"peers": 2},
        {"core": []},
        {"core": [9]},
        {"weather": {}},
        {"weather": None},
        {"operations": [{"at": 1, "what": "explode"}]},
        {"operations": 3},
    ],
)
def test_what_is_no_plan_is_refused(change: dict[str, object]) -> None:
    """Whatever a file says."""
    with pytest.raises(BadInput):
        Plan.from_data(FAILING.to_data() | change)


def test_a_scenario_that_does_not_exist_is_refused() -> None:
    """So are too few peers, too little time, and what only whole daemons can do."""
    for arguments in (("explosion", 1, 5, 60.0), ("churn", 1, 1, 60.0), ("churn", 1, 5, 5.0)):
        with pytest.raises(BadInput):
            draw(*arguments)
    with pytest.raises(BadInput, match="whole daemons"):
        run(replace(FAILING, operations=(Operation(1.0, "reset", (1,)),)))


def test_a_host_can_be_taken_out_of_a_plan() -> None:
    """Those after it move up, and an operation on it alone goes."""
    plan = FAILING.without(1)
    assert (plan.peers, plan.core, plan.operations) == (3, (0, 1, 2), (Operation(9.0, "restart", (1,)),))


# Clocks.


def test_a_clock_of_the_machine_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where real time decides anything, two runs leave two traces."""
    real = iter(range(10**9))
    handle = Node.handle
    monkeypatch.setattr(Node, "handle", lambda self, event, now: handle(self, event, now + next(real) * 1e-6))
    report = compared(run(FAILING), run(FAILING))
    assert report.kind == DETERMINISM
    assert not report.properties[SAME_TRACE]


# Bugs.


@pytest.mark.parametrize(("plant", "lot"), PLANTS.items(), ids=[plant.__name__ for plant in PLANTS])
def test_a_planted_bug_is_found_and_shrinks(
    plant: Callable[..., None], lot: tuple[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 500 seeds, and to at most 6 operations that break the same property."""
    plant(monkeypatch)
    for seed in range(500):
        plan = draw(lot[0], seed, 5, lot[1])
        if (breach := run(plan).breach) is not None:
            break
    assert breach is not None
    least = shrink(run, plan, breach)
    assert len(least.plan.operations) <= 6
    assert least.plan.peers <= 5
    assert least.breach.same(breach)
    assert breach.same(run(Plan.from_data(least.plan.to_data())).breach)


def test_a_failure_is_stored_with_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And fails again when it is replayed."""
    hasty_verdict(monkeypatch)
    report = run(FAILING)
    assert report.kind == SAFETY
    assert report.to_data()["held"] is False
    assert [law for law, held in report.properties.items() if not held] == [LAWS[-1]]
    path = tmp_path / "failure.json"
    store(path, FAILING, report)
    assert load(path) == FAILING
    assert report.breach is not None
    assert report.breach.same(stored_breach(path))
    assert run(load(path)).trace == report.trace
    path.write_text("[1]")
    with pytest.raises(BadInput, match="not an object"):
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="not JSON"):
        load(path)


def test_an_error_inside_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told from a property that does not hold."""
    monkeypatch.setattr(Node, "handle", lambda self, event, now: next(iter([])))
    assert run(FAILING).kind == CRASH
    assert EXIT_CODES[CRASH] == 5


def test_shrinking_keeps_what_it_takes_and_nothing_else() -> None:
    """Operations, hosts, peers and odd times that the failure does not need are gone, within a bound of runs."""

    def fails(plan: Plan) -> Report:
        crashed = [one for one in plan.operations if one.what == "crash" and one.hosts]
        breach = Breach("nobody crashes", SAFETY, 1.0, "") if crashed else None
        return Report(plan.scenario, plan.seed, "", {}, {}, breach)

    plan = draw("crash-restart", 3, 20, 300.0)
    breach = fails(plan).breach
    assert breach is not None
    least = shrink(fails, plan, breach)
    (operation,) = least.plan.operations
    assert len(operation.hosts) == 1
    assert operation.at % 10 == 0
    assert (least.plan.peers, least.plan.core) == (2, (0, 1))
    assert least.runs < RUNS


# Recovery.


def recovering(plan: Plan = FAILING) -> core.Run:
    """Run a plan until its core has recovered."""
    this = core.Run(plan)
    assert this.breach() is None
    return this


def test_a_core_that_does_not_recover_is_named() -> None:
    """Who is down, who is not held alive, who should not be, whose entries lack, and who still doubts."""
    complaint, known = recovery.complaint, frozenset[int]()
    this = recovering()
    cluster, members = this.cluster, FAILING.core
    assert complaint(cluster, members, known) is None
    cluster.write(2, "key", b"value")
    assert (complaint(cluster, members, known) or ("",))[0] == ENTRIES
    cluster.run(2)
    assert complaint(cluster, members, known) is None
    cluster[2].crash()
    assert (complaint(cluster, members, known) or ("", ""))[0] == VIEWS
    assert (complaint(cluster, (0, 3), known) or ("", ""))[1] == "host-0 holds host-2 alive, which cannot be heard"
    cluster.run(30)
    assert complaint(cluster, (0, 3), known) is None
    cluster[2].boot([])
    assert (complaint(cluster, (0, 2), known) or ("", ""))[1] == "host-0 does not hold host-2 alive"


def test_the_rest_stays_broken() -> None:
    """Who is cut off for ever is held dead by the core, and who is heard by it may be held either."""
    cut_off = replace(FAILING, operations=(Operation(10.0, "partition", (1,)),))
    assert run(cut_off).held
    deaf = replace(FAILING, operations=(Operation(10.0, "cut", (0, 2, 3), (1,)),))
    assert run(deaf).held
    never = replace(FAILING, operations=(Operation(1.0, "black-hole", (2,), amount=1e6),))
    assert run(never).held


def test_a_cluster_that_never_comes_to_rest_is_a_liveness_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubts and news must end."""
    monkeypatch.setattr(core, "PATIENCE", 3.0)
    monkeypatch.setattr(recovery, "entries", lambda observers, apart: None)
    monkeypatch.setattr(recovery, "unrest", lambda observers, apart: Complaint(QUIET, "host-0 suspects somebody", 0))
    report = run(FAILING)
    assert (report.kind, EXIT_CODES[report.kind]) == (LIVENESS, 4)


# Sweeps.


def test_a_sweep_is_the_same_over_any_number_of_processes() -> None:
    """Each seed is reported in its turn, and the first is run twice."""
    plans = [draw("churn", seed, 3, 10.0) for seed in range(4)]
    (one, other) = (list(sweep(run, plans, jobs)) for jobs in (1, 2))
    assert one == other
    assert [plan for plan, _ in one] == plans
    assert one[0][1].properties[SAME_TRACE]
    assert SAME_TRACE not in one[1][1].properties


def test_a_crowd_that_comes_and_goes_knows_one_another_from_the_start() -> None:
    """How a crowd meets is another scenario's matter; everybody's model is known from the first moment."""
    plan = draw("churn", 1, 60, 10.0)
    assert plan.formed
    assert Plan.from_data(json.loads(json.dumps(plan.to_data()))) == plan
    assert not draw("churn", 1, 8, 10.0).formed
    started = core.Run(plan)
    assert started.cluster.agreed()
    assert all(started.learners.ready(host) for host in started.cluster.hosts)


def test_more_peers_than_a_real_one_remembers_know_each_other() -> None:
    """A peer refuses newcomers beyond its limit, its own claim first of all: a simulation of more has room for all."""
    plan = replace(draw("churn", 1, limits.MEMBERS_LIMIT + 100, 10.0), formed=False)
    assert core.Run(plan).cluster.settings.max_members >= plan.peers


def test_tables_that_are_alike_are_looked_at_once() -> None:
    """Of hosts that say that they know the same a sample is looked at all the same, and whoever knows other things."""
    cluster = Cluster(250, seed=1, direct=True)
    cluster.form()
    observers = cluster.hosts
    sample = recovery.differing(observers)
    assert sample == observers[::3]
    assert recovery.complaint(cluster, range(250), frozenset()) is None
    cluster.write(4, "key", b"value")
    assert observers[4] in recovery.differing(observers)
    found = recovery.complaint(cluster, range(250), frozenset())
    assert found is not None
    assert found[0] == recovery.ENTRIES
    few = observers[:50]
    assert recovery.differing(few) == few


def test_more_peers_than_memory_has_room_for_are_refused() -> None:
    """It is said before anything runs, with how many there may be."""
    with pytest.raises(
        BadInput, match=r"1000000 peers .* take 40,000 GB of memory, .* --peers can be at most \d+ here"
    ):
        run(draw("churn", 1, 10**6, 10.0, 1.0))
