"""Which mixture of the peers' own rows comes nearest to some rows, by how their columns are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .distances import Mixture, below, level_bounds, missing_bounds, pieces
from .profile import Profile
from .values import Floats

NUMBER, CATEGORY = "number", "category"
Column = tuple[str, str]
"""(kind, name): peers may have read one column as two kinds."""
STEPS, ENOUGH = 300, 1e-6
"""Steps of a search at most, and the change of a share at which it ends."""
COARSE = 16
"""Cells of a column of numbers."""
SMOOTH = 1e-4
"""Share that is added to each cell: one row must not rule a peer out."""


class Mixer:
    """Asked rows and each peer's own as shares of the cells of each column."""

    def __init__(self, asked: Mixture, known: Sequence[Mixture], weights: Sequence[float]) -> None:
        """`weights` are the peers' numbers of rows, with which every search begins."""
        self._begin = np.array(weights, np.float64) / sum(weights)
        sides = (asked, *known)
        self._cells = {name: _smoothed(cells) for name, cells in _columns(sides)}

    def nearest(self, emphasis: Mapping[Column, float]) -> Floats:
        """The shares of the peers in the likeliest mixture; a column counts as often as `emphasis` says, or once.

        Expectation and maximisation. Peers that are alike keep the shares that they begin with, and a peer that has
        rows like none of those asked about comes to have none.
        """
        shares = self._begin
        if len(shares) == 1 or not self._cells:
            return shares
        wanted = np.concatenate([cells[0] * emphasis.get(name, 1.0) for name, cells in self._cells.items()])
        wanted /= wanted.sum()
        offered = np.hstack([cells[1:] for cells in self._cells.values()])
        for _ in range(STEPS):
            # Squared, which is two steps in one.
            moved = shares * np.square(offered @ (wanted / (shares @ offered)))
            moved /= moved.sum()
            done = np.abs(moved - shares).max() < ENOUGH
            shares = moved
            if done:
                break
        return shares


def _columns(sides: Sequence[Mixture]) -> list[tuple[Column, list[Floats]]]:
    """Of each column that all tell of, the shares of rows in its cells, side by side."""
    profiles = [part.profile for mixture in sides for part in mixture]
    found: list[tuple[Column, list[Floats]]] = []
    for name in _common([set(profile.numbers) for profile in profiles]):
        grid = _grid_of(name, profiles)
        found.append(((NUMBER, name), [_binned(mixture, name, grid) for mixture in sides]))
    for name in _common([set(profile.categories) for profile in profiles]):
        levels = sorted({level for profile in profiles for level in profile.categories[name].levels})
        lows = [level_bounds(mixture, name, levels)[0] for mixture in sides]
        found.append(((CATEGORY, name), [np.append(low, max(0.0, 1 - low.sum())) for low in lows]))
    return found


def _smoothed(cells: list[Floats]) -> Floats:
    table = np.array(cells) + SMOOTH
    smoothed: Floats = table / table.sum(axis=1, keepdims=True)
    return smoothed


def _common(names: Sequence[set[str]]) -> list[str]:
    return sorted(set.intersection(*names))


def _grid_of(name: str, profiles: Sequence[Profile]) -> Floats:
    edges = np.unique(np.concatenate([profile.numbers[name].edges for profile in profiles]))
    return edges[np.unique(np.linspace(0, max(0, len(edges) - 1), COARSE).round().astype(int))] if len(edges) else edges


def _binned(mixture: Mixture, name: str, grid: Floats) -> Floats:
    """The shares of rows without a value, and with one in each cell."""
    missing = missing_bounds(mixture, name)[0]
    has = pieces(mixture, lambda profile: profile.numbers.get(name))
    low, high = below(has, grid)
    ends = np.concatenate([[0.0], (low + high) / 2, [1.0 if has else 0.0]])
    return np.append(missing, np.maximum(np.diff(ends), 0.0) * (1 - missing))
