"""How far two mixtures of rows are apart in one column, and how likely so great a distance is by chance.

Profiles tell a distribution up to bounds. The distance that is tested is the least that the bounds of both sides allow:
what is not told can hide a change, and never makes one up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .profile import LEVELS, Profile, Shares, Spread
from .values import Floats

EXPECTED = 5.0
"""Rows that each cell of a chi-square test must expect (Cochran 1954); rarer levels count together."""


@dataclass(frozen=True, slots=True)
class Part:
    """One profile of a mixture: its share, and how many independent rows its rows are worth."""

    profile: Profile
    share: float
    worth: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the mixture of those rows that have a value in one column."""

    spread: Spread
    share: float
    worth: float


Mixture = Sequence[Part]


def pieces(mixture: Mixture, pick: Callable[[Profile], Spread | None]) -> list[Piece]:
    """What the parts say of a column of numbers, their shares anew among the rows that have a value."""
    found = []
    for part in mixture:
        spread = pick(part.profile)
        if spread is not None and spread.known and part.share > 0:
            has = spread.known / part.profile.rows
            found.append(Piece(spread, part.share * has, part.worth * has))
    whole = sum(piece.share for piece in found)
    return [Piece(piece.spread, piece.share / whole, piece.worth) for piece in found]


def strangeness(mixture: Mixture, ground: str) -> list[Piece]:
    """What the parts say of how novel their rows are under `ground`."""
    return pieces(mixture, lambda profile: profile.novelty.get(ground))


def independent(parts: Sequence[Part] | Sequence[Piece]) -> float:
    """How many independent rows vary as little as a mixture of so many each."""
    variance = sum(part.share**2 / part.worth for part in parts if part.share > 0)
    return 1 / variance if variance > 0 else 0.0


def below(mixed: Sequence[Piece], grid: Floats) -> tuple[Floats, Floats]:
    """Bounds of the share at or below each value."""
    low, high = np.zeros(len(grid)), np.zeros(len(grid))
    for piece in mixed:
        least, most = piece.spread.below(grid)
        low += piece.share * least
        high += piece.share * most
    return low, high


def median(mixed: Sequence[Piece]) -> float | None:
    """The edge nearest to the median; None where no edge is told."""
    grid = _grid(mixed)
    if not len(grid):
        return None
    low, high = below(mixed, grid)
    return float(grid[np.argmin(np.abs(low + high - 1))])


def smirnov(asked: Sequence[Piece], known: Sequence[Piece], *, higher: bool = False) -> tuple[float, float]:
    """The greatest distance between the two cumulative distributions, and its probability by Kolmogorov and Smirnov;
    with `higher`, only how far asked values lie above known ones."""
    from scipy.special import kolmogorov, smirnov

    grid = _grid([*asked, *known])
    if not len(grid) or not asked or not known:
        return 0.0, 1.0
    (asked_low, asked_high), (known_low, known_high) = below(asked, grid), below(known, grid)
    distance = max(0.0, float((known_low - asked_high).max()))
    if not higher:
        distance = max(distance, float((asked_low - known_high).max()))
    pairs = (independent(asked), independent(known))
    rows = pairs[0] * pairs[1] / sum(pairs)
    p = smirnov(max(1, round(rows)), min(1.0, distance)) if higher else kolmogorov(math.sqrt(rows) * distance)
    return distance, float(p)


def chi_square(asked: Mixture, known: Mixture, cells: list[tuple[Floats, Floats]]) -> tuple[float, float, Floats]:
    """The total variation between shares of cells, its probability by chi-square, and by how much each cell changed.

    `cells` are bounds of the shares, of asked and of known rows; what they leave is one more cell. Pearson's statistic
    is taken unless the likelihood ratio is less: far out, where few rows are expected, it overstates.
    """
    from scipy.special import chdtrc, xlogy

    (asked_low, asked_high), (known_low, known_high) = cells
    one = np.clip(known_low, asked_low, asked_high)
    two = np.clip(one, known_low, known_high)
    changes = one - two
    one, two = (np.append(shares, max(0.0, 1 - shares.sum())) for shares in (one, two))
    one, two = one / one.sum(), two / two.sum()
    distance = float(np.abs(one - two).sum() / 2)
    rows = (independent(asked), independent(known))
    one, two = _pooled(one, two, rows)
    if len(one) < 2:
        return distance, 1.0, changes
    both = (one * rows[0] + two * rows[1]) / sum(rows)
    pearson = sum(
        count * (np.square(shares - both) / both).sum() for count, shares in zip(rows, (one, two), strict=True)
    )
    ratio = sum(2 * count * xlogy(shares, shares / both).sum() for count, shares in zip(rows, (one, two), strict=True))
    return distance, float(chdtrc(len(one) - 1, max(0.0, min(pearson, ratio)))), changes


def level_bounds(mixture: Mixture, name: str, levels: Sequence[str]) -> tuple[Floats, Floats]:
    """Bounds of the shares of levels of a category, and then of the rows without one."""
    low, high = np.zeros(len(levels) + 1), np.zeros(len(levels) + 1)
    for part in mixture:
        found = part.profile.categories.get(name) or Shares({}, missing=part.profile.rows)
        unnamed = _untold(part.profile)
        if len(found.levels) == LEVELS:
            # A level that is not among the most frequent ones may be as frequent as the last of them.
            unnamed = max(unnamed, min(found.levels.values()))
        counts = [found.levels.get(level, 0) for level in levels]
        least = np.array([*counts, found.missing], float)
        most = np.array([count or unnamed for count in counts] + [found.missing or _untold(part.profile)], float)
        low += part.share * least / part.profile.rows
        high += part.share * np.minimum(most, part.profile.rows) / part.profile.rows
    return low, high


def missing_bounds(mixture: Mixture, name: str) -> tuple[Floats, Floats]:
    """Bounds of the share of rows that have no number in a column, of shape (1,)."""
    low = high = 0.0
    for part in mixture:
        spread = part.profile.numbers.get(name)
        missing = part.profile.rows if spread is None else spread.missing
        low += part.share * missing / part.profile.rows
        high += part.share * (missing or min(_untold(part.profile), part.profile.rows)) / part.profile.rows
    return np.array([low]), np.array([high])


def _untold(profile: Profile) -> int:
    """The most rows that a group may have and not be told."""
    return max(0, profile.least - 1)


def _grid(mixed: Sequence[Piece]) -> Floats:
    return np.unique(np.concatenate([np.zeros(0), *(piece.spread.edges for piece in mixed)]))


def _pooled(one: Floats, two: Floats, rows: tuple[float, float]) -> tuple[Floats, Floats]:
    """The cells that expect EXPECTED rows on both sides, and one of all the others, if any has a row."""
    both = (one * rows[0] + two * rows[1]) / sum(rows)
    rare = both * min(rows) < EXPECTED
    if both[rare].sum() <= 0:
        return one[~rare], two[~rare]
    return np.append(one[~rare], one[rare].sum()), np.append(two[~rare], two[rare].sum())
