"""Laws of probes: who is asked, who helps, and when a member is accused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gossip_support import Jar, Sent, claim, identity

from p2pml.gossip import Settings, Status, Unreachable, limits
from p2pml.gossip.messages import Ack, Claim, Nack, Ping, PingRequest

A, B, C, D, E = (identity(index) for index in range(1, 6))
PEERS = {peer.id: peer for peer in (A, B, C, D, E)}


def jar(*peers: Any, **options: Any) -> Jar:
    """Make a node that knows some peers."""
    one = Jar(**options)
    one.meet(*peers)
    return one


def next_ping(one: Jar) -> tuple[Sent, Ping]:
    """Let time pass until the node pings somebody."""
    one.clear()
    while True:
        one.run(0.01)
        for sent in one.sent():
            for ping in sent.all(Ping):
                return sent, ping


def test_a_ping_is_answered_with_the_same_number() -> None:
    """An ack repeats the number of its ping, and says the state of the tables."""
    one = jar(A)
    one.hear(A, Ping(77, one.node.me.id))
    assert one.said(Ack, A.address) == [Ack(77, one.node.state())]


def test_a_ping_for_somebody_else_is_not_answered() -> None:
    """Who lives at a reused address does not answer for the peer that was there."""
    one = jar(A)
    one.hear(A, Ping(77, B.id))
    assert not one.said(Ack)
    assert one.node.counters["misdirected"] == 1


def test_an_answered_probe_accuses_nobody() -> None:
    """With its ack a probe is over."""
    one = jar(A)
    for _ in range(10):
        sent, ping = next_ping(one)
        assert (sent.to, ping.target) == (A.address, A.id)
        one.hear(A, Ack(ping.sequence, 0))
    assert one.status(A) is Status.ALIVE


def test_an_unanswered_probe_asks_others_for_help() -> None:
    """After the timeout, as many helpers as the settings say are asked, and never the target."""
    one = jar(A, B, C, D, E)
    _, ping = next_ping(one)
    one.run(Settings.lan().probe_timeout)
    asked = [(sent.to, request) for sent in one.sent() for request in sent.all(PingRequest)]
    assert len({to for to, _ in asked}) == 3
    target = PEERS[ping.target]
    assert {request for _, request in asked} == {PingRequest(ping.sequence, target.id, target.address)}
    assert target.address not in {to for to, _ in asked}


def test_an_ack_through_a_helper_counts() -> None:
    """A target that answers a helper is alive."""
    one = jar(A, B)
    _, ping = next_ping(one)
    one.run(0.6)
    helper = B if ping.target == A.id else A
    one.hear(helper, Ack(ping.sequence, 0))
    one.run(1)
    assert one.status(PEERS[ping.target]) is Status.ALIVE


def test_an_ack_from_somebody_who_was_not_asked_does_not_count() -> None:
    """Only the target and the helpers can end a probe."""
    one = jar(A, B)
    _, ping = next_ping(one)
    other = B if ping.target == A.id else A
    one.hear(other, Ack(ping.sequence, 0))
    one.hear(other, Ack(ping.sequence + 1, 0))
    one.run(1.1)
    assert one.status(PEERS[ping.target]) is Status.SUSPECT


def test_a_missed_nack_lowers_the_health_more() -> None:
    """Helpers that are silent too are a sign that this node is the slow one (Lifeguard §4.1)."""
    slowdown = {}
    for nacked in (True, False):
        one = jar(A, B, C)
        _, ping = next_ping(one)
        one.run(0.6)
        for helper in (A, B, C):
            if nacked and helper.id != ping.target:
                one.hear(helper, Nack(ping.sequence))
        one.hear(A, Nack(ping.sequence + 1))
        one.run(0.5)
        one.hear(PEERS[ping.target], Claim(claim(PEERS[ping.target], Status.ALIVE, 1)))
        slowdown[nacked] = one.node._context.health.multiplier
    assert slowdown == {True: 2, False: 4}


def test_a_helper_carries_the_ack() -> None:
    """Who is asked pings the target, and passes its answer on under the number of who asked."""
    one = jar(A, B)
    one.hear(A, PingRequest(5, B.id, B.address))
    (ping,) = one.said(Ping, B.address)
    one.clear()
    one.hear(B, Ack(ping.sequence, 99))
    assert one.said(Ack, A.address) == [Ack(5, 99)]
    assert one.node.queues()["relays"] == 0
    one.run(0.45)
    assert not one.said(Nack)


def test_a_helper_nacks_before_the_asker_gives_up_and_still_carries_a_late_ack() -> None:
    """The nack comes within the probe timeout; an ack may follow it within the interval."""
    one = jar(A, B)
    one.hear(A, PingRequest(5, B.id, B.address))
    (ping,) = one.said(Ping, B.address)
    one.run(0.45)
    assert one.said(Nack, A.address) == [Nack(5)]
    one.hear(B, Ack(ping.sequence, 99))
    assert Ack(5, 99) in one.said(Ack, A.address)
    one.hear(A, PingRequest(6, B.id, B.address))
    one.run(3)
    assert one.node.queues()["relays"] == 0


def test_a_helper_pings_whom_it_does_not_know_where_it_is_told() -> None:
    """The asker's word for the address is used where there is no own knowledge."""
    one = jar(A)
    one.hear(A, PingRequest(5, B.id, B.address))
    assert [ping.target for ping in one.said(Ping, B.address)] == [B.id]


