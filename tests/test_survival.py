"""Laws of what a cluster survives: hostile packets, clocks, flapping links and streams, and more news than fits."""

from __future__ import annotations

import random

import pytest
from gossip_support import running, watched

import p2pml.simulations.cluster as clusters
from p2pml.gossip import (
    Address,
    DatagramReceived,
    Effect,
    Event,
    Leave,
    MemberChanged,
    Node,
    SetTimer,
    Settings,
    Status,
)
from p2pml.gossip.messages import Claim
from p2pml.gossip.suspicion import timeout
from p2pml.simulations.cluster import Cluster, Disk
from p2pml.simulations.network import Conditions

YEAR = 365 * 86_400.0
LAN = Settings.lan()


def deaths(cluster: Cluster, since: float = 0.0) -> list[tuple[float, str]]:
    """List who was held dead by anybody, and when."""
    return [
        (time, change.member.name)
        for host in cluster.hosts
        for time, change in host.changes
        if time > since and isinstance(change, MemberChanged) and change.member.status is Status.DEAD
    ]


@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_half_of_all_packets_may_be_lost_and_the_rest_doubled_and_reordered(loss: float) -> None:
    """Nobody is out of the views for long, and all are in them when the network is well."""
    cluster = running(8, 2)
    cluster.network.conditions = Conditions(loss=loss, duplication=0.5, reordering=0.5, late=0.4)
    cluster.run(60)
    assert len(deaths(cluster)) <= (0 if loss == 0 else 8)
    cluster.network.conditions = Conditions()
    cluster.run(2 * LAN.reconnect_interval)
    assert cluster.agreed()


@pytest.mark.parametrize("accusers", [1, 2, 3, 4])
def test_links_that_flap_at_a_suspicion_s_timeout_bury_nobody_for_long(accusers: int) -> None:
    """Whichever time to refute the flapping meets, all are alive to all once it ends."""
    cluster = running(6, accusers)
    period = timeout(LAN, 6, accusers)
    for _ in range(3):
        cluster.partition([0, 1, 2], [3, 4, 5])
        cluster.run(period)
        cluster.heal()
        cluster.run(period / 2)
    cluster.run(2 * LAN.reconnect_interval)
    assert cluster.agreed()


def test_a_member_whose_streams_never_answer_delays_nobody() -> None:
    """Its requests are given up, and the others compare among themselves."""
    cluster = watched(10)
    slow = cluster[0].address

    def request(source: Address, target: Address, *rest: object) -> None:
        if slow not in (source, target):
            original(source, target, *rest)  # type: ignore[arg-type]

    original = cluster.network.request
    cluster.network.request = request  # type: ignore[assignment, method-assign]
    cluster.start()
    for index in range(1, 10):
        cluster.clock.at(5.0, cluster.write, index, "large", bytes(4000))
    cluster.run(30)
    fast = [host.running for host in cluster.hosts[1:]]
    assert all(node.entries(cluster[1].id).get("large") for node in fast)
    assert not deaths(cluster)


def test_more_updates_than_packets_can_carry_cost_time_and_nothing_else() -> None:
    """Nobody is held dead meanwhile, queues stay bounded, and all is known when the flood ends."""
    cluster = running(6)
    for second in range(20):
        for index in range(6):
            for key in range(10):
                cluster.write(index, f"key-{key}", b"%d" % second * 150)
        cluster.run(1)
    assert not deaths(cluster)
    cluster.run(3 * LAN.sync_interval)
    assert cluster.agreed()


def test_who_leaves_while_suspected_has_left() -> None:
    """A verdict of death does not come after it, and nobody waits for one."""
    cluster = running(5)
    cluster.network.cut(None, [cluster[4].address], "deaf")
    while Status.SUSPECT not in cluster.believed(4):
        cluster.run(0.1)
    cluster[4].take(Leave())
    cluster[4].crash()
    cluster.run(1)
    assert cluster.believed(4) == {Status.LEFT}
    cluster.run(60)
    assert cluster.believed(4) == {Status.LEFT}


