"""What one peer learns where all peers vote on its held-out rows: one round of votes serves everything.

The sums and sketches of a trial are what travels of it; neither the rows' truths nor their votes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, candidates, place_of, with_truth
from .certainty import signed_errors
from .combine import Cast, mixture, placed
from .home import Home
from .sketch import Sketch
from .stack import Gram
from .values import Floats
from .vote import Vote


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """`errors` has shape (candidates, rows), or one more where there was a common vote, which is the last: how wrong
    each candidate of `calibration` is at each row whose truth is known, with its sign. `usual` sketches the peer's
    log-densities at its own rows."""

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
        common: Vote | None = None,
    ) -> Trial:
        """Of all votes on the held-out rows of the peer `me`, which is among the voters, and the common vote where
        there is one; nothing is told of fewer than `least` rows."""
        ordered, known, classes, stack, true = with_truth(truth, votes)
        mixed = [mixture(stack, weights) for weights in candidates(ordered, densities, known)]
        errors = [signed_errors(each, true, classes) for each in mixed]
        if common is not None:
            errors.append(signed_errors(placed(common, classes)[known], true, classes))
        return cls(
            calibration=Calibration.of(truth, votes, densities, me, common),
            home=Home(truth, votes, densities, me, common),
            gram=Gram.of(truth, votes, densities),
            usual=Sketch.of(densities[me], least),
            errors=np.stack(errors),
            least=least,
        )

    def errors_at(self, temperature: float | None, share: float = 0.0) -> Sketch | None:
        """The errors of the candidate that was chosen, with that share of the common vote, as they travel."""
        errors = self.errors[place_of(temperature)]
        if share and self.calibration.crossed is not None:
            errors = (1 - share) * errors + share * self.errors[-1]
        return Sketch.of(np.abs(errors), self.least)
