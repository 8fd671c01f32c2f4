"""Laws of suspicion: how long a suspect has, and what it takes to call it dead."""

from __future__ import annotations

import pytest
from gossip_support import Jar, claim, identity

from p2pml.gossip import Effect, Event, Me, MemberChanged, Notify, Settings, Status, TimerFired
from p2pml.gossip.messages import Ack, Claim, Nack, Ping, PingRequest
from p2pml.gossip.suspicion import FREEZES_LIMIT, HEALING_GRACE, timeout
from p2pml.simulations.cluster import Cluster, Host

LAN = Settings.lan()
A, B, C, D = (identity(index) for index in range(1, 5))


def jar(*peers: Me) -> Jar:
    """Make a node that knows some peers."""
    one = Jar()
    one.meet(*peers)
    return one


def accuse(one: Jar, subject: Me, *accusers: Me, incarnation: int = 0) -> None:
    """Let peers accuse another, all in a packet of the first."""
    one.hear(accusers[0], Claim(claim(subject, Status.SUSPECT, incarnation, *accusers)))


def verdict_after(one: Jar, subject: Me, most: float = 100.0) -> float:
    """Let time pass until a peer is dead, with a third one to be heard all along; say how long that took."""
    start = one.now
    for count in range(round(most / 0.05)):
        one.hear(A, Claim(claim(A, Status.ALIVE, count)))
        one.run(0.05)
        if one.status(subject) is Status.DEAD:
            return one.now - start
    raise AssertionError("no verdict")


@pytest.mark.parametrize(
    ("live", "accusers", "seconds"),
    [
        (2, 1, 4.0),
        (3, 1, 4 * 8 / 3),
        (3, 2, 4.0),
        (4, 1, 4 * 13 / 3),
        (4, 3, 4.0),
        (10, 0, 24.0),
        (10, 1, 24.0),
        (10, 2, 24.0),
        (10, 4, 4.0),
        (100, 1, 48.0),
        (100, 4, 8.0),
        (1000, 4, 12.0),
    ],
)
def test_the_time_to_refute(live: int, accusers: int, seconds: float) -> None:
    """It grows with the logarithm of the cluster, and shrinks as others confirm."""
    assert timeout(LAN, live, accusers) == pytest.approx(seconds)


def test_more_accusers_never_give_more_time() -> None:
    """The time falls with each accuser, from the longest to the shortest."""
    for live in range(2, 200):
        times = [timeout(LAN, live, accusers) for accusers in range(5)]
        assert times == sorted(times, reverse=True)
        assert times[4] == pytest.approx(timeout(LAN, live, 10**6), rel=0.01)


def test_an_early_verdict_takes_enough_accusers() -> None:
    """With fewer than min(3, live - 2) accusers only the longest time will do (the fourth rule)."""
    for live in (5, 50):
        assert timeout(LAN, live, 2) == timeout(LAN, live, 1)
        assert timeout(LAN, live, 3) < timeout(LAN, live, 2)


def test_independent_accusers_bring_the_verdict_forward() -> None:
    """With all that can confirm, a member is dead after the shortest time."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    assert verdict_after(one, D) < timeout(LAN, 5, 4) + 2


def test_names_that_nobody_knows_are_no_accusers() -> None:
    """Inventing accusers does not hasten a death."""
    one = jar(A, B, C, D)
    invented = [identity(index) for index in range(50, 53)]
    one.hear(A, Claim(claim(D, Status.SUSPECT, 0, *invented)))
    assert verdict_after(one, D) > timeout(LAN, 5, 4) + 2


def test_a_suspect_that_refutes_is_alive() -> None:
    """A later incarnation ends the suspicion, and its timer does nothing."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.run(1)
    one.hear(D, Claim(claim(D, Status.ALIVE, 1)))
    assert one.status(D) is Status.ALIVE
    assert one.node.queues()["suspicions"] == 0


def test_a_new_suspicion_has_its_full_time() -> None:
    """The time of an earlier incarnation's suspicion does not count."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.run(3)
    accuse(one, D, A, incarnation=1)
    one.run(4)
    assert one.status(D) is Status.SUSPECT


def test_nobody_is_buried_by_who_hears_nobody() -> None:
    """Without a word from a third member since the suspicion began there is no verdict (the third rule)."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.run(200)
    assert one.status(D) is Status.SUSPECT
    assert {one.status(peer) for peer in (A, B, C, D)} == {Status.SUSPECT}