def test_the_probes_for_others_are_bounded() -> None:
    """A flood of requests fills the table, and not more."""
    one = jar(A)
    for number in range(limits.RELAYS_LIMIT + 5):
        one.hear(A, PingRequest(number, B.id, B.address))
    assert one.node.queues()["relays"] == limits.RELAYS_LIMIT
    assert one.node.counters["relays_refused"] == 5


def test_the_probes_in_flight_are_bounded_and_one_a_member() -> None:
    """Hints probe at once, but each member only once at a time, and only so many members."""
    peers = [identity(index) for index in range(1, 101)]
    one = jar(*peers)
    for peer in (*peers, *peers):
        one.take(Unreachable(peer.id))
    assert one.node.queues()["probes"] == limits.PROBES_LIMIT
    assert len(one.said(Ping)) == limits.PROBES_LIMIT


def test_a_hint_of_an_unknown_or_gone_member_does_nothing() -> None:
    """There is nobody to probe, and this node does not probe itself."""
    one = jar(A)
    one.bury(A, B)
    one.clear()
    for peer in (B.id, C.id, one.node.me.id):
        one.take(Unreachable(peer))
    assert not one.said(Ping)


def test_a_probe_of_a_member_that_goes_meanwhile_ends_quietly() -> None:
    """Who left is not accused for its silence."""
    one = jar(A, B)
    _, ping = next_ping(one)
    target = PEERS[ping.target]
    one.hear(target, Claim(claim(target, Status.LEFT)))
    one.run(2)
    assert one.statuses(target) == [Status.LEFT]
    assert not [request for request in one.said(PingRequest) if request.target == target.id]


def test_a_member_that_goes_after_help_was_asked_for_is_not_accused() -> None:
    """The end of the interval accuses only the living."""
    one = jar(A, B)
    _, ping = next_ping(one)
    target = PEERS[ping.target]
    one.run(0.7)
    one.hear(target, Claim(claim(target, Status.LEFT)))
    one.run(0.6)
    assert one.statuses(target) == [Status.LEFT]


def test_a_silent_address_falls_back_to_the_claimed_one() -> None:
    """Where a member no longer answers at the address that it was heard from, its own claim is tried."""
    one = jar(A, B)
    strange = ("192.168.0.9", 5)
    one.hear(A, Nack(0), source=strange)
    assert one.node.member(A.id).address == strange  # type: ignore[union-attr]
    one.clear()
    one.take(Unreachable(A.id))
    assert one.said(Ping, strange)
    one.run(0.6)
    assert [ping.target for ping in one.said(Ping, A.address)] == [A.id]
    one.run(0.6)
    assert one.node.member(A.id).address == A.address  # type: ignore[union-attr]


def test_a_slow_node_probes_less() -> None:
    """Each failure makes the interval longer, up to the cap; each success shorter (Lifeguard §4.1)."""
    one = jar(A, settings=replace(Settings.lan(), suspicion_alpha=1000))
    one.run(100)
    assert one.node._context.health.multiplier == 9
    one.clear()
    one.run(90)
    assert 9 <= len(one.said(Ping)) <= 11


def test_the_silence_of_one_run_is_not_held_against_the_next() -> None:
    """A member that starts anew while its earlier run is probed is accused of nothing, before or after help."""
    for wait in (0.1, 0.7):
        one = jar(A, B)
        _, ping = next_ping(one)
        later = replace(PEERS[ping.target], generation=2)
        one.run(wait)
        one.hear(later, Claim(claim(later)))
        one.run(1.0 - wait)
        assert one.status(later) is Status.ALIVE
        assert one.node._context.health.score == 0


def test_who_was_wrong_about_a_member_slows_down_and_who_was_right_does_not() -> None:
    """Where others were heard meanwhile, a failed probe waits for a refutation; a new run of the target is none."""
    for status, generation, score in ((Status.ALIVE, 1, 1), (Status.DEAD, 1, 0), (Status.ALIVE, 2, 0)):
        one = jar(A, B)
        one.node._prober.probe(B.id)
        one.run(0.01)
        one.hear(A, Nack(0))
        [probe] = one.node._prober._probes.values()
        one.node._prober._failed(probe.sequence)
        assert one.node._context.health.score == 0
        later = replace(B, generation=generation)
        one.hear(A, Claim(claim(later, status, 1)))
        assert one.node._context.health.score == score


def test_a_failure_that_others_saw_too_leaves_the_health_alone() -> None:
    """It is no sign that this node is the slow one."""
    for said, score in ((Claim(claim(B)), 1), (Claim(claim(B, Status.SUSPECT, 0, A)), 0)):
        one = jar(A, B)
        one.hear(A, said)
        one.node._prober.probe(B.id)
        [probe] = one.node._prober._probes.values()
        one.node._prober._failed(probe.sequence)
        assert one.node._context.health.score == score
