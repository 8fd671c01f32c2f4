"""The protocol's one door, and its table of contents: an event goes in, effects come out.

A node is made of parts that share one `Context` and each hold one idea:

    records     what is claimed about a member, and which claim is stronger
    membership  what a claim does when it is heard: tables, refutation, identity
    probe       who is asked whether it lives, directly and through others
    suspicion   how long a suspect has to refute
    health      how far this node trusts its own ears
    directory   numbers for ids, so that tables are flat
    broadcast   news that rides on packets, and `gossip`, the rounds that carry what found no ride
    catalogue   what every member says of itself, versioned
    sync        comparing tables, by datagram and by stream
    healing     looking for the dead and for seeds
    codec, wire messages as bytes, and the envelope that keeps clusters apart

Nothing here reads a clock, a socket or a random number of its own, so that a daemon and a simulator drive the
same object.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import limits
from .bucket import Buckets
from .codec import PacketError
from .context import Context
from .directory import Directory
from .effects import AnswerStream, Effect, MemberChanged, SecretRefused
from .events import (
    DatagramReceived,
    Event,
    Join,
    Leave,
    Moved,
    SetEntry,
    Start,
    StreamAnswered,
    StreamFailed,
    StreamReceived,
    TimerFired,
    Unreachable,
)
from .gossip import Gossip
from .healing import Healing
from .membership import Membership
from .messages import (
    Ack,
    Claim,
    Delta,
    Digest,
    Head,
    Message,
    More,
    Nack,
    Packet,
    Ping,
    PingRequest,
    Wants,
)
from .probe import Prober
from .records import Address, Me, Member, Record, Status
from .settings import Settings
from .sync import Sync
from .wire import Wire


class Node:
    """One peer's side of the protocol. `handle` is the only thing that changes its state."""

    def __init__(
        self,
        me: Me,
        settings: Settings,
        rng: random.Random,
        wire: Wire | None = None,
        directory: Directory | None = None,
    ) -> None:
        """Know nobody yet; `Start` begins.

        `wire` is how packets are written, by default as bytes; `directory` is shared by nodes of one process.
        """
        context = self._context = Context(me, settings, rng, wire or Wire(me.cluster), directory or Directory())
        self._membership = Membership(context, self._doubt)
        self._prober = Prober(context, self._membership.accuse)
        self._gossip = Gossip(context)
        self._sync = Sync(context)
        self._healing = Healing(context, self._membership, self._sync)
        self._buckets = Buckets()
        self._started = False
        self._last_timer = 0.0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at `now` (s, monotonic) and return what is to be done, in order.

        Raises `BadInput` for a `SetEntry` past a limit and a `Moved` to no address, with no state changed; for
        nothing else.
        """
        context = self._context
        if now > context.now:  # a clock that steps back stands still
            context.now = now
        effects: list[Effect] = []
        context.effects = effects
        if self._started and not context.silent:
            _HANDLERS[type(event)](self, event)
            if not self._gossip.armed and context.has_news:
                self._gossip.wake()
        elif isinstance(event, Start | SetEntry | Moved) and not context.silent:
            _HANDLERS[type(event)](self, event)
            if self._started:
                self._gossip.wake()
        else:
            self._ignore(event)
        return effects

    # What can be asked.

    @property
    def me(self) -> Me:
        """Who this node is, with the generation and the address that it uses now."""
        return self._context.me

    @property
    def counters(self) -> Mapping[str, int]:
        """Packets and bytes by fate, since the start: `datagrams_sent`, `dropped_malformed` and so on."""
        return self._context.counters

    @property
    def agreed_at(self) -> float | None:
        """When a member last had the very same tables as this node (s, as `now`); `None` before the first time."""
        return self._sync.agreed_at

    def members(self) -> list[Member]:
        """List everyone remembered, this node and the gone included, by id."""
        members = self._context.members
        return sorted((members.view(record) for record in members), key=lambda member: member.id)

    def member(self, peer: str) -> Member | None:
        """Look one member up."""
        record = self._context.members.get(peer)
        return None if record is None else self._context.members.view(record)

    def entries(self, owner: str) -> Mapping[str, bytes]:
        """Read the catalogue entries of one owner, as far as they are known here."""
        return self._context.catalogue.entries(owner)

    def version(self, owner: str) -> int:
        """Say up to which version of an owner's catalogue its entries are known here."""
        record = self._context.members.get(owner)
        return 0 if record is None else self._context.catalogue.known(owner, record.epoch)[1]

    def highest_generation_heard_of_me(self) -> int:
        """Say the highest generation that anybody claimed of this identity: start above it next time."""
        return self._membership.highest_generation

    # What an onlooker may want to check: a simulation, or telemetry.

    def awaits(self, token: int) -> bool:
        """Whether a timer was not overtaken: firing one that was does nothing."""
        return self._context.due(token) is not None

    def record(self, peer: str) -> Record | None:
        """Look up the strongest claim heard about a member."""
        return self._context.members.get(peer)

    def records(self) -> Iterable[Record]:
        """Go through the strongest claims about everybody remembered, in no order to rely on."""
        return self._context.members

    def journal(self) -> list[Record]:
        """Keep from now on a list of the claims that are stored; whoever asks for it empties it."""
        journal: list[Record] = []
        self._context.members.journal = journal
        return journal

    def remembered(self) -> int:
        """Count everybody remembered."""
        return len(self._context.members)

    def state(self) -> int:
        """Hash the tables: equal at two nodes that know the same of all live members."""
        return self._context.state

    def queues(self) -> Mapping[str, int]:
        """Count everything that waits: each has its bound."""
        return {
            "news": len(self._context.claims) + len(self._context.writes),
            "probes": self._prober.probes,
            "relays": self._prober.relays,
            "streams": self._sync.streams,
            "suspicions": len(self._membership.suspicions),
            "timers": self._context.timers,
        }

    # Local events.

    def _start(self, event: Start) -> None:
        """Begin: timers at random phases, so that nodes started together do not act together."""
        if self._started:
            return
        self._started = True
        context, settings = self._context, self._context.settings
        self._last_timer = context.now
        context.spread(context.own)
        context.spread_head(context.own)
        context.timer(context.rng.random() * settings.probe_interval, self._probe_round)
        context.timer(settings.sync_interval, self._open_catalogue)
        context.timer(context.rng.random() * settings.reconnect_interval, self._reconnect_round)
        self._healing.join(event.seeds)

    def _join(self, event: Join) -> None:
        self._healing.join(event.addresses)

    def _set_entry(self, event: SetEntry) -> None:
        context = self._context
        own = context.own
        before = context.mark(own)
        if context.catalogue.write(own.id, own.epoch, event.key, event.value, context.now):
            context.state ^= before ^ context.mark(own)
            context.spread_head(own)

    def _open_catalogue(self) -> None:
        """End what an earlier run wrote: a run that has had nothing to say for a while says so."""
        context = self._context
        own = context.own
        before = context.mark(own)
        if context.catalogue.open(own.id, own.epoch):
            context.state ^= before ^ context.mark(own)
            context.spread_head(own)

    def _moved(self, event: Moved) -> None:
        self._membership.move(event.address)

    def _unreachable(self, event: Unreachable) -> None:
        self._doubt(event.id)

    def _leave(self, event: Leave) -> None:
        self._membership.leave()

    def _ignore(self, event: Event) -> None:
        """Do nothing before the start and after the end, but let nobody wait for an answer."""
        if isinstance(event, StreamReceived):
            self._context.effects.append(AnswerStream(event.token, b""))

    # Time.

    def _timer_fired(self, event: TimerFired) -> None:
        """Do what was due, unless it was overtaken."""
        context = self._context
        due = context.due(event.token)
        if due is None:
            return
        # A clock of coarse steps fires it a little early: to wait for the rest again would be to wait for ever.
        context.now = max(context.now, due)
        late = context.now - max(due, self._last_timer)
        if late > context.settings.probe_timeout and context.settings.lifeguard:
            # This may overtake the very timer, if it belonged to a probe or to a deadline.
            self._stalled(context.now - self._last_timer)
        self._last_timer = context.now
        context.fire(event.token)

    def _stalled(self, silence: float) -> None:
        """Discount a time in which this process stood still: silence meanwhile was its own.

        All that is known is that it ran when the last timer fired. To discount the lateness alone would let a
        verdict pass at once where its own timer is the first that comes late.
        """
        context = self._context
        context.counters["stalls"] += 1
        context.health.worse()
        self._prober.void()
        self._membership.suspicions.shift(silence)

    def _probe_round(self) -> None:
        """Probe the next member; a node that is alone looks for somebody instead."""
        context = self._context
        if context.members.live > 1:
            self._prober.tick()
        else:
            self._healing.greet_seed()
        self._sync.consult()
        context.timer(context.settings.probe_interval * context.health.multiplier, self._probe_round)

    def _reconnect_round(self) -> None:
        self._healing.tick()
        self._context.timer(self._context.settings.reconnect_interval, self._reconnect_round)

    def _doubt(self, peer: str, *, helpers: int | None = None) -> None:
        """Probe a member at once: somebody accuses it, or a request to it failed."""
        self._prober.probe(peer, helpers=helpers)

    # Packets.

    def _datagram_received(self, event: DatagramReceived) -> None:
        """Hear a datagram: who speaks first, then what it says, then what that leaves open."""
        context, source = self._context, event.source
        packet = self._open(source, event.data, limits.PACKET_LIMIT, "datagrams_received")
        if packet is None:
            return
        epoch = (packet.generation, packet.nonce)
        known = context.members.get(packet.source)
        current = known is not None and known.epoch == epoch
        if packet.source == context.me.id:
            self._hear_myself(packet, source)
            self._pay(packet, source)
            return
        if known is not None and current:
            self._hear_member(known, source)
        elif known is not None and epoch < known.epoch:
            self._membership.notice(known, source)
            return
        for message in packet.messages:
            if type(message) is Claim:  # as most are
                self._membership.hear(message.record, source, packet.source)
            else:
                _HEARERS[type(message)](self, message, packet, source)
            if context.silent:
                return
        self._sync.fetch(source)
        self._pay(packet, source)
        if known is not None and current and known.status is not Status.ALIVE:
            self._answer_doubted(packet.source, source)
        if not current:
            known = context.members.get(packet.source)
            if known is None or known.epoch < epoch:
                self._sync.ask(packet.source, source)

    def _stream_received(self, event: StreamReceived) -> None:
        """Hear a request that came by stream, and answer it. Where it came from is no address of the peer."""
        # Each connection has a port of its own: all streams of a host draw on one bucket.
        packet = self._open((event.source[0], 0), event.data, limits.STREAM_LIMIT, "streams_received")
        if packet is not None and self._is_current(packet):
            self._take_data(packet, None)
        if packet is None or not self._is_current(packet) or self._context.silent:
            self._ignore(event)
            return
        digests = [message for message in packet.messages if isinstance(message, Digest)]
        self._sync.answer_stream(event.token, digests)

    def _stream_answered(self, event: StreamAnswered) -> None:
        """Hear the answer to our own request: take it, send what it asks for, and come again for the rest."""
        address = self._sync.close_stream(event.token)
        if address is None:
            return
        packet = self._open(address, event.data, limits.STREAM_LIMIT, "answers_received")
        if packet is None or not self._is_current(packet):
            return
        progress = self._take_data(packet, address)
        for message in packet.messages:
            if isinstance(message, Wants):
                self._sync.push(message, address)
            elif isinstance(message, More) and progress:
                self._sync.open_stream(address)

    def _stream_failed(self, event: StreamFailed) -> None:
        self._sync.close_stream(event.token)
        self._context.counters["streams_failed"] += 1

    def _open(self, source: Address, data: bytes, limit: int, kind: str) -> Packet | None:
        """Read a packet, or count why it is dropped."""
        context = self._context
        if not self._buckets.admit(source, context.now):
            context.counters["dropped_rate"] += 1
            return None
        try:
            packet = context.wire.open(data, limit)
        except PacketError as error:
            context.counters[f"dropped_{error.reason}"] += 1
            if error.reason == "secret" and context.counters["dropped_secret"] == 1:
                context.notify(SecretRefused(source))
            return None
        context.counters[kind] += 1
        context.counters["bytes_received"] += len(data)
        return packet

    def _is_current(self, packet: Packet) -> bool:
        """Whether a packet is from another peer, and from no earlier run of it than is known."""
        known = self._context.members.get(packet.source)
        return packet.source != self._context.me.id and (
            known is None or known.epoch <= (packet.generation, packet.nonce)
        )

    def _hear_member(self, known: Record, source: Address) -> None:
        """Learn from the mere arrival of a packet of a member's present run."""
        context, suspicions = self._context, self._membership.suspicions
        if context.members.observe(known, source):
            context.notify(MemberChanged(context.members.view(known), known.status))
        if known.status is not Status.ALIVE:
            self._hear_doubted(known)
        else:
            context.health.last_word = context.now
            context.health.speakers.append(known.id)
            if suspicions.unheard:
                suspicions.heard_from(known.id)

    def _hear_doubted(self, known: Record) -> None:
        """Learn from a packet of a member that is not held alive."""
        suspicions = self._membership.suspicions
        if known.status is not Status.LEFT and suspicions.lost_one_speaks(known):
            self._prober.void()  # those in flight were sent into the split
            suspicions.freeze()
        if known.live:
            suspicions.heard_from(known.id)

    def _answer_doubted(self, peer: str, source: Address) -> None:
        """Tell or probe a member that was not held alive when it spoke, unless it has refuted in the same datagram."""
        record = self._context.members.get(peer)
        if record is not None and record.live:
            self._membership.suspicions.look_into(peer)
        elif record is not None:
            self._membership.notice(record, source)

    def _hear_myself(self, packet: Packet, source: Address) -> None:
        """Note an address as our own, or settle who has the right to this identity with another process under it."""
        me = self._context.me
        if (packet.generation, packet.nonce) == self._context.own.epoch:
            self._healing.is_me(source)
            return
        other = Record(me.id, me.name, source, Status.ALIVE, packet.generation, packet.nonce, 0)
        self._membership.hear(other, source, packet.source)

    # Messages. Each comes with its packet, and from where it can be answered.

    def _hear_ack(self, ack: Ack, packet: Packet, source: Address) -> None:
        target = self._prober.on_ack(ack, packet)
        if target is not None:
            self._membership.suspicions.answered(target)
            self._sync.on_state(target, ack.state)

    def _pay(self, packet: Packet, source: Address) -> None:
        """Tell the sender of a packet what this node says of itself, if it should know and no answer carried it."""
        if self._context.owes:
            self._context.answer(packet.source, source)

    def _take_data(self, packet: Packet, address: Address | None) -> bool:
        """Take the claims and writes that a stream brought; say whether any was news."""
        state = self._context.state
        data = [message for message in packet.messages if isinstance(message, Claim | Delta)]
        spread = len(data) <= limits.BULK_LIMIT
        for message in data:
            if self._context.silent:
                break
            if isinstance(message, Claim):
                self._membership.hear(message.record, address, packet.source, spread=spread)
            else:
                self._sync.on_delta(message, address, spread=spread)
        if address is not None:
            self._sync.fetch(address)
            self._pay(packet, address)
        return self._context.state != state


