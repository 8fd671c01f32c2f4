"""Drift: whether rows that are asked about are still like the rows that the peers were trained on.

Rows that are like those of some peers and not of others are no drift, as the ensemble answers them by who knows them.
So the asked rows are compared with that mixture of the peers' own rows that comes nearest to them (Mansour, Mohri and
Rostamizadeh 2008 weigh votes for any such mixture), column by column: numbers by the test of Kolmogorov and Smirnov,
categories by that of chi-square, and *novelty*, how unlikely a row is to all peers together, by Smirnov's one-sided
test. Holm's correction (1979) keeps the chance of any false finding, over all columns, at the level of one.

Who looks again and again finds something at last, even where nothing is. So each look at which an alarm could be raised
spends a part of one fixed chance of a false alarm, and all parts together, for ever, are no more than the whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .distances import (
    Mixture,
    Part,
    chi_square,
    level_bounds,
    median,
    missing_bounds,
    pieces,
    smirnov,
    strangeness,
)
from .mixing import CATEGORY, NUMBER, Column, Mixer
from .profile import Profile
from .values import Floats

FALSE_ALARM = 0.05
"""The chance that a whole cluster ever raises a false alarm, however long and by whomever it is asked."""
LOOK = 0.01
"""The chance that one look, which somebody takes by hand, finds a column that has not moved."""
STILL = 0.05
"""An alarm stands as long as the column's corrected p is below it."""
NATURAL = 0.01
"""Share of equal pairs among training rows above which equal rows are no sign that one was asked about twice."""
SEARCHES, EMPHASIS = 5, 8.0
"""Searches for a mixture that explains all columns, and how much more those count in the next that it did not."""
NEGLIGIBLE = 0.01
"""A share of the mixture below which a peer need not have said how novel its own rows are."""
NOVELTY = "novelty"
"""The kind of what is no column of the table."""
_SPENT = 2.109742801236891
"""The sum of 1 / (n ln² n) over n from 2."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A column among some rows: the median of its numbers, the share of rows with the level that changed most, the
    share without a value."""

    median: float | None = None
    share: float | None = None
    missing: float = 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One column, or how novel rows are (kind NOVELTY): how far apart the distributions are, from 0 to 1, and the
    probability of such a distance without drift, corrected for the number of columns."""

    name: str
    kind: str
    distance: float
    p: float
    asked: Seen = Seen()
    known: Seen = Seen()
    level: str | None = None
    """Of a category the level that changed most."""

    @property
    def column(self) -> Column:
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Drift:
    """`rows` were compared, worth `different` ones that each come once; `shares` of the peers, in their order, are the
    mixture that comes nearest."""

    rows: int
    different: float
    columns: tuple[Compared, ...] = ()
    shares: tuple[float, ...] = ()

    def moved(self, level: float = LOOK) -> tuple[Column, ...]:
        """What has moved, at a level of significance."""
        return tuple(each.column for each in self.columns if each.p <= level)


@dataclass(slots=True)
class Alarm:
    """Looks again and again at the rows that one of `peers` peers is asked about, and says which columns have moved."""

    looks: int = 0
    moved: tuple[Column, ...] = ()

    def look(self, drift: Drift, peers: int) -> tuple[Column, ...]:
        """The columns for which the alarm stands after this look; each is raised once, and stands while it differs."""
        self.looks += 1
        raised = set(drift.moved(spent(self.looks) / max(peers, 1)))
        still = set(drift.moved(STILL)) & set(self.moved)
        self.moved = tuple(each.column for each in drift.columns if each.column in raised | still)
        return self.moved


def spent(look: int) -> float:
    """The share of FALSE_ALARM that a look, counted from 1, may spend: it falls so slowly that a clear change is found
    at the millionth look too, and the sum over all looks is FALSE_ALARM."""
    return FALSE_ALARM / _SPENT / ((look + 1) * math.log(look + 1) ** 2)


def ground_of(space: str, peers: Iterable[str]) -> str:
    """The digest that names a space and the peers whose densities in it make a row novel or not."""
    return hashlib.sha256("\n".join([space, *sorted(peers)]).encode()).hexdigest()[:32]


def novelty(logs: Sequence[Floats], rows: Sequence[int]) -> Floats:
    """How unlikely each row is among all peers' rows together: the negative logarithm of the mean of the peers'
    densities, weighed by their numbers of rows; `logs` are log-densities of shape (rows,), one for each peer."""
    weights = np.log(np.maximum(rows, 1.0) / np.maximum(rows, 1.0).sum())
    return np.asarray(-np.logaddexp.reduce(np.stack(logs) + weights[:, None], axis=0))


def compare(asked: Sequence[Profile], known: Sequence[Profile], weights: Sequence[float]) -> Drift:
    """Asked rows, of which profiles of several askers add up, against the peers' training rows: a profile of each,
    which may be of a sample, and how many rows it stands for."""
    rows = sum(each.rows for each in asked)
    pairs = [(each, weight) for each, weight in zip(known, weights, strict=True) if each.rows]
    if not rows or not pairs:
        return Drift(rows, 0.0)
    natural = max(each.alike for each, _ in pairs)
    heard = [Part(each, each.rows / rows, _different(each, natural)) for each in asked if each.rows]
    worth = sum(part.worth for part in heard)
    mixer = Mixer(heard, [[Part(each, 1.0, each.rows)] for each, _ in pairs], [weight for _, weight in pairs])
    emphasis: dict[Column, float] = {}
    best: Drift | None = None
    for _ in range(SEARCHES):
        shares = mixer.nearest(emphasis).tolist()
        mixed = [Part(each, share, each.rows) for (each, _), share in zip(pairs, shares, strict=True)]
        drift = Drift(rows, worth, holm(_compared(heard, mixed)), tuple(shares))
        if best is None or len(drift.moved(STILL)) < len(best.moved(STILL)):
            # The mixture that leaves the fewest columns unexplained.
            best = drift
        if not drift.moved(STILL) or len(pairs) == 1:
            break
        # Perhaps one column tells the peers apart and the others do not.
        for each in drift.columns:
            if each.p <= STILL:
                emphasis[each.column] = emphasis.get(each.column, 1.0) * EMPHASIS
    assert best is not None
    return best


def _compared(asked: Mixture, known: Mixture) -> list[Compared]:
    found = [_number(name, asked, known) for name in _both([set(part.profile.numbers) for part in asked], known)]
    found += [_category(name, asked, known) for name in _both([set(part.profile.categories) for part in asked], known)]
    return found + _novelty(asked, known)


def holm(found: Sequence[Compared]) -> tuple[Compared, ...]:
    """The same with each p corrected: the least times the number of columns, the next times one fewer, and so on."""
    order = sorted(range(len(found)), key=lambda at: found[at].p)
    corrected, least = list(found), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, found[at].p * (len(found) - rank)))
        corrected[at] = replace(found[at], p=least)
    return tuple(corrected)


def _different(asked: Profile, natural: float) -> float:
    """How many different rows these are worth: one that comes twice says nothing twice. Of n rows that are drawn from m
    with replacement pairs are equal with probability 1 / m, and they are worth 1 / (1 / n + 1 / m)."""
    excess = max(0.0, asked.alike - natural) if natural <= NATURAL else 0.0
    return asked.rows / (1 + (asked.rows - 1) * excess)


def _both(asked: Sequence[set[str]], known: Mixture) -> list[str]:
    """The columns that both sides tell of."""
    told = {name for part in known for name in (*part.profile.numbers, *part.profile.categories)}
    return sorted(set().union(*asked) & told)


def _number(name: str, asked: Mixture, known: Mixture) -> Compared:
    one, two = (pieces(mixture, lambda profile: profile.numbers.get(name)) for mixture in (asked, known))
    distance, p = smirnov(one, two)
    gaps = [missing_bounds(mixture, name) for mixture in (asked, known)]
    absent, p_absent, _ = chi_square(asked, known, gaps)
    if any(high.any() for _, high in gaps):
        # Two questions of one column, of which the likelier answer is taken (Bonferroni).
        distance, p = max(distance, absent), min(1.0, 2 * min(p, p_absent))
    seen = [Seen(median(mixed), None, float(low[0])) for mixed, (low, _) in zip((one, two), gaps, strict=True)]
    return Compared(name, NUMBER, distance, p, seen[0], seen[1])


def _category(name: str, asked: Mixture, known: Mixture) -> Compared:
    named = {
        level
        for part in (*asked, *known)
        if name in part.profile.categories
        for level in part.profile.categories[name].levels
    }
    levels = sorted(named)
    bounds = [level_bounds(mixture, name, levels) for mixture in (asked, known)]
    distance, p, changes = chi_square(asked, known, bounds)
    at = int(np.abs(changes[:-1]).argmax()) if levels else None
    seen = [Seen(None, None if at is None else float(low[at]), float(low[-1])) for low, _ in bounds]
    return Compared(name, CATEGORY, distance, p, seen[0], seen[1], None if at is None else levels[at])


def _novelty(asked: Mixture, known: Mixture) -> list[Compared]:
    """Of the rows that were answered by the same peers in the same space as the peers' held-out ones were."""
    grounds = [set(part.profile.novelty) for part in known if part.share > NEGLIGIBLE]
    for ground in sorted(set.intersection(*grounds)) if grounds else ():
        one, two = (strangeness(mixture, ground) for mixture in (asked, known))
        if one:
            distance, p = smirnov(one, two, higher=True)
            return [Compared(NOVELTY, NOVELTY, distance, p, Seen(median(one)), Seen(median(two)))]
    return []
