"""Laws of whole daemons in virtual time: what they promise under faults, that runs repeat, and that bugs are found."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time

import pytest
from plants import DAEMON_PLANTS, SHRUNK, Plant

import p2pml.ensemble.models  # noqa: F401 (not for the first time in the middle of a run)
from p2pml.ensemble.typed import Typed
from p2pml.gossip import IdentityConflict
from p2pml.peer import relaying
from p2pml.peer.adding import Partial
from p2pml.peer.ballots import SumQuestion
from p2pml.peer.colleagues import Colleagues
from p2pml.peer.observing import Observer
from p2pml.peer.polling import Polling
from p2pml.peer.rare import buggify, rare_turns
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.daemons import run
from p2pml.simulations.operations import MEANINGS, Operation, in_order
from p2pml.simulations.plans import Plan
from p2pml.simulations.promises import BOUNDED, Complaint, Onlooker
from p2pml.simulations.reports import DETERMINISM, EXIT_CODES, Breach
from p2pml.simulations.scenarios import draw
from p2pml.simulations.shrinking import shrink
from p2pml.simulations.sweeps import compared


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


def test_votes_count_truly_where_they_come_as_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every fault at whoever adds them up, too."""
    sums: list[int] = []
    add_up = Polling.add_up

    async def counted(self: Polling, asked: SumQuestion, rows: Typed, seconds: float) -> Partial:
        sums.append(len(asked.models))
        return await add_up(self, asked, rows, seconds)

    monkeypatch.setattr(Polling, "add_up", counted)
    monkeypatch.setattr(relaying, "WIDE", 1)
    report = run(storm(9, 30.0, 5), every=1.0)
    assert report.held, report.breach
    assert report.measures["availability"] == 1.0
    assert len(sums) > 40


def test_a_clock_of_the_machine_is_caught_in_whole_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a daemon reads real time, two runs leave two traces, which is the failure with code 6."""
    real = time.time  # taken before clocks are virtual, as by a module that hides it
    beat = Observer.beat

    def planted(self: Observer) -> None:
        self.pulse = type(self.pulse)(started=real())
        beat(self)

    monkeypatch.setattr(Observer, "beat", planted)
    report = compared(*(run(draw("flap", 1, 3, 10.0)) for _ in range(2)))
    assert (report.kind, EXIT_CODES[report.kind]) == (DETERMINISM, 6)


THIRTY = """
import json, sys, time
from p2pml.simulations.daemons import run
from p2pml.simulations.plans import Plan
began = time.process_time()
report = run(Plan.from_data(json.loads(sys.argv[1])))
print(json.dumps([report.held, str(report.breach), time.process_time() - began]))
"""


def test_thirty_daemons_run_in_seconds() -> None:
    """With every fault, and questions all along; the bound leaves room for cores that are not idle."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    thirty = json.dumps(storm(30, 20.0, seed=1).to_data())
    done = subprocess.run([sys.executable, "-c", THIRTY, thirty], env=plain, capture_output=True, check=True)
    held, breach, took = json.loads(done.stdout)
    assert held, breach
    assert took < 60


def test_each_operation_does_its_worst_and_the_cluster_is_whole_again() -> None:
    """One of each, and at the end all votes are there."""
    operations = [
        at(5, "loss", amount=0.1),
        at(5, "duplicate", 0, amount=0.3),
        at(5, "reorder", 1, amount=0.3),
        at(6, "partition", 0, 1),
        at(8, "heal", 0, 1),
        at(9, "heal"),
        at(10, "cut", 2, others=(3,)),
        at(10, "copy", 0),
        at(11, "crash", 0),
        at(12, "torn", 1),
        at(13, "leave", 2),
        at(14, "pause", 3, amount=4.0),
        at(15, "restart", 0, 1, 2),
        at(16, "black-hole", 4, amount=3.0),
        at(17, "slow", 3, amount=20.0),
        at(17, "skew", 2, amount=1.5),
        at(17, "jump", 2, amount=1e6),
        at(18, "reset", 0, 1),
        at(19, "mute", 3, amount=2.0),
        at(19, "drip", 4, amount=1e5),
        at(20, "fit", 0),
        at(21, "swap", 0, 1),
        at(22, "move", 2),
        at(23, "stale", 0),
        at(24, "flip", 1),
        at(24, "power", 2),
        at(25, "restart", 0, 1, 2),
        at(26, "disk-full", 3, amount=3.0),
        at(26, "die-writing", 4),
        at(27, "fit", 0),
        at(28, "restart", 4),
        *(at(29, what, 4) for what in ("boast", "bad-votes", "forge", "noise", "replay")),
    ]
    assert {operation.what for operation in operations} == set(MEANINGS)
    report = run(plan(5, 34.0, *operations), every=0.5, rare=0.02)
    assert report.held, report.breach
    assert {f"operation {what}" for what in MEANINGS} <= set(report.seen)
    assert {"rare pump.timer-late", "rare api.vote-late"} <= set(report.seen)


