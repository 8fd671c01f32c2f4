"""The models of the hosts of the layer core: trained or loaded after a start, told in the catalogue, trained anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pml.gossip import Node

from .cluster import Cluster, Disk, Host
from .lessons import Lesson, Lessons

SUMMARY = "summary"
"""The key of the catalogue under which a peer tells of its model."""
TRAINING, LOADING = 2.0, 0.6
"""Virtual seconds from a start to the first vote, without a model on disk and with one, as measured on real peers."""
AGAIN = 0.25
"""Seconds after which is looked again at a host that stands still."""


@dataclass
class Learner:
    """One host: the disk that its model is on, the run that serves it, and what was told of it since when."""

    disk: Disk | None = None
    serving: Node | None = None
    fits: int = 0
    told: list[tuple[float, bytes]] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)
    """Who did not answer this run last time, by id, and why: it is not asked until it can be reached again."""


class Learners:
    """All of them."""

    def __init__(self, cluster: Cluster, lessons: Lessons) -> None:
        """Know nothing yet."""
        self._cluster, self._lessons = cluster, lessons
        self._learners = [Learner() for _ in cluster.hosts]

    def __getitem__(self, host: Host) -> Learner:
        """Look one up."""
        return self._learners[host.index]

    def lesson(self, host: Host) -> Lesson:
        """What a host votes with."""
        return self._lessons.of(host.index)

    def ready(self, host: Host) -> bool:
        """Whether a host runs and has a model."""
        return host.node is not None and not host.paused and self[host].serving is host.node

    def booted(self, host: Host) -> None:
        """Load the model of a host that was just started, or train one where its disk has none."""
        learner = self[host]
        learner.unreachable.clear()
        takes = LOADING if learner.disk is host.disk else TRAINING
        self._later(host, takes, lambda: self.serve(host))

    def fit(self, host: Host) -> None:
        """Train anew; the old model votes meanwhile."""

        def trained() -> None:
            self[host].fits += 1
            self.serve(host)

        self._later(host, TRAINING, trained)

    def outdated_for(self, host: Host, seen: bytes | None) -> float:
        """For how many seconds what somebody sees of a host has not been what it tells."""
        learner = self[host]
        later = 0
        for place, (_, entry) in enumerate(learner.told):
            if entry == seen:
                later = place + 1
        return 0.0 if later == len(learner.told) else self._cluster.clock.now - learner.told[later][0]

    def serve(self, host: Host) -> None:
        """Let a host vote with its model from now on, and tell so."""
        learner, node = self[host], host.running
        entry = self._lessons.summary(host.index, learner.fits)
        if learner.serving is not node:
            # What its last run told is gone with it.
            learner.told = []
        learner.disk, learner.serving = host.disk, node
        learner.told.append((self._cluster.clock.now, entry))
        self._cluster.write(host.index, SUMMARY, entry)

    def _later(self, host: Host, seconds: float, work: Callable[[], None]) -> None:
        """Do something in so many seconds, if the same run still runs; if it stands still, when it goes on."""
        node = host.node

        def due() -> None:
            if host.node is node and host.paused:
                self._cluster.clock.after(AGAIN, due)
            elif host.node is node:
                work()

        self._cluster.clock.after(seconds, due)
