"""Probes: a round of direct pings in shuffled order, indirect ones where they fail, and an accusation at last.

A probe that is not acknowledged within the timeout asks a few members to probe for us, and the claimed
address if the member was last heard from elsewhere; at the end of its interval it has failed (SWIM §3.1).
Helpers that get no answer say so with a nack: a nack that does not come is a sign that this node is the slow
one (Lifeguard §4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import limits
from .context import Context
from .messages import Ack, Nack, Packet, Ping, PingRequest
from .records import Address

NACK_SHARE = 0.8
"""Share of the probe timeout after which a helper sends its nack: so it arrives before the probe has failed."""


@dataclass(slots=True)
class Probe:
    """One member being probed."""

    target: str
    sequence: int
    began: float
    until: float
    token: int
    epoch: tuple[int, int]
    """Which run of it: the silence of one says nothing of the next."""
    asks: int
    """How many members are asked for help where there is no answer."""
    helpers: dict[str, bool] = field(default_factory=dict)
    """Who was asked to help, and whether it was heard from about this."""


@dataclass(slots=True)
class Relay:
    """A probe made for somebody else."""

    asker: Address
    sequence: int
    token: int


class Prober:
    """All probes of one node, its own and those it makes for others."""

    def __init__(self, context: Context, accuse: Callable[[str], None]) -> None:
        """Probe nobody. `accuse` is told of members whose probe failed."""
        self._context = context
        self._accuse = accuse
        self._sequence = context.rng.randrange(limits.SEQUENCE_LIMIT)
        self._probes: dict[int, Probe] = {}
        self._targets: dict[str, int] = {}
        self._relays: dict[int, Relay] = {}

    @property
    def probes(self) -> int:
        """How many members are being probed."""
        return len(self._probes)

    @property
    def relays(self) -> int:
        """How many are being probed for somebody else."""
        return len(self._relays)

    def tick(self) -> None:
        """Probe the next member of the round."""
        context = self._context
        # The last probe ends at this very moment; were it still open, a group of two would skip every other one.
        for probe in [probe for probe in self._probes.values() if probe.until <= context.now]:
            self._failed(probe.sequence)
        target = context.members.next_target(context.me.id)
        if target is not None:
            self.probe(target.id)

    def probe(self, peer: str, *, helpers: int | None = None) -> None:
        """Probe a member now, unless that is going on or too much is; `helpers` is how many may be asked for help."""
        context = self._context
        record = context.members.get(peer)
        if record is None or not record.live or peer == context.me.id:
            return
        if peer in self._targets or len(self._probes) >= limits.PROBES_LIMIT:
            return
        sequence = self._next_sequence()
        scale = context.health.multiplier
        until = context.now + scale * context.settings.probe_interval
        token = context.timer(scale * context.settings.probe_timeout, self._unanswered, sequence)
        asks = context.settings.indirect_probes if helpers is None else helpers
        self._probes[sequence] = Probe(peer, sequence, context.now, until, token, record.epoch, asks)
        self._targets[peer] = sequence
        context.send_to(record, Ping(sequence, peer))

    def void(self) -> None:
        """Forget the probes in flight: this process stood still, and their silence means nothing."""
        for probe in list(self._probes.values()):
            self._end(probe)

    # Answers.

    def on_ping(self, ping: Ping, packet: Packet, source: Address) -> None:
        """Answer a ping that is meant for this node."""
        context = self._context
        if ping.target != context.me.id:
            context.counters["misdirected"] += 1
            return
        context.answer(packet.source, source, Ack(ping.sequence, context.state))

    def on_ack(self, ack: Ack, packet: Packet) -> str | None:
        """Take an answer to our own probe and say whose it is, or carry one to who asked for it."""
        relay = self._relays.pop(ack.sequence, None)
        if relay is not None:
            self._context.cancel(relay.token)
            self._context.send(relay.asker, Ack(relay.sequence, ack.state))
            return None
        probe = self._probes.get(ack.sequence)
        if probe is None or (packet.source != probe.target and packet.source not in probe.helpers):
            return None
        self._context.health.better()
        self._end(probe)
        return probe.target

    def on_nack(self, nack: Nack, packet: Packet) -> None:
        """Note that a helper is there, though our target does not answer it."""
        probe = self._probes.get(nack.sequence)
        if probe is not None and packet.source in probe.helpers:
            probe.helpers[packet.source] = True

    def on_ping_request(self, asked: PingRequest, source: Address) -> None:
        """Probe a member for somebody else."""
        context = self._context
        if len(self._relays) >= limits.RELAYS_LIMIT:
            context.counters["relays_refused"] += 1
            return
        sequence = self._next_sequence()
        token = context.timer(NACK_SHARE * context.settings.probe_timeout, self._nack, sequence)
        self._relays[sequence] = Relay(source, asked.sequence, token)
        record = context.members.get(asked.target)
        if record is None or not record.live:
            context.send(asked.address, Ping(sequence, asked.target))
        else:
            context.send_to(record, Ping(sequence, asked.target))

    # Silence.

    def _unanswered(self, sequence: int) -> None:
        """Ask for help after the probe timeout."""
        context = self._context
        probe = self._probes[sequence]
        record = context.members.get(probe.target)
        if record is None or not record.live or record.epoch != probe.epoch:
            self._end(probe)
            return
        address = context.members.address(record)
        if address != record.address:
            context.send(record.address, Ping(sequence, probe.target))
        for helper in context.members.sample(probe.asks, context.me.id, probe.target):
            probe.helpers[helper.id] = False
            context.send_to(helper, PingRequest(sequence, probe.target, address))
        probe.token = context.timer(probe.until - context.now, self._failed, sequence)

    def _failed(self, sequence: int) -> None:
        """Accuse at the end of the interval."""
        probe = self._probes[sequence]
        self._end(probe)
        self._context.health.note(failed=True)
        missed = sum(not heard for heard in probe.helpers.values())
        record = self._context.members.get(probe.target)
        if record is not None and record.epoch != probe.epoch:
            return
        if record is None or not any(accuser != self._context.me.id for accuser in record.accusers):
            # What others see too is no sign that this node is the slow one.
            self._context.health.probe_failed(probe.target, 1 + missed, probe.began)
        self._accuse(probe.target)

    def _nack(self, sequence: int) -> None:
        """Tell who asked that the target has not answered; for a while its ack would still be carried."""
        context, relay = self._context, self._relays[sequence]
        if context.settings.lifeguard:
            context.send(relay.asker, Nack(relay.sequence))
        relay.token = context.timer(context.settings.probe_interval, self._relays.pop, sequence)

    def _end(self, probe: Probe) -> None:
        del self._probes[probe.sequence], self._targets[probe.target]
        self._context.cancel(probe.token)

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) % limits.SEQUENCE_LIMIT
        return self._sequence
