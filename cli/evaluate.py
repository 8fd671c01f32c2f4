"""`p2pml evaluate`: the score of the ensemble itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from p2pml.peer.blocks import Block, put
from p2pml.peer.totals import Tally, Total

from .blocks import blocks_of
from .options import combine_option, examples, how, json_option
from .show import json_line, note, number, plain, progress, table
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import ConfusionMatrix, Evaluated

WIDEST = 12
"""Classes of a confusion matrix that is still shown; a larger one is in --json."""


@click.command(epilog=examples("p2pml evaluate", "p2pml evaluate test.csv --combine weighted --json"))
@click.argument("file", required=False)
@where_options
@combine_option
@json_option
def evaluate(file: str | None, where: Where, as_json: bool, combine: str | None) -> None:
    """Score the ensemble itself, on every peer's held-out rows or on the rows of FILE.

    On held-out rows each peer's model scores only rows that it was not trained on. FILE needs the target.
    """
    with progress("asking the peers"):
        answer = asyncio.run(_evaluate(file, where, combine))
    if as_json:
        json_line(answer)
        return
    table(["metric", "score"], [[name, score] for name, score in answer["metrics"].items()])
    if matrix := answer.get("confusion_matrix"):
        _show_matrix(matrix)
    tally = Tally()
    tally.add(answer["votes"])
    rows = "held-out rows" if file is None else "rows"
    used = answer.get("combined", answer["combine"])
    note(f"{answer['task']} on {number(answer['rows'])} {rows}, {tally}; {how({used: answer.get('because')})}.")


async def _evaluate(file: str | None, where: Where, combine: str | None) -> Evaluated:
    async with Contact(where) as contact:
        if file is None:
            return await contact.ask(lambda peer: peer.evaluate(combine=combine))
        total = Total()

        async def ask(block: Block) -> Evaluated:
            return await contact.ask(
                lambda peer: peer.evaluate(
                    block.columns, block.data, combine=combine, statistics=True, first_row=block.first_row
                )
            )

        await put(blocks_of(file), ask, lambda block, answer: total.add(answer))
        return total.answer()


def _show_matrix(matrix: ConfusionMatrix) -> None:
    classes = [plain(label) for label in matrix["classes"]]
    if len(classes) > WIDEST:
        return
    rows = [[name, *counts] for name, counts in zip(classes, matrix["counts"], strict=False)]
    print()
    table(["true \\ predicted", *classes], rows)
