"""The rows that a peer was lately asked about: a window of some hundred of them, however many there were."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from .lines import Lines
from .profile import Profile, watched
from .schema import Schema
from .values import Columns, Floats

PANE = 125
"""Rows after which the window moves on."""
WINDOW = 500
"""Rows that are compared at once where there are so many; a pane keeps no more, chosen at random."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row, in the order of the window's columns, and how novel it is under `ground`, where known."""

    cells: tuple[object, ...]
    novelty: float | None = None
    ground: str | None = None


class Pane:
    """A uniform sample of the rows since the window last moved on (Vitter 1985, Algorithm R)."""

    def __init__(self) -> None:
        self.seen = 0
        self.rows: list[Row] = []

    def places(self, count: int, chance: np.random.Generator) -> list[tuple[int, int]]:
        """Which of so many further rows are kept, and where: (place, row)."""
        first, self.seen = self.seen, self.seen + count
        if self.seen <= WINDOW:
            return [(first + at, at) for at in range(count)]
        numbers = np.arange(first, self.seen)
        places = np.where(numbers < WINDOW, numbers, (chance.random(count) * (numbers + 1)).astype(np.int64))
        return [(int(places[at]), int(at)) for at in np.flatnonzero(places < WINDOW)]


class Window:
    """Panes of rows by one schema, the newest of which still fills."""

    def __init__(self, schema: Schema, seed: int) -> None:
        self.names = watched(schema)
        self._schema = schema
        self._chance = np.random.default_rng(seed)
        self._full: deque[Pane] = deque()
        self._filling = Pane()
        self.turns = 0
        """How often the window has moved on."""

    def add(self, columns: Columns, rows: int, novelty: Floats | None = None, ground: str | None = None) -> None:
        """Take in rows that were asked about; `novelty` has shape (rows,)."""
        pane = self._filling
        cells = [columns[name] for name in self.names]
        kept = pane.places(rows, self._chance)
        if len(kept) < rows:
            places = [at for _, at in kept]
            cells = [_picked(each, places) for each in cells]
        turned = zip(*cells, strict=True) if cells else repeat(())
        for (place, at), picked in zip(kept, turned, strict=False):
            strange = None if novelty is None else float(novelty[at])
            row = Row(picked, strange, ground)
            if place == len(pane.rows):
                pane.rows.append(row)
            else:
                pane.rows[place] = row

    def turn(self) -> bool:
        """Move on, if there are rows enough for it; the oldest panes go as long as the others hold WINDOW rows."""
        if self._filling.seen < PANE:
            return False
        self._full.append(self._filling)
        self._filling = Pane()
        self.turns += 1
        while sum(len(pane.rows) for pane in self._full) - len(self._full[0].rows) >= WINDOW:
            self._full.popleft()
        return True

    def rows(self, *, filling: bool) -> list[Row]:
        """The rows of the full panes, and, if wished, of the one that still fills."""
        return [row for pane in (*self._full, *([self._filling] if filling else [])) for row in pane.rows]

    def profile(self, rows: Sequence[Row], least: int) -> Profile:
        """The profile of such rows, in groups of at least `least`."""
        columns = {name: [row.cells[at] for row in rows] for at, name in enumerate(self.names)}
        strange: dict[str, list[float]] = {}
        for row in rows:
            if row.ground is not None and row.novelty is not None:
                strange.setdefault(row.ground, []).append(row.novelty)
        # Of several sets of voters that came one after the other, the one that answered most.
        usual = sorted(strange, key=lambda ground: -len(strange[ground]))[:1]
        return Profile.of(self._schema, columns, least, {ground: np.array(strange[ground]) for ground in usual})


def _picked(cells: Sequence[object], places: Sequence[int]) -> Sequence[object]:
    return cells.picked(places) if isinstance(cells, Lines) else [cells[at] for at in places]
