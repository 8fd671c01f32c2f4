"""What must hold at every step, whatever the network does: an observer that fails at the first breach."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pml.gossip import (
    AnswerStream,
    Effect,
    Event,
    MemberChanged,
    Node,
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

BOUNDED = (*QUEUES, "news", "suspicions", "timers")
"""What waits, and is bounded."""

ROUNDS = ("probe", "reconnect", "gossip", "compare", "open the catalogue", "come for more", "judge")
"""What a node has one timer for, beside those of its probes and relays."""

ANSWERED = "a request is answered exactly once"

LAWS = (
    "nobody declares itself dead",
    ANSWERED,
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


@dataclass(slots=True)
class View:
    """What one node of one host holds, followed claim by claim."""

    node: Node
    journal: list[Record]
    """The claims that it stored since the last look."""
    seen: dict[str, Record] = field(default_factory=dict)
    living: int = 0
    """How many of them live."""
    suspected: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Since when it suspects whom, and the fewest live members that it has known since."""

    @property
    def live(self) -> set[str]:
        """Whom it holds alive."""
        return {id for id, record in self.seen.items() if record.live}


@dataclass
class Invariants:
    """The protocol's safety properties, checked at each event of each host."""

    cluster: Cluster
    hosts: frozenset[int] | None = None
    """Whose views are checked; `None` means everybody's. In a large cluster a sample must do."""
    _own: dict[int, Record] = field(default_factory=dict)
    _highest: dict[Run, int] = field(default_factory=dict)
    _views: dict[int, View] = field(default_factory=dict)

    def watch(self) -> Invariants:
        """Look on from now on."""
        self.cluster.observers.append(self)
        return self

    def __call__(self, host: Host, event: Event, effects: list[Effect]) -> None:
        """Check everything after one event."""
        node = host.node
        assert node is not None
        own = node.record(host.id)
        index = host.index
        if own is not self._own.get(index):
            self._check_own(host, own)
        if self.hosts is not None and index not in self.hosts:
            return
        self._check_effects(host, event, effects)
        self._check_queues(host)
        view = self.view(host)
        assert view is not None
        if view.journal:
            self._check_records(host, view)
        if type(event) is TimerFired:
            self._check_verdicts(host, view, effects)

    def view(self, host: Host) -> View | None:
        """What a watched host holds; `None` if it is down."""
        if host.node is None:
            return None
        view = self._views.get(host.index)
        if view is None or view.node is not host.node:
            view = self._views[host.index] = View(host.node, host.node.journal())
            view.journal += host.node.records()
        return view

    def _check_own(self, host: Host, own: Record | None) -> None:
        held = own is not None and own.status in (Status.ALIVE, Status.LEFT)
        self._hold(held, "nobody declares itself dead", host)
        assert own is not None
        self._own[host.index] = own
        run = (host.id, *own.epoch)
        self._highest[run] = max(self._highest.get(run, 0), own.incarnation)

    def _hold(self, held: bool, law: str, host: Host, detail: object = "") -> None:
        if not held:
            raise Broken(f"{law}: {host.name} at {self.cluster.clock.now:.6f} s {detail}".rstrip())

    def _check_effects(self, host: Host, event: Event, effects: list[Effect]) -> None:
        unanswered = [event.token] if type(event) is StreamReceived else []
        for effect in effects:
            if type(effect) is SendDatagram:
                self._hold(len(effect.data) <= limits.PACKET_LIMIT, "a datagram fits its limit", host)
            elif isinstance(effect, OpenStream | AnswerStream):
                self._hold(len(effect.data) <= limits.STREAM_LIMIT, "a stream message fits its limit", host)
                if type(effect) is AnswerStream:
                    self._hold([effect.token] == unanswered, ANSWERED, host)
                    unanswered = []
        self._hold(not unanswered, ANSWERED, host)

    def _check_queues(self, host: Host) -> None:
        queues, members = host.running.queues(), host.running.remembered()
        waiting = queues["probes"] + queues["relays"]
        bounds = (*QUEUES.values(), 2 * members, members - 1, len(ROUNDS) + waiting)
        over = [name for name, bound in zip(BOUNDED, bounds, strict=True) if queues[name] > bound]
        self._hold(not over, "every queue is bounded", host, ", ".join(over))

    def _check_records(self, host: Host, view: View) -> None:
        suspected: dict[str, int] = {}
        fewest = view.living
        for record in view.journal:
            before = view.seen.get(record.id)
            view.seen[record.id] = record
            self._hold(record.id in self.cluster.booted, "views hold only identities that ever booted", host, record)
            forward = before is None or before.rank <= record.rank
            self._hold(forward, "records move one way at each observer", host, record)
            highest = self._highest.get((record.id, *record.epoch), 0)
            raised = record.incarnation <= highest
            self._hold(raised, "only the owner raises its incarnation", host, record)
            more = record.live - (before is not None and before.live)
            view.living += more
            fewest = min(fewest, view.living)
            if more < 0:
                # How many live when a claim is heard, not when its packet is: that may tell of many more.
                suspected = {peer: min(least, view.living) for peer, least in suspected.items()}
            if record.status is Status.SUSPECT and (before is None or before.rank != record.rank):
                suspected[record.id] = view.living
            elif record.status is Status.ALIVE:
                view.suspected.pop(record.id, None)
        view.journal.clear()
        for peer, (since, least) in view.suspected.items():
            if fewest < least:
                view.suspected[peer] = (since, fewest)
        for peer, least in suspected.items():
            view.suspected[peer] = (self.cluster.clock.now, least)

    def _check_verdicts(self, host: Host, view: View, effects: list[Effect]) -> None:
        """Check deaths that this host declares itself: they come of a timer."""
        settings = self.cluster.settings
        for effect in effects:
            if isinstance(effect, Notify) and isinstance(effect.change, MemberChanged):
                member = effect.change.member
                if member.status is Status.DEAD:
                    # A deadline is set by how many live then; a cluster that has grown since waits no longer.
                    since, fewest = view.suspected[member.id]
                    shortest = timeout(settings, fewest, limits.ACCUSERS_LIMIT)
                    waited = self.cluster.clock.now - since >= shortest - 1e-6
                    self._hold(waited, "no death before its suspicion's deadline", host, member)
