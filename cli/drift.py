"""`p2pml drift`: whether the rows that are asked about are still like those that the peers know."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from .options import examples, json_option
from .show import json_line, note, number, plain, progress, table
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import DriftColumn, DriftReport, DriftSide


@click.command(
    epilog=examples("p2pml drift", "p2pml drift --json | jq '.columns[] | select(.moved) | .column'"),
)
@where_options
@json_option
def drift(where: Where, as_json: bool) -> None:
    """Show whether the rows that are asked about have moved away from those that the peers know.

    It compares the last rows that every peer was asked to predict with that mixture of the peers' own rows that comes
    nearest to them, column by column. p is the probability of such a distance without drift, corrected for the number
    of columns; a column has moved where it is at most 0.01. Peers look by themselves too, and raise an alert that
    `p2pml watch` shows, with at most one false alarm in 20 clusters, however long they are asked.
    """
    with progress("asking the peers"):
        answer = asyncio.run(_ask(where))
    if as_json:
        json_line(answer)
        return
    columns = sorted(answer["columns"], key=lambda each: (not each["moved"], each["p"], -each["distance"]))
    if columns:
        table(["column", "moved", "distance", "p", "asked about", "known"], [_row(each) for each in columns])
    _notes(answer)


async def _ask(where: Where) -> DriftReport:
    async with Contact(where) as contact:
        return await contact.ask(lambda peer: peer.drift())


def _row(column: DriftColumn) -> list[object]:
    return [
        column["column"],
        "yes" if column["moved"] else "",
        round(column["distance"], 4),
        "< 1e-9" if column["p"] < 1e-9 else f"{column['p']:.2g}",
        _side(column, column["asked"]),
        _side(column, column["known"]),
    ]


def _side(column: DriftColumn, side: DriftSide) -> str:
    """What is usual there: the median, or the share of the level that changed most."""
    said = []
    if side["median"] is not None:
        said.append(f"{side['median']:.4g}")
    if side["share"] is not None and column["level"] is not None:
        said.append(f"{plain(column['level'])} {side['share']:.0%}")
    if side["missing"] > 0:
        said.append(f"{side['missing']:.0%} missing")
    return ", ".join(said) or "–"


def _notes(answer: DriftReport) -> None:
    for missing in answer["missing"]:
        note(f"{plain(missing['name'])} is missing: {plain(missing['reason'])}.")
    for alert in answer["alerts"]:
        columns = [*alert["columns"], *([f"{alert['more']} more"] if alert["more"] else [])]
        columns += ["novelty"] if alert["novel"] else []
        note(f"{plain(alert['name'])} has raised an alert for {plain(', '.join(columns))}.")
    if not answer["rows"]:
        note("no peer was asked to predict enough rows yet; there is nothing to compare.")
        return
    moved = sum(column["moved"] for column in answer["columns"])
    likes = [(peer["share"], peer["name"]) for peer in answer["peers"] if peer["share"] and peer["share"] >= 0.05]
    like = ", ".join(f"{share:.0%} {plain(name)}" for share, name in sorted(likes, reverse=True))
    asked = f"{number(answer['rows'])} rows, worth {answer['different']:,.0f} different ones"
    note(f"{moved} of {len(answer['columns'])} columns moved in {asked}; they are most like those of {like}.")
