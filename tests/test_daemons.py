"""Laws of whole daemons in virtual time: what they promise under faults, that runs repeat, and that bugs are found."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import p2pml.ensemble.models  # noqa: F401 (not for the first time in the middle of a run)
from p2pml.ensemble.combine import combine
from p2pml.gossip import IdentityConflict
from p2pml.peer import asking, combining, reach, store
from p2pml.peer.rare import buggify, rare_turns
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.daemons import run
from p2pml.simulations.operations import MEANINGS, Operation, in_order
from p2pml.simulations.plans import Plan
from p2pml.simulations.scenarios import draw


def at(seconds: float, what: str, *hosts: int, others: tuple[int, ...] = (), amount: float = 0.0) -> Operation:
    return Operation(seconds, what, hosts, others, amount)


def plan(peers: int, seconds: float, *operations: Operation, seed: int = 1) -> Plan:
    """A plan after which everybody is healed."""
    return Plan("test", seed, peers, seconds, in_order(operations), tuple(range(peers)))


def storm(peers: int, seconds: float, seed: int) -> Plan:
    """Every kind of fault: crashes and restarts, a split, a one-way cut, pauses, resets and loss."""
    rng = random.Random(f"{seed}/storm")

    def some(share: float) -> tuple[int, ...]:
        return tuple(sorted(rng.sample(range(peers), max(1, round(share * peers)))))

    def moment(least: float = 10.0) -> float:
        return round(rng.uniform(least, seconds - 5), 3)

    operations = [
        Operation(moment(0.0), "loss", amount=round(rng.uniform(0, 0.05), 3)),
        Operation(moment(), "partition", some(0.4)),
        Operation(moment(), "cut", some(0.1), some(0.3)),
        Operation(moment(), "pause", some(0.05), amount=round(rng.uniform(1, 12), 3)),
        Operation(moment(), "black-hole", some(0.05), amount=round(rng.uniform(1, 12), 3)),
        Operation(moment(), "reset", some(0.2)),
        Operation(moment(), "slow", some(0.05), amount=40.0),
    ]
    for _ in range(max(2, peers // 6)):
        hosts, crashed = some(1 / peers), moment()
        operations.append(Operation(crashed, rng.choice(("crash", "crash", "torn", "leave")), hosts))
        operations.append(Operation(round(crashed + rng.uniform(1, 20), 3), "restart", hosts))
    return plan(peers, seconds, *operations, seed=seed)


def test_a_quiet_cluster_answers_everything_with_every_vote() -> None:
    """No fault, no missing vote once all have trained."""
    report = run(plan(4, 20.0), rare=0.0)
    assert report.held, report.breach
    assert report.measures["availability"] == 1.0
    assert report.timeline[-1]["alive"] == report.timeline[-1]["believed"] == 4.0
    assert {row["votes"] for row in report.timeline if row["time"] > 8} <= {0.0, 4.0}


@pytest.mark.parametrize("seed", [3, 4])
def test_answers_come_and_count_truly_through_all_faults(seed: int) -> None:
    """Whoever is asked and lives answers in time, says who voted, and all come together again."""
    report = run(storm(8, 45.0, seed), every=1.0)
    assert report.held, report.breach
    assert report.measures["availability"] == 1.0
    assert report.measures["asked"] > 40


def test_the_same_plan_leaves_the_same_trace_under_any_hash_seed() -> None:
    """In this process and in others, byte for byte; another seed leaves another."""
    script = (
        "import p2pml.ensemble.models\n"
        "from p2pml.simulations.daemons import run\n"
        "from p2pml.simulations.scenarios import draw\n"
        "print(run(draw('swarm', 2, 4, 15.0), rare=0.05).trace)\n"
    )
    traces = set()
    for hashes in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": "1"}
        traces.add(subprocess.check_output([sys.executable, "-c", script], text=True, env=environment).strip())
    assert traces == {run(draw("swarm", 2, 4, 15.0), rare=0.05).trace}
    assert run(dataclasses.replace(draw("swarm", 2, 4, 15.0), seed=3), rare=0.05).trace not in traces


def test_thirty_daemons_run_in_seconds() -> None:
    """With every fault, and questions all along; the bound leaves room for cores that are not idle."""
    thirty = storm(30, 30.0, seed=1)
    began = time.process_time()
    report = run(thirty)
    assert report.held, report.breach
    assert time.process_time() - began < 60


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
    ]
    assert {operation.what for operation in operations} == set(MEANINGS)
    report = run(plan(5, 25.0, *operations), every=0.3, rare=0.05)
    assert report.held, report.breach
    assert {"rare pump.timer-late", "rare api.vote-late"} <= set(report.measures)


def test_a_connection_that_broke_costs_no_vote() -> None:
    """Every connection of every peer is reset in the middle of its next data, again and again."""
    resets = [at(float(second), "reset", *range(4)) for second in range(8, 20)]
    report = run(plan(4, 25.0, *resets), every=0.5, rare=0.0)
    assert report.held, report.breach
    assert min(row["votes"] for row in report.timeline if row["time"] > 8) == 4.0


def test_a_peer_that_never_comes_back_is_named_missing_by_all() -> None:
    """What stays broken is no reason not to answer."""
    gone = Plan("test", 1, 4, 20.0, (at(10.0, "crash", 3),), (0, 1, 2))
    report = run(gone, rare=0.0)
    assert report.held, report.breach
    assert report.timeline[-1]["alive"] == 3.0


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
    patch.setattr(combining, "combine", lambda ballots, *how, **why: combine([*ballots, ballots[0]], *how, **why))


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


def _late_vote_awaited(patch: pytest.MonkeyPatch) -> None:
    """A vote that is not there by the deadline is taken for one that is."""
    patch.setattr(asking.Asker, "_outcome", lambda self, task, seconds: task.result())


def _silence_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A peer that did not answer once is never asked again."""

    async def never(self: reach.Reach, id: str) -> None:
        await asyncio.Event().wait()

    patch.setattr(reach.Reach, "_check", never)


PLANTED: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    _counted_twice: "the count of votes is true",
    _torn_file_trusted: "no peer ends by itself",
    _no_deadline: "answers come by their deadline",
    _late_vote_awaited: "nothing goes wrong inside",
    _silence_for_ever: "answers hold every vote of the core",
}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few seeds, as the property that it breaks."""
    plant(monkeypatch)
    torn = [at(11.0 + 2 * host, what, host) for host in range(4) for what in ("torn", "restart")]

    def broken(seed: int) -> str | None:
        drawn = storm(4, 25.0, seed)
        drawn = dataclasses.replace(drawn, operations=in_order([*drawn.operations, *torn]))
        breach = run(drawn, every=1.0, rare=0.05).breach
        return breach.property if breach else None

    assert any(broken(seed) == PLANTED[plant] for seed in range(8))


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
