"""Laws of comparing tables: what one lacks and the other has goes over, by datagram or by stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gossip_support import WIRE, Jar, claim, identity, later, packet

from p2pml.gossip import (
    EntryChanged,
    Join,
    Me,
    SetEntry,
    Settings,
    Status,
    StreamAnswered,
    StreamFailed,
    StreamReceived,
    Unreachable,
    limits,
)
from p2pml.gossip.messages import Ack, Claim, Delta, Digest, Head, Line, More, Nack, Ping, Wants, Write
from p2pml.gossip.sync import LATEST_LIMIT

ME = identity(0)
A, B, C = (identity(index) for index in range(1, 4))
MANY = [identity(index) for index in range(1, 61)]


def jar(*peers: Me, **options: Any) -> Jar:
    """Make a node that knows some peers."""
    one = Jar(ME, **options)
    one.meet(*peers)
    return one


def line(peer: Me, incarnation: int = 0, version: int = 0, collected: int = 0) -> Line:
    """Write a digest line about a live peer."""
    return Line(peer.id, peer.generation, incarnation * 4, collected, version)


def delta(owner: Me, since: int, until: int, **entries: bytes) -> Delta:
    """Write a delta with consecutive versions."""
    written = tuple(Write(key, since + place, value) for place, (key, value) in enumerate(entries.items(), 1))
    return Delta(owner.id, owner.generation, owner.nonce, 0, since, until, written)


def read_stream(data: bytes) -> Any:
    """Read a stream message."""
    return WIRE.open(data, limits.STREAM_LIMIT)


def of(kind: type[Any], messages: Any) -> list[Any]:
    """Choose the messages of one kind."""
    return [message for message in messages if isinstance(message, kind)]


def test_a_complete_digest_brings_the_members_that_are_not_in_it() -> None:
    """Who lists all that it knows is sent everybody else, this node included."""
    one = jar(A, B)
    one.hear(A, Digest(True, 1, (line(A),)))
    assert {message.record.id for message in one.said(Claim, A.address)} == {ME.id, B.id}
    assert not one.said(Wants)


def test_a_partial_digest_brings_this_node_alone() -> None:
    """What is not listed may well be known, but who answers should be."""
    one = jar(A, B)
    one.hear(A, Digest(False, 3, (line(A),)))
    assert [message.record.id for message in one.said(Claim, A.address)] == [ME.id]
    assert not one.said(More)


def test_who_knows_fewer_members_is_told_to_come_by_stream() -> None:
    """A partial digest cannot show who is missing: the counts of the living can."""
    one = jar(A, B)
    one.hear(A, Digest(False, 2, (line(A),)))
    assert one.said(More, A.address)


def test_a_digest_is_answered_line_by_line() -> None:
    """Where we know more we send it, where we know less we ask for it, and else we say nothing."""
    one = jar(A, B, C)
    one.hear(B, Claim(claim(B, Status.ALIVE, 5)))
    one.hear(C, delta(C, 0, 2, key=b"value", other=b""))
    one.hush()
    one.hear(A, Digest(True, 4, (line(ME), line(A, 3), line(B, 4), line(C, 0, 1))))
    assert [message.record.incarnation for message in one.said(Claim)] == [5]
    assert [(one.since, one.until) for one in one.said(Delta)] == [(1, 2)]
    (wants,) = one.said(Wants)
    assert wants.lines == (line(A),)


def test_equal_tables_say_nothing() -> None:
    """A digest that shows what we know is not answered."""
    one = jar(A)
    one.hear(A, Digest(True, 2, (line(ME), line(A))))
    assert not one.sent()


def test_the_dead_are_not_in_digests_but_corrected() -> None:
    """Who holds a dead member alive is told so."""
    one = jar(A, B)
    one.bury(A, B)
    one.hear(A, Digest(True, 3, (line(ME), line(A), line(B))))
    assert [message.record.status for message in one.said(Claim, A.address)] == [Status.DEAD]
    assert B.id not in {entry.id for entry in one.node._sync.digest(1000).lines}


def test_an_unknown_member_is_asked_for() -> None:
    """A line about a stranger brings the question for it."""
    one = jar(A)
    one.hear(A, Digest(False, 3, (line(ME), line(A), line(B))))
    (wants,) = one.said(Wants)
    assert wants.lines == (Line(B.id, 0, 0, 0, 0),)


def test_wants_are_answered_with_what_is_known() -> None:
    """A want brings claim and writes; what is not known brings nothing."""
    one = jar(A, B)
    one.take(SetEntry("key", b"value"))
    one.hush()
    one.hear(A, Wants((Line(ME.id, 0, 0, 0, 0), Line(C.id, 0, 0, 0, 0), line(B))))
    assert [message.record.id for message in one.said(Claim)] == [ME.id]
    assert [message.owner for message in one.said(Delta)] == [ME.id]
    one.clear()
    one.hear(A, Wants((line(B),)))
    assert not one.sent()


def test_never_seen_members_come_first_and_then_the_deepest() -> None:
    """What fits is what matters most."""
    one = jar(A, B, C)
    for peer, versions in ((A, 1), (B, 3)):
        one.hear(peer, delta(peer, 0, versions, **{f"k{index}": b"" for index in range(versions)}))
    one.hush()
    one.hear(A, Digest(True, 3, (line(ME), line(A), line(B))))
    order = [
        message.record.id if isinstance(message, Claim) else message.owner
        for sent in one.sent()
        for message in sent.packet.messages
        if isinstance(message, Claim | Delta)
    ]
    assert order == [C.id, B.id, A.id]


def test_owners_who_wrote_a_critical_key_come_first() -> None:
    """Where not everything fits, what must not wait goes before members never seen and before the deepest."""
    one = jar(A, B, C, settings=replace(Settings.lan(), critical=frozenset({"fit"})))
    one.hear(A, delta(A, 0, 3, one=bytes(200), two=bytes(200), three=bytes(200)))
    one.hear(B, delta(B, 0, 2, fit=b"now", late=bytes(200)))
    one.hush()
    one.hear(C, Digest(True, 2, (line(ME), line(A), line(B), line(C))))
    assert [said.owner for said in one.said(Delta)] == [B.id, A.id]
    one.clear()
    one.hear(C, Digest(True, 2, (line(ME), line(A), line(B, version=1), line(C))))
    assert [said.owner for said in one.said(Delta)] == [A.id, B.id]


def test_a_digest_of_many_members_is_a_random_part_that_fits() -> None:
    """Different members are listed each time, and the digest says that it is not complete."""
    one = jar(*MANY)
    parts = []
    for _ in range(3):
        one.clear()
        one.take(Join((("10.9.9.9", 1),)))
        (digest,) = one.said(Digest)
        assert not digest.complete
        assert digest.live == 61
        parts.append({entry.id for entry in digest.lines})
        assert 20 < len(parts[-1]) < 61
    assert len(set.union(*parts)) > len(parts[0])


def test_who_wrote_last_is_in_every_digest() -> None:
    """What is new is what others lack: a digest that has no room for all lists it each time."""
    one = jar(*MANY)
    for writer in MANY[:20]:
        one.hear(writer, delta(writer, 0, 1, fit=b"1"))
    one.clear()
    for _ in range(3):
        one.take(Join((("10.9.9.9", 1),)))
    for digest in one.said(Digest):
        assert {writer.id for writer in MANY[20 - LATEST_LIMIT : 20]} < {entry.id for entry in digest.lines}
        assert len({entry.id for entry in digest.lines}) == len(digest.lines)
    assert len(one.said(Digest)) == 3


def test_what_does_not_fit_is_fetched_by_stream() -> None:
    """The sender says that there is more; the other opens a stream with all that it knows."""
    one = jar(*MANY)
    one.hear(A, Digest(True, 1, (line(A),)))
    assert 4 < len(one.said(Claim, A.address)) < 60
    assert one.said(More, A.address)
    two = Jar(A)
    two.hear(ME, More())
    (stream,) = two.opened()
    digest = of(Digest, read_stream(stream.data).messages)[0]
    assert digest.complete
    one.clear()
    one.take(StreamReceived(("10.0.0.1", 40000), stream.data, 9))
    (answer,) = one.answered()
    assert answer.token == 9
    two.take(StreamAnswered(stream.token, answer.data))
    assert len(two.node.members()) == 61
    assert two.node.queues()["streams"] == 0


def test_a_stream_of_a_large_table_is_worth_what_it_brings() -> None:
    """Where members come and go, tables differ by the few of whom the news is under way: no reason to fetch all of it.

    Who lacks one of 62 members always comes, of 602 one time in six; who lacks a sixth always comes, and who is new, or
    is told that something did not fit.
    """

    def came(one: Jar, live: int) -> int:
        one.now += one.node._context.settings.probe_timeout
        one.clear()
        one.hear(A, More(live))
        streams = one.opened()
        for stream in streams:
            one.take(StreamFailed(stream.token))
        return len(streams)

    crowd = (replace(A, id=f"{index:032x}", address=(f"10.1.{index >> 8}.{index & 255}", 7946)) for index in range(600))
    small, large = jar(A, *MANY), jar(A, *crowd)
    tries = 100
    assert sum(came(large, 603) for _ in range(tries)) == tries
    small.node._sync.settle()
    large.node._sync.settle()
    assert sum(came(small, small.node.remembered() + 1) for _ in range(tries)) == tries
    assert 0 < sum(came(large, 603) for _ in range(tries)) < tries / 3
    assert sum(came(large, 703) + came(large, 0) for _ in range(tries)) == 2 * tries
    assert sum(came(large, 602) + came(large, 2) for _ in range(tries)) == 0


def test_a_value_too_large_for_a_packet_goes_by_stream() -> None:
    """Entries up to their limit reach the others all the same."""
    one = jar(A)
    one.take(SetEntry("big", bytes(limits.VALUE_LIMIT)))
    one.hush()
    one.hear(A, Wants((line(ME),)))
    assert one.said(More, A.address)
    assert not one.said(Delta)


def test_an_answer_asks_for_what_it_lacks_and_gets_it() -> None:
    """Both learn of one stream: what the answerer wants follows by datagram, or by stream if it is much."""
    for value, streams in ((b"small", 0), (bytes(4000), 1)):
        one = jar(A)
        one.take(SetEntry("key", value))
        one.hush()
        one.hear(A, More())
        (stream,) = one.opened()
        one.clear()
        one.take(StreamAnswered(stream.token, packet(A, Wants((line(ME),)))))
        assert len(one.opened()) == streams
        deltas = one.said(Delta) or of(Delta, read_stream(one.opened()[0].data).messages)
        assert deltas[0].writes[0].value == value


def test_a_pushed_stream_is_answered_with_nothing() -> None:
    """Who only sends data gets an empty packet back."""
    one = jar(A)
    one.take(StreamReceived(("10.0.0.1", 40000), packet(A, delta(A, 0, 1, key=b"value")), 3))
    assert one.node.entries(A.id) == {"key": b"value"}
    (answer,) = one.answered()
    assert read_stream(answer.data).messages == ()


def test_a_stream_goes_on_while_it_brings_something() -> None:
    """An answer that says that there is more is followed by another request, unless it brought nothing."""
    one = jar(A)
    one.hear(A, More())
    (first,) = one.opened()
    one.take(StreamAnswered(first.token, packet(A, Claim(claim(B)), More())))
    second = one.opened()[-1]
    assert second.token != first.token
    one.take(StreamAnswered(second.token, packet(A, Claim(claim(B)), More())))
    assert len(one.opened()) == 2
    one.take(StreamAnswered(second.token, packet(A, More())))
    assert one.node.queues()["streams"] == 0


def test_streams_are_bounded_and_one_an_address() -> None:
    """However often there is said to be more, few streams are open, and fewer that bring the same."""
    one = jar(*MANY)
    for peer in (A, A, *MANY[:8]):
        one.hear(peer, More())
        one.run(one.node._context.settings.probe_timeout)
    assert len(one.opened()) == one.node.queues()["streams"] == limits.PULLS_LIMIT
    for number in range(8):
        one.node._sync.open_stream(("10.0.9.9", 1 + number), [])
    assert one.node.queues()["streams"] == limits.STREAMS_LIMIT
    assert one.node.counters["streams_refused"] > 0
    for token in (*range(9), *range(9)):
        one.take(StreamFailed(token))
    assert one.node.queues()["streams"] == 0


def test_a_burst_of_news_brings_one_stream_at_once_and_one_after_it() -> None:
    """Each comparison lists everybody, so that the second one brings all of which the others told meanwhile."""
    one = jar(*MANY)
    for peer in MANY[:8]:
        one.hear(peer, More())
    assert [stream.to for stream in one.opened()] == [MANY[0].address]
    one.run(one.node._context.settings.probe_timeout)
    assert [stream.to for stream in one.opened()] == [MANY[0].address, MANY[7].address]


def test_a_stream_request_that_is_no_packet_is_refused() -> None:
    """Whatever comes, there is exactly one answer."""
    one = jar(A)
    for data in (b"", b"nonsense", packet(later(A, 1), Digest(True, 1, ())), packet(ME)):
        one.clear()
        one.take(StreamReceived(("10.0.0.1", 40000), data, 3))
        assert len(one.answered()) == 1
    one.take(StreamAnswered(99, b""))
    one.hear(A, More())
    one.take(StreamAnswered(one.opened()[0].token, b"nonsense"))
    assert one.node.queues()["streams"] == 0


def test_a_stream_says_nothing_about_an_address() -> None:
    """The port of a connection is nobody's address."""
    one = jar(A)
    one.take(StreamReceived(("10.5.5.5", 40000), packet(A, Claim(claim(A, Status.ALIVE, 1)), Ping(1, ME.id)), 3))
    assert one.node.member(A.id).address == A.address  # type: ignore[union-attr]
    assert not one.said(Ack)


