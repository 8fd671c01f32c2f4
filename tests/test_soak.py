"""Laws of a soak: it goes through everything, and its exit code tells how it went."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import soak

from p2pml.simulations.plans import Plan
from p2pml.simulations.reports import SAFETY, Breach, Report
from p2pml.simulations.scenarios import SCENARIOS, WHOLE


def test_seeds_in_a_row_go_through_all_scenarios_on_both_layers() -> None:
    """And one seed is always the same plan."""
    plans = [soak.plan(seed) for seed in range(len(SCENARIOS) * soak.DAEMONS)]
    alone = {(name, "core") for name in SCENARIOS if name not in WHOLE}
    assert {(plan.scenario, plan.layer) for plan in plans} == alone | {(name, "daemon") for name in SCENARIOS}
    assert plans == [soak.plan(seed) for seed in range(len(plans))]


@pytest.mark.parametrize(("fails", "code"), [(None, 0), (7, 3)])
def test_a_soak_says_which_seed_failed(
    fails: int | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where it began, so that it can be repeated."""

    def sweep(run: object, plans: Sequence[Plan], jobs: int) -> Iterator[tuple[Plan, Report]]:
        for plan in plans:
            broken = Breach("a law", SAFETY, 1.0, "it broke") if plan.seed == fails else None
            yield plan, Report(plan.scenario, plan.seed, "", {}, {}, broken)

    monkeypatch.setattr(soak, "sweep", sweep)
    monkeypatch.setattr(soak, "store_failure", lambda plan, report: None)
    monkeypatch.setattr(secrets, "randbelow", lambda most: 0)
    assert soak.main(["--minutes", "0.0001"]) == code
    said = capsys.readouterr().out
    assert "repeat with --first 0" in said
    assert ("seed 7" in said) == (code == 3)
