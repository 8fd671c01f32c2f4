"""`p2pml predict`: a file's rows with the ensemble's predictions beside them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from p2pml.peer.blocks import Block, put
from p2pml.peer.totals import Tally

from .blocks import blocks_of
from .options import combine_option, examples, how, json_option, option
from .output import output
from .predictions import CsvPredictions, JsonPredictions
from .show import note, number, progress
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pml.peer.answers import Predicted


@click.command(
    epilog=examples(
        "p2pml predict new.csv > predicted.csv",
        "p2pml predict new.csv --proba --combine weighted --output predicted.csv",
        "p2pml predict new.csv --sure --interval 0.9",
        "zcat new.csv.gz | p2pml predict - --peer 192.168.1.20:7733",
    )
)
@click.argument("file", metavar="FILE|-")
@where_options
@option("--output", metavar="FILE", help="Write there, once all is predicted. [default: standard output]")
@option("--proba", is_flag=True, help="Add a column proba_<class> for each class.")
@option(
    "--sure",
    is_flag=True,
    help="Add how sure the answer is: spread, how far votes are apart; strongest, the share of the strongest vote; "
    "novelty, the share of held-out rows that are more like what peers know.",
)
@option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Add low and high, or the set of classes, that hold the truth in this share of rows like the peers'.",
)
@combine_option
@option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Answer each block of rows by then, with the votes that came. [default: 5, and 1 for each 1,000 rows]",
)
@json_option
def predict(file: str, where: Where, as_json: bool, **settings: Any) -> None:
    """Predict the rows of FILE (CSV, gzipped CSV or Parquet; - is standard input) with all peers' votes.

    The rows come back as CSV, as they were, with a column `prediction`. How many votes stand behind it, and
    who is missing and why, goes to standard error.
    """
    began, tally, rows = time.monotonic(), Tally(), 0
    used: dict[str, str | None] = {}
    proba = settings["proba"]
    with output(settings.pop("output")) as stream:
        writer = JsonPredictions(stream) if as_json else CsvPredictions(stream, proba)
        with progress("asking the peers", beside=stream) as say:

            def take(block: Block, answer: Predicted) -> None:
                nonlocal rows
                writer.write(block, answer)
                tally.add(answer["votes"])
                used[answer.get("combined", answer["combine"])] = answer.get("because")
                rows += len(block.data)
                say(f"{number(rows)} rows predicted, {tally}")

            asyncio.run(_predict(file, where, settings, take))
        took = time.monotonic() - began
        writer.finish(tally.votes(), took)
    note(f"{number(rows)} rows predicted with {tally}, in {took:.1f} s; {how(used)}.")


async def _predict(file: str, where: Where, settings: dict[str, Any], take: Callable[[Block, Predicted], None]) -> None:
    async with Contact(where) as contact:

        async def ask(block: Block) -> Predicted:
            return await contact.ask(
                lambda peer: peer.predict(block.columns, block.data, first_row=block.first_row, **settings)
            )

        await put(blocks_of(file), ask, take)
