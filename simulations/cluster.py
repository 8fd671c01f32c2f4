"""Hosts that run the protocol object of the daemon, in virtual time on a network in memory.

Everything is drawn from one seed, and everything that happens goes into the hash of the trace: two runs of one
seed are equal byte for byte.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct
from typing import Any

from p2pml.gossip import (
    Address,
    AnswerStream,
    Change,
    DatagramReceived,
    Effect,
    Event,
    GenerationRaised,
    IdentityConflict,
    Leave,
    Me,
    Node,
    Notify,
    OpenStream,
    SendDatagram,
    SetEntry,
    SetTimer,
    Settings,
    Start,
    Status,
    StreamAnswered,
    StreamFailed,
    StreamReceived,
    TimerFired,
)
from p2pml.gossip.acquaint import acquaint
from p2pml.gossip.directory import Directory
from p2pml.gossip.wire import Wire

from .clock import MICROSECONDS, Clock, Happening
from .direct import DirectWire
from .network import Conditions, Network

PORT = 7946

UNTRACED_LIMIT = 1024
"""Pieces of the trace that are hashed at once: a call for each takes longer than the hashing."""

CRASHED_LEAST, CRASHED_SHARE = 50, 0.1
"""Crashes, and share of the hosts, after which the garbage is collected: what is left of a node refers to itself."""

TIMERS_LEAST = 1000
"""Timers below which the stale ones are not looked for: a suspicion leaves several, a minute before they are due."""

_MOMENT = Struct("<qIII").pack
_TIMER = 0xFFFFFFFF
"""Stands for the source of a datagram where a timer fires."""


@dataclass
class Disk:
    """What a host keeps when it crashes."""

    generation: int = 0
    addresses: tuple[Address, ...] = ()
    """Where other members lived, as far as it remembers them."""


REMEMBERED = 8
"""Addresses of other members that a disk keeps."""


class Host:
    """A machine with an identity, an address and, while it is up, a node."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        """Be down, with an empty disk."""
        self._cluster = cluster
        self.index = index
        self.id = blake2b(f"{cluster.seed}/{index}".encode(), digest_size=16).hexdigest()
        self.name = f"host-{index}"
        self.address: Address = (f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", PORT)
        self.disk = Disk()
        self.node: Node | None = None
        self.changes: list[tuple[float, Change]] = []
        self.boots = 0
        self._waiting: list[Event] | None = None
        self._answers: dict[int, Callable[[bytes], None]] = {}
        self._requests = 0
        self._firing: Callable[[int], None]

    @property
    def running(self) -> Node:
        """The node of a host that is up."""
        assert self.node is not None, f"{self.name} is down"
        return self.node

    # Life.

    def boot(self, seeds: Iterable[Address]) -> None:
        """Start a new run: with the next generation, and a fresh nonce."""
        heard = 0 if self.node is None else self.node.highest_generation_heard_of_me()
        self.disk.generation = max(self.disk.generation, heard) + 1
        self.boots += 1
        # By boots, as a disk that was lost counts its generations anew, and a nonce is never the same again.
        rng = random.Random(f"{self._cluster.seed}/{self.index}/{self.boots}")  # noqa: S311 - a simulation
        nonce = rng.getrandbits(64)
        me = Me(self.id, self.name, self._cluster.name, self.address, self.disk.generation, nonce)
        self.node = Node(me, self._cluster.settings, rng, self._cluster.wire, self._cluster.directory)
        # Bound once, not for each of a hundred thousand timers.
        self._firing = Timers(self, self.node).fire
        self._waiting = None
        self._cluster.booted.add(self.id)
        self._cluster.network.bind(self.address, self)
        self.take(Start(tuple(seeds)))

    def crash(self) -> None:
        """Stop at once: nothing is told, and what is on its way arrives nowhere."""
        if self.node is not None:
            others = sorted((one for one in self.node.members() if one.status is Status.ALIVE), key=lambda one: one.id)
            self.disk.addresses = tuple(one.address for one in others if one.id != self.id)[:REMEMBERED]
            self._cluster.crashed += 1
        self.node = None
        self._answers.clear()
        self._cluster.network.unbind(self.address)

    def pause(self) -> None:
        """Stand still, timers and all; what arrives waits."""
        if self._waiting is None:
            self._waiting = []

    def is_over(self, node: Node, token: int) -> bool:
        """Whether a timer of one of its runs would come to nothing."""
        return self.node is not node or (self._waiting is None and not node.awaits(token))

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._waiting is not None

    def resume(self) -> None:
        """Go on: the sockets are drained first, then the timers fire that came due meanwhile."""
        waiting, self._waiting = self._waiting or [], None
        if self._cluster.settings.lifeguard:
            waiting.sort(key=lambda event: isinstance(event, TimerFired))
        for event in waiting:
            self.take(event)

    # The driver of the node.

    def take(self, event: Event) -> None:
        """Give an event to the node, and do what it asks for."""
        node, cluster = self.node, self._cluster
        if node is None:
            return
        if self._waiting is not None:
            self._waiting.append(event)
            return
        effects = node.handle(event, cluster.clock.ticks / MICROSECONDS)
        cluster.record(self, event, effects)
        for effect in effects:
            if type(effect) is SendDatagram:
                cluster.network.send(self.address, effect.to, effect.data)
            elif type(effect) is SetTimer:
                cluster.clock.alarm(effect.at, self._firing, effect.token)
            else:
                self._do(effect)

    def datagram(self, source: Address, data: bytes) -> None:
        """Receive a datagram."""
        self.take(DatagramReceived(source, data))

    def stream(self, source: Address, data: bytes, answer: Callable[[bytes], None]) -> None:
        """Receive a request by stream."""
        self._requests += 1
        self._answers[self._requests] = answer
        self.take(StreamReceived(source, data, self._requests))

    def _do(self, effect: Effect) -> None:
        cluster, node = self._cluster, self.node
        match effect:
            case OpenStream(to, data, token):
                cluster.network.request(
                    self.address, to, data, lambda answer: self._if_same(node, _outcome(token, answer))
                )
            case AnswerStream(token, data):
                self._answers.pop(token)(data)
            case Notify(change):
                if cluster.keeps_changes:
                    self.changes.append((cluster.clock.now, change))
                for observer in cluster.change_observers:
                    observer(self, change)
                if isinstance(change, GenerationRaised):
                    self.disk.generation = change.generation
                elif isinstance(change, IdentityConflict):
                    self.crash()

    def _if_same(self, node: Node | None, event: Event) -> None:
        """Give an event to the run that it belongs to; to no later one."""
        if self.node is node:
            self.take(event)


class Timers:
    """Those of one run of a host."""

    __slots__ = ("_host", "_node")

    def __init__(self, host: Host, node: Node) -> None:
        """Belong to a run."""
        self._host, self._node = host, node

    def fire(self, token: int) -> None:
        """Fire one, if the run still goes on."""
        if not self.is_over(token):
            self._host.take(TimerFired(token))

    def is_over(self, token: int) -> bool:
        """Whether one would come to nothing."""
        return self._host.is_over(self._node, token)


def _is_stale(happening: Happening, arguments: Any) -> bool:
    timers = getattr(happening, "__self__", None)
    return isinstance(timers, Timers) and timers.is_over(arguments)


def _outcome(token: int, answer: bytes | None) -> Event:
    return StreamFailed(token) if answer is None else StreamAnswered(token, answer)


Observer = Callable[[Host, Event, list[Effect]], None]
ChangeObserver = Callable[[Host, Change], None]


@dataclass
class Cluster:
    """Hosts on one network. Observers see every event with its effects, and every change, as they happen."""

    size: int
    seed: int = 0
    settings: Settings = field(default_factory=Settings.lan)
    conditions: Conditions = field(default_factory=Conditions)
    name: str = "simulated"
    observers: list[Observer] = field(default_factory=list)
    change_observers: list[ChangeObserver] = field(default_factory=list)
    keeps_changes: bool = True
    """Whether hosts remember all their changes: thousands of hosts that come and go have no room for them."""
    direct: bool = False
    """Whether packets carry their messages, so that only a sample is read from its bytes: an eighth faster."""

    def __post_init__(self) -> None:
        """Make the hosts; all are down."""
        self.wire = DirectWire(self.name) if self.direct else Wire(self.name)
        self.directory = Directory(shared=True)
        self.booted: set[str] = set()
        self.clock = Clock()
        rng = random.Random(f"{self.seed}/network")  # noqa: S311 - a simulation
        self.network = Network(self.clock, rng, self.conditions)
        self.hosts = [Host(self, index) for index in range(self.size)]
        self._trace = blake2b(digest_size=16)
        self._untraced: list[bytes] = []
        self._crowd = TIMERS_LEAST
        self.crashed = 0
        """How often hosts crashed since the garbage was collected."""
        self._places: dict[Address, int] = {}

    def __getitem__(self, index: int) -> Host:
        """Look a host up."""
        return self.hosts[index]

    # Verbs.

    def start(self, *, seed: int = 0, within: float = 0.0) -> None:
        """Boot all hosts, evenly within some seconds, with one of them as everybody's seed."""
        for host in self.hosts:
            self.clock.after(within * host.index / self.size, host.boot, [self[seed].address])

    def form(self, *works: Callable[[Host], object]) -> None:
        """Boot all hosts now, and let each know all others: where the joining is not what is studied.

        What `works` let a host write is known to all too.
        """
        for host in self.hosts:
            host.boot([])
            for work in works:
                work(host)
        acquaint([host.running for host in self.hosts])

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(seconds)
        if len(self.clock) > self._crowd:
            self.clock.drop(_is_stale)
            self._crowd = len(self.clock) * 3 // 2 + TIMERS_LEAST
        if self.crashed > CRASHED_LEAST + CRASHED_SHARE * self.size:
            self.clock.drop(_is_stale)
            gc.collect()
            self.crashed = 0

    def restart(self, index: int) -> None:
        """Crash a host if it is up, and boot it with its disk; all others are its seeds."""
        self[index].crash()
        self[index].boot([host.address for host in self.hosts if host.index != index])

    def pause(self, index: int, seconds: float) -> None:
        """Let a host stand still for a time."""
        self[index].pause()
        self.clock.after(seconds, self[index].resume)

    def leave(self, index: int) -> None:
        """Let a host go politely."""
        self[index].take(Leave())
        self[index].crash()

    def write(self, index: int, key: str, value: bytes | None) -> None:
        """Let a host write an entry of its own."""
        self[index].take(SetEntry(key, value))

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut the network into groups of hosts."""
        self.network.partition(*([self[index].address for index in group] for group in groups))

    def cut(self, source: int, target: int) -> None:
        """Cut one direction of one link."""
        self.network.cut([self[source].address], [self[target].address])

    def heal(self) -> None:
        """Mend all links."""
        self.network.heal()

    # What there is to see.

    def up(self) -> list[Host]:
        """List the hosts that run."""
        return [host for host in self.hosts if host.node is not None]

    def status(self, observer: int, subject: int) -> Status | None:
        """What one host believes of another."""
        member = self[observer].running.member(self[subject].id)
        return None if member is None else member.status

    def believed(self, subject: int) -> set[Status | None]:
        """What all other running hosts believe of one."""
        return {self.status(host.index, subject) for host in self.up() if host.index != subject}

    def agreed(self) -> bool:
        """Whether every running host holds the running ones alive, and nobody else, and knows their entries."""
        up = {host.id for host in self.up()}
        entries = {host.id: dict(host.running.entries(host.id)) for host in self.up()}
        for host in self.up():
            members = host.running.members()
            if {member.id for member in members if member.status in (Status.ALIVE, Status.SUSPECT)} != up:
                return False
            if any(member.status is Status.SUSPECT for member in members):
                return False
            if any(host.running.entries(owner) != known for owner, known in entries.items()):
                return False
        return True

    # The trace.

    def record(self, host: Host, event: Event, effects: list[Effect]) -> None:
        """Add an event to the trace, and show it to the observers."""
        untraced = self._untraced
        if type(event) is DatagramReceived:
            place = self._places.setdefault(event.source, len(self._places))
            untraced += (_MOMENT(self.clock.ticks, host.index, place, len(event.data)), event.data)
        elif type(event) is TimerFired:
            untraced.append(_MOMENT(self.clock.ticks, host.index, _TIMER, event.token))
        else:
            untraced.append(f"{self.clock.ticks} {host.index} {event!r}\n".encode())
            self._hash_trace()  # a stream message may have megabytes
        if len(untraced) > UNTRACED_LIMIT:
            self._hash_trace()
        for observer in self.observers:
            observer(host, event, effects)

    @property
    def trace(self) -> str:
        """The hash of all that has happened, in order."""
        self._hash_trace()
        return self._trace.hexdigest()

    def _hash_trace(self) -> None:
        self._trace.update(b"".join(self._untraced))
        self._untraced.clear()
