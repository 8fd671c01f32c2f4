"""Members write faster than packets can carry it: how old does what others know get (Scuttlebutt, §5)?

128 members with 64 keys each; every one writes once a second, twice from 25 s to 75 s, and no more from 120 s on. A
member is stale of another for as long as the first of the other's writes that it lacks is old.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..cluster import Cluster
from .harness import MODES, Figure, Lines, Measures, Result, formed, no_collector

KEYS = 64
BUSY = (25.0, 75.0)
"""When everybody writes twice as often (s)."""
STOPPED = 120.0
LASTING = 150.0
SIZES = {False: 128, True: 16}
BOUND = 24.0
"""Seconds that anybody may be stale of anybody."""


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
        cluster = formed(case.members, 1, case.mode, 5.0)
        sent = cluster.network.bytes
        written: list[list[float]] = [[] for _ in cluster.hosts]
        base = [host.running.version(host.id) for host in cluster.hosts]
        measures = {}
        for second in range(int(LASTING)):
            for host in cluster.hosts if second < STOPPED else ():
                for part in range(1 + (BUSY[0] <= second < BUSY[1])):
                    delay = (host.index / case.members + part) / 2
                    cluster.clock.after(delay, write, cluster, host.index, written[host.index])
            cluster.run(1.0)
            measures[f"staleness_{second + 1}"] = staleness(cluster, written, base)
        peak = max(measures.values())
        kilobytes = (cluster.network.bytes - sent) / 1000 / case.members / LASTING
    stale = [int(name.partition("_")[2]) for name, value in measures.items() if value > 0]
    return {"peak_staleness": peak, "caught_up_after": max(0.0, max(stale, default=0) + 1 - STOPPED),
            "kilobytes_a_second": kilobytes, **measures}  # fmt: skip


def write(cluster: Cluster, index: int, written: list[float]) -> None:
    """Let a member write its next key, and note when."""
    count = len(written)
    written.append(cluster.clock.now)
    cluster.write(index, f"key-{count % KEYS:02}", b"%08d" % count)


def staleness(cluster: Cluster, written: Sequence[Sequence[float]], base: Sequence[int]) -> float:
    """Say how old the oldest write is that anybody lacks."""
    now = cluster.clock.now
    oldest = now
    for owner, times in zip(cluster.hosts, written, strict=True):
        known = min(host.running.version(owner.id) for host in cluster.hosts) - base[owner.index]
        if known < len(times):
            oldest = min(oldest, times[max(0, known)])
    return now - oldest


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say the peak, and how soon all knew all when the writing had stopped."""
    ours, swim = (next(measures for case, measures in runs if case.mode == mode) for mode in MODES)
    bounds = {"peak_staleness": BOUND, "caught_up_after": None, "kilobytes_a_second": None}
    figures = tuple(Figure(name, ours[name], most, ours[name], swim[name]) for name, most in bounds.items())
    subset = f"{SIZES[quick]} members (the paper: 128), {KEYS} keys, one seed; in s"
    lines: Lines = {
        mode: [(second, found[f"staleness_{second}"]) for second in range(1, int(LASTING) + 1)]
        for mode, found in zip(MODES, (ours, swim), strict=True)
    }
    return Result("scuttlebutt", subset, figures, "s", {"staleness (s)": lines})