def test_who_hears_again_begins_anew() -> None:
    """The first word after a long silence starts the suspicion over, with a probe, instead of ending it."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.run(200)
    one.clear()
    one.node._prober.void()
    one.hear(A, Claim(claim(A, Status.ALIVE, 9)))
    assert D.id in {ping.target for ping in one.said(Ping, D.address)}
    assert one.status(D) is Status.SUSPECT
    assert verdict_after(one, D) >= timeout(LAN, 5, 4) - 2.1


def test_the_suspect_itself_is_no_third_member() -> None:
    """Word from the suspect does not help to bury it."""
    one = jar(A, B, D)
    accuse(one, D, A, B)
    for _ in range(200):
        one.hear(D, Nack(0))
        one.run(0.5)
    assert one.status(D) is not Status.DEAD


def test_hearing_late_gives_a_grace() -> None:
    """Where a third member is first heard just before the deadline, there is time for one more probe."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.run(timeout(LAN, 5, 4) - 0.2)
    one.hear(A, Nack(0))
    one.run(1.9)
    assert one.status(D) is Status.SUSPECT
    one.run(0.2)
    assert one.status(D) is Status.DEAD


def test_two_need_no_third() -> None:
    """In a group of two, nobody else can be heard: the time alone decides."""
    one = jar(A)
    one.run(12)
    assert one.statuses(A) == [Status.SUSPECT, Status.DEAD]


def test_standing_still_moves_the_deadlines() -> None:
    """A process that stood still gives suspects as much more time (the second rule)."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.hear(A, Nack(0))
    one.run(2)
    one.stall(20)
    assert one.status(D) is Status.SUSPECT
    one.hear(A, Nack(0))
    one.run(1)
    assert one.status(D) is Status.SUSPECT
    assert verdict_after(one, D) < 30


def test_standing_still_voids_the_probes_in_flight() -> None:
    """Silence while this process stood still was its own: nobody is accused for it (the second rule)."""
    one = jar(A, B, C)
    one.run(1.2)
    assert one.node.queues()["probes"]
    one.stall(20)
    assert one.node.queues()["probes"] <= 1
    assert {one.status(peer) for peer in (A, B, C)} == {Status.ALIVE}
    assert one.node.counters["stalls"] == 1


def test_the_suspect_is_told_first() -> None:
    """Whoever accuses says so to the accused in the same step, and in whatever it sends to it after."""
    one = jar(A, B, C)
    while Status.SUSPECT not in [one.status(peer) for peer in (A, B, C)]:
        one.run(0.05)
    suspect = next(peer for peer in (A, B, C) if one.status(peer) is Status.SUSPECT)
    told = [message.record.id for message in one.said(Claim, suspect.address)]
    assert suspect.id in told
    one.clear()
    one.hear(suspect, Ping(5, one.node.me.id))
    assert one.said(Ack, suspect.address)
    assert one.said(Claim, suspect.address)[0].record.status is Status.SUSPECT


def test_an_accusation_by_another_is_checked_at_once() -> None:
    """Who hears an accusation probes the accused, so that confirmations come quickly."""
    one = jar(A, B, C, D)
    accuse(one, D, A)
    assert [ping.target for ping in one.said(Ping, D.address)] == [D.id]
    one.run(1.1)
    record = one.node.record(D.id)
    assert record is not None
    assert record.accusers == tuple(sorted((A.id, one.node.me.id)))
    assert one.said(PingRequest)


def test_a_suspect_that_answers_is_not_buried() -> None:
    """The last probe before the verdict decides: who answers was told, and has time to refute."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.live(20, A, B, C, D)
    assert one.status(D) is Status.SUSPECT
    one.live(1.5, A, B, C)
    one.live(3, A, B, C)
    assert one.status(D) is Status.DEAD


