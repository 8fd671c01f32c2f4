"""`p2pml split`: one file cut into parts, alike or as unlike as parts are in life."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pml.errors import BadInput

from .options import examples, option
from .predictions import cell
from .show import note, plain, table

if TYPE_CHECKING:
    from p2pml.ensemble.cutting import Rows

LABELS = 10
"""Labels whose shares are shown, the most frequent first."""


@click.command(
    epilog=examples(
        "p2pml split houses.csv --parts 4 --how random --out parts",
        "p2pml split digits.csv --parts 8 --how dirichlet --column label --alpha 0.1 --out parts",
        "p2pml split houses.csv --parts 6 --how by --column longitude --out parts",
    )
)
@click.argument("file")
@option("--parts", required=True, type=click.IntRange(2), metavar="N", help="How many parts.")
@option(
    "--how",
    required=True,
    type=click.Choice(["random", "stratified", "dirichlet", "by"]),
    help="random: at random; stratified: each label alike in all parts; dirichlet: each part prefers labels "
    "of its own; by: a number's range cut in N, or whole categories together.",
)
@option("--column", metavar="COL", help="Column to cut by, or that has the labels. [default: the last one]")
@option(
    "--alpha",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    metavar="A",
    help="For dirichlet: the smaller, the more a part prefers; 0.1 is strong, 100 is next to none.",
)
@option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="S", help="Seed of the cut.")
@option("--out", required=True, metavar="DIR", help="Folder for part_0.csv, part_1.csv and so on.")
def split(file: str, parts: int, how: str, column: str | None, alpha: float, seed: int, out: str) -> None:
    """Cut FILE into N parts to try things with: every row goes to exactly one, and the head to each.

    All ways but a cut by categories give parts of equal size. The same seed gives the same parts.
    """
    from p2pml.ensemble.cutting import cut, labels
    from p2pml.peer.table import read_table

    whole = read_table(file)
    names = list(whole.columns)
    if column is None:
        if how == "by":
            raise click.UsageError("--how by needs --column COL, the column to cut by")
        column = names[-1]
    if column not in whole.columns:
        raise BadInput(f"--column {column!r} is not in {file}, which has {', '.join(names)}.")
    if whole.rows < parts:
        raise BadInput(f"{file} has {whole.rows} rows, too few for {parts} parts: ask for fewer.")
    places = cut(whole.columns[column], column, parts, how, alpha, seed)
    folder = _fresh(out)
    rows = list(zip(*whole.columns.values(), strict=True))
    for number, part in enumerate(places):
        with (folder / f"part_{number}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([cell(value) for value in rows[place]] for place in part)
    _report(labels(whole.columns[column], column), places, column)
    note(f"{whole.rows:,} rows in {parts} parts in {out}.")


def _fresh(out: str) -> Path:
    """The folder, made if need be; parts of an earlier cut would mix with the new ones."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be made: {(error.strerror or str(error)).lower()}.") from error
    if any(folder.glob("part_*.csv")):
        raise BadInput(f"--out {out} has parts of an earlier cut: remove them, or name another folder.")
    return folder


def _report(found: list[str], places: list[Rows], column: str) -> None:
    """Rows of each part, and the share of each label in them."""
    counts = Counter(found)
    frequent = {label for label, _ in counts.most_common(LABELS)}
    # In the order of the file's labels, so that ranges of numbers stand in theirs.
    shown = [label for label in sorted(counts, key=_sortable) if label in frequent]
    rows: list[list[object]] = []
    for number, part in enumerate(places):
        inside = Counter(found[place] for place in part)
        rows.append([f"part_{number}.csv", len(part), *(f"{inside[label] / len(part):.1%}" for label in shown)])
    table(["part", "rows", *shown], rows, title=f"Shares of {plain(column)}")


def _sortable(label: str) -> tuple[float, str]:
    try:
        return float(label.partition(" to ")[0]), label
    except ValueError:
        return math.inf, label
