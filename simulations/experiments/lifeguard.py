"""Members whose IO blocks, or that stand still, again and again: who is falsely declared dead (Lifeguard, §V)?

128 members; some of them block in lock-step for a while, run free for a while, and so on for two minutes. A false
positive is a member's coming to hold a healthy one dead; some of these happen at members that are healthy themselves.
Detection is of the first blocked period: from its begin until the first healthy member holds the blocked one dead.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ..cluster import Cluster
from .harness import MODES, Figure, Measures, Result, counted, deaths, formed, interval, no_collector

MEMBERS = 128
QUIET = 15.0
LASTING = 120.0
CONCURRENT = (1, 4, 8, 12, 16, 20, 24, 28, 32)
BLOCKED = (0.128, 0.512, 2.048, 8.192, 16.384, 32.768)
FREE = (0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384)
REPEATS = 10

QUICK = ((24, 8.192, 0.064), (16, 16.384, 0.256), (8, 2.048, 1.024))
QUICK_REPEATS = 3
QUICK_LASTING = 40.0

VARIANTS = {"": "IO blocked", "paused_": "process paused"}
"""The prefix of a variant's measures, and what happens in it."""

CLAIMS = {
    "false_positives": (0.0153, "1.53 %"),
    "false_positives_at_healthy": (0.0189, "1.89 %"),
    "messages": (1.106, "110.6 %"),
    "bytes": (0.980, "98.0 %"),
    "median_first_detection": (1.0, "12.45 s against 12.44 s"),
}
"""What Lifeguard reports as its share of SWIM's (tables IV to VI)."""


class Case(NamedTuple):
    """One run. Times are in s."""

    variant: str
    mode: str
    concurrent: int
    blocked: float
    free: float
    repeat: int
    lasting: float
    members: int = MEMBERS


def cases(*, quick: bool) -> list[Case]:
    """List all runs of both variants and modes; every cell of the paper's grid, or a few that hurt."""
    cells = QUICK if quick else [(c, d, i) for c in CONCURRENT for d in BLOCKED for i in FREE]
    repeats, lasting = (QUICK_REPEATS, QUICK_LASTING) if quick else (REPEATS, LASTING)
    runs = ((repeat, cell, variant) for repeat in range(repeats) for cell in cells for variant in VARIANTS)
    return [Case(variant, mode, *cell, repeat, lasting) for repeat, cell, variant in runs for mode in MODES]


def measure(case: Case) -> Measures:
    """Do one run."""
    with no_collector():
        cluster = formed(case.members, case.repeat, case.mode, QUIET)
        rng = random.Random(f"{case.concurrent}/{case.blocked}/{case.free}/{case.repeat}")  # noqa: S311 - a simulation
        anomalous = rng.sample(range(case.members), case.concurrent)
        since, before = cluster.clock.now, counted(cluster)
        while cluster.clock.now < since + case.lasting:
            block(cluster, anomalous, case)
            cluster.run(case.free)
        messages, sent = (now - then for now, then in zip(counted(cluster), before, strict=True))
    ids = {cluster[index].id for index in anomalous}
    false_positives = at_healthy = 0
    first: dict[str, float] = {}
    for host in cluster.hosts:
        for time, subject in deaths(host, since):
            if subject not in ids:
                false_positives += 1
                at_healthy += host.id not in ids
            elif host.id not in ids and time <= since + case.blocked:
                first[subject] = min(time, first.get(subject, time))
    found = {f"first_detection_{count}": time - since for count, time in enumerate(first.values())}
    return {
        "false_positives": false_positives,
        "false_positives_at_healthy": at_healthy,
        "messages": messages,
        "bytes": sent,
        **found,
    }


def block(cluster: Cluster, anomalous: Sequence[int], case: Case) -> None:
    """Let the members block once."""
    for index in anomalous:
        if case.variant:
            cluster.pause(index, case.blocked)
        else:
            cluster.network.hold(cluster[index].address)
    cluster.run(case.blocked)
    for index in anomalous:
        cluster.network.release(cluster[index].address)


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say each measure as a share of plain SWIM's, over all cells of a repeat, and its interval over repeats."""
    figures = []
    repeats = sorted({case.repeat for case, _ in runs})
    for variant in VARIANTS:
        for name, (claim, words) in CLAIMS.items():
            ours, swim = (
                [_total(name, [m for case, m in runs if case[:2] == (variant, mode) and case.repeat == repeat])
                 for repeat in repeats]
                for mode in MODES
            )  # fmt: skip
            shares = [_share(one, other) for one, other in zip(ours, swim, strict=True)]
            figures.append(
                Figure(
                    variant + name,
                    _share(sum(ours), sum(swim)),
                    claim,
                    sum(ours) / len(ours),
                    sum(swim) / len(swim),
                    words,
                    interval(shares),
                )
            )
    cells = len({case[2:5] for case, _ in runs})
    whole = len(CONCURRENT) * len(BLOCKED) * len(FREE)
    lasting = QUICK_LASTING if quick else LASTING
    subset = f"{cells} of {whole} combinations, {len(repeats)} of {REPEATS} repeats, {lasting:g} of {LASTING:g} s"
    return Result("lifeguard", subset, tuple(figures), "members whose IO blocks", {"false positives": by_size(runs)})


def by_size(runs: Sequence[tuple[Case, Measures]]) -> dict[str, list[tuple[float, float]]]:
    """Draw the mean of false positives over the number of members whose IO blocks."""
    lines = {}
    for mode in MODES:
        found: dict[float, list[float]] = {}
        for case, measures in runs:
            if case[:2] == ("", mode):
                found.setdefault(case.concurrent, []).append(measures["false_positives"])
        lines[mode] = [(size, statistics.fmean(found[size])) for size in sorted(found)]
    return lines


def _total(name: str, runs: Sequence[Measures]) -> float:
    if name == "median_first_detection":
        return statistics.median(t for run in runs for key, t in run.items() if key.startswith("first_detection"))
    return sum(run[name] for run in runs)


def _share(ours: float, swim: float) -> float:
    """A share of nothing is none where ours is nothing too."""
    return ours / swim if swim else float(ours > 0)
