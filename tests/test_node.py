"""Laws of the door: what a node does with packets, news and time, alone and among others."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from gossip_support import CLUSTER, Jar, claim, identity, packet
from hypothesis import given
from hypothesis import strategies as st

from p2pml.errors import BadInput
from p2pml.gossip import (
    DatagramReceived,
    Me,
    Node,
    Notify,
    SecretRefused,
    SendDatagram,
    SetEntry,
    SetTimer,
    Settings,
    Start,
    Status,
    StreamReceived,
    TimerFired,
    Unreachable,
    limits,
)
from p2pml.gossip.messages import Ack, Claim, Delta, More, Nack, Ping, PingRequest, Write
from p2pml.gossip.wire import Wire

ME = identity(0)
A, B, C, D = (identity(index) for index in range(1, 5))


def jar(*peers: Me, **options: Any) -> Jar:
    """Make a node that knows some peers."""
    one = Jar(ME, **options)
    one.meet(*peers)
    return one


@given(st.binary(max_size=64), st.integers(1, 65535))
def test_random_bytes_change_nothing(data: bytes, port: int) -> None:
    """What is no packet is counted, answered by nothing, and leaves the tables as they were."""
    one = jar(A)
    state = one.node.state()
    assert one.take(DatagramReceived(("10.9.9.9", port), data)) == []
    assert one.node.state() == state
    assert sum(count for name, count in one.node.counters.items() if name.startswith("dropped_")) == 1


def test_another_cluster_is_not_heard() -> None:
    """Clusters by name never mix, even at one address, and what is dropped is counted."""
    one = jar(A)
    stranger = identity(9, cluster="another")
    wire = Wire(stranger.cluster)
    data = wire.seal(stranger, [wire.part(Claim(claim(stranger))), wire.part(Ping(1, ME.id))])
    assert one.take(DatagramReceived(A.address, data)) == []
    assert one.status(stranger) is None
    assert one.node.counters["dropped_cluster"] == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02" + packet(A)[1:], "dropped_version"),
        (packet(A) + bytes(limits.PACKET_LIMIT), "dropped_oversize"),
        (packet(A)[:12], "dropped_malformed"),
    ],
)
def test_a_drop_is_counted_by_its_reason(data: bytes, reason: str) -> None:
    """Operators can see what is refused."""
    one = jar(A)
    one.take(DatagramReceived(A.address, data))
    assert one.node.counters[reason] == 1


def test_a_flood_is_dropped_and_others_are_heard() -> None:
    """A source past its rate is not read, and does not hinder the rest."""
    one = jar(A, B)
    for number in range(int(limits.SOURCE_BURST) + 50):
        one.hear(A, Ping(number, ME.id))
    assert one.node.counters["dropped_rate"] >= 50
    one.clear()
    one.hear(B, Ping(1, ME.id))
    assert one.said(Ack, B.address)


def test_a_flood_of_streams_is_refused() -> None:
    """All connections of one host draw on one bucket, and each is answered."""
    one = jar(A)
    for number in range(int(limits.SOURCE_BURST) + 5):
        one.take(StreamReceived(("10.0.0.1", 40_000 + number), packet(A), number))
    assert [answer.data for answer in one.answered()][-5:] == [b""] * 5


def test_traffic_is_counted() -> None:
    """Packets and bytes, in and out."""
    one = jar(A)
    before = dict(one.node.counters)
    one.hear(A, Ping(1, ME.id))
    counters = one.node.counters
    assert counters["datagrams_received"] == before["datagrams_received"] + 1
    assert counters["bytes_received"] == before["bytes_received"] + len(packet(A, Ping(1, ME.id)))
    assert counters["datagrams_sent"] == 1
    assert counters["bytes_sent"] == len(packet(ME, Ack(1, one.node.state())))
    one.take(StreamReceived(("10.0.0.1", 40_000), packet(A), 1))
    one.hear(A, More())
    (answer,), (stream,) = one.answered(), one.opened()
    sent = [len(effect.data) for effect in one.effects if isinstance(effect, SendDatagram)]
    assert counters["bytes_sent"] == len(answer.data) + len(stream.data) + sum(sent)


def test_an_idle_node_says_nothing_but_probes() -> None:
    """Without news there are no rounds of gossip: one ping an interval, and the answer to each."""
    one = jar(A, B, C)
    one.live(20, A, B, C)
    sent = one.live(30, A, B, C)
    assert 29 <= len(sent) <= 31
    assert all([type(message) for message in each.packet.messages] == [Ping] for each in sent)


def test_news_goes_out_at_once_and_then_at_the_interval() -> None:
    """The first round of gossip does not wait; the next ones are an interval apart, until the news is old."""
    one = jar(A, B, C, D)
    one.live(20, A, B, C, D)
    one.take(SetEntry("key", b"value"))
    rounds = []
    for step in range(40):
        told = {each.to for each in one.live(0.05, A, B, C, D) if each.all(Delta)}
        rounds += [step] if len(told) > 1 else []
    assert rounds == [0]
    assert one.node.queues()["news"] == 0
    for number in range(30):
        one.take(SetEntry(f"key-{number}", b"value"))
        told = {each.to for each in one.live(0.05, A, B, C, D) if each.all(Delta)}
        rounds += [number] if len(told) > 1 else []
    assert 7 <= len(rounds) <= 9


def test_where_many_fall_silent_who_still_speaks_is_told_first() -> None:
    """Most of those whom chance chooses may be gone; news must not die out among the few that are left."""
    one = jar(*(identity(index) for index in range(1, 61)))
    for _ in range(80):
        one.hear(A, Nack(1))
        one.live(0.1, A)
    for number in range(5):
        one.take(SetEntry(f"key-{number}", b"value"))
        told = {each.to for each in one.live(0.2, A) if each.all(Delta)}
        assert A.address in told
        assert len(told) > 1


def test_a_timer_that_fires_is_due() -> None:
    """Whatever a clock of coarse steps says: who finds it too early would set it anew, at the same moment, for ever."""
    one = jar(A, B, C)
    at, token = min((effect.at, effect.token) for effect in one.take(Unreachable(A.id)) if isinstance(effect, SetTimer))
    one.now = at - 1e-9
    one.take(TimerFired(token))
    assert one.node._context.now == at
    assert one.said(PingRequest)


def test_an_entry_past_a_limit_is_refused_and_changes_nothing() -> None:
    """The daemon gets the error, and the node goes on."""
    one = jar(A)
    state = one.node.state()
    with pytest.raises(BadInput):
        one.take(SetEntry("key", bytes(limits.VALUE_LIMIT + 1)))
    assert one.node.state() == state
    one.hear(A, Ping(1, ME.id))
    assert one.said(Ack)


def test_entries_from_before_the_start_are_news() -> None:
    """What the daemon wrote first is told as soon as somebody is known."""
    one = Jar(ME, start=False)
    one.take(SetEntry("key", b"value"))
    one.take(Start())
    one.hear(A, Claim(claim(A)))
    one.run(0.1)
    (told,) = one.said(Delta, A.address)
    assert (told.owner, told.until, told.writes) == (ME.id, 1, (Write("key", 1, b"value"),))


def test_a_stale_timer_does_nothing() -> None:
    """Timers that were overtaken, and tokens that never were, are ignored."""
    one = jar(A)
    one.clear()
    assert one.take(TimerFired(10**6)) == []
    one.take(Unreachable(A.id))
    (timer,) = [effect for effect in one.effects if isinstance(effect, SetTimer)][:1]
    (ping,) = one.said(Ping)
    one.hear(A, Ack(ping.sequence, one.node.state()))
    one.clear()
    one.now = timer.at
    assert one.take(TimerFired(timer.token)) == []


def test_a_clock_that_steps_back_stands_still() -> None:
    """A smaller time is taken as the last one."""
    one = jar(A)
    one.run(10)
    one.now = 3.0
    one.take(SetEntry("key", b"value"))
    one.take(Unreachable(A.id))
    assert [effect.at for effect in one.effects if isinstance(effect, SetTimer)][-1] > 10


def test_members_are_listed_by_id_with_this_node() -> None:
    """Self included, the gone included, whatever the order of arrival."""
    one = jar(C, A, B)
    one.bury(A, C)
    members = one.node.members()
    assert [member.id for member in members] == sorted(peer.id for peer in (ME, A, B, C))
    assert one.node.member(ME.id) in members
    assert {member.status for member in members} == {Status.ALIVE, Status.DEAD}
    assert one.node.member("f" * 32) is None


def test_two_nodes_with_one_seed_do_the_same() -> None:
    """Given the same events at the same times, the effects are equal: there is no other source of chance."""
    for _ in range(2):
        nodes = [Node(ME, Settings.lan(), random.Random(5)) for _ in range(2)]
        events: list[tuple[Any, float]] = [
            (Start((A.address, B.address)), 0.0),
            (DatagramReceived(A.address, packet(A, Claim(claim(A)), Claim(claim(B)))), 0.5),
            (SetEntry("key", b"value"), 0.6),
            (TimerFired(1), 1.0),
            (TimerFired(4), 1.0),
        ]
        one, other = ([node.handle(event, now) for event, now in events] for node in nodes)
        assert one == other


@pytest.mark.parametrize("settings", [Settings.local(), Settings.lan(), Settings.wan()])
def test_every_profile_finds_the_dead(settings: Settings) -> None:
    """A member that is silent is suspected and buried, in each profile's own time."""
    one = jar(A, settings=settings)
    one.run(20 * settings.probe_interval)
    assert one.statuses(A) == [Status.SUSPECT, Status.DEAD]


