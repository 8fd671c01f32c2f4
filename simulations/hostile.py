"""Peers that lie: real ones, in the cluster's confidence, that say what no honest peer would."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import msgpack
import numpy as np

from p2pml.ensemble.values import Floats
from p2pml.ensemble.vote import Vote
from p2pml.gossip import SetEntry, Status, limits
from p2pml.gossip.messages import Claim
from p2pml.gossip.wire import PROTOCOL, Wire
from p2pml.peer.ballots import Ballot
from p2pml.peer.colleagues import SUMMARY
from p2pml.peer.daemon import Peer

from .kernel import Kernel
from .machines import CLUSTER, Machine

BOASTED = 10**9
"""Rows that a boasting peer says it was trained on."""
AHEAD = 1000
"""How far before the owner's a forged incarnation is; each third one is the last that there is."""
ROUNDS = 20
"""Packets of noise that everybody gets."""

Spread = Callable[[bytes], None]
"""Send everybody a datagram."""


def boast(peer: Peer, spread: Spread, rng: random.Random) -> None:
    """Perfect scores, and a billion rows."""
    said = peer.colleagues.summary(peer.id)
    if said is not None:
        perfect = replace(said, rows=BOASTED, metrics=dict.fromkeys(said.metrics, 1.0))
        peer.pump.handle(SetEntry(SUMMARY, msgpack.packb(perfect.to_data())))


class Spoiled(Vote):
    """A vote that says something else to others than to its own peer."""

    def to_data(self) -> dict[str, Any]:
        """Write one that is none: not a number, negative, not summing to 1, or of another shape, at random."""
        spoil = SPOILS[int(1e6 * abs(float(self.values.sum() + self.values.max()))) % len(SPOILS)]
        return replace(Vote(self.classes, self.values), values=spoil(self.values)).to_data()


SPOILS: Sequence[Callable[[Floats], Floats]] = (
    lambda values: values * np.nan,
    lambda values: -values,
    lambda values: values * 2 + 1,
    lambda values: values[:-1],
    lambda values: values[:, :-1],
    lambda values: values.reshape(-1),
)


def bad_votes(peer: Peer, spread: Spread, rng: random.Random) -> None:
    """Votes that are none."""
    honest = peer.voting._said

    def spoiled(*said: Any) -> Ballot:
        ballot = honest(*said)
        return replace(ballot, vote=Spoiled(ballot.vote.classes, ballot.vote.values))

    peer.voting._said = spoiled  # type: ignore[method-assign, assignment]


def forge(peer: Peer, spread: Spread, rng: random.Random) -> None:
    """Everybody else is dead, says it, and knows so from their future."""
    wire = Wire(CLUSTER)
    for number, member in enumerate(peer.node.members()):
        record = peer.node.record(member.id)
        if record is not None and record.id != peer.id:
            last = number % 3 == 2
            incarnation = limits.INCARNATION_LIMIT - 1 if last else record.incarnation + AHEAD
            forged = replace(record, status=Status.DEAD, accusers=(), incarnation=incarnation)
            spread(wire.seal(peer.node.me, [wire.part(Claim(forged))]))


def noise(peer: Peer, spread: Spread, rng: random.Random) -> None:
    """Packets that are none: random bytes, flipped bits, cut short, too long, of another version or cluster."""
    wire = Wire(CLUSTER)
    claims = [wire.part(Claim(record)) for record in peer.node.records()]
    packet = wire.seal(peer.node.me, claims[:3])
    for _ in range(ROUNDS):
        flipped = bytearray(packet)
        for _ in range(rng.choice((1, 1, 3, 20))):
            flipped[rng.randrange(10, len(flipped))] = rng.randrange(256)
        spread(bytes(flipped))
        spread(packet[: rng.randrange(len(packet))])
        spread(packet[:9] + rng.randbytes(rng.randrange(200)))
    spread(packet + bytes(limits.PACKET_LIMIT))
    spread(bytes([PROTOCOL + 1]) + packet[1:])
    spread(Wire("another").seal(peer.node.me, claims[:1]))


LIES: Mapping[str, Callable[[Peer, Spread, random.Random], None]] = {
    "boast": boast,
    "bad-votes": bad_votes,
    "forge": forge,
    "noise": noise,
}
"""What each operation of a lying peer does."""


def lie(machine: Machine, what: str, machines: Sequence[Machine], kernel: Kernel, rng: random.Random) -> None:
    """Have a machine lie, if it is up."""
    if not machine.ready:
        return
    machine.lying = True
    peer = cast("Peer", machine.peer)

    def spread(data: bytes) -> None:
        for other in machines:
            if other is not machine:
                kernel.network.send(machine.address, other.address, data)

    assert machine.process is not None
    machine.process.context().run(LIES[what], peer, spread, rng)
