"""Votes become one answer, the same whoever asks and in whatever order the votes came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pml.errors import BadInput, NoVotes, RemoteError

from .values import Floats
from .vote import Vote

DENSITY = "density"
RULES = ("mean", "median", "weighted", "trimmed-mean", DENSITY)

Cast = tuple[str, Vote, int]
"""(peer id, vote, training rows)"""

TRIMMED = 0.25
"""The share of votes that a trimmed mean leaves out at each end: what is left is the interquartile mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the ensemble says.

    For regression `predictions` is float64 of shape (rows,) and the others are None. For classification
    `predictions` are canonical labels, `classes` the union of those of all votes in ascending order, and
    `probabilities` float64 of shape (rows, classes). Of equally likely classes the first in order is predicted.
    `weights` are the shares of the votes in the answer, by peer id, of shape (peers,) or (peers, rows); of a median or
    a trimmed mean, in which votes have none, they are even, and of an answer of sums they are all one: (1,). They add
    up to 1 less `common`, the share of the common vote.
    """

    predictions: list[str] | Floats
    classes: tuple[str, ...] | None
    probabilities: Floats | None
    weights: Floats
    common: float = 0.0

    def part(self, start: int, end: int) -> Answer:
        """The same of some of the rows."""
        return replace(
            self,
            predictions=self.predictions[start:end],
            probabilities=None if self.probabilities is None else self.probabilities[start:end],
            weights=self.weights if self.weights.ndim == 1 else self.weights[:, start:end],
        )


def combine(
    votes: Sequence[Cast],
    rule: str = "mean",
    densities: Mapping[str, Floats] | None = None,
    temperature: float = 1.0,
    favour: tuple[str, float] | None = None,
) -> Answer:
    """The answer of votes, each (peer id, vote, training rows), on the same rows.

    "mean" is that of values or of probabilities, where a class that a peer does not know has probability 0
    there. "weighted" is the mean with training rows as weights. "median" is taken value by value, and
    "trimmed-mean" without the highest and the lowest quarter; both are divided by their sum over the classes, and
    where that is 0, the mean stands in. "density" weighs each vote on each row by the peer's training rows times
    its density there, to the power of 1 / `temperature`: the distribution-weighted combination of Mansour, Mohri
    and Rostamizadeh (2008). It takes each peer's log-densities, shape (rows,), by id. `favour`, (peer id, factor),
    multiplies the weight of one peer's votes. NoVotes if there is no vote; RemoteError if they are not of one task or
    not on the same rows.
    """
    if rule not in RULES:
        raise BadInput(f"there is no rule {rule!r} to combine votes: choose one of {', '.join(RULES)}")
    if not votes:
        raise NoVotes("no vote was cast: start a peer, or ask again when one has trained")
    # Sums depend on their order in the last digit.
    ordered = sorted(votes, key=lambda cast: cast[0])
    classes, stack = stacked(ordered)
    rows = [rows for _, _, rows in ordered]
    if rule == DENSITY:
        if densities is None or any(peer not in densities for peer, _, _ in ordered):
            raise BadInput("the rule density needs every peer's log-densities: take the rule mean without them")
        weights = density_weights(rows, [densities[peer] for peer, _, _ in ordered], temperature)
    else:
        weights = _even(rows if rule == "weighted" else [1] * len(rows))
    if favour is not None:
        weights = favoured(weights, [peer for peer, _, _ in ordered].index(favour[0]), favour[1])
    mixed = mixture(stack, weights)
    if rule == "median":
        mixed = _whole(np.median(stack, axis=0), mixed, classes)
    elif rule == "trimmed-mean":
        mixed = _whole(_trimmed(stack), mixed, classes)
    return answer_from(mixed, classes, weights)


def answer_of(ordered: Sequence[Cast], coefficients: Floats) -> Answer:
    """The sum of votes, by peer id, times coefficients of shape (peers, rows) that need not add up to 1;
    probabilities are divided by their sum."""
    classes, stack = stacked(ordered)
    total = coefficients.sum(axis=0)
    even = np.full_like(coefficients, 1 / len(coefficients))
    weights = np.where(total > 0, coefficients / np.where(total > 0, total, 1.0), even)
    if classes is None:
        return answer_from(mixture(stack, coefficients), None, weights)
    return answer_from(mixture(stack, weights), classes, weights)


def answer_from(mixed: Floats, classes: tuple[str, ...] | None, weights: Floats) -> Answer:
    """The answer that mixed votes are, of shape (rows,), or (rows, classes) where there are classes."""
    if classes is None:
        return Answer(mixed, None, None, weights)
    predictions = [classes[index] for index in mixed.argmax(axis=1).tolist()]
    return Answer(predictions, classes, mixed, weights)


def blended(answer: Answer, common: Vote, share: float) -> Answer:
    """The answer of votes with that share of the common vote on the same rows."""
    if answer.classes is None or answer.probabilities is None:
        votes = Vote(None, np.asarray(answer.predictions, np.float64))
    else:
        votes = Vote(answer.classes, answer.probabilities)
    classes, stack = stacked([("votes", votes, 0), ("the common vote", common, 0)])
    mixed = (1 - share) * stack[0] + share * stack[1]
    return replace(answer_from(mixed, classes, answer.weights * (1 - share)), common=share)


def stacked(votes: Sequence[Cast]) -> tuple[tuple[str, ...] | None, Floats]:
    """The union of the classes, and all votes as one array: (peers, rows), or (peers, rows, classes)."""
    first = votes[0][1]
    for peer, vote, _ in votes:
        if (vote.classes is None) != (first.classes is None) or len(vote.values) != len(first.values):
            raise RemoteError(f"the vote of peer {peer} is of another task or on other rows")
    if first.classes is None:
        return None, np.stack([vote.values for _, vote, _ in votes])
    if all(vote.classes == first.classes for _, vote, _ in votes):
        return first.classes, np.stack([vote.values for _, vote, _ in votes])
    classes = tuple(sorted({name for _, vote, _ in votes for name in vote.classes or ()}))
    return classes, np.stack([placed(vote, classes) for _, vote, _ in votes])


def density_weights(rows: Sequence[int], densities: Sequence[Floats], temperature: float) -> Floats:
    """The share of each peer in each row, shape (peers, rows): a softmax over peers of the logarithm of training
    rows times density, divided by `temperature`; the higher it is, the nearer all shares are to each other."""
    logs = (np.log(np.maximum(rows, 1.0))[:, None] + np.stack(densities)) / temperature
    powers = np.exp(logs - logs.max(axis=0))
    total = np.zeros(powers.shape[1])
    for power in powers:
        total += power
    shares: Floats = powers / total
    return shares


def favoured(weights: Floats, at: int, factor: float) -> Floats:
    """Shares of peers, (peers,) or (peers, rows), after one peer's has been multiplied by a factor."""
    raised = weights.copy()
    raised[at] *= factor
    shares: Floats = raised / raised.sum(axis=0)
    return shares


