"""What one peer learns where all peers vote on its held-out rows: one round of votes serves everything.

The sums and sketches of a trial are what travels of it; neither the rows' truths nor their votes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, candidates, place_of, with_truth
from .certainty import errors_of
from .combine import Cast, mixture
from .home import Home
from .sketch import Sketch
from .stack import Gram
from .values import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """`errors` has shape (candidates, rows): how wrong each candidate of `calibration` is at each row whose truth is
    known. `usual` sketches the peer's log-densities at its own rows."""

    calibration: Calibration
    home: Home
    gram: Gram
    usual: Sketch | None
    errors: Floats
    least: int

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64] | NDArray[np.object_],
        votes: Sequence[Cast],
        densities: Mapping[str, Floats],
        me: str,
        least: int,
    ) -> Trial:
        """Of all votes on the held-out rows of the peer `me`, which is among the voters; nothing is told of fewer than
        `least` rows."""
        ordered, known, classes, stack, true = with_truth(truth, votes)
        mixed = [mixture(stack, weights) for weights in candidates(ordered, densities, known)]
        return cls(
            calibration=Calibration.of(truth, votes, densities, me),
            home=Home.of(truth, votes, densities, me),
            gram=Gram.of(truth, votes, densities),
            usual=Sketch.of(densities[me], least),
            errors=np.stack([errors_of(each, true, classes) for each in mixed]),
            least=least,
        )

    def errors_at(self, temperature: float | None) -> Sketch | None:
        """The errors of the candidate that was chosen, as they travel."""
        return Sketch.of(self.errors[place_of(temperature)], self.least)
