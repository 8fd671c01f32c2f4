"""Laws of the token bucket: a flood costs its sender, and nobody else."""

from __future__ import annotations

from p2pml.gossip.bucket import Buckets
from p2pml.gossip.limits import SOURCE_BURST, SOURCE_RATE, SOURCES_LIMIT


def test_a_flood_is_cut_to_the_rate() -> None:
    """After its burst a source gets no more than its rate."""
    buckets = Buckets()
    flood = [buckets.admit(("10.0.0.1", 1), 0.0) for _ in range(int(SOURCE_BURST) + 10)]
    assert sum(flood) == SOURCE_BURST
    later = [buckets.admit(("10.0.0.1", 1), 1.0) for _ in range(int(SOURCE_RATE) + 10)]
    assert sum(later) == SOURCE_RATE


def test_others_are_heard_during_a_flood() -> None:
    """Each source has its own tokens."""
    buckets = Buckets()
    for _ in range(int(SOURCE_BURST) + 1):
        buckets.admit(("10.0.0.1", 1), 0.0)
    assert not buckets.admit(("10.0.0.1", 1), 0.0)
    assert buckets.admit(("10.0.0.2", 1), 0.0)


def test_the_number_of_sources_is_bounded() -> None:
    """Beyond the limit the source that was silent for longest is forgotten."""
    buckets = Buckets()
    for _ in range(int(SOURCE_BURST) + 1):
        buckets.admit(("10.0.0.1", 1), 0.0)
    for port in range(1, SOURCES_LIMIT + 1):
        assert buckets.admit(("10.0.0.2", port), 0.0)
    assert len(buckets) == SOURCES_LIMIT
    assert buckets.admit(("10.0.0.1", 1), 0.0)