def test_a_conflict_that_comes_by_stream_stops_this_node() -> None:
    """The request is answered, and then there is silence."""
    one = jar(A)
    last = claim(later(ME, limits.GENERATION_LIMIT - 1))
    one.take(StreamReceived(("10.0.0.1", 40000), packet(A, Claim(last), Claim(claim(B))), 3))
    assert [answer.data for answer in one.answered()] == [b""]
    assert one.status(B) is None


def test_a_whole_table_is_not_news() -> None:
    """What comes in bulk is old to everybody else, and is not spread; a little is."""
    for count, spread in ((limits.BULK_LIMIT, True), (limits.BULK_LIMIT + 1, False)):
        one = jar(A)
        claims = [Claim(claim(peer)) for peer in MANY[1 : count + 1]]
        one.take(StreamReceived(("10.0.0.1", 40000), packet(A, *claims), 3))
        assert (one.node.queues()["news"] > 0) == spread


def test_a_head_ahead_of_us_is_asked_for_once() -> None:
    """The version of a catalogue is news; who is behind asks the teller for the writes."""
    one = jar(A, B)
    for _ in range(3):
        one.hear(A, Head(B.id, 1, 4))
    assert [wants.lines for wants in one.said(Wants, A.address)] == [(line(B),)]
    one.hear(A, Head(B.id, 1, 5))
    one.run(1)
    one.hear(A, Head(B.id, 1, 5))
    assert len([wants for wants in one.said(Wants, A.address) if wants.lines == (line(B),)]) == 3


