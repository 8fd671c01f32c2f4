"""`GET /metrics`: what this peer sees and does, in the text format of Prometheus.

Everything is read when it is asked for; what only adds up is counted here. Labels are bounded by the members that
are remembered, so that nobody can fill another peer's memory, or Prometheus', with names.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import p2pml
from p2pml.ensemble.summary import ModelState
from p2pml.gossip import Member, Status

from .answers import Votes
from .wire import VOTE_PATH

if TYPE_CHECKING:
    from prometheus_client.registry import Collector, CollectorRegistry

    from .daemon import Peer

    Family = object

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: from a vote on one row over a local network to the default deadline of an answer."""


class Latencies:
    """How long something took, in BUCKETS."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[next((at for at, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds with how many took at most so long."""
        sums = [sum(self._counts[: at + 1]) for at in range(len(self._counts))]
        return list(zip([*map(str, BUCKETS), "+Inf"], map(float, sums), strict=True))


class Metrics:
    """What adds up in one peer, and the page that shows it with all that is read on the spot."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._began = asyncio.get_running_loop().time()
        self._registry: CollectorRegistry | None = None
        self.answers = Latencies()
        self.votes: Counter[str] = Counter()
        self.voters: dict[str, Latencies] = {}

    def answered(self, votes: Votes, took: float) -> None:
        """A question was answered in `took` seconds."""
        self.answers.add(took)
        self.votes["cast"] += votes["cast"]
        self.votes["missing"] += votes["expected"] - votes["cast"]

    def heard(self, member: Member, path: str, took: float) -> None:
        """Another peer answered what this one asked at `path`, after `took` seconds."""
        if path == VOTE_PATH:
            self.voters.setdefault(member.id, Latencies()).add(took)

    def page(self) -> tuple[bytes, str]:
        """The metrics now, and their content type."""
        # Imported with the first question: a peer that nobody measures does not carry it.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(_collector(self))
            ProcessCollector(registry=self._registry)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def families(self) -> Iterator[Family]:
        """Every family of metrics, with its samples."""
        yield from self._members()
        yield from self._gossip()
        yield from self._model()
        yield from self._questions()
        yield from self._drift()

    def _members(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        peer = self._peer
        about = {"version": p2pml.__version__, "cluster": peer.options.cluster, "name": peer.name, "id": peer.id}
        yield InfoMetricFamily("p2pml", "This peer.", value=about)
        members = GaugeMetricFamily("p2pml_members", "Members, as this peer sees them.", labels=["status"])
        statuses = Counter(member.status for member in peer.node.members())
        for status in Status:
            members.add_metric([str(status)], statuses[status])
        yield members
        told = peer.observer.counts
        for name, kind, words in (
            ("suspicions", "suspected", "Members that came under suspicion."),
            ("refutations", "refuted", "Suspicions that the suspect itself refuted."),
            ("deaths", "died", "Members that were declared dead."),
            ("heals", "healed", "Members that were dead and came back without a restart."),
        ):
            yield CounterMetricFamily(f"p2pml_{name}", words, value=told[kind])

    def _gossip(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        node, counters = self._peer.node, self._peer.node.counters
        size = CounterMetricFamily("p2pml_gossip_bytes", "Bytes of the protocol.", labels=["direction"])
        for direction, name in (("in", "bytes_received"), ("out", "bytes_sent")):
            size.add_metric([direction], counters.get(name, 0))
        yield size
        # The reasons are this program's own words, a dozen.
        drops = CounterMetricFamily("p2pml_gossip_dropped", "Packets that were not taken.", labels=["reason"])
        for name, count in sorted(counters.items()):
            if name.startswith("dropped_"):
                drops.add_metric([name.removeprefix("dropped_")], count)
        yield drops
        alone = not any(m.status is Status.ALIVE for m in node.members() if m.id != node.me.id)
        now = asyncio.get_running_loop().time()
        yield GaugeMetricFamily(
            "p2pml_catalogue_staleness_seconds",
            "Seconds since another member last had the very same tables as this peer; 0 where it is alone.",
            value=0.0 if alone else max(0.0, now - (self._began if node.agreed_at is None else node.agreed_at)),
        )

    def _model(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        fitting, trained, counts = self._peer.fitting, self._peer.voting.trained, self._peer.observer.trainings
        ready = self._peer.why_not_ready() is None
        yield GaugeMetricFamily("p2pml_ready", "Whether this peer can vote.", value=ready)
        training = fitting.state is ModelState.TRAINING
        yield GaugeMetricFamily("p2pml_training", "Whether this peer trains now.", value=training)
        trainings = CounterMetricFamily("p2pml_trainings", "Trainings of this peer, by outcome.", labels=["outcome"])
        for outcome in ("trained", "failed"):
            trainings.add_metric([outcome], counts[outcome])
        yield trainings
        if fitting.took is not None:
            yield GaugeMetricFamily("p2pml_training_seconds", "How long the last training took.", value=fitting.took)
        yield GaugeMetricFamily(
            "p2pml_fit_epoch", "The fit that this peer follows.", value=fitting.wanted.epoch.counter
        )
        rows = trained.rows if trained is not None else 0
        yield GaugeMetricFamily("p2pml_training_rows", "Rows that the model was trained on.", value=rows)
        score = self._peer.observer.pulse.score
        if score is not None:
            family = GaugeMetricFamily("p2pml_ensemble_score", "The last evaluation of this peer.", labels=["metric"])
            family.add_metric([score.metric], score.value)
            yield family

    def _drift(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        alerts = self._peer.observer.alerts()
        standing = GaugeMetricFamily(
            "p2pml_drift_columns",
            "Columns of the rows a peer is asked about that have moved, as its alert says; nothing without an alert.",
            labels=["peer", "id"],
        )
        for alert in alerts:
            standing.add_metric([alert["name"], alert["peer"][:12]], len(alert["columns"]) + alert["more"])
        yield standing
        yield GaugeMetricFamily("p2pml_drift_alerts", "Peers whose drift alert stands.", value=len(alerts))
        raised = self._peer.observer.counts["drift"]
        yield CounterMetricFamily("p2pml_drifts", "Drift alerts that were heard of.", value=raised)

    def _questions(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        votes = CounterMetricFamily("p2pml_votes", "Votes in this peer's answers.", labels=["outcome"])
        for outcome in ("cast", "missing"):
            votes.add_metric([outcome], self.votes[outcome])
        yield votes
        asked = self._peer.drifting.rows_asked
        yield CounterMetricFamily("p2pml_rows_asked", "Rows that this peer was asked to predict.", value=asked)
        rows = self._peer.voting.rows_voted
        yield CounterMetricFamily("p2pml_rows_voted", "Rows that this peer's model voted on.", value=rows)
        yield HistogramMetricFamily(
            "p2pml_answer_seconds",
            "How long this peer's answers took.",
            buckets=self.answers.buckets(),
            sum_value=self.answers.total,
        )
        members = {member.id: member for member in self._peer.node.members()}
        self.voters = {id: latencies for id, latencies in self.voters.items() if id in members}
        latency = HistogramMetricFamily(
            "p2pml_vote_seconds", "How long another peer's vote took, from here.", labels=["peer", "id"]
        )
        for id, latencies in sorted(self.voters.items()):
            latency.add_metric([members[id].name, id[:12]], buckets=latencies.buckets(), sum_value=latencies.total)
        yield latency


def _collector(metrics: Metrics) -> Collector:
    """The metrics as what prometheus-client collects from."""
    from prometheus_client.registry import Collector

    class OfPeer(Collector):
        def collect(self) -> Iterator[object]:  # type: ignore[override]
            return metrics.families()

    return OfPeer()
