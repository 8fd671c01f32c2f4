"""Laws of healing: whoever was lost is looked for, and found again by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gossip_support import Jar, claim, identity, running, watched

from p2pml.gossip import EntryChanged, Join, MemberChanged, SetEntry, Settings, Start, Status, limits
from p2pml.gossip.messages import Claim, Delta, Digest, Nack, Write
from p2pml.simulations.cluster import Cluster

ME = identity(0)
A, B, C = (identity(index) for index in range(1, 4))
ELSEWHERE = ("10.8.8.8", 7946)


def test_a_hint_is_greeted_unless_somebody_lives_there() -> None:
    """Joining introduces this node and says what it knows; a known live member is left in peace."""
    one = Jar(ME)
    one.meet(A)
    one.take(Join((ELSEWHERE, A.address, ME.address)))
    assert [sent.to for sent in one.sent() if sent.all(Digest)] == [ELSEWHERE]
    assert one.said(Claim, ELSEWHERE)[0].record.id == ME.id


def test_a_greeting_carries_no_news() -> None:
    """News is for members: a place where nobody may live would use it up."""
    one = Jar(ME)
    one.hear(A, Claim(claim(A)), Claim(claim(B)))
    one.clear()
    one.take(Join((ELSEWHERE,)))
    (sent,) = one.sent(ELSEWHERE)
    assert [type(message) for message in sent.packet.messages] == [Claim, Digest]


def test_a_hint_at_a_dead_member_is_greeted() -> None:
    """Somebody may live there again."""
    one = Jar(ME)
    one.meet(A)
    one.bury(A, A)
    one.take(Join((A.address,)))
    assert one.said(Digest, A.address)


PATIENT = replace(Settings.lan(), suspicion_alpha=1e6)
"""Nobody dies of the silence in a jar."""


def test_a_node_alone_keeps_looking_for_its_seeds() -> None:
    """Every probe interval one of them is greeted, until somebody answers."""
    one = Jar(ME, PATIENT, start=False)
    one.take(Start((ELSEWHERE,)))
    one.run(10)
    assert 10 <= len(one.said(Digest, ELSEWHERE)) <= 12
    one.meet(replace(A, address=ELSEWHERE))
    one.run(30)
    assert not one.said(Digest, ELSEWHERE)


def test_a_seed_with_nobody_is_greeted_at_the_reconnect_interval() -> None:
    """Also a node that has company looks for its seeds, for ever."""
    one = Jar(ME, PATIENT, start=False)
    one.take(Start((ELSEWHERE,)))
    one.meet(A)
    one.clear()
    one.run(150)
    assert len(one.said(Digest, ELSEWHERE)) == 10


def test_this_node_is_no_seed_of_its_own() -> None:
    """A seed at which this node hears itself is dropped."""
    one = Jar(ME, start=False)
    one.take(Start((ELSEWHERE,)))
    one.hear(ME, Nack(0), source=ELSEWHERE)
    one.clear()
    one.run(60)
    assert not one.said(Digest, ELSEWHERE)


def test_the_number_of_seeds_is_bounded() -> None:
    """The oldest hints are forgotten first."""
    one = Jar(ME)
    hints = [("10.8.8.8", port) for port in range(1, limits.SEEDS_LIMIT + 11)]
    for hint in (*hints, hints[-1]):
        one.take(Join((hint,)))
    one.clear()
    one.run(1000)
    assert {sent.to for sent in one.sent()} <= set(hints[10:])


def test_the_dead_are_greeted_with_what_is_held_of_them() -> None:
    """With probability dead/alive, each reconnect interval: half dead and half alive, about every second one."""
    one = Jar(ME)
    one.meet(A, B)
    one.bury(A, A)
    one.hear(B, Claim(claim(B, Status.LEFT)))
    one.hush()
    one.run(150)
    greeted = one.said(Claim, A.address)
    assert Status.DEAD in {message.record.status for message in greeted}
    assert 9 <= len(one.said(Digest, A.address)) <= 11
    assert not one.sent(B.address)


def test_the_gone_are_forgotten_with_their_entries_after_a_day() -> None:
    """Until then the entries of the dead can be read; then the table is as if they had never been."""
    one = Jar(ME)
    one.meet(A)
    one.hear(A, Delta(A.id, 1, A.nonce, 0, 0, 1, (Write("key", 1, b"value"),)))
    one.hear(A, Claim(claim(A, Status.LEFT)))
    one.run(Settings.lan().forget_after)
    assert one.node.entries(A.id) == {"key": b"value"}
    one.clear()
    one.run(60)
    assert one.status(A) is None
    assert one.node.entries(A.id) == {}
    assert one.changes() == [EntryChanged(A.id, "key", None)]


def test_old_tombstones_are_collected() -> None:
    """A day after its deletion a key is forgotten by its owner."""
    one = Jar(ME)
    one.take(SetEntry("key", b"value"))
    one.take(SetEntry("key", None))
    one.run(Settings.lan().tombstone_after + 60)
    assert one.node._context.catalogue.known(ME.id, (ME.generation, ME.nonce)) == (2, 2)


UNHEARD = 0.05
"""Seconds after the network's return in which a verdict may still fall that is due before any packet can be answered:
the last one is sent 0.03 of a probe interval before."""


@pytest.mark.parametrize("duration", [10, 40, 2 * 3600])
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_a_split_heals_by_itself(duration: int, groups: int) -> None:
    """After a network partition all views are equal within two reconnect intervals, and nobody is buried meanwhile."""
    for seed in range(1 if duration > 100 else 5):
        cluster = running(6, seed=seed)
        if duration > 100:
            cluster.observers.clear()  # the invariants of hours take minutes
        cluster.partition(*(range(group, 6, groups) for group in range(groups)))
        cluster.run(duration)
        cluster.heal()
        healed = cluster.clock.now
        cluster.run(2 * Settings.lan().reconnect_interval)
        assert cluster.agreed()
        assert not [time - healed for time in burials(cluster) if time > healed + UNHEARD]


def burials(cluster: Cluster) -> list[float]:
    """List when any host buried another."""
    return [
        time
        for host in cluster.hosts
        for time, change in host.changes
        if isinstance(change, MemberChanged) and change.member.status is Status.DEAD
    ]


def test_a_node_that_was_cut_off_buries_nobody() -> None:
    """Who alone loses the network suspects everybody, and has buried nobody when it comes back."""
    cluster = running(5, seed=3)
    cluster.partition([0], range(1, 5))
    cluster.run(60)
    assert {cluster.status(0, subject) for subject in range(1, 5)} == {Status.SUSPECT}
    assert cluster.believed(0) == {Status.SUSPECT, Status.DEAD} - {Status.SUSPECT}
    cluster.heal()
    cluster.run(30)
    assert cluster.agreed()


def test_late_hosts_find_a_seed_that_starts_last() -> None:
    """Peers that were started before their seed find it when it comes."""
    cluster = watched(3)
    for index in (1, 2):
        cluster[index].boot([cluster[0].address])
    cluster.run(60)
    cluster[0].boot([])
    cluster.run(3)
    assert cluster.agreed()
