"""`p2pml evaluate`: the score of the ensemble itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from .blocks import Block, blocks_of, put
from .options import combine_option, examples, json_option
from .show import json_line, note, number, plain, progress, table
from .tally import Tally
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import ConfusionMatrix, Evaluated, Label
    from p2pml.peer.scoring import Statistics

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
    note(f"{answer['task']} on {number(answer['rows'])} {rows}, {answer['combine']} of {tally}.")


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


class Total:
    """Scores over all blocks of a file, from statistics that add up exactly."""

    def __init__(self) -> None:
        self._answers = 0
        self._last: Evaluated | None = None
        self._statistics: Statistics | None = None
        self._labels: dict[str, Label] = {}
        self._tally = Tally()
        self._took = 0.0

    def add(self, answer: Evaluated) -> None:
        """Add one block's answer; raises `RemoteError` where its statistics cannot be read."""
        from p2pml.peer.scoring import merged, read_statistics

        statistics = read_statistics(answer["task"], answer.get("statistics"))
        if matrix := answer.get("confusion_matrix"):
            # Statistics name a class by its text, people by its value.
            classes = getattr(statistics, "classes", ())
            self._labels.update(zip(classes, matrix["classes"], strict=False))
        self._statistics = merged([self._statistics, statistics]) if self._statistics else statistics
        self._last = answer
        self._answers += 1
        self._tally.add(answer["votes"])
        self._took += answer["took"]

    def answer(self) -> Evaluated:
        """One answer for all blocks; that of the only one as it came."""
        total, answer = self._statistics, self._last
        assert answer is not None
        assert total is not None, "a file has at least one block"
        answer = {**answer}
        answer.pop("statistics", None)
        if self._answers == 1:
            return answer
        answer |= {
            "rows": total.rows,
            "metrics": total.scores(),
            "votes": self._tally.votes(),
            "took": self._took,
        }
        if answer.get("confusion_matrix"):
            classes = getattr(total, "classes", ())
            counts = getattr(total, "confusion", None)
            answer["confusion_matrix"] = {
                "classes": [self._labels.get(text, text) for text in classes],
                "counts": [] if counts is None else counts.tolist(),
            }
        return answer


def _show_matrix(matrix: ConfusionMatrix) -> None:
    classes = [plain(label) for label in matrix["classes"]]
    if len(classes) > WIDEST:
        return
    rows = [[name, *counts] for name, counts in zip(classes, matrix["counts"], strict=False)]
    print()
    table(["true \\ predicted", *classes], rows)
