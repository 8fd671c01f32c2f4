"""What must hold at every step, whatever the network does: an observer that fails at the first breach."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pml.gossip import (
    AnswerStream,
    DatagramReceived,
    Effect,
    Event,
    MemberChanged,
    Notify,
    OpenStream,
    SendDatagram,
    Status,
    StreamReceived,
    TimerFired,
    limits,
)
from p2pml.gossip.records import Record
from p2pml.gossip.suspicion import timeout

from .cluster import Cluster, Host

Run = tuple[str, int, int]
"""One run of one identity: its id, generation and nonce."""

QUEUES = {
    "probes": limits.PROBES_LIMIT,
    "relays": limits.RELAYS_LIMIT,
    "streams": limits.STREAMS_LIMIT,
}

ROUNDS = ("probe", "reconnect", "gossip", "compare", "open the catalogue")
"""What a node has one timer for, beside those of its probes, relays and suspicions."""


LAWS = (
    "nobody declares itself dead",
    "a request is answered exactly once",
    "a datagram fits its limit",
    "a stream message fits its limit",
    "every queue is bounded",
    "views hold only identities that ever booted",
    "records move one way at each observer",
    "only the owner raises its incarnation",
    "no death before its suspicion's deadline",
)
"""All that is checked."""


class Broken(AssertionError):
    """A property does not hold. The message names it, the host and the time."""


@dataclass
class Invariants:
    """The protocol's safety properties, checked at each event of each host."""

    cluster: Cluster
    hosts: frozenset[int] | None = None
    """Whose views are checked; `None` means everybody's. In a large cluster a sample must do."""
    _seen: dict[Run, dict[str, Record]] = field(default_factory=dict)
    _states: dict[Run, int] = field(default_factory=dict)
    _highest: dict[Run, int] = field(default_factory=dict)
    _suspected: dict[Run, dict[str, tuple[float, int]]] = field(default_factory=dict)
    """Since when each run suspects whom, and the fewest live members that it has known since."""

    def watch(self) -> Invariants:
        """Look on from now on."""
        self.cluster.observers.append(self)
        return self

    def __call__(self, host: Host, event: Event, effects: list[Effect]) -> None:
        """Check everything after one event."""
        node = host.running
        run = (host.id, node.me.generation, node.me.nonce)
        own = node.record(host.id)
        self._hold(own is not None and own.status in (Status.ALIVE, Status.LEFT), "nobody declares itself dead", host)
        assert own is not None
        self._highest[run] = max(self._highest.get(run, 0), own.incarnation)
        if self.hosts is not None and host.index not in self.hosts:
            return
        self._check_effects(host, event, effects)
        self._check_queues(host)
        if node.state() != self._states.get(run) or any(isinstance(effect, Notify) for effect in effects):
            self._states[run] = node.state()
            self._check_records(host, run)
        self._check_verdicts(host, run, event, effects)

    def _hold(self, held: bool, law: str, host: Host, detail: object = "") -> None:
        if not held:
            raise Broken(f"{law}: {host.name} at {self.cluster.clock.now:.6f} s {detail}".rstrip())

    def _check_effects(self, host: Host, event: Event, effects: list[Effect]) -> None:
        answers = [effect.token for effect in effects if isinstance(effect, AnswerStream)]
        expected = [event.token] if isinstance(event, StreamReceived) else []
        self._hold(answers == expected, "a request is answered exactly once", host)
        for effect in effects:
            if isinstance(effect, SendDatagram):
                self._hold(len(effect.data) <= limits.PACKET_LIMIT, "a datagram fits its limit", host)
            elif isinstance(effect, OpenStream | AnswerStream):
                self._hold(len(effect.data) <= limits.STREAM_LIMIT, "a stream message fits its limit", host)

    def _check_queues(self, host: Host) -> None:
        queues = host.running.queues()
        for name, limit in QUEUES.items():
            self._hold(queues[name] <= limit, "every queue is bounded", host, name)
        members = host.running.remembered()
        self._hold(queues["news"] <= 2 * members, "every queue is bounded", host, "news")
        self._hold(queues["suspicions"] < members, "every queue is bounded", host, "suspicions")
        waiting = queues["probes"] + queues["relays"] + queues["suspicions"]
        self._hold(queues["timers"] <= len(ROUNDS) + waiting, "every queue is bounded", host, queues)

    def _check_records(self, host: Host, run: Run) -> None:
        node = host.running
        seen, suspected = self._seen.setdefault(run, {}), self._suspected.setdefault(run, {})
        live = sum(record.live for record in node.records())
        for record in node.records():
            before = seen.get(record.id)
            if before is record:
                continue
            seen[record.id] = record
            self._hold(record.id in self.cluster.booted, "views hold only identities that ever booted", host, record)
            forward = before is None or before.rank <= record.rank
            self._hold(forward, "records move one way at each observer", host, record)
            highest = self._highest.get((record.id, *record.epoch), 0)
            raised = record.incarnation <= highest
            self._hold(raised, "only the owner raises its incarnation", host, record)
            if record.status is Status.SUSPECT and (before is None or before.rank != record.rank):
                suspected[record.id] = (self.cluster.clock.now, live)
        for peer, (since, fewest) in suspected.items():
            if live < fewest:
                suspected[peer] = (since, live)

    def _check_verdicts(self, host: Host, run: Run, event: Event, effects: list[Effect]) -> None:
        """Check deaths that this host declares itself: they come of a timer, or of a packet that ends a wait."""
        if not isinstance(event, TimerFired | DatagramReceived):
            return
        settings = self.cluster.settings
        for effect in effects:
            if isinstance(effect, Notify) and isinstance(effect.change, MemberChanged):
                member = effect.change.member
                if member.status is Status.DEAD and isinstance(event, TimerFired):
                    # A deadline is set by how many live then; a cluster that has grown since waits no longer.
                    since, fewest = self._suspected[run][member.id]
                    shortest = timeout(settings, fewest, limits.ACCUSERS_LIMIT)
                    waited = self.cluster.clock.now - since >= shortest - 1e-6
                    self._hold(waited, "no death before its suspicion's deadline", host, member)
