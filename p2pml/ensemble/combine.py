"""Votes become one answer, the same whoever asks and in whatever order the votes came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pml.errors import BadInput, NoVotes, RemoteError

from .values import Floats
from .vote import Vote

RULES = ("mean", "median", "weighted")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the ensemble says.

    For regression `predictions` is float64 of shape (rows,) and the others are None. For classification
    `predictions` are canonical labels, `classes` the union of those of all votes in ascending order, and
    `probabilities` float64 of shape (rows, classes). Of equally likely classes the first in order is predicted.
    """

    predictions: list[str] | Floats
    classes: tuple[str, ...] | None
    probabilities: Floats | None


def combine(votes: Sequence[tuple[str, Vote, int]], rule: str = "mean") -> Answer:
    """The answer of votes, each (peer id, vote, training rows), on the same rows.

    "mean" is that of values or of probabilities, where a class that a peer does not know has probability 0
    there. "weighted" is the mean with training rows as weights. "median" is taken value by value, and then
    divided by its sum over the classes; where that is 0, the mean stands in. NoVotes if there is none;
    RemoteError if they are not of one task or not on the same rows.
    """
    if rule not in RULES:
        raise BadInput(f"there is no rule {rule!r} to combine votes: choose one of {', '.join(RULES)}")
    if not votes:
        raise NoVotes("no vote was cast: start a peer, or ask again when one has trained")
    # Sums depend on their order in the last digit.
    ordered = sorted(votes, key=lambda cast: cast[0])
    first = ordered[0][1]
    for peer, vote, _ in ordered:
        if (vote.classes is None) != (first.classes is None) or len(vote.values) != len(first.values):
            raise RemoteError(f"the vote of peer {peer} is of another task or on other rows")
    weights = np.array([max(rows, 1) if rule == "weighted" else 1 for _, _, rows in ordered], np.float64)
    if first.classes is None:
        stack = np.stack([vote.values for _, vote, _ in ordered])
        return Answer(np.median(stack, axis=0) if rule == "median" else _mean(stack, weights), None, None)
    classes = tuple(sorted({name for _, vote, _ in ordered for name in vote.classes or ()}))
    stack = np.stack([_placed(vote, classes) for _, vote, _ in ordered])
    shares = _mean(stack, weights)
    if rule == "median":
        middle = np.median(stack, axis=0)
        total = middle.sum(axis=1, keepdims=True)
        shares = np.where(total > 0, middle / np.where(total > 0, total, 1.0), shares)
    predictions = [classes[index] for index in shares.argmax(axis=1).tolist()]
    return Answer(predictions, classes, shares)


def _mean(stack: Floats, weights: Floats) -> Floats:
    """The weighted mean over the first axis, added up one vote after another."""
    total = np.zeros(stack.shape[1:])
    for vote, weight in zip(stack, weights, strict=True):
        total += vote * (weight / weights.sum())
    return total


def _placed(vote: Vote, classes: tuple[str, ...]) -> Floats:
    """The probabilities of a vote in the union of classes."""
    shares = np.zeros((len(vote.values), len(classes)))
    shares[:, np.searchsorted(np.array(classes), np.array(vote.classes))] = vote.values
    return shares
