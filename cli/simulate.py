"""`p2pml simulate`: thousands of peers through every fault in virtual time, and what held."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pml.errors import BadInput

from .experiments import experiment
from .options import examples, option
from .show import bar, json_line, note, table
from .simulated import check_plot, show, store_failure, write_plot

if TYPE_CHECKING:
    from p2pml.simulations.plans import Plan
    from p2pml.simulations.reports import Report

SHOWN = 10
"""Failing seeds of a sweep that are listed."""


OF_A_RUN = ("peers", "minutes", "churn", "seed", "seeds", "layer", "data", "dask")
"""Options of scenarios alone."""


@click.command(
    epilog=examples(
        "p2pml simulate list",
        "p2pml simulate churn --peers 100 --minutes 10 --churn 20 --plot churn.svg",
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
    help="What runs: the protocol alone, or whole daemons that train, answer over HTTP and keep their state on disk. "
    "[default: core, or daemon where a scenario is for whole daemons alone]",
)
@option(
    "--data",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="What the peers learn, cut in skewed parts: CSV or Parquet. [default: digits]",
)
@option("--target", metavar="COLUMN", help="The column of --data to predict. [default: the last one]")
@option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="J", help="Processes that run seeds.")
@option("--dask", metavar="ADDRESS", help="Run the seeds on the Dask cluster with its scheduler there.")
@option("--json", "as_json", is_flag=True, help="Print one line of JSON for each seed.")
@option("--quick", is_flag=True, help="Of an experiment, run a part that takes minutes; it says which.")
@option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Draw the run over virtual time as SVG; of several seeds the first that failed, or else the first.",
)
def simulate(
    what: str,
    file: str | None,
    peers: int,
    minutes: float,
    churn: float,
    seed: int,
    seeds: str | None,
    layer: str | None,
    data: str | None,
    target: str | None,
    jobs: int,
    dask: str | None,
    as_json: bool,
    quick: bool,
    plot: Path | None,
) -> int:
    """Break a cluster of peers in virtual time, and see what holds.

    SCENARIO says what breaks; `list` shows all. The peers are the protocol that real ones run, on a network in
    memory, or with --layer daemon whole daemons: the same seed always gives the same run, byte for byte. First things
    break, then a random core of the peers is healed while the rest stays broken, and the core has to come together
    again. All the while random live peers are asked for predictions by real models, and each answer is held to its
    deadline and to the votes behind it.

    Among the measures, availability is the share of the questions to peers that stayed alive which were answered in
    time, votes that of the votes cast of those possible, score that of the rows predicted right or R², and staleness
    for how many seconds what the asker saw of a model had not been true.

    A failure is shrunk to the least schedule that still fails and stored in a file, which `replay` runs again and
    `shrink` shrinks further.

    lifeguard, swim, rapid, join-burst, scuttlebutt, hyparview and heal are papers' experiments: our figures beside
    those of plain SWIM in the same runs and beside the papers' claims. --quick runs a part in minutes. With an option
    of scenarios, such as --peers, join-burst is the scenario of that name.

    Exit codes: 0 all held; 3 a safety property broke; 4 the core did not recover; 5 an error inside; 6 two runs of
    one seed differed; 7 a figure of an experiment was missed; 2 usage.
    """
    # What is computed is small, and threads that wait for more would take a second core; jobs are for that.
    os.environ["OMP_NUM_THREADS"] = "1"
    from p2pml.simulations.experiments import EXPERIMENTS
    from p2pml.simulations.reports import CRASH, EXIT_CODES
    from p2pml.simulations.scenarios import SCENARIOS, WHOLE, draw
    from p2pml.simulations.sweeps import Ended

    check_plot(plot)
    if what in EXPERIMENTS and file is None and not (what in SCENARIOS and _of_a_run()):
        return experiment(what, quick=quick, jobs=jobs, as_json=as_json, plot=plot)
    if what in ("replay", "shrink"):
        if file is None:
            raise BadInput(f"say which file: p2pml simulate {what} FILE")
        return _stored(what, Path(file), as_json, plot)
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
    layer = layer or ("daemon" if what in WHOLE else "core")
    if target is not None and data is None:
        raise BadInput("--target says what to predict of the rows of --data: give both")
    if data is not None and layer != "core":
        raise BadInput("--data is for the layer core: whole daemons have rows of their own")
    plans = [replace(plan, layer=layer, data=data, target=target) for plan in drawn]
    try:
        return _sweep(plans, jobs, dask, as_json, plot)
    except Ended as error:
        note(f"{error}.")
        return EXIT_CODES[CRASH]


def _of_a_run() -> bool:
    """Whether an option was given that only runs have: `join-burst` is a scenario then, and else an experiment."""
    given = click.get_current_context().get_parameter_source
    return any(given(name) is not click.core.ParameterSource.DEFAULT for name in OF_A_RUN)


def _seeds(seeds: str | None, seed: int) -> Sequence[int]:
    """Read A..B, both included."""
    if seeds is None:
        return [seed]
    match = re.fullmatch(r"(\d+)\.\.(\d+)", seeds)
    if match is None or int(match[1]) > int(match[2]):
        raise BadInput(f"--seeds {seeds!r} is not A..B with A at most B, such as 1..500")
    return range(int(match[1]), int(match[2]) + 1)


def _sweep(plans: Sequence[Plan], jobs: int, dask: str | None, as_json: bool, plot: Path | None) -> int:
    from p2pml.simulations.reports import EXIT_CODES

    done: list[tuple[Plan, Report]] = []
    for plan, report in _watched(plans, jobs, dask):
        if as_json:
            json_line(report.to_data())
        done.append((plan, report))
    failures = [(plan, report) for plan, report in done if not report.held]
    if not as_json:
        show([report for _, report in done])
    if plot is not None:
        write_plot(plot, *(failures or done)[0])
    if not failures:
        return EXIT_CODES["held"]
    for _, report in failures[:SHOWN]:
        note(f"seed {report.seed}: {report.breach}.")
    if len(failures) > SHOWN:
        note(f"and {len(failures) - SHOWN} more of {len(plans)} seeds failed.")
    store_failure(*failures[0])
    return EXIT_CODES[failures[0][1].kind]


def _watched(plans: Sequence[Plan], jobs: int, dask: str | None) -> Iterator[tuple[Plan, Report]]:
    """Run all, and show how far that is: in seeds, or of a single one in virtual time."""
    from p2pml.simulations.layers import run
    from p2pml.simulations.sweeps import sweep

    count, failed = len(plans), 0
    alone = plans[0].seconds if count == 1 else None
    with bar(f"0 of {count} seeds", alone or count) as say:

        def tell(seconds: float) -> None:
            say(seconds, f"virtual second {seconds:.0f}")

        for done, (plan, report) in enumerate(sweep(run, plans, min(jobs, count), dask, tell), 1):
            failed += not report.held
            say(alone or done, f"{done} of {count} seeds" + (f", {failed} failed" if failed else ""))
            yield plan, report


def _stored(what: str, path: Path, as_json: bool, plot: Path | None) -> int:
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
        show([report])
    if plot is not None:
        write_plot(plot, plan, report)
    if report.breach is None:
        note(f"{path} holds.")
    else:
        note(f"{report.breach}.")
        if what == "shrink":
            store_failure(plan, report, path.with_suffix(".least.json"))
    return EXIT_CODES[report.kind]
