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


def test_a_failed_probe_counts_at_once_where_nobody_was_heard() -> None:
    """Then this node may be the one that is cut off."""
    health = Health(8)
    health.last_word = 1.0
    health.probe_failed("A", 3, since=1.0)
    assert health.score == 3
    health.settle("A", refuted=True)
    assert health.score == 3


def test_where_others_were_heard_it_counts_only_if_the_target_refutes() -> None:
    """The silence of the dead says nothing about this node."""
    for refuted in (True, False):
        health = Health(8)
        health.last_word = 1.1
        health.probe_failed("A", 3, since=1.0)
        assert health.score == 0
        health.settle("A", refuted=refuted)
        assert health.score == 3 * refuted


def test_half_of_the_last_probes_without_an_answer_are_an_alarm() -> None:
    """One that succeeds takes the place of one that failed eight probes ago."""
    health, alarmed = Health(8), []
    for failed in (True, True, False, True, True, False, False, False, False):
        health.note(failed=failed)
        alarmed.append(health.alarmed)
    assert alarmed == [False, False, False, False, True, True, True, True, False]
