"""Laws of the simulator, and of clusters in it: repeatable, and true to the promises made to the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from gossip_support import WIRE, addresses, claim, identity, packet, running, watched

from p2pml.gossip import (
    AnswerStream,
    GenerationRaised,
    IdentityConflict,
    MemberChanged,
    Moved,
    Notify,
    OpenStream,
    SendDatagram,
    Settings,
    Start,
    Status,
    StreamReceived,
    TimerFired,
    limits,
)
from p2pml.gossip.messages import Claim, More
from p2pml.gossip.records import Record
from p2pml.simulations.clock import Clock
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.invariants import Broken, Invariants
from p2pml.simulations.network import Conditions, Network, Rule

SEEDS = range(3)


def until(cluster: Cluster, belief: set[Status], subject: int, most: float) -> float:
    """Let time pass until all others believe something of a host; say how long it took."""
    start = cluster.clock.now
    while cluster.believed(subject) != belief:
        cluster.run(0.05)
        assert cluster.clock.now - start <= most, cluster.believed(subject)
    return cluster.clock.now - start


def test_a_cluster_can_start_formed() -> None:
    """Everybody knows everybody at once, has no news of it, and hears of all that comes after."""
    cluster = watched(20)
    cluster.form()
    assert cluster.agreed()
    assert not any(host.running.queues()["news"] for host in cluster.hosts)
    cluster.run(30)
    assert cluster.agreed()
    assert sum(host.running.queues()["news"] for host in cluster.hosts) == 0
    assert len({host.running.state() for host in cluster.hosts}) == 1
    cluster.write(3, "key", b"value")
    assert not cluster.agreed()
    cluster[4].crash()
    cluster.run(30)
    assert cluster.believed(4) == {Status.DEAD}
    assert all(host.running.entries(cluster[3].id) == {"key": b"value"} for host in cluster.up())


# Promises to the daemon.


@pytest.mark.parametrize("seed", SEEDS)
def test_peers_see_each_other_within_a_second(seed: int) -> None:
    """Four peers with one seed know one another, and their entries."""
    cluster = watched(4, seed)
    cluster.start()
    cluster.run(0.01)
    for index in range(4):
        cluster.write(index, "summary", b"small" if index else bytes(4000))
    cluster.run(0.99)
    assert cluster.agreed()


@pytest.mark.parametrize("value", [b"small", bytes(limits.VALUE_LIMIT), None])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_entry_is_everywhere_within_a_second(seed: int, value: bytes | None) -> None:
    """A write, a large one and a deletion alike."""
    cluster = running(4, seed)
    cluster.write(2, "key", b"before")
    cluster.run(1)
    cluster.write(2, "key", value)
    cluster.run(1)
    assert cluster.agreed()
    assert cluster[0].running.entries(cluster[2].id).get("key") == value


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_peer_is_known_dead_within_ten_seconds(seed: int, size: int) -> None:
    """Every other member says so, in the profile for one site; its entries can still be read."""
    cluster = running(size, seed)
    cluster.write(1, "key", b"value")
    cluster.run(5 + seed * 0.37)
    cluster[1].crash()
    until(cluster, {Status.DEAD}, 1, 10)
    assert cluster[0].running.entries(cluster[1].id) == {"key": b"value"}


@pytest.mark.parametrize("pause", [0.0, 20.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_restarted_peer_is_alive_everywhere_within_two_seconds(seed: int, pause: float) -> None:
    """Whether it was missed or not, its next generation replaces the last, entries and all."""
    cluster = running(4, seed)
    cluster.write(3, "old", b"value")
    cluster.run(1)
    cluster[3].crash()
    cluster.run(pause)
    cluster.restart(3)
    cluster.write(3, "new", b"value")
    cluster.run(2)
    assert cluster.agreed()
    assert cluster[0].running.member(cluster[3].id).generation == 2  # type: ignore[union-attr]
    assert cluster[0].running.entries(cluster[3].id) == {"new": b"value"}


def test_a_peer_that_leaves_is_left_at_once() -> None:
    """Nobody waits for a timeout, and nobody takes it for dead."""
    cluster = running(5)
    cluster.leave(2)
    cluster.run(0.1)
    assert cluster.believed(2) == {Status.LEFT}
    cluster.run(60)
    assert cluster.believed(2) == {Status.LEFT}


def test_a_leave_that_was_lost_ends_as_a_death() -> None:
    """Who goes unheard is found by its silence."""
    cluster = running(4)
    cluster.network.cut([cluster[1].address], None)
    cluster.leave(1)
    until(cluster, {Status.DEAD}, 1, 10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_buries_nobody(seed: int) -> None:
    """A process that stood still for 20 s accuses nobody when it wakes, and comes back if it was buried."""
    cluster = running(4, seed)
    cluster.pause(1, 20)
    cluster.run(20.1)
    assert {cluster.status(1, other) for other in (0, 2, 3)} == {Status.ALIVE}
    cluster.run(10)
    assert cluster.agreed()


def test_a_cloned_state_folder_stops_one_of_the_two() -> None:
    """Two processes with one identity and generation: the one with the lower nonce stops, and the other stays."""
    cluster = running(4)
    clone = cluster[3]
    clone.id, clone.name = cluster[1].id, cluster[1].name
    clone.disk.generation = 0
    cluster.observers.clear()
    clone.boot(addresses(cluster, [0]))
    cluster.run(10)
    stopped = [host for host in (cluster[1], clone) if host.node is None]
    assert len(stopped) == 1
    assert isinstance(stopped[0].changes[-1][1], IdentityConflict)
    cluster.run(20)
    stayed = (clone if stopped[0] is cluster[1] else cluster[1]).running
    assert cluster[0].running.record(stayed.me.id).nonce == stayed.me.nonce  # type: ignore[union-attr]


def test_an_old_disk_comes_back_as_itself() -> None:
    """A host restored from a backup takes a generation after its last one, and is alive everywhere."""
    cluster = running(3)
    for _ in range(3):
        cluster.restart(1)
        cluster.run(3)
    cluster[1].crash()
    cluster.run(15)
    cluster[1].disk.generation = 0
    cluster.restart(1)
    cluster.run(3)
    assert GenerationRaised(5) in [change for _, change in cluster[1].changes]
    assert cluster[1].disk.generation == 5
    assert cluster.agreed()


def test_addresses_may_be_swapped_in_a_full_restart() -> None:
    """An identity is no address: after all hosts moved, each is known where it is."""
    cluster = running(4)
    for host in cluster.hosts:
        host.crash()
    moved = [host.address for host in cluster.hosts]
    for host, address in zip(cluster.hosts, [*moved[1:], moved[0]], strict=True):
        host.address = address
    cluster.start()
    cluster.run(3)
    assert cluster.agreed()
    for host in cluster.hosts:
        assert cluster[0].running.member(host.id).address == host.address  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_moves_is_found_by_who_never_hears_from_it(seed: int) -> None:
    """Its new address spreads by gossip, and nobody takes it for dead meanwhile."""
    cluster = running(4, seed)
    moved = cluster[1]
    cluster.network.unbind(moved.address)
    moved.address = ("10.5.0.1", 7946)
    cluster.network.bind(moved.address, moved)
    cluster.cut(1, 2)
    cluster.cut(2, 1)
    moved.take(Moved(moved.address))
    cluster.run(1)
    assert cluster[2].running.member(moved.id).address == moved.address  # type: ignore[union-attr]
    cluster.run(30)
    assert cluster.believed(1) <= {Status.ALIVE, Status.SUSPECT}
    cluster.heal()
    cluster.run(5)
    assert cluster.agreed()


def test_two_clusters_on_one_network_do_not_mix() -> None:
    """Even where each is the other's seed."""
    one = running(2)
    other = watched(2, 7, name="other")
    other.network, other.clock = one.network, one.clock
    for host in other.hosts:
        host.address = ("10.1.0." + str(host.index), 7946)
        host.boot([*addresses(one, [0, 1]), ("10.1.0.0", 7946)])
    one.run(30)
    assert one.agreed()
    assert other.agreed()
    assert one[0].running.counters["dropped_cluster"] > 0


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_loss_buries_nobody(loss: float) -> None:
    """Lost, doubled and reordered packets cost time, not members."""
    cluster = running(8, 1)
    cluster.network.conditions = Conditions(loss=loss, duplication=0.1, reordering=0.2)
    cluster.run(60)
    deaths = [
        change
        for host in cluster.hosts
        for _, change in host.changes
        if isinstance(change, MemberChanged) and change.member.status is Status.DEAD
    ]
    assert not deaths