def mixture(stack: Floats, weights: Floats) -> Floats:
    """The weighted mean over the first axis, added up one vote after another; weights are (peers,) or (peers, rows)."""
    total = np.zeros(stack.shape[1:])
    for vote, weight in zip(stack, weights, strict=True):
        total += vote * (weight[:, None] if weight.ndim and vote.ndim == 2 else weight)
    return total


def _even(weights: Sequence[int]) -> Floats:
    found = np.maximum(np.array(weights, np.float64), 1.0)
    return np.asarray(found / found.sum())


def _trimmed(stack: Floats) -> Floats:
    """The mean of the votes between the quarters; of two or three votes there is nothing to leave out."""
    cut = int(len(stack) * TRIMMED)
    middle: Floats = np.sort(stack, axis=0)[cut : len(stack) - cut].mean(axis=0)
    return middle


def _whole(values: Floats, otherwise: Floats, classes: tuple[str, ...] | None) -> Floats:
    """Probabilities made to add up to one again."""
    if classes is None:
        return values
    total = values.sum(axis=1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1.0), otherwise)


def placed(vote: Vote, classes: tuple[str, ...] | None) -> Floats:
    """The values of a vote; of its probabilities those of these classes, in their order."""
    if classes is None or vote.classes is None or vote.classes == classes:
        return vote.values
    place = {name: at for at, name in enumerate(classes)}
    shares = np.zeros((len(vote.values), len(classes)))
    has = [at for at, name in enumerate(vote.classes) if name in place]
    shares[:, [place[vote.classes[at]] for at in has]] = vote.values[:, has]
    return shares
