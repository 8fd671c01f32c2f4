"""What the tests of the protocol share: a node in a jar, strangers who speak to it, and watched clusters."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from p2pml.gossip import (
    Address,
    AnswerStream,
    Change,
    DatagramReceived,
    Effect,
    Event,
    Me,
    MemberChanged,
    Node,
    Notify,
    OpenStream,
    SendDatagram,
    SetTimer,
    Settings,
    Start,
    Status,
    TimerFired,
    limits,
)
from p2pml.gossip.messages import Ack, Claim, Message, Packet, Ping
from p2pml.gossip.records import Record
from p2pml.gossip.wire import Wire
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.invariants import Invariants

CLUSTER = "tests"
WIRE = Wire(CLUSTER)


def identity(index: int, generation: int = 1, nonce: int = 7, cluster: str = CLUSTER) -> Me:
    """Make the identity of a peer, the same for the same numbers."""
    peer = blake2b(str(index).encode(), digest_size=16).hexdigest()
    return Me(peer, f"peer-{index}", cluster, (f"10.0.0.{index}", 7946), generation, nonce)


def claim(me: Me, status: Status = Status.ALIVE, incarnation: int = 0, *accusers: Me) -> Record:
    """Make a claim about a peer."""
    names = tuple(sorted(accuser.id for accuser in accusers))
    return Record(me.id, me.name, me.address, status, me.generation, me.nonce, incarnation, names)


def packet(sender: Me, *messages: Message) -> bytes:
    """Write a packet as a peer would."""
    return WIRE.seal(sender, [WIRE.part(message) for message in messages])


@dataclass
class Sent:
    """A datagram that a node sent."""

    to: Address
    packet: Packet

    def all(self, kind: type[Any]) -> list[Any]:
        """List the messages of one kind in it."""
        return [message for message in self.packet.messages if isinstance(message, kind)]


class Jar:
    """One node alone, whose effects stay inside, in a time that the test moves."""

    def __init__(
        self, me: Me | None = None, settings: Settings | None = None, *, start: bool = True, seed: int = 0
    ) -> None:
        """Start a node at time 0."""
        self.node = Node(me or identity(0), settings or Settings.lan(), random.Random(seed))
        self.now = 0.0
        self.effects: list[Effect] = []
        self._timers: list[tuple[float, int]] = []
        if start:
            self.take(Start())

    def take(self, event: Event) -> list[Effect]:
        """Give the node an event."""
        effects = self.node.handle(event, self.now)
        self._timers += [(effect.at, effect.token) for effect in effects if isinstance(effect, SetTimer)]
        self.effects += effects
        return effects

    def hear(self, sender: Me, *messages: Message, source: Address | None = None) -> list[Effect]:
        """Let a peer speak to the node."""
        return self.take(DatagramReceived(source or sender.address, packet(sender, *messages)))

    def meet(self, *peers: Me) -> None:
        """Let peers introduce themselves, and the news of it be old."""
        for peer in peers:
            self.hear(peer, Claim(claim(peer)))
        self.hush()

    def bury(self, teller: Me, subject: Me) -> None:
        """Let a peer say that another is suspect, and then that it is dead; let the news of it be old."""
        self.hear(teller, Claim(claim(subject, Status.SUSPECT)), Claim(claim(subject, Status.DEAD)))
        self.hush()

    def hush(self) -> None:
        """Forget the news that waits, and what the node has done so far."""
        self.node._context.hush()
        self.clear()

    def run(self, seconds: float) -> None:
        """Let time pass, and fire the timers that come due in it."""
        end = self.now + seconds
        while self._timers and min(self._timers)[0] <= end:
            timer = min(self._timers)
            self._timers.remove(timer)
            self.now = max(self.now, timer[0])
            self.take(TimerFired(timer[1]))
        self.now = end

    def live(self, seconds: float, *peers: Me) -> list[Sent]:
        """Let time pass in which these peers answer every ping at once; return what the node sent."""
        by_id = {peer.id: peer for peer in peers}
        self.clear()
        sent = []
        for _ in range(round(seconds / 0.05)):
            self.run(0.05)
            new, asked = self.sent(), self.said(Ping)
            self.clear()
            sent += new
            for ping in asked:
                if ping.target in by_id:
                    self.hear(by_id[ping.target], Ack(ping.sequence, self.node.state()))
        return sent

    def stall(self, seconds: float) -> None:
        """Let time pass in which the process stands still."""
        self.now += seconds
        self.run(0)

    def clear(self) -> None:
        """Forget what the node has done so far."""
        self.effects = []

    # What the node did since then.

    def sent(self, to: Address | None = None) -> list[Sent]:
        """List the datagrams that it sent."""
        return [
            Sent(effect.to, WIRE.open(effect.data, limits.PACKET_LIMIT))
            for effect in self.effects
            if isinstance(effect, SendDatagram) and to in (None, effect.to)
        ]

    def said(self, kind: type[Any], to: Address | None = None) -> list[Any]:
        """List the messages of one kind that it sent."""
        return [message for sent in self.sent(to) for message in sent.all(kind)]

    def changes(self) -> list[Change]:
        """List what it notified."""
        return [effect.change for effect in self.effects if isinstance(effect, Notify)]

    def statuses(self, peer: Me) -> list[Status]:
        """List the statuses that it notified of a member, in order."""
        changes = [change for change in self.changes() if isinstance(change, MemberChanged)]
        return [change.member.status for change in changes if change.member.id == peer.id]

    def opened(self) -> list[OpenStream]:
        """List the streams that it opened."""
        return [effect for effect in self.effects if isinstance(effect, OpenStream)]

    def answered(self) -> list[AnswerStream]:
        """List the stream requests that it answered."""
        return [effect for effect in self.effects if isinstance(effect, AnswerStream)]

    def status(self, peer: Me) -> Status | None:
        """What it believes of a member."""
        member = self.node.member(peer.id)
        return None if member is None else member.status


def later(me: Me, generation: int) -> Me:
    """Make the identity of a later run of the same peer."""
    return replace(me, generation=generation, nonce=me.nonce + 1)


def watched(size: int, seed: int = 0, **options: Any) -> Cluster:
    """Make a cluster whose invariants are checked at every step."""
    cluster = Cluster(size, seed=seed, **options)
    Invariants(cluster).watch()
    return cluster


def running(size: int, seed: int = 0, **options: Any) -> Cluster:
    """Make a watched cluster whose hosts know one another."""
    cluster = watched(size, seed, **options)
    cluster.start()
    cluster.run(2)
    while not cluster.agreed():
        cluster.run(1)
        assert cluster.clock.now < 15
    return cluster


def addresses(cluster: Cluster, indices: Iterable[int]) -> list[Address]:
    """List the addresses of some hosts."""
    return [cluster[index].address for index in indices]
