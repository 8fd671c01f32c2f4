"""Nine of ten members crash at once: do the rest find together, and does a broadcast reach all of them (HyParView, §5)?

A broadcast is an entry that one survivor writes: one right after the crash, when nine of ten packets go nowhere, and
one when all hold the same view again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from ..cluster import Cluster, Host
from .harness import MODES, Figure, Gone, Measures, Result, formed, no_collector

QUIET = 5.0
SHARE = 0.9
GLANCE = 1.0
PATIENCE = 600.0
"""Virtual seconds after which the rest counts as not healed, or a broadcast as not received."""
SIZES = {False: 10_000, True: 300}


class Case(NamedTuple):
    """One run."""

    mode: str
    members: int


def cases(*, quick: bool) -> list[Case]:
    """List the run in both modes."""
    return [Case(mode, SIZES[quick]) for mode in MODES]


def measure(case: Case) -> Measures:
    """Do one run."""
    with no_collector():
        cluster = formed(case.members, 1, case.mode, QUIET)
        gone = Gone(cluster)
        rng = random.Random(case.members)  # noqa: S311 - a simulation
        for index in rng.sample(range(case.members), int(SHARE * case.members)):
            cluster[index].crash()
        rest = cluster.up()
        ids = {host.id for host in rest}
        at_once = received(cluster, rest, "at once")
        since = cluster.clock.now - at_once
        while cluster.clock.now < since + PATIENCE:
            if gone.agree(rest) and len(gone.of(rest[0])) == case.members - len(rest):
                break
            cluster.run(GLANCE)
        healed = cluster.clock.now - since
        afterwards = received(cluster, rest, "afterwards")
    return {
        "healed": healed,
        "broadcast_at_once": at_once,
        "broadcast_afterwards": afterwards,
        "missed": sum(host.running.entries(rest[0].id).get("afterwards") is None for host in rest),
        "survivors_declared_dead": sum(subject in ids for _, subject in gone.deaths),
    }


def received(cluster: Cluster, rest: Sequence[Host], key: str) -> float:
    """Let the first survivor write an entry, and say after how many seconds all have it."""
    since = cluster.clock.now
    cluster.write(rest[0].index, key, b"heard")
    waiting = list(rest)
    while waiting and cluster.clock.now < since + PATIENCE:
        cluster.run(GLANCE / 4)
        waiting = [host for host in waiting if key not in host.running.entries(rest[0].id)]
    return cluster.clock.now - since


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say how long it took, and whom the broadcast did not reach."""
    ours, swim = (next(measures for case, measures in runs if case.mode == mode) for mode in MODES)
    bounds = {"missed": 0.0, "survivors_declared_dead": 0.0, "healed": PATIENCE - GLANCE}
    figures = [Figure(name, value, bounds.get(name), value, swim[name]) for name, value in ours.items()]
    subset = f"{SIZES[quick]} members (the paper: 10,000), one seed; in s, where {PATIENCE:g} means not within that"
    times = [name for name in ours if name.startswith(("healed", "broadcast"))]
    lines = {
        mode: [(at, found[name]) for at, name in enumerate(times)]
        for mode, found in ((MODES[0], ours), (MODES[1], swim))
    }
    return Result("hyparview", subset, tuple(figures), "0 healed, 1 at once, 2 afterwards", {"s": lines})
