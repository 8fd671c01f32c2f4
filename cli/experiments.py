"""`p2pml simulate lifeguard` and the other papers' experiments: our figures beside plain SWIM's and the claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .plots import Line, Panel, draw
from .show import json_line, note, progress, table

if TYPE_CHECKING:
    from p2pml.simulations.experiments.harness import Figure, Result

MISSED = 7
"""The exit code where a figure is not as good as it has to be."""


def experiment(name: str, *, quick: bool, jobs: int, as_json: bool, plot: Path | None) -> int:
    """Do all runs of an experiment, and show what they came to."""
    from p2pml.simulations.experiments import EXPERIMENTS
    from p2pml.simulations.experiments.harness import carry_out

    chosen = EXPERIMENTS[name]
    cases = chosen.cases(quick=quick)
    runs = []
    with progress(f"0 of {len(cases)} runs") as say:
        for run in carry_out(chosen.measure, cases, jobs):
            runs.append(run)
            say(f"{len(runs)} of {len(cases)} runs")
    result = chosen.result(runs, quick=quick)
    if plot is not None:
        plot.write_text(_drawn(result), encoding="utf-8")
    if as_json:
        json_line(result.to_data())
    else:
        _show(result)
    return 0 if result.held else MISSED


def _show(result: Result) -> None:
    heads = ["measure", "figure", "95 % interval", "at most", "p2pml", "SWIM", "paper", ""]
    table(heads, [_row(figure) for figure in result.figures])
    note(f"{result.experiment}: {result.subset}.")


def _row(figure: Figure) -> list[object]:
    between = "" if figure.interval is None else " to ".join(f"{bound:.4f}" for bound in figure.interval)
    most = "" if figure.at_most is None else figure.at_most
    held = "" if figure.held else "missed"
    return [figure.name, figure.value, between, most, figure.ours, figure.swim, figure.paper, held]


def _drawn(result: Result) -> str:
    panels = [
        Panel(name, [Line(line, [x for x, _ in points], [y for _, y in points]) for line, points in lines.items()])
        for name, lines in result.panels.items()
    ]
    return draw(f"{result.experiment}: {result.subset}", result.x, panels)
