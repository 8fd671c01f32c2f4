"""Parts of a small table that a sum decides, skewed from host to host, and rows with known answers to ask about."""

from __future__ import annotations

import csv
import random
from pathlib import Path

NAMES = ("height", "width", "colour")
TARGET = "kind"
CLASSES = ("large", "medium", "small")
COLOURS = ("blue", "red", "white")

Row = tuple[float, float, str]


def write_part(path: Path, host: int, hosts: int, rows: int, seed: int) -> None:
    """Write the rows of one host as CSV: its heights come mostly from a stretch of its own."""
    rng = random.Random(f"{seed}/part/{host}")  # noqa: S311 (a simulation)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, TARGET])
        for _ in range(rows):
            middle = 10 * (host + 0.5) / hosts
            height = rng.gauss(middle, 1.5) if rng.random() < 0.5 else rng.uniform(0, 10)
            row = (round(height, 3), round(rng.uniform(0, 10), 3), rng.choice(COLOURS))
            writer.writerow([*row, truth(row)])


def questions(rows: int, seed: int) -> list[Row]:
    """Rows from the whole range, to be asked about."""
    rng = random.Random(f"{seed}/questions")  # noqa: S311 (a simulation)
    return [(round(rng.uniform(0, 10), 3), round(rng.uniform(0, 10), 3), rng.choice(COLOURS)) for _ in range(rows)]


def truth(row: Row) -> str:
    """What kind a row is."""
    size = row[0] + row[1]
    return CLASSES[2] if size < 8 else CLASSES[1] if size < 12 else CLASSES[0]
