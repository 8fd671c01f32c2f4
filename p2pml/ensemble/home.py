"""Rows that come from where a peer is: how far to trust its own vote on them, and how to recognise them.

A density says how common a row is at each peer, and looks at one row at a time; rows of one question may all come from
one place. Where they do, that peer's share in the prior of where rows come from is higher (Saerens, Latinne and
Decaestecker 2002). How much higher, a factor, its own held-out rows say; and they say how like its own such rows look,
so that many rows together are recognised, whoever is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import SURE, TINY, Calibration, losses, weights_at, with_truth
from .combine import Cast, density_weights, favoured, mixture, placed
from .values import Floats
from .vote import Vote

FAVOURS = (1.0, 3.0, 10.0, 30.0, 100.0, 1e9)
"""From the vote as it weighs for everybody to that vote alone."""

LEAST = 20
"""Rows of a question, and held-out rows of a peer, from which on the ones are compared with the others."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer tells of its held-out rows: their sums, the factor for its vote on rows like these, and how much like
    each peer's they look on average (`likeness`), by the peer's id."""

    name: str
    calibration: Calibration
    favour: float
    looks: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Site:
    """What there is to know a peer's rows by: how much like its own its `rows` held-out ones look, on average and with
    which deviation of one, and on average those of all peers, `elsewhere`."""

    name: str
    rows: int
    mean: float
    deviation: float
    elsewhere: float
    favour: float


def sites_of(told: Mapping[str, Told], temperature: float) -> dict[str, Site]:
    """The sites of peers, by id, of whose rows all others have told how they look."""
    tried = [each for each in told.values() if each.calibration.rows]
    rows = sum(each.calibration.rows for each in tried)
    found = {}
    for id, each in told.items():
        if each.calibration.rows < LEAST or not all(id in other.looks for other in tried):
            continue
        elsewhere = sum(other.calibration.rows * other.looks[id] for other in tried) / rows
        mean, deviation = each.calibration.likeness(temperature)
        found[id] = Site(each.name, each.calibration.rows, mean, deviation, elsewhere, each.favour)
    return found


def likeness(ordered: Sequence[Cast], densities: Sequence[Floats], temperature: float) -> Floats:
    """How much more likely each peer is by densities than by the numbers of training rows, as a logarithm, on average
    over the rows, shape (peers,)."""
    numbers = np.maximum([rows for *_, rows in ordered], 1)
    shares = density_weights(numbers.tolist(), densities, temperature)
    like: Floats = np.log(np.maximum(shares, TINY)).mean(axis=1) - np.log(numbers / numbers.sum())
    return like


def recognised(
    votes: Sequence[Cast], densities: Mapping[str, Floats], temperature: float, sites: Mapping[str, Site]
) -> tuple[str, float] | None:
    """The peer, of those whose `sites` are known by id, to which all rows of a question together look as much like its
    own as its held-out ones do, and more than all peers' do; and the factor for its vote. None where they look so to
    none, or are few."""
    ordered = sorted(votes, key=lambda cast: cast[0])
    asked = len(ordered[0][1].values)
    if asked < LEAST:
        return None
    best: tuple[float, str] | None = None
    likes = likeness(ordered, [densities[peer] for peer, *_ in ordered], temperature)
    for (peer, *_), like in zip(ordered, likes.tolist(), strict=True):
        if (site := sites.get(peer)) is None:
            continue
        bound = site.mean - SURE * site.deviation * math.sqrt(1 / asked + 1 / site.rows)
        if site.elsewhere < bound <= like and (best is None or like > best[0]):
            best = like, peer
    return None if best is None or sites[best[1]].favour == 1.0 else (best[1], sites[best[1]].favour)


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """All votes on the held-out rows of the peer `me`, as `Calibration.of` takes them."""

    truth: NDArray[np.float64] | NDArray[np.object_]
    votes: Sequence[Cast]
    densities: Mapping[str, Floats]
    me: str
    common: Vote | None = None

    def favour(self, temperature: float | None, share: float = 0.0) -> float:
        """The factor for this peer's vote where votes are weighed at that temperature (None: evenly), beside that share
        of the common vote: the one of least loss, but 1 where it does not gain more than the standard error of the
        gain."""
        ordered, known, classes, stack, true = with_truth(self.truth, self.votes)
        weights = weights_at(temperature, ordered, self.densities, known)
        at = [peer for peer, _, _ in ordered].index(self.me)
        found = []
        for factor in FAVOURS:
            mixed = mixture(stack, favoured(weights, at, factor))
            if share and self.common is not None:
                mixed = (1 - share) * mixed + share * placed(self.common, classes)[known]
            found.append(losses(mixed, true, classes)[0])
        table = np.stack(found)
        best = int(table.sum(axis=1).argmin())
        gains = table[0] - table[best]
        gain = float(gains.sum())
        error = math.sqrt(max(float(gains @ gains) - gain * gain / max(len(gains), 1), 0.0))
        return FAVOURS[best] if gain > error else 1.0

    def looks(self, temperature: float) -> dict[str, float]:
        """How much like each voter's these rows look on average, by id."""
        ordered, known, *_ = with_truth(self.truth, self.votes)
        if not known.any():
            return {}
        likes = likeness(ordered, [self.densities[peer][known] for peer, *_ in ordered], temperature)
        return {peer: like for (peer, *_), like in zip(ordered, likes.tolist(), strict=True)}
