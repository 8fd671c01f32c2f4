"""Comparing tables: digests say what is known, and what the other lacks comes back (Scuttlebutt §3).

A digest lists members with the strongest claim and the catalogue version known of each. Whoever gets it sends
claims and deltas for the lines in which it knows more, those with a critical key first, then those never seen,
then the deepest, and asks for the lines in which it knows less. Datagrams carry as much as fits; where that is not
all, the other is told to come by stream, which has room for everything. Nothing of the dead is in a digest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from . import limits
from .codec import encode_line
from .context import ROOM, Context
from .effects import AnswerStream, EntryChanged, OpenStream
from .messages import Claim, Delta, Digest, Head, Line, Message, More, Wants
from .records import Address, Record, Status
from .wire import Part

LINE_LEAST = 1 + 18 + 4
"""Bytes of an encoded digest line, at least."""

DIGEST_OVERHEAD = 1 + 1 + 1 + 9 + 5
"""Bytes of an encoded digest beside its lines, at most."""

MORE_SIZE = 2 + 9
"""Bytes of an encoded `More`, at most."""

PART_LEAST = 64
"""Bytes below which there is no point in looking for a claim or a delta that still fits."""

ANSWERED = 3
"""Lines of a request that a datagram of the answer is for: an answer is no larger than to requests for a line each."""

LATEST_LIMIT = 16
"""Owners remembered as those who wrote last: what is new is what others lack. They take a third of a digest."""

WORTH = 100
"""Lines of a stream that are worth one member that is lacked: one of more lines is only taken now and then."""

DIFFERING_LIMIT = 16
"""Members remembered as differing between two syncs; one of them is compared with."""


class Gap(NamedTuple):
    """A member of whom somebody else knows less: how far they know it."""

    line: Line
    record: Record
    depth: int


class Sync:
    """One node's side of all comparisons."""

    def __init__(self, context: Context) -> None:
        """Compare with nobody yet."""
        self._context = context
        self._differing: dict[str, None] = {}
        self.agreed_at: float | None = None
        """When a member last had the very same tables (s); `None` before the first time."""
        self._latest: dict[str, None] = {}
        """Whose writes came last, the latest of them at the end."""
        self._armed = False
        self._last = -math.inf
        self._first: float | None = None
        """When tables were first compared (s); `None` before."""
        self._rest = context.settings.probe_interval
        self._wanted: list[Line] = []
        """What the packet that is being heard has told of, as far as it is known here."""
        self._pulled: dict[str, tuple[tuple[int, int], float]] = {}
        """Which generation and version of whom was lately asked for, and when (s): the oldest first."""
        self._streams: dict[int, Address] = {}
        self._pulls: set[int] = set()
        self._stream = 0
        self._came = -math.inf
        self._coming: Address | None = None

    # Asking.

    def on_state(self, peer: str, state: int) -> None:
        """Note whether a member's tables are as ours, and arrange a comparison if they are not.

        It comes a probe interval later, when the news of what has just changed has arrived by itself. The next ones
        follow after one, two, four and so on up to the sync interval; those of a newcomer, who has much to learn, at
        every probe interval until it was once as another.
        """
        context = self._context
        if state == context.state:
            self._differing.pop(peer, None)
            self.agreed_at = context.now
            return
        if len(self._differing) < DIFFERING_LIMIT:
            self._differing[peer] = None
        if not self._armed:
            self._armed = True
            rest = self._last + self._rest - context.now
            context.timer(max(context.settings.probe_interval, rest), self._compare)

    def _compare(self) -> None:
        """Compare with a member that was seen to differ, if one still is."""
        context = self._context
        self._armed = False
        differing = [record for peer in self._differing if (record := context.members.get(peer)) and record.live]
        self._differing.clear()
        if differing:
            sync, lull = context.settings.sync_interval, context.now - self._last
            if self._first is None:
                self._first = context.now
            soon = (self._is_new and self.agreed_at is None) or lull >= 2 * sync
            self._rest = context.settings.probe_interval if soon else min(2 * self._rest, sync)
            self._last = context.now
            chosen = context.rng.choice(differing)
            settled = self._rest == sync and not context.has_news
            if settled and context.members.live * LINE_LEAST > ROOM:
                # No news is on its way, and several samples of the lines did not find what differs: all of them will.
                self.open_stream(context.members.address(chosen))
                return
            self._compare_with(chosen)

    def _compare_with(self, member: Record) -> None:
        """Send a member a digest, beside what it is told first if it is a suspect."""
        context = self._context
        told = len(context.wire.claim(member)[1]) if member.status is Status.SUSPECT else 0
        context.send_to(member, self.digest(ROOM - told))

    def consult(self) -> None:
        """Compare with one that was just heard, where many fall silent: there is much to learn, and few know it."""
        speaker = self._context.speaker()
        if speaker is not None:
            self._compare_with(speaker)

    def greet(self, address: Address, *messages: Message) -> None:
        """Introduce this node to whoever lives at an address, and ask what it knows."""
        context = self._context
        own = Claim(context.own)
        room = ROOM - sum(len(context.wire.part(message)[1]) for message in (*messages, own))
        context.send(address, *messages, own, self.digest(room), news=False)

    def digest(self, room: int) -> Digest:
        """Say what is known of all live members, or of as many as fit: who wrote last, and the rest at random."""
        context = self._context
        room -= DIGEST_OVERHEAD
        live = context.members.live
        if live * LINE_LEAST <= room:
            chosen = [record for record in context.members if record.live]
        else:
            latest = [record for owner in self._latest if (record := context.members.get(owner)) and record.live]
            sample = context.members.sample(room // LINE_LEAST)
            chosen = list({record.id: record for record in (*latest, *sample)}.values())
        lines = _fitting((self._line(record) for record in chosen), room)
        return Digest(len(lines) == live, live, lines)

    def ask(self, peer: str, source: Address) -> None:
        """Ask a member of whose run nothing is known for all of it.

        What is known of an earlier run does not count: where a disk has lost its generation, the two differ in
        nothing that a line says, and the earlier one may have the later version.
        """
        self._context.send(source, Wants((_nothing(peer),)))

    # Answering.

    def on_digest(self, digest: Digest, source: Address) -> None:
        """Send what the other lacks, and ask for what we lack."""
        for parts in self.answer(digest, ROOM):
            if parts:
                self._context.send_parts(source, parts)

    def on_wants(self, wants: Wants, source: Address) -> None:
        """Send what the other lacks, if it is still so: one datagram for every three lines, if that much is lacking."""
        context, gaps, cut = self._context, self._differences(wants.lines)[1], False
        for left in reversed(range(-(-len(wants.lines) // ANSWERED))):
            parts, gaps, some = self._fill(gaps, ROOM - MORE_SIZE)
            cut |= some
            last = not (left and parts and gaps)
            if last and (cut or gaps):
                parts.append(context.wire.part(More()))
            if parts:
                context.send_parts(source, parts)
            if last:
                break

    def answer(self, digest: Digest, room: int) -> tuple[list[Part], list[Part]]:
        """Write the request for what we lack and the answer to what they lack; each fits into `room`."""
        context = self._context
        lines = list(digest.lines)
        listed = {line.id for line in lines}
        if digest.complete:
            lines += [_nothing(record.id) for record in context.members if record.live and record.id not in listed]
        elif context.me.id not in listed:
            lines.append(_nothing(context.me.id))
        differing, gaps = self._differences(lines)
        lacking = _fitting(differing, room - DIGEST_OVERHEAD)
        wants = [context.wire.part(Wants(lacking))] if lacking else []
        lacks = not digest.complete and context.members.live > digest.live
        return wants, self._pack(gaps, room, live=context.members.live if lacks else 0)

    def _differences(self, lines: Iterable[Line]) -> tuple[list[Line], list[Gap]]:
        """Find the lines in which they know more, as ours, and those in which they know less.

        Of the latter a critical key comes first, then who was never seen, then the deepest.
        """
        lacking, gaps = [], []
        for theirs in lines:
            record = self._context.members.get(theirs.id)
            ours = _nothing(theirs.id) if record is None else self._line(record)
            if theirs == ours:  # as nearly all are
                continue
            one, other = theirs[1:3], ours[1:3]
            same = theirs.generation == ours.generation
            if one > other or (same and theirs.version > ours.version):
                lacking.append(ours)
            depth = ours.version - (theirs.version if same else 0)
            if record is not None and (one < other or (same and depth > 0)):
                gaps.append(Gap(theirs, record, depth))
        if len(gaps) > 1:
            gaps.sort(key=lambda gap: (not self._is_critical(gap), gap.line.generation > 0, -gap.depth))
        return lacking, gaps

    def _is_critical(self, gap: Gap) -> bool:
        """Whether a key that must not wait is among what they lack."""
        keys = self._context.settings.critical
        known = gap.line.version if gap.line.generation == gap.record.generation else 0
        return gap.depth > 0 and self._context.catalogue.wrote(gap.record.id, keys, known)

    def _pack(self, gaps: list[Gap], room: int, *, live: int = 0) -> list[Part]:
        """Write claims and deltas for as many gaps as fit, and say so if there are more, or `live` members."""
        parts, left, cut = self._fill(gaps, room - MORE_SIZE)
        if left or cut or live:
            parts.append(self._context.wire.part(More(0 if left or cut else live)))
        return parts

    def _fill(self, gaps: list[Gap], room: int) -> tuple[list[Part], list[Gap], bool]:
        """Write claims and deltas for as many gaps as fit; also which are left, and whether a delta had to be cut."""
        context = self._context
        parts: list[Part] = []
        left: list[Gap] = []
        cut = False
        for place, (line, record, depth) in enumerate(gaps):
            behind = (line.generation, line.strength) < (record.generation, record.strength)
            claims = [context.wire.claim(record)] if behind else []
            size = sum(len(data) for _, data in claims)
            if room < PART_LEAST or room < size:
                return parts, [*left, *gaps[place:]], cut
            parts += claims
            room -= size
            if depth > 0:
                known = (line.collected, line.version) if line.generation == record.generation else (0, 0)
                delta, whole = context.catalogue.delta(record.id, record.epoch, known, room)
                if delta is not None:
                    part = context.wire.part(delta)
                    parts.append(part)
                    room -= len(part[1])
                    cut |= not whole
                elif not whole:
                    left.append(gaps[place])
        return parts, left, cut

    def _line(self, record: Record) -> Line:
        known, line = self._context.catalogue.known(record.id, record.epoch), record.line
        if line is None or line[4] != known[1] or line[3] != known[0]:
            line = record.line = Line(record.id, record.generation, record.strength, *known)
        return line

    # News of the catalogue.

    def on_head(self, head: Head, source: Address) -> None:
        """Ask for the writes that we lack, unless that was just done."""
        context = self._context
        record = context.members.get(head.owner)
        same = record is not None and record.generation == head.generation
        if record is not None and same and context.catalogue.reaches(head.owner, record.epoch, head.version):
            context.echo(context.writes, head.owner)
            return
        ours = _nothing(head.owner) if record is None else self._line(record)
        if (head.generation, head.version) <= (ours.generation, ours.version) or head.owner == context.me.id:
            return
        asked = (head.generation, head.version)
        before = context.now - context.settings.probe_timeout
        while self._pulled and next(iter(self._pulled.values()))[1] <= before:
            del self._pulled[next(iter(self._pulled))]
        if self._pulled.get(head.owner, ((0, 0), 0.0))[0] >= asked:
            return
        self._pulled.pop(head.owner, None)
        self._pulled[head.owner] = (asked, context.now)
        if len(self._pulled) > limits.MEMBERS_LIMIT:
            del self._pulled[next(iter(self._pulled))]
        self._wanted.append(ours)

    def fetch(self, source: Address) -> None:
        """Ask for all that a packet has told of, at once."""
        if self._wanted:
            wanted, self._wanted = _fitting(self._wanted, ROOM - DIGEST_OVERHEAD), []
            self._context.send(source, Wants(wanted))

    def on_delta(self, delta: Delta, source: Address | None, *, spread: bool = True) -> None:
        """Take writes that continue what is known, or ask for what is between."""
        context, owner = self._context, delta.owner
        if context.catalogue.reaches(owner, (delta.generation, delta.nonce), delta.until):
            context.echo(context.writes, owner)
            return
        record = context.members.get(owner)
        if record is None or record.epoch != (delta.generation, delta.nonce) or owner == context.me.id:
            context.counters["deltas_ignored"] += 1
            if source is not None:
                self.on_head(Head(owner, delta.generation, delta.until), source)
            return
        before = context.mark(record)
        changes = context.catalogue.apply(delta)
        context.state ^= before ^ context.mark(record)
        if changes is not None:
            self._latest.pop(owner, None)
            self._latest[owner] = None
            if len(self._latest) > LATEST_LIMIT:
                del self._latest[next(iter(self._latest))]
            for key, value in changes.items():
                context.notify(EntryChanged(owner, key, value))
            if spread:
                context.spread_head(record)
        elif source is not None:
            self.on_head(Head(owner, delta.generation, delta.until), source)

    # Streams.

    @property
    def streams(self) -> int:
        """How many streams this node has open."""
        return len(self._streams)

    @property
    def _is_new(self) -> bool:
        """Whether this node may have much to learn: for two sync intervals."""
        return self._first is None or self._context.now - self._first < 2 * self._context.settings.sync_interval

    def settle(self) -> None:
        """Be as one that has been here for long, and has the tables that the others have."""
        self._first, self.agreed_at = -math.inf, self._context.now

    def on_more(self, more: More, source: Address) -> None:
        """Come by stream for what does not fit into a packet: at once, but in a burst of news once for all of it.

        Where many fell silent, tables differ everywhere and for long: then once in a sync interval is enough. Where
        members come and go, counts always differ by those of whom the news is under way, and a stream lists everybody:
        it is taken by a chance that grows with what it brings, and costs the same for each of these at any size.
        """
        context = self._context
        lacking = more.live - context.members.live
        if more.live and not self._is_new and context.rng.random() * more.live >= WORTH * lacking:
            return
        waiting, self._coming = self._coming is not None, source
        if not waiting:
            settings = context.settings
            pause = settings.sync_interval if context.health.alarmed else settings.probe_timeout
            rest = self._came + pause - context.now
            if rest > 0:
                context.timer(rest, self._come)
            else:
                self._come()

    def _come(self) -> None:
        """Come to whoever said last that it has more."""
        assert self._coming is not None
        source, self._coming, self._came = self._coming, None, self._context.now
        self.open_stream(source)

    def open_stream(self, address: Address, parts: list[Part] | None = None) -> None:
        """Ask a member by stream for all that we lack, or send it what it lacks."""
        context = self._context
        refused = len(self._pulls) >= limits.PULLS_LIMIT or address in self._streams.values()
        if len(self._streams) >= limits.STREAMS_LIMIT or (parts is None and refused):
            context.counters["streams_refused"] += 1
            return
        self._stream += 1
        if parts is None:
            self._pulls.add(self._stream)
            parts = [
                context.wire.claim(context.own),
                context.wire.part(self.digest(limits.STREAM_LIMIT // 2)),
            ]
        self._streams[self._stream] = address
        data = context.wire.seal(context.me, parts)
        context.counters["streams_opened"] += 1
        context.counters["bytes_sent"] += len(data)
        context.effects.append(OpenStream(address, data, self._stream))

    def close_stream(self, token: int) -> Address | None:
        """Note that a stream has ended; say where it went, `None` if it is not ours."""
        self._pulls.discard(token)
        return self._streams.pop(token, None)

    def answer_stream(self, token: int, digests: list[Digest]) -> None:
        """Answer a request: with all that the other lacks, if it said what it knows."""
        context = self._context
        parts: list[Part] = []
        for digest in digests[:1]:
            wants, parts = self.answer(digest, limits.STREAM_LIMIT // 2)
            parts = [*wants, *parts]
        data = context.wire.seal(context.me, parts)
        context.counters["bytes_sent"] += len(data)
        context.effects.append(AnswerStream(token, data))

    def push(self, wants: Wants, address: Address) -> None:
        """Send what an answer asked for: in a datagram if it fits, else by stream."""
        parts = self._pack(self._differences(wants.lines)[1], limits.STREAM_LIMIT // 2)
        if sum(len(data) for _, data in parts) <= ROOM:
            self._context.send_parts(address, parts)
        else:
            self.open_stream(address, parts)


def _nothing(peer: str) -> Line:
    """Stand for a member of whom nothing is known."""
    return Line(peer, 0, 0, 0, 0)


def _fitting(lines: Iterable[Line], room: int) -> tuple[Line, ...]:
    """Take lines as long as they fit into `room` bytes."""
    taken = []
    for line in lines:
        room -= len(encode_line(line))
        if room < 0:
            break
        taken.append(line)
    return tuple(taken)
