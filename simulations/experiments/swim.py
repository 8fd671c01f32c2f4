"""From ten members up: how soon is a crash suspected first, and what does each send (SWIM, §5)?

Members probe one other in each period. So a crash is first suspected after about e/(e - 1) = 1.58 periods, whatever the
size, after 2n - 1 at worst, and a member sends and receives about two messages a period where nothing happens. With
churn of 10 % a minute what waits to be told must not grow.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2pml.gossip import Change, MemberChanged, Status

from ..cluster import Cluster, Host
from .harness import MODES, Figure, Lines, Measures, Result, counted, formed, no_collector

QUIET = 5.0
LASTING = 20.0
CRASHES = 20
CHURN = 0.1
"""Share of the members that are killed and started again each minute."""
MINUTES = 3
SEEDS = 3
REST = 10.0
"""Periods between two crashes: whoever probed in vain is healthy again."""
SIZES = {False: (10, 100, 1000, 10_000), True: (10, 40, 160)}
CHURNING = {False: (10, 100, 1000), True: (10, 40)}
SPREAD = 1.2
"""Largest load over least: within a tenth of what is between."""
GROWTH = 1.5
"""Mean of what waits in the last minute over that of the one before."""


class Case(NamedTuple):
    """One cluster, quiet until it is killed one by one, or churning."""

    mode: str
    members: int
    churn: bool


def cases(*, quick: bool) -> list[Case]:
    """List all sizes in both modes."""
    found = [Case(mode, size, False) for size in reversed(SIZES[quick]) for mode in MODES]
    return found + [Case(mode, size, True) for size in reversed(CHURNING[quick]) for mode in MODES]


def measure(case: Case) -> Measures:
    """Do one run."""
    with no_collector():
        cluster = formed(case.members, 1, case.mode, QUIET)
        return churning(cluster) if case.churn else quiet(cluster)


def quiet(cluster: Cluster) -> Measures:
    """Count what is sent where nothing happens, then kill some and see who suspects them first."""
    before = counted(cluster)
    cluster.run(LASTING)
    messages, sent = (now - then for now, then in zip(counted(cluster), before, strict=True))
    per = cluster.size * LASTING / cluster.settings.probe_interval
    first = list(suspected(cluster))
    return {
        "messages_a_period": messages / per,
        "bytes_a_period": sent / per,
        "first_suspicion": statistics.fmean(first),
        "latest_first_suspicion": max(first),
    }


def suspected(cluster: Cluster) -> Iterator[float]:
    """Kill members one by one, each at another moment, and say after how many periods somebody suspects each."""
    period = cluster.settings.probe_interval
    for index in range(1, 1 + min(CRASHES, cluster.size // 2)):
        at = cluster.clock.now
        subject = cluster[index]
        subject.crash()
        found: list[float] = []

        def note(host: Host, change: Change, subject: str = subject.id, found: list[float] = found) -> None:
            if isinstance(change, MemberChanged):
                is_it = change.member.id == subject and change.member.status is Status.SUSPECT
                found += [cluster.clock.now] if is_it else []

        cluster.change_observers.append(note)
        while not found:
            cluster.run(period / 4)
        cluster.change_observers.remove(note)
        yield (found[0] - at) / period
        cluster.run(period * (REST + index / CRASHES))


def churning(cluster: Cluster) -> Measures:
    """Kill a member every so often and start the one that was killed before; see what waits to be told."""
    step = 60.0 / (CHURN * cluster.size)
    waiting: list[list[float]] = []
    down: list[int] = []
    since, turn = cluster.clock.now, 0
    for _ in range(MINUTES):
        minute: list[float] = []
        waiting.append(minute)
        while cluster.clock.now < since + 60.0 * len(waiting):
            turn += 1
            if down:
                cluster[down.pop()].boot([one.address for one in cluster.up()[:SEEDS]])
            down.append(turn * 7 % cluster.size)
            cluster[down[-1]].crash()
            for _ in range(max(1, round(step))):
                cluster.run(min(1.0, step))
                minute.append(statistics.fmean(host.running.queues()["news"] for host in cluster.up()))
    means = [statistics.fmean(minute) for minute in waiting]
    return {"backlog": max(max(minute) for minute in waiting), "backlog_growth": means[-1] / max(1.0, means[-2])}


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say by size what is sent and how soon, and whether load depends on size and a backlog grows."""
    figures = []
    found = {(case.churn, case.members, case.mode): measures for case, measures in runs}
    loads = [[found[False, size, mode]["messages_a_period"] for size in SIZES[quick]] for mode in MODES]
    ours, swim = (max(load) / min(load) for load in loads)
    figures.append(Figure("load_spread", ours, SPREAD, ours, swim, "constant in n"))
    claims = {"messages_a_period": "2", "first_suspicion": "1.58", "latest_first_suspicion": "2n - 1"}
    for churn, sizes in ((False, SIZES[quick]), (True, CHURNING[quick])):
        for size in sizes:
            theirs = found[churn, size, MODES[1]]
            for name, value in found[churn, size, MODES[0]].items():
                bounds = {"latest_first_suspicion": 2.0 * size - 1, "backlog_growth": GROWTH}
                claim = claims.get(name, "")
                figures.append(Figure(f"{name}_{size}", value, bounds.get(name), value, theirs[name], claim))
    quiet_sizes = ", ".join(map(str, SIZES[quick]))
    churned = ", ".join(map(str, CHURNING[quick]))
    subset = f"{quiet_sizes} members, and {churned} with churn for {MINUTES} min; up to {CRASHES} crashes; in periods"
    panels: dict[str, Lines] = {
        name: {mode: [(size, found[False, size, mode][name]) for size in SIZES[quick]] for mode in MODES}
        for name in ("first_suspicion", "messages_a_period")
    }
    return Result("swim", subset, tuple(figures), "members", panels)
