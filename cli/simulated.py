"""How runs of `p2pml simulate` are shown: tables, a plot over virtual time, and what broke."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p2pml.errors import BadInput

from .plots import Line, Panel, check_plots, draw
from .show import note, progress, table

if TYPE_CHECKING:
    from p2pml.simulations.plans import Plan
    from p2pml.simulations.reports import Report

SHRINKABLE = {"core": 15_000.0, "daemon": 500.0}
"""Peers times seconds of a plan up to which a failure is shrunk at once, by layer: it takes up to 400 runs."""
MINUTES = 180.0
"""Seconds of a run from which its plot counts minutes."""


def show(reports: Sequence[Report]) -> None:
    """Show each property with how many seeds held it, and the mean of each measure."""
    laws = list(dict.fromkeys(law for report in reports for law in report.properties))
    asked = {law: [report.properties[law] for report in reports if law in report.properties] for law in laws}
    table(["property", "held", "of"], [[law, sum(held), len(held)] for law, held in asked.items()])
    print()
    names = list(dict.fromkeys(name for report in reports for name in report.measures))
    rows = []
    for name in names:
        values = sorted(report.measures[name] for report in reports if name in report.measures)
        rows.append([name, *map(_whole, (sum(values) / len(values), values[0], values[-1]))])
    if len(reports) > 1:
        table(["measure", "mean", "least", "most"], rows)
    else:
        table(["measure", "value"], [row[:2] for row in rows])
        print(f"\ntrace {reports[0].trace}")


def _whole(value: float) -> float:
    """A count without the digits that it does not have."""
    return int(value) if value.is_integer() and abs(value) > 1 else value


def check_plot(path: Path | None) -> None:
    """Raise `BadInput`, before anything has run, where no plot could be written."""
    if path is None:
        return
    if path.suffix.lower() != ".svg":
        raise BadInput(f"--plot draws SVG, and {path} does not end in .svg")
    if not path.parent.is_dir():
        raise BadInput(f"--plot {path}: there is no folder {path.parent}")
    check_plots()


def write_plot(path: Path, plan: Plan, report: Report) -> None:
    """Draw a run over virtual time."""
    seconds = report.timeline[-1]["time"] if report.timeline else 0.0
    unit, scale = ("minutes", 60.0) if seconds >= MINUTES else ("seconds", 1.0)
    marks = {"the core is healed": plan.seconds / scale} if seconds > plan.seconds else {}
    if report.breach is not None:
        marks[f"broke: {report.breach.property}"] = report.breach.at / scale
    title = f"{plan.scenario}, {plan.peers} peers, seed {plan.seed}"
    path.write_text(draw(title, f"virtual {unit}", panels(report, scale), marks=marks), encoding="utf-8")
    note(f"{path} shows seed {plan.seed} over time.")


def panels(report: Report, scale: float) -> list[Panel]:
    """What is shown of a run: members, votes, score, how true the catalogue is, and traffic."""

    def line(name: str, key: str, style: str = "solid", divisor: float = 1.0) -> Line:
        # Where nothing was answered there is no mean of answers.
        rows = [row for row in report.timeline if key in row and (key not in ANSWERS or row["votes"])]
        return Line(name, [row["time"] / scale for row in rows], [row[key] / divisor for row in rows], style)

    lines = {
        "peers": [line("alive", "alive", "steps"), line("believed alive", "believed", "dashed")],
        "votes": [
            line("possible", "possible", "steps"),
            line("expected by the asked", "expected", "dashed"),
            line("cast", "votes", "dots"),
        ],
        "score": [line("of answers", "score")],
        "staleness, s": [line("of the catalogue", "staleness")],
        "of a peer": [line("messages/s", "messages"), line("KB/s", "bytes", divisor=1000.0)],
    }
    there = {name: [one for one in of if one.x] for name, of in lines.items()}
    least = {"staleness, s": 0.0}
    return [Panel(name, of, least.get(name), log=name == "of a peer") for name, of in there.items() if of]


ANSWERS = ("votes", "expected", "possible", "score", "staleness")
"""What the timeline has of answers."""


def store_failure(plan: Plan, report: Report, path: Path | None = None) -> None:
    """Shrink a failure if that takes no more than a few minutes, store it, and say how to see it again."""
    from p2pml.simulations.layers import run
    from p2pml.simulations.reports import DETERMINISM
    from p2pml.simulations.shrinking import shrink
    from p2pml.simulations.stored import store

    assert report.breach is not None
    before = len(plan.operations)
    if report.kind != DETERMINISM and (path is not None or plan.peers * plan.seconds <= SHRINKABLE[plan.layer]):
        with progress("shrinking the failure"):
            least = shrink(run, plan, report.breach)
            plan, report = least.plan, run(least.plan)
        note(f"{before} operations were shrunk to {len(plan.operations)} in {least.runs} runs:")
        for line in str(plan).splitlines():
            note(line)
    path = path or Path(f"{plan.scenario}-{plan.seed}.json")
    store(path, plan, report)
    note(f"See it again with: p2pml simulate replay {path}")
