"""The ways to cut rows into parts. Each row goes to exactly one part, and a seed always gives the same cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput

from .values import Kind, dates, kind_of, numbers, texts

Rows = NDArray[np.intp]

FEW = 20
"""Distinct numbers up to which a column of numbers holds labels; beyond it, ranges are the labels."""

RANGES = 10
"""Ranges that a column of numbers is cut in to serve as labels, with equally many rows in each."""

MISSING = "(missing)"

WAYS = ("random", "stratified", "dirichlet", "by")
"""At random; with equal shares of each label; with shares drawn from a Dirichlet distribution; by a column."""


def cut(cells: Sequence[object], column: str, parts: int, how: str, alpha: float, seed: int) -> list[Rows]:
    """The rows of each part, in the order of the file. `cells` are those of the column to cut by.

    Raises `BadInput` where a category column has fewer categories than there are parts.
    """
    generator = np.random.default_rng(seed)
    if how == "random":
        pieces = np.array_split(generator.permutation(len(cells)), parts)
    elif how == "stratified":
        pieces = _stratified(labels(cells, column), parts, generator)
    elif how == "dirichlet":
        pieces = _dirichlet(labels(cells, column), parts, alpha, generator)
    else:
        pieces = _by(cells, column, parts)
    return [np.sort(piece) for piece in pieces]


def labels(cells: Sequence[object], column: str) -> list[str]:
    """A label for each row: the cell's text, or the range that it falls in where there are many numbers."""
    values = _ordered(cells, column)
    if values is None or len(np.unique(values[~np.isnan(values)])) <= FEW:
        return [text if text is not None else MISSING for text in texts(cells, column)]
    found = np.full(len(values), MISSING, dtype=object)
    present = np.flatnonzero(~np.isnan(values))
    for piece in np.array_split(present[np.argsort(values[present], kind="stable")], RANGES):
        if len(piece):
            low, high = (texts([cells[at]], column)[0] for at in (piece[0], piece[-1]))
            found[piece] = f"{low} to {high}"
    return list(found)


def _ordered(cells: Sequence[object], column: str) -> NDArray[np.float64] | None:
    """The cells as numbers where the column holds numbers or dates, else None."""
    match kind_of(cells, column):
        case Kind.NUMBER:
            return numbers(cells, column)
        case Kind.DATE:
            return dates(cells, column)
    return None


def _stratified(found: list[str], parts: int, generator: np.random.Generator) -> list[Rows]:
    """Rows in an order by label, and at random within one, dealt out to the parts like cards."""
    order = generator.permutation(len(found))
    _, codes = np.unique(np.array(found, dtype=object).astype(str), return_inverse=True)
    order = order[np.argsort(codes[order], kind="stable")]
    return [order[part::parts] for part in range(parts)]


def _dirichlet(found: list[str], parts: int, alpha: float, generator: np.random.Generator) -> list[Rows]:
    """Parts of equal size, each with label shares drawn from a Dirichlet distribution.

    After Hsu, Qi and Brown (2019), "Measuring the effects of non-identical data distribution": the
    distribution's mean is the labels' share of the file, and a label that has run out is drawn no more. With
    equally frequent labels this is the symmetric Dirichlet(alpha).
    """
    kinds, codes, counts = np.unique(np.array(found, dtype=object).astype(str), return_inverse=True, return_counts=True)
    left = [generator.permutation(np.flatnonzero(codes == code)) for code in range(len(kinds))]
    pieces: list[Rows] = []
    for size in (len(piece) for piece in np.array_split(codes, parts)):
        wanted = generator.dirichlet(alpha * len(kinds) * counts / len(codes))
        taken: list[Rows] = []
        while (missing := size - sum(map(len, taken))) > 0:
            stock = np.array([len(rows) for rows in left])
            chances = np.where(stock > 0, wanted, 0.0)
            if chances.sum() <= 0:
                chances = stock.astype(float)
            draw = np.minimum(generator.multinomial(missing, chances / chances.sum()), stock)
            for code in np.flatnonzero(draw):
                taken.append(left[code][: draw[code]])
                left[code] = left[code][draw[code] :]
        pieces.append(np.concatenate(taken))
    return pieces


def _by(cells: Sequence[object], column: str, parts: int) -> list[Rows]:
    """Ranges of numbers or dates with equally many rows (the missing ones last), or whole categories."""
    values = _ordered(cells, column)
    if values is not None:
        return np.array_split(np.argsort(values, kind="stable"), parts)
    found = np.array([text if text is not None else MISSING for text in texts(cells, column)], dtype=object)
    kinds, counts = np.unique(found.astype(str), return_counts=True)
    if len(kinds) < parts:
        raise BadInput(
            f"the column {column!r} has {len(kinds)} categories, too few for {parts} parts: ask for fewer, "
            "or cut another way."
        )
    # The largest category first, each to the part that is smallest so far.
    home: dict[str, int] = {}
    sizes = [0] * parts
    for at in np.lexsort((kinds, -counts)):
        part = int(np.argmin(sizes))
        home[str(kinds[at])] = part
        sizes[part] += int(counts[at])
    homes = np.array([home[str(text)] for text in found])
    return [np.flatnonzero(homes == part) for part in range(parts)]
