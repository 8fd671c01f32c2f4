"""What the peers learn from and are asked: 10 numeric and 10 categorical columns, a tenth of the cells missing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

NUMBERS, CATEGORIES = 10, 10
TARGET = "bought"
NAMES = [f"number{at}" for at in range(NUMBERS)] + [f"category{at}" for at in range(CATEGORIES)]
LEVELS = ["red", "orange", "yellow", "green", "blue", "indigo", "violet", "grey"]
MISSING = 0.1


def table(rows: int, seed: int) -> dict[str, list[object]]:
    """Columns of cells, and the target last; the same seed gives the same rows."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, NUMBERS))
    codes = rng.integers(len(LEVELS), size=(rows, CATEGORIES))
    score = numbers[:, :5].sum(axis=1) + 0.5 * (codes[:, :5] - 3.5).sum(axis=1) + rng.normal(size=rows)
    missing = rng.random((rows, NUMBERS + CATEGORIES)) < MISSING
    cells: list[list[object]] = [numbers[:, at].round(6).tolist() for at in range(NUMBERS)]
    cells += [[LEVELS[code] for code in codes[:, at].tolist()] for at in range(CATEGORIES)]
    columns: dict[str, list[object]] = {}
    for at, name in enumerate(NAMES):
        gone = missing[:, at].tolist()
        columns[name] = [None if lost else cell for cell, lost in zip(cells[at], gone, strict=True)]
    columns[TARGET] = np.where(score > 0, "yes", "no").tolist()
    return columns


def write_part(path: Path, rows: int, seed: int) -> Path:
    """A peer's part as CSV."""
    columns = table(rows, seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def questions(rows: int, seed: int = 10_000) -> list[list[object]]:
    """Rows to ask about, in the order of NAMES."""
    columns = table(rows, seed)
    return [list(row) for row in zip(*(columns[name] for name in NAMES), strict=True)]
