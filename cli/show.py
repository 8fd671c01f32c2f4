"""How results are shown: tables and progress on a terminal, plain text everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from p2pml.peer.words import plain as plain

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"alive": "green", "suspect": "yellow", "dead": "red", "left": "dim"}
"""Of a cell that begins with the status of a peer."""

Say = Callable[[str], None]
"""Replaces the line of progress."""


def number(value: object, digits: int = 4) -> str:
    """A score or a count for people; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def json_line(answer: object) -> None:
    """A peer's answer as it is, as one line of JSON on standard output."""
    json.dump(answer, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def note(sentence: str) -> None:
    """One line for people that is not the result."""
    print(f"p2pml: {sentence}", file=sys.stderr)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table on standard output. The first column is text, and a column of numbers stands to the right."""
    cells = [[number(cell) for cell in row] for row in rows]
    right = [any(isinstance(row[at], int | float) for row in rows) and at > 0 for at in range(len(heads))]
    if sys.stdout.isatty():
        _rich_table(heads, cells, right, title)
        return
    if title:
        print(title)
    widths = [max(len(row[at]) for row in [list(heads), *cells]) for at in range(len(heads))]
    for row in [list(heads), *cells]:
        aligned = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def _rich_table(heads: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool], title: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(
        box=SIMPLE_HEAD, title=title and escape(title), title_justify="left", title_style="bold", pad_edge=False
    )
    for head, to_right in zip(heads, right, strict=True):
        drawn.add_column(escape(head), justify="right" if to_right else "left", no_wrap=True)
    for row in cells:
        drawn.add_row(*(_coloured(escape(cell)) for cell in row))
    terminal = console(sys.stdout)
    # A line that is too long wraps, as that of any tool: an address with dots in place of its end helps nobody.
    whole = terminal.measure(drawn, options=terminal.options.update(width=10_000)).maximum
    terminal.width = max(whole, terminal.width)
    terminal.print(drawn)


def _coloured(cell: str) -> str:
    colour = COLOURS.get(cell.partition(",")[0])
    return f"[{colour}]{cell}[/]" if colour else cell


def console(stream: TextIO) -> Console:
    """A rich console on `stream`; it leaves colour out where NO_COLOR says so."""
    from rich.console import Console

    return Console(file=stream, highlight=False)


@contextmanager
def progress(what: str, beside: TextIO | None = None) -> Iterator[Say]:
    """A spinner with a line that changes, on standard error if that is a terminal, else nothing.

    It also stays away where `beside` is a terminal, on which the result itself moves.
    """
    if not sys.stderr.isatty() or (beside is not None and beside.isatty()):
        yield lambda line: None
        return
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots", what)
    # Without redirection, which would send the result to where the spinner is.
    with Live(spinner, console=console(sys.stderr), transient=True, redirect_stdout=False, redirect_stderr=False):
        yield lambda line: spinner.update(text=plain(line))


@contextmanager
def bar(what: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """A bar that fills up to `total`, with a line beside it, on standard error if that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda done, line: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console(sys.stderr), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as drawn:
        task = drawn.add_task(plain(what), total=total)
        yield lambda done, line: drawn.update(task, completed=done, description=plain(line))
