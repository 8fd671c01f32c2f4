"""Laws of whole daemons in virtual time: what they promise under faults, that runs repeat, and that bugs are found."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import p2pml.ensemble.models  # noqa: F401 (not for the first time in the middle of a run)
from p2pml.ensemble.combine import combine
from p2pml.errors import BadInput
from p2pml.gossip import IdentityConflict
from p2pml.peer import asking, store, voting
from p2pml.peer.rare import buggify, rare_turns
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.daemons import Plan, Report, draw, run
from p2pml.simulations.operations import MEANINGS, Operation, in_order


def at(seconds: float, what: str, *hosts: int, others: tuple[int, ...] = (), amount: float = 0.0) -> Operation:
    return Operation(seconds, what, hosts, others, amount)


def test_a_quiet_cluster_answers_everything_with_every_vote() -> None:
    """No fault, no missing vote once all have trained."""
    report = run(Plan(4, 45.0), seed=1)
    assert report.held, report.breaches
    assert report.measures["availability"] == 1.0
    assert report.timeline[-1]["votes"] == 4.0
    assert report.timeline[-1]["believed"] == 4.0


@pytest.mark.parametrize("seed", [3, 4])
def test_answers_come_and_count_truly_through_all_faults(seed: int) -> None:
    """Crashes, a split, a one-way cut, pauses, resets and loss: whoever is asked and lives answers in time."""
    plan = dataclasses.replace(draw(8, 75.0, seed), every=1.0)
    report = run(plan, seed)
    assert report.held, report.breaches
    assert report.measures["availability"] == 1.0
    assert report.measures["asked"] > 50


def test_the_same_plan_and_seed_leave_the_same_trace_under_any_hash_seed(tmp_path: Path) -> None:
    """In this process and in others, byte for byte; another seed leaves another."""
    script = (
        "import p2pml.ensemble.models\n"
        "from p2pml.simulations.daemons import draw, run\n"
        "print(run(draw(5, 30.0, 2), 2).trace)\n"
    )
    traces = set()
    for hashes in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        traces.add(done.stdout.strip())
    assert traces == {run(draw(5, 30.0, 2), 2).trace}
    assert run(draw(5, 30.0, 2), 3).trace not in traces


def test_thirty_daemons_run_much_faster_than_time() -> None:
    """90 virtual seconds with every fault; the goal is 5 % of the real time on an idle core, CI's are not idle."""
    plan = draw(30, 90.0, 1)
    began = time.process_time()
    report = run(plan, 1)
    assert report.held, report.breaches
    assert time.process_time() - began < 45


def test_each_operation_does_its_worst_and_the_cluster_is_whole_again() -> None:
    """One of each, and at the end all votes are there."""
    operations = [
        at(5, "loss", amount=0.1),
        at(6, "partition", 0, 1),
        at(9, "heal"),
        at(10, "cut", 2, others=(3,)),
        at(11, "crash", 0),
        at(12, "torn", 1),
        at(13, "leave", 2),
        at(14, "pause", 3, amount=4.0),
        at(15, "restart", 0, 1, 2),
        at(16, "black-hole", 4, amount=3.0),
        at(17, "slow", 3, amount=20.0),
        at(18, "reset", 0, 1),
        at(20, "fit", 0),
        at(22, "heal"),
    ]
    assert {operation.what for operation in operations} == set(MEANINGS)
    report = run(Plan(5, 60.0, in_order(operations), every=0.5, rare=0.02), seed=5)
    assert report.held, report.breaches
    assert {"rare pump.timer-late", "rare voting.late"} <= set(report.measures)


def test_a_connection_that_broke_costs_no_vote() -> None:
    """Every connection of every peer is reset in the middle of its next data, again and again."""
    resets = tuple(at(float(second), "reset", *range(4)) for second in range(8, 20))
    report = run(Plan(4, 25.0, resets, every=0.5), seed=2)
    assert report.held, report.breaches
    assert min(row["votes"] for row in report.timeline[1:]) == 4.0


def test_a_plan_is_data() -> None:
    """It goes to JSON and back, prints line by line, and refuses what is no operation."""
    plan = draw(6, 60.0, 9)
    assert Plan.from_data(plan.to_data()) == plan
    assert plan == draw(6, 60.0, 9) != draw(6, 60.0, 10)
    assert str(at(1.5, "cut", 1, 2, others=(3,))) == "   1.500 s cut 1,2 to 3"
    for wrong in ({"at": 1, "what": "explode"}, {"at": "soon", "what": "crash"}, {"what": "crash"}):
        with pytest.raises(BadInput):
            Operation.from_data(wrong)


def test_rare_turns_are_taken_in_simulations_alone() -> None:
    """Whoever runs a daemon for real never takes one."""
    assert not any(buggify("anything") for _ in range(1000))
    with rare_turns(lambda site: site == "one"):
        assert buggify("one")
        assert not buggify("another")
    assert not buggify("one")


# Bugs that were planted, and what finds them.


def _counted_twice(patch: pytest.MonkeyPatch) -> None:
    """The first vote is combined twice, and counted once."""
    patch.setattr(asking, "combine", lambda ballots, *how, **why: combine([*ballots, ballots[0]], *how, **why))


def _torn_file_trusted(patch: pytest.MonkeyPatch) -> None:
    """What is read from disk is not held to its digest."""

    def read(self: store.Store, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes()[store._HEAD :] if path.exists() else None

    patch.setattr(store.Store, "read", read)


def _no_deadline(patch: pytest.MonkeyPatch) -> None:
    """The asker waits for everybody three times as long as it was told."""
    ask = asking.Asker.ask

    def longer(self: asking.Asker, *rows: Any, seconds: float, **how: Any) -> Any:
        return ask(self, *rows, seconds=3 * seconds, **how)

    patch.setattr(asking.Asker, "ask", longer)


def _answers_lost(patch: pytest.MonkeyPatch) -> None:
    """A model that is slow once is never asked again by this peer itself."""
    vote = voting.Voting.vote

    async def fails(self: voting.Voting, *rows: Any, **how: Any) -> Any:
        began = asyncio.get_running_loop().time()
        ballot = await vote(self, *rows, **how)
        if asyncio.get_running_loop().time() - began > 1:
            raise RuntimeError("late")
        return ballot

    patch.setattr(voting.Voting, "vote", fails)


PLANTED: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    _counted_twice: "the count of votes is true",
    _torn_file_trusted: "no peer ends by itself",
    _no_deadline: "answers come by their deadline",
    _answers_lost: "nothing goes wrong inside",
}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few seeds, as the property that it breaks."""
    plant(monkeypatch)
    torn = [at(11.0 + 2 * host, what, host) for host in range(4) for what in ("torn", "restart")]

    def broken(seed: int) -> Report:
        drawn = draw(4, 45.0, seed)
        operations = in_order([*drawn.operations, *torn])
        return run(dataclasses.replace(drawn, operations=operations, every=1.0, rare=0.05), seed)

    assert any(not broken(seed).properties[PLANTED[plant]] for seed in range(8))


def test_a_run_whose_count_was_lost_takes_a_later_generation() -> None:
    """The cluster remembers another run of the same generation at the very same address: it is no other process."""
    for seed in range(6):
        cluster = Cluster(4, seed=seed)
        cluster.start(within=1.0)
        cluster.run(20)
        cluster[2].crash()
        cluster.run(2)
        cluster[2].disk.generation = 0
        cluster.restart(2)
        cluster.run(20)
        assert not any(isinstance(change, IdentityConflict) for _, change in cluster[2].changes)
        assert cluster.agreed()
