"""Members crash, go deaf for 20 s of every 40, or lose 80 % of what they send: do the rest agree (Rapid, §7)?

Ten of a thousand do. All healthy members should hold one same view in bounded time, and none of them should be declared
dead. memberlist oscillates where members go deaf, and never settles where they lose packets. Bytes are means over the
healthy members, from the fault on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from ..cluster import Cluster
from ..network import Conditions, Rule
from .harness import MODES, Figure, Gone, Lines, Measures, Result, formed, no_collector

QUIET = 10.0
LASTING = {"crash": 120.0, "deaf": 120.0, "lossy": 120.0}
"""How long each fault is looked at, in s."""
PERIOD = 20.0
LOSS = 0.8
GLANCE = 0.5
BOUND = 30.0
"""Seconds for which views may differ: two reconnect intervals, as after a split."""
SIZES = {False: (1000, 10), True: (150, 5)}
"""Members and how many of them are faulty, of the whole and of a quick run."""


class Case(NamedTuple):
    """One fault."""

    mode: str
    fault: str
    members: int
    faulty: int
    seconds: float


def cases(*, quick: bool) -> list[Case]:
    """List the three faults in both modes."""
    return [Case(mode, fault, *SIZES[quick], seconds) for fault, seconds in LASTING.items() for mode in MODES]


def measure(case: Case) -> Measures:
    """Do one run."""
    with no_collector():
        cluster = formed(case.members, 1, case.mode, QUIET)
        rng = random.Random(f"{case.fault}/{case.members}")  # noqa: S311 - a simulation
        faulty = rng.sample(range(case.members), case.faulty)
        healthy = [host for host in cluster.hosts if host.index not in faulty]
        ids = {host.id for host in healthy}
        gone = Gone(cluster)
        before = [(host.running.counters["bytes_received"], host.running.counters["bytes_sent"]) for host in healthy]
        since = cluster.clock.now
        differing = longest = settled = 0.0
        while cluster.clock.now < since + case.seconds:
            if (cluster.clock.now - since) % PERIOD < GLANCE / 2:
                begin(cluster, case.fault, faulty, cluster.clock.now - since)
            cluster.run(GLANCE)
            agree = gone.agree(healthy)
            differing = 0.0 if agree else differing + GLANCE
            longest = max(longest, differing)
            settled = settled if agree else cluster.clock.now - since
        received = sum(host.running.counters["bytes_received"] for host in healthy) - sum(one for one, _ in before)
        sent = sum(host.running.counters["bytes_sent"] for host in healthy) - sum(one for _, one in before)
    per = 1000 * len(healthy) * case.seconds
    return {
        "healthy_declared_dead": sum(subject in ids for _, subject in gone.deaths),
        "longest_disagreement": longest,
        "last_disagreement": settled,
        "kilobytes_in": received / per,
        "kilobytes_out": sent / per,
    }


def begin(cluster: Cluster, fault: str, faulty: Sequence[int], passed: float) -> None:
    """Let the fault begin, or at each 20 s go on: a crash and the loss are for good."""
    addresses = frozenset(cluster[index].address for index in faulty)
    if fault == "deaf":
        cluster.network.heal(fault)
        if passed % (2 * PERIOD) < PERIOD:
            cluster.network.cut(None, addresses, fault)
    elif passed < GLANCE and fault == "lossy":
        fair = cluster.network.conditions
        cluster.network.rules.append(Rule(fault, addresses, None, Conditions(fair.delay, LOSS)))
    elif passed < GLANCE:
        for index in faulty:
            cluster[index].crash()


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say how long views differed, whom they buried, and what the crash cost."""
    figures = []
    found = {(case.fault, case.mode): measures for case, measures in runs}
    for fault in LASTING:
        ours, swim = (found[fault, mode] for mode in MODES)
        bounds = {"healthy_declared_dead": 0.0, "longest_disagreement": BOUND}
        if fault == "crash":
            bounds |= {"kilobytes_in": 0.54, "kilobytes_out": 0.64}
        for name, value in ours.items():
            words = f"{bounds[name]} (memberlist)" if name.startswith("kilo") and name in bounds else ""
            figures.append(Figure(f"{fault}_{name}", value, bounds.get(name), value, swim[name], words))
    members, faulty = SIZES[quick]
    seconds = ", ".join(f"{fault} {span:g} s" for fault, span in LASTING.items())
    subset = f"{faulty} of {members} members (the paper: 10 of 1000), one seed, {seconds}; kilobytes a second"
    lines: Lines = {mode: [(at, found[fault, mode]["longest_disagreement"]) for at, fault in enumerate(LASTING)]
                    for mode in MODES}  # fmt: skip
    return Result("rapid", subset, tuple(figures), "fault: 0 crash, 1 deaf, 2 lossy", {"views differ (s)": lines})
