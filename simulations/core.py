"""The protocol alone through a plan: node objects in virtual time, and what must hold checked at every event.

report = run(draw("swarm", seed=7, peers=10, seconds=60.0))
report.held, report.breach, report.trace, report.properties, report.measures, report.timeline
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from p2pml.errors import BadInput
from p2pml.gossip import Address, Change, IdentityConflict, Join, Settings, limits

from . import recovery
from .asking import Clients
from .cluster import PORT, Cluster, Disk, Host
from .invariants import LAWS, Broken, Invariants
from .learners import Learners
from .lessons import lessons
from .network import Rule
from .operations import MEANINGS, Operation
from .plans import Plan
from .reports import CRASH, LATE, LIVENESS, SAFETY, UNTRUE, VOTES, Breach, Report, Tell, nobody

PATIENCE = 150.0
"""Virtual seconds that a healed core has to recover: ten greetings of the dead, or five of the longest suspicions."""

GLANCE = 1.0
"""Virtual seconds between two looks at what is believed."""

JOINED = 3
"""Hosts that every other is told to join."""

WATCHED = 100
"""Hosts whose views are checked at each event; in a larger cluster these are a sample."""

EACH = 40
"""Bytes, about, that a host takes for what it knows of another, its doubts included."""

STAYS = "no peer ends by itself"
NO_ERROR = "nothing goes wrong inside"

WHOLE = frozenset({"reset", "mute", "drip", "skew", "jump", "boast", "bad-votes", "forge", "noise", "replay"})
OPERATIONS = tuple(what for what in MEANINGS if what not in WHOLE)
"""What this layer can do of the vocabulary: it has no connections, no clocks and no liars."""


def run(plan: Plan, tell: Tell = nobody) -> Report:
    """Run a plan to its end, or to the first breach, and tell now and then how far it is.

    Raises `BadInput` for an operation of another layer, for rows that nothing can be learnt of, and for more hosts than
    this machine has room for.
    """
    for operation in plan.operations:
        if operation.what not in OPERATIONS:
            raise BadInput(f"the layer core has no {operation.what!r}: run it on whole daemons, with --layer daemon")
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if EACH * plan.peers**2 > room:
        raise BadInput(
            f"{plan.peers} peers that all know one another take {EACH * plan.peers**2 / 1e9:,.0f} GB of memory, "
            f"and this machine has {room / 1e9:,.0f}: --peers can be at most {math.isqrt(room // EACH)} here"
        )
    with no_collector():
        this = Run(plan, tell)
        return this.report(this.breach())


@contextmanager
def no_collector() -> Iterator[None]:
    """Let no garbage be looked for meanwhile: a run is short, and makes little that refers to itself."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, tell: Tell = nobody) -> None:
        """Arrange everything; nothing has happened yet."""
        self.plan, self.tell = plan, tell
        # More than a peer remembers by default are more than each could know: here it remembers all.
        settings = replace(Settings.lan(), max_members=max(limits.MEMBERS_LIMIT, plan.peers))
        self.cluster = Cluster(plan.peers, plan.seed, settings, plan.weather, direct=True, keeps_changes=False)
        step = max(1, plan.peers // WATCHED)
        self.watched = range(0, plan.peers, step)
        self.invariants = Invariants(self.cluster, frozenset(self.watched)).watch()
        self.cluster.change_observers.append(self._ends)
        known = lessons(plan.peers, plan.data, plan.target)
        self.learners = Learners(self.cluster, known)
        self.clients = Clients(self.cluster, self.learners, known)
        self.timeline: list[dict[str, float]] = []
        self.recovered: float | None = None
        self._carried = (0, 0)
        self._moves = 0
        self._copies: dict[int, Disk] = {}
        if plan.formed:
            self.cluster.form(self.learners.serve)
            for host in self.cluster.hosts:
                host.take(Join(self._joined(host)))
        else:
            first = plan.peers if plan.first is None else plan.first
            for host in self.cluster.hosts[:first]:
                self.cluster.clock.after(host.index / plan.peers, self._boot, host)
        for operation in plan.operations:
            self.cluster.clock.at(operation.at, self._do, operation)

    # The course of a run.

    def breach(self) -> Breach | None:
        """Let it all happen, and return the first breach."""
        now = self.cluster.clock
        try:
            while now.now < self.plan.seconds:
                self.cluster.run(min(GLANCE, self.plan.seconds - now.now))
                self._glance()
            return self._recover()
        except Broken as error:
            law, _, words = str(error).partition(": ")
            return Breach(law, SAFETY, now.now, words)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside is what a simulation looks for
            return Breach(NO_ERROR, CRASH, now.now, f"{type(error).__name__}: {error}")

    def _recover(self) -> Breach | None:
        self._heal()
        cluster, core = self.cluster, sorted(self.plan.core)
        begin = cluster.clock.now
        while cluster.clock.now < begin + PATIENCE:
            cluster.run(GLANCE)
            self._glance()
            complaint = recovery.complaint(cluster, core, recovery.as_good(cluster, core))
            if complaint is not None:
                core.sort(key=lambda index: (index != complaint.observer, index))
            wrong = (complaint and complaint[:2]) or self.clients.vouch(self.plan.core)
            if wrong is None:
                self.recovered = cluster.clock.now - begin
                return None
        assert wrong is not None
        return Breach(wrong[0], LIVENESS, cluster.clock.now, wrong[1])

    def _heal(self) -> None:
        """Let the core run, on links as if nothing had happened; all else stays as it is."""
        core = [self.cluster[index] for index in self.plan.core]
        addresses = frozenset(host.address for host in core)
        self.cluster.network.rules.insert(0, Rule(recovery.HEALED, addresses, addresses, self.plan.weather))
        for host in core:
            if host.node is None:
                self._boot(host)
            elif host.paused:
                host.resume()

    def _glance(self) -> None:
        up = {host.id for host in self.cluster.up()}
        views = [view for index in self.watched if (view := self.invariants.view(self.cluster[index])) is not None]
        believed = [view.live for view in views]
        shared = [len(live & up) for live in believed]
        right = [common / max(1, len(live) + len(up) - common) for live, common in zip(believed, shared, strict=True)]
        self.timeline.append(
            {
                "time": self.cluster.clock.now,
                "alive": float(len(up)),
                "believed": sum(map(len, believed)) / max(1, len(views)),
                "agreement": sum(right) / max(1, len(views)),
            }
            | self._traffic(seconds=GLANCE)
            | self.clients.since_last_time()
        )
        self.tell(self.cluster.clock.now)

    def _traffic(self, seconds: float) -> dict[str, float]:
        """What a peer got and sent a second since this was asked last."""
        network, before = self.cluster.network, self._carried
        self._carried = (network.delivered, network.bytes)
        shares = [(now - then) / seconds / self.plan.peers for now, then in zip(self._carried, before, strict=True)]
        return {"messages": shares[0], "bytes": shares[1]}

    def _ends(self, host: Host, change: Change) -> None:
        if isinstance(change, IdentityConflict):
            raise Broken(f"{STAYS}: {host.name} at {self.cluster.clock.now:.6f} s gave its identity up")

    # Operations.

    def _boot(self, host: Host) -> None:
        host.boot([*self._joined(host), *host.disk.addresses])
        self.learners.booted(host)

    def _joined(self, host: Host) -> tuple[Address, ...]:
        return tuple(other.address for other in self.cluster.hosts[:JOINED] if other is not host)

    def _do(self, operation: Operation) -> None:
        cluster, network = self.cluster, self.cluster.network
        hosts = [cluster[index] for index in operation.hosts]
        here = frozenset(host.address for host in hosts)
        match operation.what:
            case "partition":
                others = frozenset(host.address for host in cluster.hosts) - here
                network.partition(here, others)
            case "cut":
                network.cut(here, [cluster[index].address for index in operation.others])
            case "loss":
                self._worsen("loss", here, loss=operation.amount)
            case "duplicate":
                self._worsen("duplicate", here, duplication=operation.amount)
            case "reorder":
                self._worsen("reorder", here, reordering=operation.amount)
            case "heal" if here:
                network.mend(here)
            case "heal":
                network.heal()
            case "swap" if len(hosts) == 2:
                self._settle(hosts, [host.address for host in reversed(hosts)])
            case "move":
                self._moves += len(hosts)
                free = range(self._moves - len(hosts), self._moves)
                self._settle(hosts, [(f"10.128.{number >> 8}.{number & 255}", PORT) for number in free])
            case "black-hole":
                name = f"black hole {operation.at}"
                network.cut(here, None, name)
                network.cut(None, here, name)
                cluster.clock.after(operation.amount, network.heal, name)
            case "slow":
                least, most = self.plan.weather.delay
                self._worsen(f"slow {operation.hosts}", here, delay=(least * operation.amount, most * operation.amount))
            case _:
                for host in hosts:
                    self._do_to(host, operation)

    def _worsen(self, name: str, here: frozenset[object], **changes: object) -> None:
        """Put worse conditions on all links of some hosts, where nothing else is said of them."""
        network = self.cluster.network
        network.heal(name)
        worse = replace(self.plan.weather, **changes)  # type: ignore[arg-type]
        if worse != self.plan.weather:
            network.rules += [Rule(name, here or None, None, worse), Rule(name, None, here or None, worse)]  # type: ignore[arg-type]

    def _settle(self, hosts: list[Host], addresses: list[Address]) -> None:
        """Start hosts anew at other addresses."""
        for host in hosts:
            host.crash()
        for host, address in zip(hosts, addresses, strict=True):
            host.address = address
            self._boot(host)

    def _do_to(self, host: Host, operation: Operation) -> None:
        cluster = self.cluster
        match operation.what:
            case "crash" | "power" | "die-writing":
                host.crash()
            case "torn" | "flip":
                host.crash()
                host.disk = Disk()
            case "copy":
                self._copies[host.index] = replace(host.disk)
            case "stale":
                host.crash()
                host.disk = replace(self._copies.get(host.index, Disk()))
            case "restart":
                host.crash()
                self._boot(host)
            case "leave" if host.node is not None:
                cluster.leave(host.index)
            case "pause" if host.node is not None and not host.paused:
                host.pause()
                cluster.clock.after(operation.amount, host.resume)
            case "fit" if host.node is not None:
                self.learners.fit(host)

    # What it showed.

    def report(self, breach: Breach | None) -> Report:
        """Sum it up."""
        network, seconds = self.cluster.network, max(GLANCE, self.cluster.clock.now)
        properties = (*LAWS, LATE, UNTRUE, STAYS, NO_ERROR, *recovery.LAWS, VOTES)
        measures = self.clients.measures() | {
            "seconds": self.cluster.clock.now,
            "operations": float(len(self.plan.operations)),
            "messages": float(network.delivered),
            "messages_per_peer_second": network.delivered / self.plan.peers / seconds,
            "bytes_per_peer_second": network.bytes / self.plan.peers / seconds,
            "agreement": sum(row["agreement"] for row in self.timeline) / max(1, len(self.timeline)),
        }
        if self.recovered is not None:
            measures["recovered_after"] = self.recovered
        return Report(
            self.plan.scenario,
            self.plan.seed,
            self.cluster.trace,
            {law: breach is None or law != breach.property for law in properties},
            measures,
            breach,
            tuple(self.timeline),
        )