def test_a_one_way_cut_buries_nobody() -> None:
    """Where a link works in one direction only, others carry the probes."""
    cluster = running(5)
    cluster.cut(1, 2)
    cluster.run(60)
    assert {cluster.status(1, 2), cluster.status(2, 1)} <= {Status.ALIVE, Status.SUSPECT}
    cluster.heal()
    cluster.run(10)
    assert cluster.agreed()


def test_most_may_crash_at_once() -> None:
    """The others find out, and stay together."""
    cluster = running(20)
    for index in range(6, 20):
        cluster[index].crash()
    cluster.run(120)
    assert cluster.agreed()


def test_a_crowd_joins_through_one_seed() -> None:
    """More members than a packet can list come by stream, and all know all."""
    cluster = watched(45)
    cluster.start(within=1)
    cluster.run(12)
    assert cluster.agreed()


def storm(seed: int) -> Cluster:
    """Let a cluster live through one of everything."""
    weather = Conditions(delay=(0.001, 0.05), loss=0.1, duplication=0.1, reordering=0.3)
    cluster = watched(6, seed, conditions=weather, settings=Settings.local())
    cluster.start(within=1)
    cluster.run(3)
    cluster.write(1, "key", b"value")
    cluster.pause(2, 3)
    cluster[3].crash()
    cluster.partition([0, 1], [2, 3, 4, 5])
    cluster.run(8)
    cluster.heal()
    cluster.cut(0, 4)
    cluster.restart(3)
    cluster.leave(5)
    cluster.run(8)
    cluster.heal()
    return cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_one_seed_gives_one_trace(seed: int) -> None:
    """Two runs are equal byte for byte, and two seeds are not."""
    assert storm(seed).trace == storm(seed).trace != storm(seed + 100).trace


