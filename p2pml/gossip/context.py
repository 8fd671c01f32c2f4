"""What the parts of one node share: its identity, its tables, and three verbs: send, set a timer, notify."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from . import limits
from .broadcast import Broadcasts, transmit_limit
from .catalogue import Catalogue
from .directory import Directory
from .effects import Change, Effect, EntryChanged, Notify, SendDatagram, SetTimer
from .health import Health
from .members import Members
from .messages import Claim, Head, Message
from .records import Address, Me, Record, Status
from .settings import Settings
from .wire import OVERHEAD, Part, Wire

Action: TypeAlias = Callable[..., object]

ROOM = limits.PACKET_LIMIT - OVERHEAD
"""Bytes that a datagram has for messages."""


class Context:
    """One node's state, and the effects of the event that is being handled."""

    def __init__(self, me: Me, settings: Settings, rng: random.Random, wire: Wire, directory: Directory) -> None:
        """Know this node alone."""
        self.me = me
        self.settings = settings
        self.rng = rng
        self.wire = wire
        self.now = 0.0
        self.silent = False
        self.owes = False
        """Whether the sender of the datagram that is being heard should be told what this node says of itself."""
        self.state = 0
        self.effects: list[Effect] = []
        self.counters: Counter[str] = Counter()
        self.health = Health(settings.health_cap)
        self.members = Members(rng, settings.max_members, directory)
        self.catalogue = Catalogue(directory)
        self.claims = Broadcasts[Part]()
        """News of members."""
        self.writes = Broadcasts[Part]()
        """News of their catalogues."""
        self._timers: dict[int, tuple[Any, ...]] = {}
        """When each is due, what is done then, and with what: flat, as a node that suspects many has one for each."""
        self._token = 0
        self.own = Record(me.id, me.name, me.address, Status.ALIVE, me.generation, me.nonce, 0)
        self.members.put(self.own, 0.0)
        self.state ^= self.mark(self.own)

    # What is so about this node.

    def claim(self, record: Record) -> None:
        """Say something new about ourselves, and spread it."""
        before = self.mark(self.own)
        self.own = record
        self.me = replace(self.me, generation=record.generation, address=record.address)
        self.members.put(record, self.now)
        self.state ^= before ^ self.mark(record)
        self.spread(record)

    def spread(self, record: Record) -> None:
        """Queue a claim as news."""
        part = self.wire.claim(record)
        self.claims.put(record.id, part, len(part[1]))

    def mark(self, record: Record) -> int:
        """Hash one member's part of the state: of those that take part, the claim and the catalogue's version."""
        return record.mark ^ self.catalogue.mark(record.id, record.epoch) if record.live else 0

    def spread_head(self, record: Record) -> None:
        """Queue the version of a member's catalogue as news: with its last write, if that is small."""
        collected, version = self.catalogue.known(record.id, record.epoch)
        if version:
            before = (collected, version - 1)
            delta, _ = self.catalogue.delta(record.id, record.epoch, before, limits.NEWS_LIMIT)
            part = self.wire.part(delta or Head(record.id, record.generation, version))
            self.writes.put(record.id, part, len(part[1]))

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.claims.subjects or self.writes.subjects)

    def echo(self, queue: Broadcasts[Part], subject: str) -> None:
        """Note that a member told news that is known here: so much less has to be told by this one."""
        if subject in queue.subjects:
            retransmit = self.settings.retransmit
            queue.echo(subject, retransmit, transmit_limit(retransmit, self.members.live))

    def forget_news(self, peer: str) -> None:
        """Drop the news about a member."""
        self.claims.drop(peer)
        self.writes.drop(peer)

    def hush(self) -> None:
        """Have nothing to tell any more."""
        self.claims.clear()
        self.writes.clear()

    def forget_entries(self, owner: str) -> None:
        """Drop the catalogue entries of a member, and tell so."""
        for key in self.catalogue.forget(owner):
            self.notify(EntryChanged(owner, key, None))

    def speaker(self) -> Record | None:
        """Choose one of those heard lately, where most members may be gone; `None` elsewhere, or if it is suspected."""
        speakers = self.health.speakers
        if not (self.settings.lifeguard and self.health.alarmed and speakers):
            return None
        record = self.members.get(self.rng.choice(speakers))
        return record if record is not None and record.status is Status.ALIVE else None

    # The three verbs.

    def send(self, to: Address, *messages: Message, news: bool = True) -> None:
        """Send messages that fit into one datagram, with as much news as fits beside them."""
        self.send_parts(to, [self.wire.part(message) for message in messages], news=news)

    def send_to(self, record: Record, *messages: Message) -> None:
        """Send messages to a member; a suspect is always told first that it is one (Lifeguard §4.3)."""
        self.send(self.members.address(record), *self._told(record), *messages)

    def answer(self, sender: str, source: Address, *messages: Message) -> None:
        """Send messages back to where a member was just heard from."""
        record = self.members.get(sender)
        own = (Claim(self.own),) if self.owes else ()
        self.owes = False
        self.send(source, *self._told(record), *own, *messages)

    def _told(self, record: Record | None) -> tuple[Claim, ...]:
        if record is None or record.status is not Status.SUSPECT or not self.settings.lifeguard:
            return ()
        return (Claim(record),)

    def send_parts(self, to: Address, parts: list[Part], *, news: bool = True) -> None:
        """Send written messages that fit into one datagram, with as much news as fits beside them."""
        if news and self.has_news:
            room = ROOM
            for _, data in parts:
                room -= len(data)
            parts = parts + self._news(room)
        if parts:
            self._send_sealed(to, self.wire.seal(self.me, parts))

    def send_news(self, members: list[Record]) -> None:
        """Tell members the news: all the same, written once, where nobody has to be told first that it is suspected."""
        copies, limit = len(members), transmit_limit(self.settings.retransmit, self.members.live)
        alike = self.claims.size + self.writes.size <= ROOM and not any(
            record.status is Status.SUSPECT for record in members
        )
        if alike and self.claims.suits(copies, limit) and self.writes.suits(copies, limit):
            data = self.wire.seal(self.me, self._news(ROOM, copies))
            for record in members:
                self._send_sealed(self.members.address(record), data)
            return
        for record in members:
            self.send_to(record)

    def _news(self, room: int, copies: int = 1) -> list[Part]:
        """Choose news for a packet, or for several alike. Where not all fits, half of the room is for either kind."""
        limit = transmit_limit(self.settings.retransmit, self.members.live)
        parts = self.claims.take(room - min(self.writes.size, room // 2), limit, copies)
        if self.writes.subjects:
            for _, data in parts:
                room -= len(data)
            parts += self.writes.take(room, limit, copies)
        return parts

    def _send_sealed(self, to: Address, data: bytes) -> None:
        self.counters["datagrams_sent"] += 1
        self.counters["bytes_sent"] += len(data)
        self.effects.append(SendDatagram(to, data))

    def timer(self, delay: float, action: Action, *arguments: Any) -> int:
        """Do something later; the token can cancel it."""
        self._token = token = self._token + 1
        at = self.now + delay if delay > 0 else self.now
        self._timers[token] = (at, action, *arguments)
        self.effects.append(SetTimer(at, token))
        return token

    def cancel(self, token: int) -> None:
        """Let a timer come to nothing: when it fires it is stale."""
        self._timers.pop(token, None)

    @property
    def timers(self) -> int:
        """How many timers are set and not stale."""
        return len(self._timers)

    def due(self, token: int) -> float | None:
        """When a timer was to fire; `None` if it is stale."""
        timer = self._timers.get(token)
        return None if timer is None else timer[0]

    def fire(self, token: int) -> None:
        """Do what a timer was set for, unless it is stale."""
        timer = self._timers.pop(token, None)
        if timer is not None:
            timer[1](*timer[2:])

    def notify(self, change: Change) -> None:
        """Tell the daemon."""
        self.effects.append(Notify(change))
