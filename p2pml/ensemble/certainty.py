"""How sure an answer is: how far votes are apart, whose weight decides, how new a row is, and conformal bounds.

Bounds are calibrated on the peers' held-out rows, of whose errors a sketch travels (see `sketch`). They hold on average
over rows that come from the peers' parts as the held-out ones do, whatever the models; not for each single row, nor for
rows unlike those of any peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .combine import Answer, Cast, mixture, stacked
from .sketch import Sketch, thresholds
from .values import Floats
from .vote import Vote


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """For each row, shape (rows,): `spread`, the weighted standard deviation of the votes, of classes that of the
    probability of the predicted one; `strongest`, the share of the weight that one vote has at most, be it the
    common vote; `novelty`, the
    share of its held-out rows that are more usual even to the peer to which the row is the most usual, None where there
    are no densities."""

    spread: Floats
    strongest: Floats
    novelty: Floats | None

    def part(self, start: int, end: int) -> Certainty:
        """The same of some of the rows."""
        novelty = None if self.novelty is None else self.novelty[start:end]
        return Certainty(self.spread[start:end], self.strongest[start:end], novelty)

    @classmethod
    def of(
        cls,
        votes: Sequence[Cast],
        answer: Answer,
        densities: Mapping[str, Floats],
        usual: Mapping[str, Sketch],
        common: Vote | None = None,
    ) -> Certainty:
        """Of an answer and the votes that it was made of, the common vote where it has a share; `usual` are sketches of
        peers' log-densities at their own held-out rows, by id."""
        ordered = sorted(votes, key=lambda cast: cast[0])
        weights = answer.weights
        if common is not None and answer.common:
            ordered.append(("the common vote", common, 0))
            weights = np.concatenate([weights, np.full((1, *weights.shape[1:]), answer.common)])
        classes, stack = stacked(ordered)
        if classes is not None and answer.probabilities is not None:
            chosen = answer.probabilities.argmax(axis=1)
            stack = stack[:, np.arange(stack.shape[1]), chosen]
        squares = mixture(np.square(stack - mixture(stack, weights)), weights)
        strongest = np.broadcast_to(weights.max(axis=0), stack.shape[1:])
        known = [usual[peer].share(logs) for peer, logs in densities.items() if peer in usual]
        return cls(np.sqrt(squares), strongest, 1 - np.max(known, axis=0) if known else None)


def errors_of(mixed: Floats, truth: NDArray[Any], classes: tuple[str, ...] | None) -> Floats:
    """How wrong each answer is, shape (rows,): the distance from the truth, or 1 less the truth's probability (Sadinle,
    Lei and Wasserman 2019: the smallest sets of classes)."""
    return np.asarray(np.abs(signed_errors(mixed, truth, classes)))


def signed_errors(mixed: Floats, truth: NDArray[Any], classes: tuple[str, ...] | None) -> Floats:
    """The same with its sign, of which a mixture of answers has the mixture."""
    if classes is None:
        return mixed - truth.astype(np.float64)
    hits = truth[:, None] == np.array(classes, object)
    return np.asarray(1 - np.where(hits, mixed, 0.0).sum(axis=1))


def reach(votes: Sequence[Cast], answer: Answer, errors: Mapping[str, Sketch], level: float) -> Floats | None:
    """How wrong the answer may be at each row with probability `level`, shape (rows,); None where no peer whose vote
    was cast has a sketch of its errors.

    A row is like those of each peer as the weights of the votes say; where they are the same throughout, as the peers'
    numbers of training rows do.
    """
    ordered = sorted(votes, key=lambda cast: cast[0])
    known = [at for at, (peer, _, _) in enumerate(ordered) if peer in errors]
    if not known:
        return None
    rows = np.array([max(rows, 1) for _, _, rows in ordered], np.float64)[:, None]
    shares = (answer.weights if answer.weights.ndim == 2 else np.repeat(rows, len(ordered[0][1].values), axis=1))[known]
    total = shares.sum(axis=0)
    shares = np.where(total > 0, shares / np.where(total > 0, total, 1.0), rows[known] / rows[known].sum())
    return thresholds([errors[ordered[at][0]] for at in known], shares, level)


def likely(answer: Answer, wrong: Floats) -> NDArray[np.bool_]:
    """Which classes are in each row's set, shape (rows, classes). It may be empty: where the classes are easily told
    apart, no class at all is doubtful enough to stand for the few rows that may be missed."""
    assert answer.probabilities is not None
    return np.asarray(1 - answer.probabilities <= wrong[:, None])