def test_a_connection_that_broke_costs_no_vote() -> None:
    """Every connection of every peer is reset in the middle of its next data, again and again."""
    resets = [at(float(second), "reset", *range(4)) for second in range(8, 20)]
    report = run(plan(4, 25.0, *resets), every=0.5, rare=0.0)
    assert report.held, report.breach
    assert min(row["votes"] for row in report.timeline if row["time"] > 8) == 4.0


def test_a_run_ends_while_a_peer_is_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breach ends it in the very moment in which somebody says goodbye."""
    leaving: Complaint = (BOUNDED, "somebody leaves")
    monkeypatch.setattr(Onlooker, "look", lambda self: leaving if self._machines[1].leaving else None)
    report = run(plan(3, 15.0, at(10.9, "leave", 1)), rare=0.0)
    assert report.breach == Breach(BOUNDED, "safety", 11.0, "somebody leaves")


def test_a_peer_that_never_comes_back_is_named_missing_by_all() -> None:
    """What stays broken is no reason not to answer."""
    gone = Plan("test", 1, 4, 20.0, (at(10.0, "crash", 3),), (0, 1, 2))
    report = run(gone, rare=0.0)
    assert report.held, report.breach
    assert report.timeline[-1]["alive"] == 3.0


def seen(colleagues: Colleagues) -> object:
    """Who votes, by whom, and who does not; whose incarnation is the latest, nobody is told."""
    roll = colleagues.roll()
    voters = [(dataclasses.replace(voter.member, incarnation=0), voter.summary, voter.words) for voter in roll.voters]
    holders = {id: [member.id for member in members] for id, members in roll.holders.items()}
    return voters, [(member.id, why) for member, why in roll.absent], roll.misfits, holders


def test_what_is_read_of_those_who_said_something_is_what_reading_all_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment of a storm, in which members come, go, and take over what others held."""
    look, looks = Onlooker.look, []

    def compare(self: Onlooker) -> object:
        for peer in (machine.peer for machine in self._machines if machine.serving and machine.peer):
            anew = Colleagues(peer.node, peer.wire)
            anew._electorate, anew._before = peer.colleagues._electorate, peer.colleagues._before
            for member in peer.node.members():
                anew.held.heard(member.id)
            looks.append(seen(anew) == seen(peer.colleagues))
        return look(self)

    monkeypatch.setattr(Onlooker, "look", compare)
    assert run(storm(5, 25.0, 4)).held
    assert len(looks) > 100
    assert all(looks)


def test_rare_turns_are_taken_in_simulations_alone() -> None:
    """Whoever runs a daemon for real never takes one."""
    assert not any(buggify("anything") for _ in range(1000))
    with rare_turns(lambda site: site == "one"):
        assert buggify("one")
        assert not buggify("another")
    assert not buggify("one")


# Bugs that were planted, and what finds them.


def found(plant: Plant, first: int = 0) -> tuple[Plan, Breach]:
    """The first plan, from a seed on, in which a planted bug breaks the property that it should."""
    scenario, law, _ = DAEMON_PLANTS[plant]
    for seed in range(first, 500):
        drawn = dataclasses.replace(draw(scenario, seed, 4, 25.0), layer="daemon")
        breach = run(drawn).breach
        if breach is not None and breach.property == law:
            return drawn, breach
    raise AssertionError(f"{plant.__name__} was not found")


@pytest.mark.parametrize("plant", DAEMON_PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the property that it breaks, so that each property is known to fire."""
    plant(monkeypatch)
    found(plant, first=DAEMON_PLANTS[plant][2])


@pytest.mark.parametrize("plant", SHRUNK, ids=lambda plant: plant.__name__)
def test_what_finds_a_planted_bug_shrinks(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """To at most 6 operations that break the same property again; a benchmark of the simulator shrinks all."""
    plant(monkeypatch)
    search = shrink(run, *found(plant))
    assert len(search.plan.operations) <= 6
    assert search.breach.same(run(Plan.from_data(search.plan.to_data())).breach)


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
