"""Laws of plain SWIM, the mode that the protocol is compared with: what it does not do."""

from __future__ import annotations

import pytest
from gossip_support import Jar, claim, identity

from p2pml.gossip import Settings, Status
from p2pml.gossip.messages import Claim, Nack, Ping, PingRequest
from p2pml.simulations.cluster import Cluster

SWIM = Settings.lan().swim()
A, B, C, D = (identity(index) for index in range(1, 5))


def jar() -> Jar:
    """Make a node in plain SWIM that knows some peers."""
    one = Jar(settings=SWIM)
    one.meet(A, B, C, D)
    return one


def test_a_suspicion_has_its_fixed_time_whoever_accuses() -> None:
    """Nor does it take a word from anybody else."""
    one = jar()
    one.hear(A, Claim(claim(D, Status.SUSPECT, 0, A, B, C)))
    one.run(3.9)
    assert one.status(D) is Status.SUSPECT
    one.run(0.2)
    assert one.status(D) is Status.DEAD


def test_the_suspect_is_not_told_first_and_is_not_probed_at_once() -> None:
    """News of it rides on packets as any other does."""
    one = jar()
    one.hear(A, Claim(claim(D, Status.SUSPECT, 0, A)))
    assert not one.said(Ping, D.address)
    one.node._context.claims.clear()
    one.clear()
    one.hear(D, Ping(5, one.node.me.id))
    assert not one.said(Claim)


def test_a_helper_sends_no_nack() -> None:
    """The asker learns nothing about itself."""
    one = jar()
    one.hear(A, PingRequest(9, D.id, D.address))
    one.run(2)
    assert not one.said(Nack)


def test_standing_still_accuses() -> None:
    """Neither does its health change, nor are its probes void."""
    one = jar()
    one.live(3, A, B, C, D)
    one.run(1.1)
    one.stall(30)
    assert Status.SUSPECT in [one.status(peer) for peer in (A, B, C, D)]
    assert one.node._context.health.multiplier == 1


def test_what_others_say_of_a_death_is_believed() -> None:
    """And who is dead is not told so when it speaks."""
    one = jar()
    one.hear(A, Claim(claim(D, Status.DEAD)))
    assert one.status(D) is Status.DEAD
    one.hush()
    one.hear(D, Nack(0))
    assert not one.sent(D.address)


@pytest.mark.parametrize("seed", range(2))
def test_a_split_is_for_ever(seed: int) -> None:
    """Nobody greets the dead."""
    cluster = Cluster(6, seed, SWIM)
    cluster.form()
    cluster.partition([0, 1, 2], [3, 4, 5])
    cluster.run(60)
    cluster.heal()
    cluster.run(300)
    assert cluster.status(0, 5) is Status.DEAD
