"""How far to trust a peer's own vote on rows that come from where it is: a factor, chosen on its held-out rows.

A density says how common a row is at each peer; it does not know where the question was asked. Where rows are known to
be like the asked peer's own, its share in the prior of where they come from is higher (Saerens, Latinne and
Decaestecker 2002). How much higher, its own held-out rows say. The sums never leave the peer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import candidates, losses, place_of, with_truth
from .combine import Cast, favoured, mixture
from .values import Floats

FAVOURS = (1.0, 3.0, 10.0, 30.0, 100.0, 1e9)
"""From the vote as it weighs for everybody to that vote alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """Over `rows` held-out rows, shape (candidates, favours): the sum of losses, and of the squares of how a row's loss
    differs from that at favour 1. Candidates are those of `calibration`."""

    rows: int
    losses: Floats
    apart: Floats

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64] | NDArray[np.object_],
        votes: Sequence[Cast],
        densities: Mapping[str, Floats],
        me: str,
    ) -> Home:
        """Of votes on this peer's own held-out rows, as `Calibration.of` takes them; `me` is among the voters."""
        ordered, known, classes, stack, true = with_truth(truth, votes)
        at = [peer for peer, _, _ in ordered].index(me)
        sums, apart = [], []
        for weights in candidates(ordered, densities, known):
            found = _each(stack, weights, at, true, classes)
            sums.append(found.sum(axis=1))
            apart.append(np.square(found - found[0]).sum(axis=1))
        return cls(int(known.sum()), np.array(sums), np.array(apart))

    def favour(self, temperature: float | None) -> float:
        """The factor for this peer's vote where votes are weighed at that temperature (None: evenly): the one of least
        loss, but 1 where it does not gain more than the standard error of the gain."""
        losses, apart = self.losses[place_of(temperature)], self.apart[place_of(temperature)]
        best = int(losses.argmin())
        gain = losses[0] - losses[best]
        error = math.sqrt(max(apart[best] - gain * gain / max(self.rows, 1), 0.0))
        return FAVOURS[best] if gain > error else 1.0


def _each(stack: Floats, weights: Floats, at: int, true: NDArray[Any], classes: tuple[str, ...] | None) -> Floats:
    """The loss of each row at each favour, shape (favours, rows)."""
    return np.stack([losses(mixture(stack, favoured(weights, at, factor)), true, classes)[0] for factor in FAVOURS])