def test_a_head_that_is_known_or_our_own_is_not_asked_for() -> None:
    """Old heads, and what others say of our own catalogue, bring nothing."""
    one = jar(A, B)
    one.hear(B, delta(B, 0, 2, a=b"", b=b""))
    one.hush()
    for head in (Head(B.id, 1, 2), Head(B.id, 1, 1), Head(ME.id, 1, 99)):
        one.hear(A, head)
    assert not one.said(Wants)


def test_a_head_of_a_stranger_or_a_later_run_brings_its_claim() -> None:
    """What is asked for is then all that the teller knows."""
    one = jar(A, B)
    one.hear(A, Head(C.id, 1, 1), Head(B.id, 2, 1))
    assert [[entry.id for entry in wants.lines] for wants in one.said(Wants, A.address)] == [[C.id, B.id]]


def test_all_that_a_packet_tells_of_is_asked_for_at_once() -> None:
    """Where many write in one moment, requests and answers are a few packets and not one for each that wrote."""
    one, writers = jar(*MANY), MANY[:24]
    one.hear(A, *(Head(writer.id, 1, 4) for writer in writers))
    (asked,) = one.said(Wants, A.address)
    assert [entry.id for entry in asked.lines] == [writer.id for writer in writers]
    assert not one.opened()


@pytest.mark.parametrize(("size", "datagrams", "all_fit"), [(200, 6, True), (400, 8, False), (2000, 1, False)])
def test_a_long_request_is_answered_by_up_to_a_datagram_for_three_lines(
    size: int, datagrams: int, *, all_fit: bool
) -> None:
    """An answer has no more room than those to requests for a line each: else it could be aimed at others."""
    one, writers = jar(*MANY), MANY[:24]
    for writer in writers:
        written = packet(A, delta(writer, 0, 1, key=bytes(size)))
        one.take(StreamReceived((A.address[0], 40000), written, 3))
    one.hush()
    one.hear(A, Wants(tuple(line(writer) for writer in writers)))
    assert len(one.sent(A.address)) == datagrams
    brought = [told.owner for told in one.said(Delta, A.address)]
    assert len(brought) == len(set(brought))
    assert (len(brought) == len(writers)) == all_fit
    assert bool(one.said(More, A.address)) != all_fit