def test_the_profiles_are_those_of_the_specification() -> None:
    """The three rows of the table of parameters."""
    assert [
        (
            s.probe_interval,
            s.probe_timeout,
            s.indirect_probes,
            s.suspicion_alpha,
            s.suspicion_beta,
            s.health_cap,
            s.gossip_interval,
            s.gossip_fanout,
            s.sync_interval,
            s.reconnect_interval,
            s.retransmit,
        )
        for s in (Settings.local(), Settings.lan(), Settings.wan())
    ] == [
        (0.5, 0.1, 1, 3, 6, 8, 0.1, 3, 5, 5, 4),
        (1.0, 0.5, 3, 4, 6, 8, 0.2, 3, 10, 15, 4),
        (5.0, 3.0, 3, 6, 6, 8, 0.5, 4, 30, 60, 4),
    ]


def test_an_identity_knows_its_cluster() -> None:
    """What a node calls itself is what it was made with."""
    node = Node(ME, Settings.lan(), random.Random(0))
    assert node.me == ME
    assert node.me.cluster == CLUSTER
    assert node.highest_generation_heard_of_me() == 1
    assert node.entries(ME.id) == {}


def test_a_restart_with_a_lower_clock_is_a_new_node() -> None:
    """Time is only compared within one run: two nodes may live on clocks a year apart."""
    one, two = jar(B), Jar(A)
    two.now = 31_536_000.0
    two.hear(ME, Claim(claim(ME)), Nack(0))
    one.hear(A, Claim(claim(replace(A, generation=2))))
    assert two.status(ME) is one.status(A) is Status.ALIVE


def test_who_speaks_without_the_secret_is_told_of_once() -> None:
    """Its packets are counted, and change nothing else."""
    node = Node(identity(0), Settings.lan(), random.Random(0), Wire(CLUSTER, [b"the secret of the cluster"]))
    node.handle(Start(), 0.0)
    told = [effect for _ in range(3) for effect in node.handle(DatagramReceived(A.address, packet(A)), 1.0)]
    assert told == [Notify(SecretRefused(A.address))]
    assert node.counters["dropped_secret"] == 3
    assert node.member(A.id) is None
