"""How far to trust a peer's own vote on rows that come from where it is: a factor, chosen on its held-out rows.

A density says how common a row is at each peer; it does not know where the question was asked. Where rows are known to
be like the asked peer's own, its share in the prior of where they come from is higher (Saerens, Latinne and
Decaestecker 2002). How much higher, its own held-out rows say. The sums never leave the peer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import losses, weights_at, with_truth
from .combine import Cast, favoured, mixture, placed
from .values import Floats
from .vote import Vote

FAVOURS = (1.0, 3.0, 10.0, 30.0, 100.0, 1e9)
"""From the vote as it weighs for everybody to that vote alone."""


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