def test_the_memory_of_heads_is_bounded() -> None:
    """Heads of invented owners do not fill it."""
    one = jar(A)
    for index in range(limits.MEMBERS_LIMIT + 3):
        one.hear(A, Head(f"{index:032x}", 1, 1), source=("10.1.1.1", 1 + index % 60000))
    assert len(one.node._sync._pulled) == limits.MEMBERS_LIMIT


def test_writes_of_others_are_told_and_passed_on() -> None:
    """Each changed value is notified, and the new version is news."""
    one = jar(A)
    one.hear(A, delta(A, 0, 1, key=b"value"))
    assert one.changes() == [EntryChanged(A.id, "key", b"value")]
    assert one.node.queues()["news"] == 1
    one.hear(A, delta(A, 0, 1, key=b"value"))
    assert len(one.changes()) == 1


@pytest.mark.parametrize("owner", [ME, B, later(A, 2)])
def test_writes_of_ourselves_of_strangers_and_of_unknown_runs_are_ignored(owner: Me) -> None:
    """Only its owner writes a catalogue, and only in the run that is known."""
    one = jar(A)
    one.hear(A, delta(owner, 0, 1, key=b"forged"))
    assert one.node.entries(owner.id) == {}
    assert one.node.counters["deltas_ignored"] == 1