class Skewed(Node):
    """A node whose clock is ahead by up to a year."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Shift what it is told of time, and what it asks of it."""
        ahead = YEAR * int(self.me.id[:4], 16) / 65_536
        effects = super().handle(event, now + ahead)
        return [SetTimer(one.at - ahead, one.token) if isinstance(one, SetTimer) else one for one in effects]


def test_clocks_a_year_apart_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time of one member ever reaches another."""
    monkeypatch.setattr(clusters, "Node", Skewed)
    cluster = Cluster(6)
    cluster.start()
    cluster.run(20)
    assert cluster.agreed()
    assert not deaths(cluster)
    cluster[5].crash()
    cluster.run(20)
    assert cluster.believed(5) == {Status.DEAD}
    cluster.restart(5)
    cluster.run(5)
    assert cluster.agreed()


def test_a_replay_of_all_that_was_ever_said_changes_nothing() -> None:
    """Old packets in any order, from any address: claims only ever move on."""
    cluster = running(4)
    heard: list[DatagramReceived] = []
    cluster.observers.append(
        lambda host, event, effects: heard.append(event) if isinstance(event, DatagramReceived) else None
    )
    cluster.write(1, "key", b"old")
    cluster.restart(2)
    cluster.run(10)
    cluster.write(1, "key", b"new")
    cluster.leave(3)
    cluster.run(10)
    rng = random.Random(1)
    old = rng.sample(heard, min(len(heard), 400))
    before = [[(record.id, record.rank) for record in host.running.records()] for host in cluster.up()]
    for event in old:
        for host in cluster.up():
            host.take(DatagramReceived(("10.9.9.9", 1 + rng.randrange(60_000)), event.data))
    cluster.run(30)
    for host, known in zip(cluster.up(), before, strict=True):
        assert all(host.running.record(peer).rank >= rank for peer, rank in known)  # type: ignore[union-attr]
    assert {host.running.entries(cluster[1].id)["key"] for host in cluster.up()} == {b"new"}
    assert cluster.status(0, 3) is Status.LEFT
    assert cluster.agreed()


def test_a_foreign_cluster_at_a_reused_address_is_nobody() -> None:
    """Neither is it taken for the member that lived there, nor do the two mix."""
    cluster = running(4)
    other = Cluster(1, 9, name="other")
    other.network, other.clock = cluster.network, cluster.clock
    cluster[3].crash()
    other[0].address = cluster[3].address
    other[0].boot([cluster[0].address])
    cluster.run(60)
    assert cluster.believed(3) == {Status.DEAD}
    assert len(other[0].running.members()) == 1


def test_who_comes_back_from_a_stale_snapshot_takes_back_nothing() -> None:
    """It comes above all that was heard of it, and what it wrote since the snapshot is gone everywhere."""
    cluster = running(4)
    snapshot = Disk(cluster[2].disk.generation, cluster[2].disk.addresses)
    for turn in range(3):
        cluster.restart(2)
        cluster.write(2, "key", b"%d" % turn)
        cluster.run(5)
    cluster[2].crash()
    cluster[2].disk = snapshot
    cluster.restart(2)
    cluster.write(2, "key", b"after")
    cluster.run(20)
    assert cluster.agreed()
    assert {host.running.entries(cluster[2].id)["key"] for host in cluster.up()} == {b"after"}


def test_a_flood_of_forged_claims_leaves_views_as_they_were() -> None:
    """Deaths and suspicions of everybody, from one member, a hundred times: each is alive after a moment."""
    cluster = running(5)
    forger = cluster[4].running
    claims = [record for record in forger.records() if record.id != forger.me.id]
    since = cluster.clock.now
    for _ in range(100):
        for record in claims:
            forged = record.__class__(record.id, record.name, record.address, Status.DEAD, *record.epoch, 0)
            data = cluster.wire.seal(forger.me, [cluster.wire.part(Claim(forged))])
            for host in cluster.hosts[:4]:
                host.take(DatagramReceived(cluster[4].address, data))
        cluster.run(0.1)
    cluster.run(20)
    assert cluster.agreed()
    assert not deaths(cluster, since)
