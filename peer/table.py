"""Tables in files: CSV, gzipped CSV and Parquet, whole or in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of each column and the number of rows."""

    columns: dict[str, list[object]]
    rows: int


def read_table(path: str | Path) -> Table:
    """The whole file; BadInput unless it has at least two rows."""
    raise NotImplementedError


def read_blocks(source: str | Path | BinaryIO, rows: int = 10_000) -> Iterator[Table]:
    """The file in blocks of at most `rows` rows; at least one block, which may hold no row."""
    raise NotImplementedError