def test_equal_states_skip_the_sync() -> None:
    """While every ack shows the same state as ours, no digest is sent; one that differs brings one."""
    for differs in (False, True):
        one = jar(A)
        one.hush()
        for _ in range(25):
            one.run(1)
            for ping in one.said(Ping):
                one.hear(A, Ack(ping.sequence, one.node.state() + differs))
            digests = one.said(Digest)
            one.clear()
            if digests:
                break
        assert bool(digests) == differs


@pytest.mark.parametrize(("agreed", "least", "most"), [(False, 16, 20), (True, 3, 5)])
def test_a_newcomer_compares_at_every_interval(agreed: bool, least: int, most: int) -> None:
    """For two sync intervals, until its tables were once those of a member."""
    one, asked = jar(A), 0
    for second in range(20):
        one.clear()
        one.run(1)
        for ping in one.said(Ping):
            one.hear(A, Ack(ping.sequence, one.node.state() + (second > 0 or not agreed)))
        asked += len(one.said(Digest))
    assert least <= asked <= most


def test_one_difference_brings_one_comparison() -> None:
    """It waits for the news to arrive by itself; after it, the tables are taken to be equal until an ack differs."""
    one = jar(A, B, settings=replace(Settings.lan(), suspicion_alpha=1e6))
    for peer in (A, B):
        one.clear()
        one.take(Unreachable(peer.id))
        one.hear(peer, Ack(one.said(Ping)[0].sequence, one.node.state() + 1))
    one.clear()
    one.run(0.9)
    assert not one.said(Digest)
    assert len([digest for each in one.live(60, A, B) for digest in each.all(Digest)]) == 1


def test_where_many_fall_silent_tables_are_compared_with_who_still_speaks() -> None:
    """At every probe: there is much to learn, and few know it."""
    one = jar(*MANY)
    compared = []
    for _ in range(110):
        one.hear(A, Nack(1))
        compared += [each.to for each in one.live(0.1, A) if each.all(Digest)]
    assert compared[-5:] == [A.address] * 5
    one.clear()
    for _ in range(3):
        one.hear(A, More())
        one.run(0.6)
    assert len(one.opened()) == 1


