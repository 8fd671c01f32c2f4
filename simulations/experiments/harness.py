"""What all experiments share: runs over local processes, and figures with what they are held to.

An experiment is a list of runs as data, a function that does one of them, and one that reads figures out of all. Each
run is drawn from its own seed, so that it is the same in any process, on any machine.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from p2pml.gossip import Change, MemberChanged, Settings, Status

from ..cluster import Cluster, Host
from ..core import no_collector

STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom."""

MODES = ("p2pml", "SWIM")
"""What runs under the same conditions and seeds: the protocol, and plain SWIM in the same code."""

Case = TypeVar("Case")
Measures = Mapping[str, float]
"""What one run came to."""
Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by the name of their line."""


@dataclass(frozen=True)
class Figure:
    """One line of a result: a measure of ours, of plain SWIM's in the same runs, and what the paper says.

    `value` is what counts, `interval` its 95 % confidence interval over repeats, and `at_most` what it is held to.
    """

    name: str
    value: float
    at_most: float | None = None
    ours: float | None = None
    swim: float | None = None
    paper: str = ""
    interval: tuple[float, float] | None = None

    @property
    def held(self) -> bool:
        """Whether it is as good as it has to be."""
        return self.at_most is None or self.value <= self.at_most


@dataclass(frozen=True)
class Result:
    """What an experiment came to. `subset` says what of the paper's runs was run."""

    experiment: str
    subset: str
    figures: tuple[Figure, ...]
    x: str = ""
    panels: Mapping[str, Lines] = field(default_factory=dict)
    """What to draw over `x`: panels by the name of their y axis."""

    @property
    def held(self) -> bool:
        """Whether every figure is as good as it has to be."""
        return all(figure.held for figure in self.figures)

    def to_data(self) -> dict[str, Any]:
        """Write it as `--json` prints it."""
        return {
            "experiment": self.experiment,
            "subset": self.subset,
            "held": self.held,
            "measures": {figure.name: figure.value for figure in self.figures},
            "figures": [asdict(figure) | {"held": figure.held} for figure in self.figures],
            "x": self.x,
            "panels": {name: dict(lines) for name, lines in self.panels.items()},
        }


class Experiment(Protocol, Generic[Case]):
    """One file of this package; its docstring is what is shown of it."""

    def cases(self, *, quick: bool) -> list[Case]:
        """List the runs, those that take longest first."""

    def measure(self, case: Case) -> Measures:
        """Do one run."""

    def result(self, runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
        """Read the figures out of all runs."""


def carry_out(measure: Callable[[Case], Measures], cases: Sequence[Case], jobs: int) -> Iterator[tuple[Case, Measures]]:
    """Do all runs in so many processes, and give each back in its order."""
    if jobs == 1:
        yield from ((case, measure(case)) for case in cases)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from zip(cases, pool.map(measure, cases), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean of up to ten repeats; `None` for a single one."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = STUDENT[min(len(values) - 1, len(STUDENT)) - 1] * deviation / math.sqrt(len(values))
    return mean - half, mean + half


def settings(mode: str) -> Settings:
    """The parameters of a mode, on one site."""
    return Settings.lan() if mode == "p2pml" else Settings.lan().swim()


def formed(size: int, seed: int, mode: str, quiet: float) -> Cluster:
    """Start a cluster in which all know one another, and let it stand for some seconds."""
    cluster = Cluster(size, seed, settings(mode), direct=True)
    cluster.form()
    cluster.run(quiet)
    return cluster


class Gone:
    """Follows whom every host of a cluster holds dead, from now on, as long as all were held alive before."""

    def __init__(self, cluster: Cluster) -> None:
        """Look on."""
        self._gone: dict[int, set[str]] = {host.index: set() for host in cluster.hosts}
        self.deaths: list[tuple[int, str]] = []
        """Who came to hold whom dead."""
        cluster.change_observers.append(self)

    def __call__(self, host: Host, change: Change) -> None:
        """Take what a host tells."""
        if not isinstance(change, MemberChanged):
            return
        if change.member.status is Status.DEAD:
            self._gone[host.index].add(change.member.id)
            self.deaths.append((host.index, change.member.id))
        else:
            self._gone[host.index].discard(change.member.id)

    def of(self, host: Host) -> set[str]:
        """Whom a host holds dead."""
        return self._gone[host.index]

    def agree(self, hosts: Sequence[Host]) -> bool:
        """Whether these hosts hold the same members dead."""
        first = self.of(hosts[0])
        return all(self.of(host) == first for host in hosts)


def deaths(host: Host, since: float) -> Iterator[tuple[float, str]]:
    """List when a host came to hold whom dead, after a time."""
    for time, change in host.changes:
        if time >= since and isinstance(change, MemberChanged) and change.member.status is Status.DEAD:
            yield time, change.member.id


def counted(cluster: Cluster) -> tuple[int, int]:
    """Messages and bytes sent so far by all that run: datagrams, and requests by stream."""
    nodes = [host.running.counters for host in cluster.up()]
    messages = sum(node["datagrams_sent"] + node["streams_opened"] for node in nodes)
    return messages, sum(node["bytes_sent"] for node in nodes)


__all__ = [
    "MODES",
    "Experiment",
    "Figure",
    "Gone",
    "Lines",
    "Measures",
    "Result",
    "carry_out",
    "counted",
    "deaths",
    "formed",
    "interval",
    "no_collector",
    "settings",
]