# Tables of the class and not of each node, of which a simulation has thousands.
_HANDLERS: dict[type[Event], Callable[[Node, Any], None]] = {
    Start: Node._start,
    DatagramReceived: Node._datagram_received,
    StreamReceived: Node._stream_received,
    StreamAnswered: Node._stream_answered,
    StreamFailed: Node._stream_failed,
    TimerFired: Node._timer_fired,
    Join: Node._join,
    SetEntry: Node._set_entry,
    Moved: Node._moved,
    Unreachable: Node._unreachable,
    Leave: Node._leave,
}
_HEARERS: dict[type[Message], Callable[[Node, Any, Packet, Address], object]] = {
    Delta: lambda node, delta, packet, source: node._sync.on_delta(delta, source),
    Ping: lambda node, ping, packet, source: node._prober.on_ping(ping, packet, source),
    Ack: Node._hear_ack,
    PingRequest: lambda node, asked, packet, source: node._prober.on_ping_request(asked, source),
    Nack: lambda node, nack, packet, source: node._prober.on_nack(nack, packet),
    Head: lambda node, head, packet, source: node._sync.on_head(head, source),
    Digest: lambda node, digest, packet, source: node._sync.on_digest(digest, source),
    Wants: lambda node, wants, packet, source: node._sync.on_wants(wants, source),
    More: lambda node, more, packet, source: node._sync.on_more(more, source),
}