def test_the_last_probe_does_not_delay_the_verdict() -> None:
    """It is sent so early that it has failed at the deadline."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.live(timeout(LAN, 5, 4) - 0.1, A, B, C)
    assert one.status(D) is Status.SUSPECT
    one.live(0.2, A, B, C)
    assert one.status(D) is Status.DEAD


def test_a_wait_for_a_word_outlasts_stalls_and_own_accusations() -> None:
    """While nobody is heard, nothing that this node finds out alone brings the verdict on."""
    one = jar(A, B, C)
    accuse(one, C, A)
    while one.node.record(C.id).accusers != tuple(sorted((A.id, one.node.me.id))):  # type: ignore[union-attr]
        one.run(0.1)
    one.run(100)
    one.stall(30)
    one.run(100)
    assert one.status(C) is Status.SUSPECT


# The network comes back.


def split() -> Jar:
    """Make a node that has buried C, and for which D is almost dead."""
    one = jar(A, B, C, D)
    one.bury(A, C)
    accuse(one, D, A, B)
    one.live(timeout(LAN, 4, 3) - 0.6, A, B)
    assert one.status(D) is Status.SUSPECT
    return one


def test_word_from_the_dead_freezes_all_verdicts() -> None:
    """The network may be back: every suspect is told and probed, and has time to answer."""
    one = split()
    one.clear()
    one.hear(C, Nack(0))
    assert one.said(Claim, D.address)[0].record.status is Status.SUSPECT
    one.live(HEALING_GRACE - 0.1, A, B)
    assert one.status(D) is Status.SUSPECT
    one.live(0.2, A, B)
    assert one.status(D) is Status.DEAD


def test_word_from_a_suspect_freezes_its_own_verdict() -> None:
    """It may not have heard yet that it is suspected: it is told, and has time to answer."""
    one = jar(A, B, C, D)
    accuse(one, D, A, B, C)
    one.live(timeout(LAN, 5, 4) - 0.6, A, B, C)
    one.hear(D, Nack(0))
    sent = one.live(HEALING_GRACE - 0.1, A, B, C)
    assert Status.SUSPECT in [said.record.status for one in sent if one.to == D.address for said in one.all(Claim)]
    assert one.status(D) is Status.SUSPECT
    one.live(0.2, A, B, C)
    assert one.status(D) is Status.DEAD


def test_a_suspect_that_refutes_as_it_speaks_is_not_probed() -> None:
    """One that only speaks is."""
    for said, probed in ((Claim(claim(D, Status.ALIVE, 1)), False), (Nack(0), True)):
        one = jar(A, B, C, D)
        accuse(one, D, A, B, C)
        one.node._prober.void()
        one.clear()
        one.hear(D, said)
        assert bool(one.said(Ping, D.address)) == probed


def test_a_suspicion_is_frozen_a_few_times_only() -> None:
    """Who speaks for ever and never refutes is buried, and so are others meanwhile."""
    one = split()
    waited = 0.0
    while one.status(D) is Status.SUSPECT:
        one.hear(C, Nack(0))
        one.hear(D, Nack(0))
        one.live(0.1, A, B)
        waited += 0.1
    assert waited < FREEZES_LIMIT * HEALING_GRACE + 1


def test_one_that_speaks_and_cannot_hear_freezes_once() -> None:
    """A dead member that never refutes is a sign of healing only the first time."""
    one = split()
    one.hear(C, Nack(0))
    one.live(HEALING_GRACE + 0.1, A, B)
    one.hear(C, Nack(0))
    assert not one.node._membership.suspicions.healing


def test_many_suspects_are_a_split_and_one_is_none() -> None:
    """Word from one of several suspects is a sign for all; from the only one it is a sign for itself."""
    one = jar(A, B, C, D)
    accuse(one, D, A)
    one.hear(D, Nack(0))
    assert not one.node._membership.suspicions.healing
    accuse(one, C, A)
    one.hear(D, Nack(0))
    assert one.node._membership.suspicions.healing


def test_suspicions_of_others_are_looked_into_while_the_network_comes_back() -> None:
    """What the other side says of this side was true of the split: the member is told and probed, and believed in."""
    one = split()
    one.hear(C, Nack(0))
    one.clear()
    one.hear(C, Claim(claim(B, Status.SUSPECT, 0, C)))
    assert one.status(B) is Status.ALIVE
    assert [message.record.status for message in one.said(Claim, B.address)] == [Status.SUSPECT]
    assert [ping.target for ping in one.said(Ping, B.address)] == [B.id]
    one.hear(C, Claim(claim(D, Status.DEAD)))
    assert one.status(D) is Status.SUSPECT
    one.live(HEALING_GRACE + 0.1, A, B)
    one.hear(C, Claim(claim(B, Status.SUSPECT, 0, C)))
    assert one.status(B) is Status.SUSPECT


def test_probes_that_were_sent_into_a_split_accuse_nobody() -> None:
    """When the network comes back, silence from before means nothing."""
    one = split()
    one.run(0.6)
    one.hear(C, Nack(0))
    assert {ping.target for ping in one.said(Ping)} >= {D.id}
    assert one.node.queues()["probes"] == 1


def test_a_suspect_is_told_again_right_before_the_verdict() -> None:
    """The network may be back since the last probe: who hears it then can still refute."""
    one = split()
    for passing in (0.4, 0.18):
        one.clear()
        one.run(passing)
        told = [sent for sent in one.sent(D.address) if not sent.all(Ping)]
        assert [said.record.status for sent in told for said in sent.all(Claim)][:1] == [Status.SUSPECT], passing
    one.hear(D, Claim(claim(D, Status.ALIVE, 1)))
    one.live(1, A, B, D)
    assert one.status(D) is not Status.DEAD


def test_a_confirmation_after_the_time_is_up_leaves_half_an_interval() -> None:
    """The deadline that it brings forward is not now: the suspect is heard first."""
    one = jar(A, B, C, D)
    accuse(one, D, A)
    one.live(3.9, A, B, C)
    one.node._prober.void()
    for suspicion in one.node._membership.suspicions._open.values():
        suspicion.started -= 100
    accuse(one, D, A, B, C)
    one.live(0.4, A, B, C)
    assert one.status(D) is Status.SUSPECT
    one.live(0.2, A, B, C)
    assert one.status(D) is Status.DEAD


def test_of_many_members_a_few_look_into_an_accusation() -> None:
    """Enough to confirm it, and no crowd that probes one member."""
    probing = 0
    for seed in range(40):
        one = Jar(seed=seed)
        peers = [identity(index) for index in range(1, 41)]
        one.meet(*peers)
        accuse(one, peers[0], peers[1])
        probing += bool(one.said(Ping, peers[0].address))
    assert 1 <= probing <= 15


def test_who_looks_into_an_accusation_asks_one_member_for_help() -> None:
    """The accuser has asked its own already."""
    one = jar(A, B, C, D)
    accuse(one, D, A)
    one.run(0.6)
    assert len([asked for asked in one.said(PingRequest) if asked.target == D.id]) == 1


def test_a_fifth_accuser_is_no_news() -> None:
    """Which four are named changes no deadline."""
    one = jar(*(identity(index) for index in range(1, 9)))
    accuse(one, A, *(identity(index) for index in range(5, 9)))
    one.hush()
    accuse(one, A, *(identity(index) for index in range(2, 6)))
    assert one.node.queues()["news"] == 0


def test_many_suspects_share_one_timer_and_each_has_its_time() -> None:
    """However many are suspected, one more timer is set than before, and none is dead early or late."""
    crowd = [identity(index) for index in range(5, 45)]
    one = jar(A, B, C, *crowd)
    one.run(1.0)
    began: dict[Me, float] = {}
    timers = one.node.queues()["timers"]
    for subject in crowd[::2]:
        one.hear(A, Claim(claim(A, Status.ALIVE, len(began))))
        accuse(one, subject, A, B, C)
        one.hear(B, Claim(claim(B)))
        began[subject] = one.now
        one.run(0.1)
    queues = one.node.queues()
    assert queues["suspicions"] == 20
    assert queues["timers"] <= timers + 1 + queues["probes"] + queues["relays"]
    span = timeout(LAN, 24, 4)
    while one.now < began[crowd[-2]] + timeout(LAN, 44, 1) + LAN.probe_interval:
        one.hear(A, Claim(claim(A, Status.ALIVE, round(100 * one.now))))
        one.run(0.1)
        for subject, since in began.items():
            assert one.status(subject) is Status.SUSPECT or one.now - since > span
    assert all(one.status(subject) is Status.DEAD for subject in began)


def test_who_repeats_a_refuted_claim_is_answered_once_an_interval() -> None:
    """A flood of what this node has refuted is not answered by a flood."""
    one = jar(A)
    me = one.node.me
    for _ in range(20):
        one.hear(A, Claim(claim(me, Status.SUSPECT)))
    assert len(one.said(Claim, A.address)) <= 3
    one.run(LAN.probe_interval)
    one.clear()
    one.hear(A, Claim(claim(me, Status.SUSPECT)))
    assert one.said(Claim, A.address)


def test_in_a_crowd_most_leave_the_verdict_to_who_accused() -> None:
    """A few judge a crash at its deadline; the others hear of it before they would."""
    cluster = Cluster(60, seed=3, direct=True)
    cluster.form()
    cluster.run(1)
    cluster[7].crash()
    judges: list[Host] = []

    def count(host: Host, event: Event, effects: list[Effect]) -> None:
        if isinstance(event, TimerFired):
            changes = [effect.change for effect in effects if isinstance(effect, Notify)]
            judges.extend(
                host for one in changes if isinstance(one, MemberChanged) and one.member.status is Status.DEAD
            )

    cluster.observers.append(count)
    while cluster.believed(7) != {Status.DEAD}:
        cluster.run(1)
        assert cluster.clock.now < 60
    assert 0 < len(judges) < 20


def test_who_went_deaf_since_the_suspicion_began_buries_nobody() -> None:
    """A word from a third member long ago is none: the suspect may have refuted to all others."""
    one = jar(A, B, C, D)
    accuse(one, D, A)
    one.run(100)
    assert one.status(D) is Status.SUSPECT
    one.hear(A, Nack(0))
    one.live(timeout(LAN, 5, 4) - 0.5, A, B, C)
    assert one.status(D) is Status.SUSPECT
