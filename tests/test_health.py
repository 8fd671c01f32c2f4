"""Laws of local health: a node's trust in its own ears."""

from __future__ import annotations

from p2pml.gossip.health import Health


def test_health_stays_between_its_bounds() -> None:
    """The multiplier is at least 1 and at most the cap plus 1, whatever happens."""
    health = Health(8)
    health.better()
    assert health.multiplier == 1
    health.worse(3)
    assert health.multiplier == 4
    health.worse(100)
    assert health.multiplier == 9
    health.better()
    assert health.multiplier == 8
