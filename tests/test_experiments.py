"""Laws of the papers' experiments, each on a part small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import Shell

from p2pml.simulations.experiments import EXPERIMENTS, heal, hyparview, join_burst, lifeguard, rapid, scuttlebutt, swim
from p2pml.simulations.experiments.harness import MODES, Figure, carry_out, interval

LIFEGUARD = [
    lifeguard.Case(variant, mode, 3, 8.0, 0.2, repeat, 16.0, 10)
    for repeat in range(2)
    for variant in lifeguard.VARIANTS
    for mode in MODES
]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


def test_members_that_block_accuse_nobody_falsely_where_those_of_plain_swim_do() -> None:
    """Neither with their IO blocked nor as whole processes, and the detection is as early."""
    runs = list(carry_out(lifeguard.measure, LIFEGUARD, jobs=1))
    measures = lifeguard.result(runs, quick=True).to_data()["measures"]
    for variant in lifeguard.VARIANTS:
        assert measures[f"{variant}false_positives"] < 0.1
        assert measures[f"{variant}false_positives_at_healthy"] < 0.1
        assert measures[f"{variant}median_first_detection"] < 1.5
    assert any(run["false_positives"] > 5 for case, run in runs if case.mode == "SWIM")


def test_a_run_is_the_same_in_another_process() -> None:
    """It is drawn from its case alone."""
    few = LIFEGUARD[:2]
    assert list(carry_out(lifeguard.measure, few, jobs=2)) == list(carry_out(lifeguard.measure, few, jobs=1))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_quick_run_is_a_part_of_the_whole(name: str) -> None:
    """It is far smaller, and runs both modes wherever the whole does."""
    quick, whole = (EXPERIMENTS[name].cases(quick=quick) for quick in (True, False))
    assert 0 < len(quick) <= len(whole)
    assert (EXPERIMENTS[name].__doc__ or "").count("\n") > 1


def test_an_interval_holds_the_mean_of_repeats() -> None:
    """Student's, and none for a single repeat."""
    assert interval([1.0]) is None
    low, high = interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(2.0)
    assert high - 2.0 == pytest.approx(4.30 / 3**0.5)


def test_an_experiment_is_shown_printed_and_drawn(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a table with the paper's claims, as JSON, and as SVG."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(lifeguard, "cases", lambda *, quick: LIFEGUARD[:4])
    done = shell("simulate", "lifeguard", "--quick", "--plot", "lifeguard.svg")
    assert "false_positives_at_healthy" in done.out
    assert "1.89 %" in done.out
    assert "1 of 432 combinations" in done.err
    assert Path("lifeguard.svg").read_text(encoding="utf-8").count("SWIM") == 1
    data = json.loads(shell("simulate", "lifeguard", "--quick", "--json").out)
    assert set(lifeguard.CLAIMS) <= set(data["measures"])
    assert done.code == (0 if data["held"] else 7)


def test_a_figure_past_what_it_is_held_to_is_missed() -> None:
    """One that is held to nothing never is."""
    assert not Figure("messages", 1.2, 1.1).held
    assert Figure("messages", 1.1, 1.1).held
    assert Figure("messages", 1.1).held


def measured(shell: Shell, name: str) -> dict[str, float]:
    """Run a small experiment, and read what it measures of ours."""
    done = shell("simulate", name, "--quick", "--json")
    data = json.loads(done.out)
    assert done.code == (0 if data["held"] else 7)
    assert data["experiment"] == name
    assert {line for panel in data["panels"].values() for line in panel}
    return dict(data["measures"])


def test_splits_heal_within_two_reconnect_intervals(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of plain SWIM do not."""
    monkeypatch.setattr(heal, "QUICK", ((40.0, 6),))
    monkeypatch.setattr(heal, "QUICK_REPEATS", 1)
    measures = measured(shell, "heal")
    assert all(measures[f"healed_40s_{groups}"] <= 30 for groups in ("2", "3", "n"))
    assert heal.measure(heal.Case("SWIM", 40.0, 6, 2, 0))["healed"] >= heal.PATIENCE


def test_faults_of_a_few_members_leave_the_rest_of_one_mind(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether these crash, are deaf at times, or lose most of what they send."""
    monkeypatch.setattr(rapid, "SIZES", {True: (20, 2)})
    monkeypatch.setattr(rapid, "LASTING", {"crash": 40.0, "deaf": 60.0, "lossy": 40.0})
    measures = measured(shell, "rapid")
    for fault in ("crash", "deaf", "lossy"):
        assert measures[f"{fault}_healthy_declared_dead"] == 0
        assert measures[f"{fault}_longest_disagreement"] <= 15
    assert measures["crash_kilobytes_out"] < 1


def test_a_crowd_has_one_view_within_seconds(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it joins through one seed, all at once."""
    monkeypatch.setattr(join_burst, "SIZES", {True: (60, 30)})
    measures = measured(shell, "join-burst")
    assert measures["views_equal_60"] <= 8


def test_writes_are_known_soon_even_while_there_are_too_many(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them when the writing stops."""
    monkeypatch.setattr(scuttlebutt, "SIZES", {True: 8})
    monkeypatch.setattr(scuttlebutt, "LASTING", 20.0)
    monkeypatch.setattr(scuttlebutt, "STOPPED", 15.0)
    monkeypatch.setattr(scuttlebutt, "BUSY", (5.0, 10.0))
    measures = measured(shell, "scuttlebutt")
    assert measures["peak_staleness"] < 5
    assert measures["caught_up_after"] < 5


def test_a_tenth_that_survives_finds_together(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broadcast reaches all of it."""
    monkeypatch.setattr(hyparview, "SIZES", {True: 40})
    measures = measured(shell, "hyparview")
    assert measures["missed"] == measures["survivors_declared_dead"] == 0
    assert measures["broadcast_afterwards"] <= 2


def test_load_does_not_depend_on_size(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages a period, and what waits to be told does not grow with churn."""
    monkeypatch.setattr(swim, "SIZES", {True: (5, 20)})
    monkeypatch.setattr(swim, "CHURNING", {True: (20,)})
    measures = measured(shell, "swim")
    assert measures["load_spread"] <= 1.1
    assert measures["messages_a_period_20"] == pytest.approx(2.0, rel=0.1)
    assert 0 < measures["backlog_20"] <= 40
    assert measures["latest_first_suspicion_20"] <= 39
