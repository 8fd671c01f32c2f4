"""`p2pml predict`: a file's rows with the ensemble's predictions beside them."""

from __future__ import annotations

import asyncio
import os
import time
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from p2pml.errors import BadInput, NoVotes, RemoteError
from p2pml.peer.blocks import Block, put
from p2pml.peer.totals import Tally

from .blocks import blocks_of
from .options import combine_option, examples, how, json_option, option, ruled
from .output import output, regular
from .parquet import ParquetPredictions
from .partial import Partial, partial
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
        "p2pml predict big.csv.gz --output predicted.parquet --resume",
        "zcat new.csv.gz | p2pml predict - --peer 192.168.1.20:7733",
    )
)
@click.argument("file", metavar="FILE|-")
@where_options
@option("--output", metavar="FILE", help="Write there, once all is predicted. [default: standard output]")
@option("--resume", is_flag=True, help="Go on where an interrupted run with the same --output stopped.")
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

    The rows come back as CSV, or as Parquet where --output ends in .parquet, as they were, with a column `prediction`.
    How many votes stand behind it, and who is missing and why, goes to standard error. A run that is interrupted goes
    on with --resume.
    """
    to, resume = settings.pop("output"), settings.pop("resume")
    target = regular(to)
    if target is None or as_json:
        if resume:
            raise BadInput("--resume needs an --output that is a CSV or Parquet file.")
        with output(to) as stream:
            writer = JsonPredictions(stream) if as_json else CsvPredictions(stream, settings["proba"])
            run = Run(file, where, settings, writer)
            run.go(stream)
            writer.finish(run.tally.votes(), run.took)
    else:
        if resume and file == "-":
            raise BadInput("--resume needs a FILE: standard input cannot be read a second time.")
        with partial(target, about(file, settings, target), resume) as growing:
            run = _to_file(growing, file, where, settings)
    note(f"{number(run.rows)} rows predicted with {run.tally}, in {run.took:.1f} s; {how(run.used)}.")


def _to_file(growing: Partial, file: str, where: Where, settings: dict[str, Any]) -> Run:
    """Predict to a file that can be gone on with."""
    state, proba = growing.journal.state, settings["proba"]
    as_parquet = growing.path.suffix == ".parquet"
    text = TextIOWrapper(growing.stream, "utf-8", newline="", write_through=True)
    writer: Any = CsvPredictions(text, proba, state)
    if as_parquet:
        writer = ParquetPredictions(growing.stream, growing.whole, proba, state)
    run = Run(file, where, settings, writer, growing)
    try:
        run.go(None)
        if as_parquet:
            writer.finish()
        growing.finish(growing.whole if as_parquet else None)
    except (KeyboardInterrupt, RemoteError, NoVotes):
        if growing.journal.rows:
            growing.keep()
            note(f"{number(growing.journal.rows)} rows are kept: run the same command with --resume to go on.")
        raise
    finally:
        if as_parquet:
            writer.close()
        # It would close the file beneath it.
        text.detach()
    return run


def about(file: str, settings: dict[str, Any], target: Path) -> dict[str, Any]:
    """What makes two runs the same."""
    told: dict[str, Any] = {"form": target.suffix == ".parquet", "settings": settings}
    try:
        found = os.stat(file)
    except OSError:
        # Whoever reads it says so.
        return told
    return {"file": os.path.realpath(file), "size": found.st_size, "time": found.st_mtime_ns, **told}


class Run:
    """One file on its way through the peers."""

    def __init__(
        self, file: str, where: Where, settings: dict[str, Any], writer: Any, growing: Partial | None = None
    ) -> None:
        self._file, self._where, self._settings, self._writer, self._growing = file, where, settings, writer, growing
        before = growing.journal.state if growing is not None else {}
        self.rows = self._skipped = growing.journal.rows if growing is not None else 0
        self.tally = Tally.restored(before["tally"]) if before else Tally()
        self.used: dict[str, str | None] = before.get("used", {})
        self.took = 0.0
        self._began = time.monotonic()
        self._share = self._share_before = 0.0

    def go(self, beside: TextIO | None) -> None:
        """Predict all rows; progress is shown, unless the result goes to a terminal."""
        with progress("asking the peers", beside=beside) as say:
            if self._skipped:
                note(f"going on after {number(self._skipped)} rows.")

            def take(block: Block, answer: Predicted) -> None:
                self._writer.write(block, answer)
                self.tally.add(answer["votes"])
                self.used[ruled(answer)] = answer.get("because")
                self.rows += block.rows
                if self._growing is not None:
                    self._growing.note(self.rows, self.state())
                say(f"{number(self.rows)} rows predicted, {self.tally}{self._left()}")

            asyncio.run(self._ask(take))
        self.took = time.monotonic() - self._began

    def state(self) -> dict[str, Any]:
        """What a run that goes on has to know."""
        return {**self._writer.state(), "tally": self.tally.state(), "used": self.used}

    def _left(self) -> str:
        """About how long the rest takes, by the share of the file that has been read."""
        if self.rows == self._skipped or self._share <= self._share_before:
            return ""
        passed = time.monotonic() - self._began
        left = passed * (1 - self._share) / (self._share - self._share_before)
        return f"; {self._share:.0%} of the file, about {left:.0f} s left"

    def _reached(self, share: float) -> None:
        if not self._share_before:
            self._share_before = share if self._skipped else 0.0
        self._share = share

    async def _ask(self, take: Callable[[Block, Predicted], None]) -> None:
        async with Contact(self._where) as contact:

            async def ask(block: Block) -> Predicted:
                return await contact.ask(
                    lambda peer: peer.predict(block.columns, first_row=block.first_row, **self._settings)
                )

            await put(blocks_of(self._file, self._skipped, self._reached), ask, take)