def test_a_trace_does_not_depend_on_hashes_of_strings() -> None:
    """A run in another process, under another PYTHONHASHSEED, has the same trace."""
    code = "import sys; sys.path.insert(0, 'tests'); from test_simulation import storm; print(storm(5).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert traces == {storm(5).trace}


# The clock and the network.


def test_time_moves_only_to_what_is_due() -> None:
    """Happenings come in the order of their times, and at one time in the order of their making."""
    clock, seen = Clock(), list[tuple[float, str]]()
    for delay, name in ((2.0, "late"), (1.0, "one"), (1.0, "two")):
        clock.after(delay, lambda name=name: seen.append((clock.now, name)))
    clock.at(-5.0, lambda: seen.append((clock.now, "past")))
    clock.run(1.5)
    assert seen == [(0.0, "past"), (1.0, "one"), (1.0, "two")]
    assert clock.now == 1.5
    clock.run(1)
    assert seen[-1] == (2.0, "late")


class Box:
    """Somebody who keeps what arrives."""

    def __init__(self, clock: Clock) -> None:
        """Have nothing."""
        self.clock = clock
        self.arrived: list[tuple[float, bytes]] = []

    def datagram(self, source: Any, data: bytes) -> None:
        """Keep a datagram and its time."""
        self.arrived.append((self.clock.now, data))

    def stream(self, source: Any, data: bytes, answer: Any) -> None:
        """Answer with what was asked."""
        answer(data)


HERE, THERE = ("10.0.0.1", 1), ("10.0.0.2", 1)


def network(**conditions: Any) -> tuple[Clock, Network, Box]:
    """Make a network with somebody at one address."""
    clock = Clock()
    net, box = Network(clock, __import__("random").Random(1), Conditions(**conditions)), Box(clock)
    net.bind(THERE, box)
    return clock, net, box


def test_packets_arrive_after_their_delay() -> None:
    """Each within its bounds, and nowhere where nobody is."""
    clock, net, box = network(delay=(0.1, 0.2))
    for number in range(100):
        net.send(HERE, THERE, bytes([number]))
    net.send(THERE, HERE, b"")
    clock.run(1)
    assert len(box.arrived) == net.delivered == 100
    assert net.lost == 1
    assert 0.1 <= min(box.arrived)[0] <= max(box.arrived)[0] <= 0.2
    net.unbind(THERE)
    net.send(HERE, THERE, b"")
    clock.run(1)
    assert net.lost == 2


def test_packets_are_lost_doubled_and_reordered_as_often_as_asked() -> None:
    """The conditions are probabilities."""
    clock, net, box = network(loss=0.25, duplication=0.5, reordering=0.5, late=5.0)
    for number in range(1000):
        net.send(HERE, THERE, number.to_bytes(2, "big"))
    clock.run(10)
    assert 1025 < len(box.arrived) < 1225
    order = [data for _, data in box.arrived]
    assert order != sorted(order)
    assert 450 < sum(time > 0.01 for time, _ in box.arrived) < 650


def test_the_first_rule_that_matches_decides() -> None:
    """Rules are for links in one direction; where none matches, the network's conditions hold."""
    clock, net, box = network()
    net.rules = [Rule("keep", frozenset([HERE]), None, Conditions()), Rule("cut", None, frozenset([THERE]))]
    for source in (HERE, ("10.0.0.3", 1)):
        net.send(source, THERE, b"")
    clock.run(1)
    assert len(box.arrived) == 1
    net.heal("cut")
    net.send(("10.0.0.3", 1), THERE, b"")
    clock.run(1)
    assert len(box.arrived) == 2
    assert [rule.name for rule in net.rules] == ["keep"]
    net.heal()
    assert net.rules == []


