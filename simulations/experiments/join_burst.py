"""A crowd joins through one seed: when do all hold one same view (Rapid, §7.1)?

The seed is alone at first; then all others start within a second and know nobody but it. memberlist takes 95 s for
2,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..cluster import Cluster
from .harness import MODES, Figure, Lines, Measures, Result, no_collector, settings

WITHIN = 1.0
GLANCE = 0.5
PATIENCE = 120.0
SIZES = {False: (2000, 1000, 500, 250), True: (400, 200, 100)}
BOUND = 15.0
"""Virtual seconds that 2,000 may take."""


class Case(NamedTuple):
    """One crowd."""

    mode: str
    members: int


def cases(*, quick: bool) -> list[Case]:
    """List crowds of several sizes in both modes."""
    return [Case(mode, size) for size in SIZES[quick] for mode in MODES]


def measure(case: Case) -> Measures:
    """Do one run; what has not met within the patience is shown as that."""
    with no_collector():
        cluster = Cluster(case.members, 1, settings(case.mode), direct=True, keeps_changes=False)
        cluster[0].boot([])
        cluster.run(5.0)
        since = cluster.clock.now
        for host in cluster.hosts[1:]:
            cluster.clock.after(WITHIN * host.index / case.members, host.boot, [cluster[0].address])
        cluster.run(WITHIN)
        while cluster.clock.now < since + PATIENCE:
            cluster.run(GLANCE)
            if all(host.running.remembered() == case.members for host in cluster.hosts) and cluster.agreed():
                break
        return {
            "views_equal": cluster.clock.now - since,
            "kilobytes": cluster.network.bytes / 1000 / case.members,
            "kilobytes_of_the_seed": cluster[0].running.counters["bytes_sent"] / 1000,
        }


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say when all views were equal, by size."""
    figures = []
    found = {(case.members, case.mode): measures for case, measures in runs}
    for size in SIZES[quick]:
        ours, swim = (found[size, mode] for mode in MODES)
        for name, value in ours.items():
            bound = BOUND if name == "views_equal" else None
            words = "95 s (memberlist)" if (size, name) == (2000, "views_equal") else ""
            figures.append(Figure(f"{name}_{size}", value, bound, value, swim[name], words))
    sizes = ", ".join(map(str, SIZES[quick]))
    subset = f"crowds of {sizes} (the claim is about 2000), one seed each; views in s, kilobytes sent a member"
    lines: Lines = {
        mode: [(size, found[size, mode]["views_equal"]) for size in reversed(SIZES[quick])] for mode in MODES
    }
    return Result("join-burst", subset, tuple(figures), "members", {"all views equal after (s)": lines})