def test_what_samples_of_a_large_table_do_not_find_is_looked_for_in_all_of_it() -> None:
    """Where tables still differ after four comparisons, and nobody has news, all lines go by stream."""
    one = jar(*MANY)
    one.hush()
    sync, context = one.node._sync, one.node._context
    sync.on_state(MANY[0].id, context.state)
    for compared in range(1, 6):
        sync.on_state(MANY[0].id, context.state + 1)
        sync._compare()
        assert one.node.queues()["streams"] == (compared == 5)
    one.effects = context.effects
    (stream,) = one.opened()
    assert [digest.complete for digest in of(Digest, read_stream(stream.data).messages)] == [True]
    one.take(StreamFailed(stream.token))
    context.spread(context.own)
    sync.on_state(MANY[0].id, context.state + 1)
    sync._compare()
    assert one.node.queues()["streams"] == 0


def test_a_difference_that_passed_is_forgotten() -> None:
    """An ack that agrees again takes the member off the list, which is bounded."""
    one = jar(*MANY)
    sync = one.node._sync
    for peer in MANY:
        sync.on_state(peer.id, one.node.state() + 1)
    assert len(sync._differing) == 16
    for peer in MANY:
        sync.on_state(peer.id, one.node.state())
    assert not sync._differing


def test_one_node_knows_all_after_a_sync_with_any_other() -> None:
    """The state hash is equal where the tables are, and only there."""
    one, two = jar(A, B), Jar(C, Settings.lan())
    assert one.node.state() != two.node.state()
    two.take(Join((ME.address,)))
    for first, second, start in ((one, two, two), (two, one, one), (one, two, two)):
        sent = start.sent(first.node.me.address)
        start.clear()
        for each in sent:
            first.hear(second.node.me, *each.packet.messages)
    assert one.node.state() == two.node.state()


def test_a_digest_leaves_room_to_tell_a_suspect() -> None:
    """A comparison with a member that is suspected begins with the claim, and both fit into one datagram."""
    one = jar(*MANY)
    one.hear(A, Claim(claim(MANY[1], Status.SUSPECT, 0, *MANY[2:6])))
    one.hush()
    one.node._sync.on_state(MANY[1].id, one.node.state() + 1)
    one.node._sync._compare()
    one.effects = one.node._context.effects
    (sent,) = one.sent(MANY[1].address)
    assert [type(message) for message in sent.packet.messages] == [Claim, Digest]


def test_who_speaks_from_a_run_that_is_not_known_is_asked_for_all_of_it() -> None:
    """Also where its disk has lost the generation, so that only the nonces tell the runs apart."""
    one = jar(A)
    one.hear(A, delta(A, 0, 5, key=b"old"))
    one.hush()
    one.hear(replace(A, nonce=A.nonce + 1), Ack(1, 0))
    assert [wants.lines for wants in one.said(Wants, A.address)] == [(Line(A.id, 0, 0, 0, 0),)]


def test_a_small_write_travels_with_its_news() -> None:
    """Whoever hears of it needs not ask; of a large one only the version is told."""
    one = jar(A)
    one.take(SetEntry("small", b"value"))
    one.run(0.1)
    (told,) = one.said(Delta, A.address)
    assert told.writes == (Write("small", 1, b"value"),)
    other = Jar(A)
    other.meet(ME)
    other.hear(ME, told)
    assert other.node.entries(ME.id) == {"small": b"value"}
    assert other.said(Wants) == []
    one.clear()
    one.take(SetEntry("large", bytes(limits.VALUE_LIMIT)))
    one.run(0.3)
    assert set(one.said(Head, A.address)) == {Head(ME.id, 1, 2)}
    assert one.said(Delta) == []


def test_a_write_that_does_not_follow_is_asked_for_with_those_before() -> None:
    """News of a write says too that there are earlier ones."""
    one = jar(A, B)
    one.hear(A, delta(B, 3, 4, key=b"value"))
    assert [wants.lines for wants in one.said(Wants, A.address)] == [(line(B),)]
    assert one.node.entries(B.id) == {}