def test_streams_are_answered_refused_or_given_up() -> None:
    """Refused where nobody listens, given up where a link is cut in either direction."""
    clock, net, _ = network(loss=0.5)
    answers = list[tuple[float, bytes | None]]()

    def answered(data: bytes | None) -> None:
        answers.append((clock.now, data))

    net.request(HERE, THERE, b"question", answered)
    net.request(HERE, ("10.0.0.9", 1), b"question", answered)
    clock.run(1)
    assert sorted(data for _, data in answers if data) == [b"question"]
    assert [data for _, data in answers].count(None) == 1
    for sources, targets in (([HERE], [THERE]), ([THERE], [HERE])):
        answers.clear()
        net.heal()
        net.cut(sources, targets)
        net.request(HERE, THERE, b"question", answered)
        clock.run(6)
        assert [data for _, data in answers] == [None]


# The invariants fire.


def host_view(cluster: Cluster, record: Record) -> None:
    """Plant a claim in the table of a host, behind the protocol's back."""
    cluster[0].running._context.members.put(record, 0.0)
    cluster[0].running._context.state ^= 1


def other(cluster: Cluster) -> Record:
    """Look at what the first host holds of the second."""
    record = cluster[0].running.record(cluster[1].id)
    assert record is not None
    return record


def plant_death_of_itself(cluster: Cluster) -> None:
    """Let a host hold itself dead."""
    host_view(cluster, replace(cluster[0].running._context.own, status=Status.DEAD))


def plant_a_step_back(cluster: Cluster) -> None:
    """Let a host forget a later incarnation."""
    host_view(cluster, replace(other(cluster), nonce=0))


def plant_a_raised_incarnation(cluster: Cluster) -> None:
    """Let a host raise the incarnation of another."""
    host_view(cluster, replace(other(cluster), incarnation=3))


def plant_a_stranger(cluster: Cluster) -> None:
    """Let a host know somebody who never was."""
    host_view(cluster, claim(identity(9)))


def plant_a_full_queue(cluster: Cluster) -> None:
    """Let news pile up."""
    for index in range(50):
        cluster[0].running._context.claims.put(str(index), WIRE.part(More()), 2)


def plant_timers(cluster: Cluster) -> None:
    """Let timers pile up."""
    for _ in range(50):
        cluster[0].running._context.timer(1000, lambda: None)


@pytest.mark.parametrize(
    ("plant", "law"),
    [
        (plant_death_of_itself, "nobody declares itself dead"),
        (plant_a_step_back, "one way"),
        (plant_a_raised_incarnation, "only the owner"),
        (plant_a_stranger, "ever booted"),
        (plant_a_full_queue, "bounded: host-0 .* news"),
        (plant_timers, "bounded: host-0 .*timers"),
    ],
)
def test_a_planted_breach_is_found(plant: Any, law: str) -> None:
    """Each invariant fires at the next step after its breach."""
    cluster = running(2)
    plant(cluster)
    with pytest.raises(Broken, match=law):
        cluster.write(0, "key", b"value")


def test_a_hasty_verdict_is_found() -> None:
    """A death before its suspicion's deadline is a breach."""
    cluster = running(5)
    cluster[1].crash()
    while cluster.status(0, 1) is not Status.SUSPECT:
        cluster.run(0.05)
    member = cluster[0].running.member(cluster[1].id)
    assert member is not None
    effects = [Notify(MemberChanged(replace(member, status=Status.DEAD), Status.SUSPECT))]
    (invariants,) = cluster.observers
    with pytest.raises(Broken, match="no death before"):
        invariants(cluster[0], TimerFired(1), effects)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "effects", "law"),
    [
        (Start(), [SendDatagram(HERE, bytes(limits.PACKET_LIMIT + 1))], "datagram fits"),
        (Start(), [OpenStream(HERE, bytes(limits.STREAM_LIMIT + 1), 1)], "stream message fits"),
        (Start(), [AnswerStream(1, b"")], "exactly once"),
        (StreamReceived(HERE, b"", 1), [], "exactly once"),
        (StreamReceived(HERE, b"", 1), [AnswerStream(1, b"")] * 2, "exactly once"),
    ],
)
def test_an_effect_past_its_bound_is_found(event: Any, effects: Any, law: str) -> None:
    """What a node asks of the world is checked too."""
    cluster = running(2)
    with pytest.raises(Broken, match=law):
        Invariants(cluster)(cluster[0], event, effects)


def test_a_packet_of_a_crashed_host_is_still_delivered() -> None:
    """What was on its way arrives, and nothing is done for a host that is down."""
    cluster = running(2)
    cluster[1].crash()
    cluster[1].datagram(HERE, packet(identity(1), Claim(claim(identity(1)))))
    assert cluster[1].node is None
    with pytest.raises(AssertionError, match="is down"):
        assert cluster[1].running
