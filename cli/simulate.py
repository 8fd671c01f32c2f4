"""`p2pml simulate`: thousands of peers through every fault in virtual time, and what held."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pml.errors import BadInput

from .experiments import experiment
from .options import examples, option
from .show import json_line, note, progress, table

if TYPE_CHECKING:
    from p2pml.simulations.plans import Plan
    from p2pml.simulations.reports import Report

SHOWN = 10
"""Failing seeds of a sweep that are listed."""

SHRINKABLE = {"core": 15_000.0, "daemon": 500.0}
"""Peers times seconds of a plan up to which a failure is shrunk at once, by layer: it takes up to 400 runs."""


@click.command(
    epilog=examples(
        "p2pml simulate list",
        "p2pml simulate churn --peers 100 --minutes 10 --churn 20",
        "p2pml simulate swarm --seeds 1..500 --jobs 4",
        "p2pml simulate crash-restart --layer daemon",
        "p2pml simulate lifeguard --quick --jobs 2",
        "p2pml simulate replay swarm-17.json",
        "p2pml simulate shrink swarm-17.json",
    )
)
@click.argument("what", metavar="SCENARIO|EXPERIMENT|list|replay|shrink")
@click.argument("file", required=False)
@option("--peers", type=click.IntRange(2), default=8, show_default=True, metavar="N", help="How many peers.")
@option(
    "--minutes",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="M",
    help="How long things break, in virtual minutes; then a core is healed and has to recover.",
)
@option(
    "--churn",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    metavar="PERCENT",
    help="Peers that go in a minute, in percent, where peers come and go.",
)
@option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="S", help="What all is drawn from.")
@option("--seeds", metavar="A..B", help="Run all these seeds in place of one.")
@option(
    "--layer",
    type=click.Choice(["core", "daemon"]),
    default="core",
    show_default=True,
    help="What runs: the protocol alone, or whole daemons that train, answer over HTTP and keep their state on disk.",
)
@option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="J", help="Processes that run seeds.")
@option("--json", "as_json", is_flag=True, help="Print one line of JSON for each seed.")
@option("--quick", is_flag=True, help="Of an experiment, run a part that takes minutes; it says which.")
@option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg", help="Draw it as SVG.")
def simulate(
    what: str,
    file: str | None,
    peers: int,
    minutes: float,
    churn: float,
    seed: int,
    seeds: str | None,
    layer: str,
    jobs: int,
    as_json: bool,
    quick: bool,
    plot: Path | None,
) -> int:
    """Break a cluster of peers in virtual time, and see what holds.

    SCENARIO says what breaks; `list` shows all. The peers are the protocol that real ones run, on a network in
    memory, or with --layer daemon whole daemons, which are asked for predictions all the while: the same seed always
    gives the same run, byte for byte. First things break, then a random core of the
    peers is healed while the rest stays broken, and the core has to come together again.

    A failure is shrunk to the least schedule that still fails and stored in a file, which `replay` runs again and
    `shrink` shrinks further.

    lifeguard is an experiment of the paper of that name: our figures beside those of plain SWIM in the same runs
    and beside the paper's claims.

    Exit codes: 0 all held; 3 a safety property broke; 4 the core did not recover; 5 an error inside; 6 two runs of
    one seed differed; 7 a figure of an experiment was missed; 2 usage.
    """
    from p2pml.simulations.experiments import EXPERIMENTS
    from p2pml.simulations.scenarios import SCENARIOS, draw

    if what in EXPERIMENTS and file is None:
        return experiment(what, quick=quick, jobs=jobs, as_json=as_json, plot=plot)
    if what in ("replay", "shrink"):
        if file is None:
            raise BadInput(f"say which file: p2pml simulate {what} FILE")
        return _stored(what, Path(file), as_json)
    if file is not None:
        raise BadInput(f"{file!r} is one word too many: only replay and shrink take a file")
    if what == "list":
        rows = [[name, " ".join((scenario.__doc__ or "").split())] for name, scenario in SCENARIOS.items()]
        table(["scenario", "what happens"], rows)
        print()
        papers = [[name, (chosen.__doc__ or "").partition("\n")[0]] for name, chosen in EXPERIMENTS.items()]
        table(["experiment", "what is asked"], papers)
        return 0
    drawn = [draw(what, one, peers, 60 * minutes, churn) for one in _seeds(seeds, seed)]
    plans = [replace(plan, layer=layer) for plan in drawn]
    return _sweep(plans, jobs, as_json)


def _seeds(seeds: str | None, seed: int) -> Sequence[int]:
    """Read A..B, both included."""
    if seeds is None:
        return [seed]
    match = re.fullmatch(r"(\d+)\.\.(\d+)", seeds)
    if match is None or int(match[1]) > int(match[2]):
        raise BadInput(f"--seeds {seeds!r} is not A..B with A at most B, such as 1..500")
    return range(int(match[1]), int(match[2]) + 1)


def _sweep(plans: Sequence[Plan], jobs: int, as_json: bool) -> int:
    from p2pml.simulations.layers import run
    from p2pml.simulations.reports import EXIT_CODES
    from p2pml.simulations.sweeps import sweep

    reports = []
    failures: list[tuple[Plan, Report]] = []
    for plan, report in _watched(sweep(run, plans, min(jobs, len(plans))), len(plans)):
        if as_json:
            json_line(report.to_data())
        reports.append(report)
        if not report.held:
            failures.append((plan, report))
    if not as_json:
        _show(reports)
    if not failures:
        return EXIT_CODES["held"]
    for _, report in failures[:SHOWN]:
        note(f"seed {report.seed}: {report.breach}.")
    if len(failures) > SHOWN:
        note(f"and {len(failures) - SHOWN} more of {len(plans)} seeds failed.")
    _store(*failures[0])
    return EXIT_CODES[failures[0][1].kind]


def _watched(runs: Iterator[tuple[Plan, Report]], count: int) -> Iterator[tuple[Plan, Report]]:
    """Say how far it is."""
    failed = 0
    with progress(f"0 of {count} seeds") as say:
        for done, (plan, report) in enumerate(runs, 1):
            failed += not report.held
            say(f"{done} of {count} seeds" + (f", {failed} failed" if failed else ""))
            yield plan, report


def _show(reports: Sequence[Report]) -> None:
    """Show each property with how many seeds held it, and the mean of each measure."""
    laws = list(dict.fromkeys(law for report in reports for law in report.properties))
    asked = {law: [report.properties[law] for report in reports if law in report.properties] for law in laws}
    table(["property", "held", "of"], [[law, sum(held), len(held)] for law, held in asked.items()])
    print()
    names = list(dict.fromkeys(name for report in reports for name in report.measures))
    rows = []
    for name in names:
        values = sorted(report.measures[name] for report in reports if name in report.measures)
        rows.append([name, sum(values) / len(values), values[0], values[-1]])
    if len(reports) > 1:
        table(["measure", "mean", "least", "most"], rows)
    else:
        table(["measure", "value"], [row[:2] for row in rows])
        print(f"\ntrace {reports[0].trace}")


def _stored(what: str, path: Path, as_json: bool) -> int:
    """Run the schedule of a file again, or shrink it."""
    from p2pml.simulations.layers import run
    from p2pml.simulations.reports import EXIT_CODES
    from p2pml.simulations.stored import load

    plan = load(path)
    report = run(plan)
    if as_json:
        json_line(report.to_data())
    else:
        print(plan)
        print()
        _show([report])
    if report.breach is None:
        note(f"{path} holds.")
    else:
        note(f"{report.breach}.")
        if what == "shrink":
            _store(plan, report, path.with_suffix(".least.json"))
    return EXIT_CODES[report.kind]


def _store(plan: Plan, report: Report, path: Path | None = None) -> None:
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
