"""Laws of the table of members: who is live, who is next, and where to send."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from gossip_support import claim, identity

from p2pml.gossip import Status
from p2pml.gossip.members import CROWD, Members

ME = identity(0)


def table(*indices: int, limit: int = 100) -> Members:
    """Make a table of this node and some live members."""
    members = Members(random.Random(0), limit)
    members.put(claim(ME), 0)
    for index in indices:
        members.put(claim(identity(index)), 0)
    return members


def targets(members: Members, count: int) -> list[str]:
    """Take the next members of the round."""
    found = [members.next_target(ME.id) for _ in range(count)]
    return [record.id for record in found if record is not None]


def test_each_round_probes_every_live_member_once() -> None:
    """The order is shuffled anew in each round, and nobody is left out of one."""
    members = table(*range(1, 9))
    rounds = [targets(members, 8) for _ in range(5)]
    assert all(set(one) == {identity(index).id for index in range(1, 9)} for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_a_newcomer_is_probed_within_two_rounds() -> None:
    """Whoever joins is put at a random place of the round that is going on, or of the next."""
    for seed in range(20):
        members = table(*range(1, 9))
        targets(members, seed % 8)
        members.put(claim(identity(9)), 0)
        assert identity(9).id in targets(members, 17)


def test_the_gone_are_not_probed_and_come_back_once() -> None:
    """Who died and came back is in the round once, not twice."""
    members = table(1, 2)
    for status, incarnation in ((Status.DEAD, 0), (Status.ALIVE, 1), (Status.LEFT, 1), (Status.ALIVE, 2)):
        members.put(claim(identity(1), status, incarnation), 0)
        expected = [identity(2).id] + ([identity(1).id] if status is Status.ALIVE else [])
        targets(members, 3)
        assert set(targets(members, 6)) == set(expected)
    assert max(Counter(targets(members, 4)).values()) <= 3


def test_a_round_goes_on_where_most_of_it_is_gone() -> None:
    """The few that are left are probed once each in it, and choosing among them does not go through the gone."""
    members = table(*range(1, 241), limit=300)
    probed = set(targets(members, 120))
    left = [identity(index) for index in range(1, 241) if index % 8 == 0]
    for index in range(1, 241):
        if index % 8:
            members.put(claim(identity(index), Status.DEAD), 0)
    rest = {each.id for each in left} - probed
    assert 0 < len(rest) < len(left)
    assert set(targets(members, len(rest))) == rest
    assert set(targets(members, len(left))) == {each.id for each in left}
    assert len(members._order) <= 2 * len(left) + CROWD
    assert len(members.sample(len(left), ME.id)) == len(left)


def test_a_node_alone_has_no_target() -> None:
    """This node does not probe itself."""
    assert table().next_target(ME.id) is None


def test_the_live_are_counted() -> None:
    """Suspects are live, the dead and the left are not, whatever they were before."""
    members = table(1, 2)
    for status, live in ((Status.SUSPECT, 3), (Status.DEAD, 2), (Status.LEFT, 2)):
        members.put(claim(identity(1), status), 0)
        assert members.live == live
    members.put(claim(identity(3), Status.DEAD), 0)
    assert members.live == 2
    assert len(members) == 4


def test_the_longest_gone_are_found_first() -> None:
    """The gone are listed in the order of their going, and leave the list when they come back."""
    members = table(1, 2, 3)
    for index in (2, 1, 3):
        members.put(claim(identity(index), Status.DEAD), 10.0 - index)
    assert members.longest_gone() == identity(2).id
    assert members.gone(9.5) == [identity(2).id, identity(1).id, identity(3).id]
    assert members.gone(8.5) == [identity(2).id]
    members.put(claim(identity(2), Status.ALIVE, 1), 20)
    assert members.longest_gone() == identity(1).id
    members.forget(identity(1).id)
    assert members.get(identity(1).id) is None
    assert targets(members, 4).count(identity(1).id) == 0


def test_a_full_table_takes_nobody_new() -> None:
    """Beyond the limit a stranger is refused, and a known member still changes."""
    members = table(1, 2, limit=3)
    assert not members.put(claim(identity(3)), 0)
    assert members.put(claim(identity(2), Status.SUSPECT), 0)
    assert len(members) == 3


def test_samples_are_live_and_different() -> None:
    """A sample holds each live member at most once, the excluded never, in tables small and large."""
    for size in (2, 5, 200):
        members = table(*range(1, size))
        members.put(claim(identity(1), Status.DEAD), 0)
        for _ in range(50):
            sample = [record.id for record in members.sample(3, ME.id, identity(2).id)]
            assert len(sample) == len(set(sample)) == min(3, max(0, size - 3))
            assert not {ME.id, identity(1).id, identity(2).id} & set(sample)


def test_samples_are_even() -> None:
    """Every other member is chosen about as often."""
    members = table(*range(1, 51))
    counts = Counter(record.id for _ in range(2000) for record in members.sample(3, ME.id))
    assert len(counts) == 50
    assert 70 < min(counts.values()) <= max(counts.values()) < 180


def test_a_member_is_sent_to_where_it_was_heard_from() -> None:
    """The observed address comes before the claimed one, until it fails or the member claims another."""
    members = table(1)
    record = claim(identity(1))
    seen = ("192.168.1.1", 4000)
    assert not members.observe(record, record.address)
    assert members.observe(record, seen)
    assert not members.observe(record, seen)
    assert members.view(record).address == seen
    assert members.at(seen) == members.at(record.address) == record
    assert members.observe(record, record.address)
    members.observe(record, seen)
    assert members.unobserve(record)
    assert not members.unobserve(record)
    members.observe(record, seen)
    moved = replace(record, address=("10.9.9.9", 1), incarnation=1)
    members.put(moved, 0)
    assert members.address(moved) == ("10.9.9.9", 1)


def test_an_unspecified_address_never_replaces_an_observed_one() -> None:
    """There is nothing to go back to where a member claims every interface."""
    record = claim(replace(identity(1), address=("0.0.0.0", 1)))
    members = table()
    members.put(record, 0)
    members.observe(record, ("10.0.0.1", 1))
    assert not members.unobserve(record)
    assert members.address(record) == ("10.0.0.1", 1)
