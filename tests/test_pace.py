"""Laws of pace: how long to wait for a peer alone, and how far away it is."""

from __future__ import annotations

import pytest

from p2pml.peer.pace import FEWEST, FLOOR, HALVED, LEAST_PATIENCE, Pace


def test_a_pace_is_known_after_some_answers() -> None:
    """By the size of the question; of who is gone nothing is kept."""
    pace = Pace()
    assert (pace.hedge("a", 1), pace.patience("a", 1)) == (None, None)
    for _ in range(FEWEST):
        pace.heard("a", 1, 0.001)
        pace.heard("b", 1, 2.0)
    assert (pace.hedge("a", 1), pace.patience("a", 1)) == (FLOOR, LEAST_PATIENCE)
    assert (pace.hedge("b", 1), pace.patience("b", 1)) == (2.0, 40.0)
    assert pace.usual("a", 1000) is None
    pace.heard("b", 1, 9.0)
    assert pace.usual("b", 1) == pytest.approx(9.0)
    pace.keep_only({"b"})
    assert pace.usual("a", 1) is None


def test_how_far_a_peer_is_follows_it_slowly_and_is_forgotten() -> None:
    """So that one answer that was late does not keep a peer from being asked for good."""
    pace = Pace()
    assert pace.ahead("a", 0.0) == 0.0
    pace.apart("a", 0.010, 1.0)
    pace.apart("a", 0.020, 1.0)
    assert pace.ahead("a", 1.0) == pytest.approx(0.011)
    assert pace.ahead("a", 1.0 + HALVED) == pytest.approx(0.0055)
    later = 1.0 + 50 * HALVED
    pace.apart("a", 0.5, later)
    assert pace.ahead("a", later) == pytest.approx(0.5)
    pace.keep_only({"b"})
    assert pace.ahead("a", later) == 0.0
