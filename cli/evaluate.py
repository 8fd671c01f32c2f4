"""`p2pml evaluate`: the score of the ensemble itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from p2pml.peer.blocks import Block, put
from p2pml.peer.totals import Tally, Total

from .blocks import blocks_of
from .options import combine_option, examples, how, json_option, option, ruled
from .output import output
from .report import said
from .show import json_line, note, number, plain, progress, table
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import Compared, ComparedScore, ConfusionMatrix, Evaluated

MOST_PARTS = 12
"""Parts that are still shown side by side; more are in --json."""
WIDEST = 12
"""Classes of a confusion matrix that is still shown; a larger one is in --json."""


@click.command(
    epilog=examples(
        "p2pml evaluate",
        "p2pml evaluate test.csv --combine weighted --json",
        "p2pml evaluate --compare",
        "p2pml evaluate --report report.html",
    )
)
@click.argument("file", required=False)
@where_options
@combine_option
@option("--compare", is_flag=True, help="Score every rule side by side, and each peer alone.")
@option("--report", metavar="FILE.html", help="Compare, and write a page with plots (needs the extra plot).")
@json_option
def evaluate(
    file: str | None, where: Where, as_json: bool, combine: str | None, compare: bool, report: str | None
) -> None:
    """Score the ensemble itself, on every peer's held-out rows or on the rows of FILE.

    On held-out rows each peer's model scores only rows that it was not trained on. FILE needs the target; rules are
    compared on held-out rows alone.
    """
    compare = compare or report is not None
    if compare and file is not None:
        raise click.UsageError("--compare and --report are for the peers' held-out rows: leave FILE out")
    if report is not None:
        from .plots import check_plots

        check_plots()
    with progress("asking the peers"):
        answer, cluster = asyncio.run(_evaluate(file, where, combine, compare))
    if report is not None:
        _write(report, answer, cluster)
    if as_json:
        json_line(answer)
        return
    table(["metric", "score"], [[name, score] for name, score in answer["metrics"].items()])
    if matrix := answer.get("confusion_matrix"):
        _show_matrix(matrix)
    if comparison := answer.get("comparison"):
        _show_comparison(comparison)
    tally = Tally()
    tally.add(answer["votes"])
    rows = "held-out rows" if file is None else "rows"
    note(
        f"{answer['task']} on {number(answer['rows'])} {rows}, {tally}; {how({ruled(answer): answer.get('because')})}."
    )


async def _evaluate(file: str | None, where: Where, combine: str | None, compare: bool) -> tuple[Evaluated, str]:
    """The answer, and the name of the cluster."""
    async with Contact(where) as contact:
        cluster = where.cluster or ""
        if file is None:
            return await contact.ask(lambda peer: peer.evaluate(combine=combine, compare=compare)), cluster
        total = Total()

        async def ask(block: Block) -> Evaluated:
            return await contact.ask(
                lambda peer: peer.evaluate(block.columns, combine=combine, statistics=True, first_row=block.first_row)
            )

        await put(blocks_of(file), ask, lambda block, answer: total.add(answer))
        return total.answer(), cluster


def _show_matrix(matrix: ConfusionMatrix) -> None:
    classes = [plain(label) for label in matrix["classes"]]
    if len(classes) > WIDEST:
        return
    rows = [[name, *counts] for name, counts in zip(classes, matrix["counts"], strict=False)]
    print()
    table(["true \\ predicted", *classes], rows)


def _show_comparison(compared: Compared) -> None:
    """Every rule and each peer alone: all rows together, and then part by part."""
    pooled = compared["pooled"]
    metrics = list(pooled[0]["scores"])
    heads = ["", "rows", metrics[0], "95 % interval", *metrics[1:]]
    print()
    table(heads, [_line(each, metrics) for each in pooled])
    parts = compared["parts"]
    if len(parts) > MOST_PARTS:
        return
    rows = []
    for each in pooled:
        way = (each["rule"], each["peer"])
        found = [[s for s in part["scores"] if (s["rule"], s["peer"]) == way] for part in parts]
        rows.append([said(each), *(same[0]["scores"][metrics[0]][0] if same else None for same in found)])
    print()
    table([f"{metrics[0]} on the rows of", *(plain(part["name"]) for part in parts)], rows)


def _line(each: ComparedScore, metrics: list[str]) -> list[object]:
    value, low, high = each["scores"][metrics[0]]
    interval = None if low is None else f"{number(low)} to {number(high)}"
    return [said(each), each["rows"], value, interval, *(each["scores"][metric][0] for metric in metrics[1:])]


def _write(path: str, answer: Evaluated, cluster: str) -> None:
    from .report import report

    page = report(answer, cluster)
    with output(path) as stream:
        stream.write(page)
    note(f"the report is in {path}.")
