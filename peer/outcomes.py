"""What programs are given: answers as arrays, with the votes that stand behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.ensemble.values import Floats
from p2pml.errors import BadInput

from .answers import Evaluated, Label, Missing, Predicted, StoodIn
from .totals import Tally, absentees


class VotesMissing(UserWarning):
    """An answer came without the votes of some peers; it says whose, and why."""


@dataclass(frozen=True, slots=True)
class Votes:
    """How many votes stand behind an answer, of how many; each missing one has `peer`, `name` and `reason`. One
    from a replica has `peer` and `name` of whose model it is, and `by`, the name of the peer that holds it."""

    cast: int
    expected: int
    missing: tuple[Missing, ...] = ()
    replicas: tuple[StoodIn, ...] = ()

    def __str__(self) -> str:
        return f"{self.cast} of {self.expected} votes{absentees(self.missing)}"


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the ensemble says of some rows.

    `values`, shape (rows,), are predicted numbers or classes. For classification `classes`, shape (classes,), are
    in the order of the columns of `probabilities`, float64 of shape (rows, classes); else both are None. `combine`
    is the rule by which votes became one answer, and `common` the share of the common vote in it, on average.

    With `sure`, each of shape (rows,): `spread`, the weighted standard deviation of the votes (of classes, that of the
    predicted one's probability); `strongest`, the greatest share that one vote has; `novelty`, the share of held-out
    rows that are more like what some peer knows, NaN where nothing is known of that. With `interval`: `intervals`,
    shape (rows, 2), infinite where there is no bound, or `sets`, a tuple of classes for each row.
    """

    values: NDArray[Any]
    classes: NDArray[Any] | None
    probabilities: Floats | None
    votes: Votes
    combine: str
    common: float = 0.0
    spread: Floats | None = None
    strongest: Floats | None = None
    novelty: Floats | None = None
    intervals: Floats | None = None
    sets: tuple[tuple[Label, ...], ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The ensemble's own scores on `rows` rows, by scikit-learn's names; None where a score is not defined.

    For classification `confusion_matrix`, shape (classes, classes), has true classes down and predicted ones across.
    """

    task: str
    rows: int
    scores: dict[str, float | None]
    classes: NDArray[Any] | None
    confusion_matrix: NDArray[np.int64] | None
    votes: Votes
    combine: str


class Collected:
    """Gathers the answers to the blocks of one table."""

    def __init__(self) -> None:
        self._answers: list[Predicted] = []
        self._tally = Tally()

    def add(self, answer: Predicted) -> None:
        """Take the answer to the next block."""
        self._answers.append(answer)
        self._tally.add(answer["votes"])

    def prediction(self) -> Prediction:
        """All as one. Classes are the union over blocks: a peer that knows another class may have come in between."""
        predicted = [label for answer in self._answers for label in answer["predictions"]]
        rules = dict.fromkeys(answer.get("combined", answer["combine"]) for answer in self._answers)
        votes, combine, more = votes_of(self._tally), ", ".join(rules), _beside(self._answers)
        known = [answer.get("classes") for answer in self._answers]
        if not all(known):
            return Prediction(np.array(predicted), None, None, votes, combine, **more)
        # Of one answer the order is the ensemble's own.
        classes = known[0] or []
        if any(other != classes for other in known):
            union = {label for some in known for label in some or ()}
            classes = sorted(union, key=lambda label: (isinstance(label, str), label))
        blocks = [_placed(answer, classes) for answer in self._answers]
        return Prediction(np.array(predicted), np.array(classes), np.concatenate(blocks), votes, combine, **more)


def _beside(answers: list[Predicted]) -> dict[str, Any]:
    """What was asked for beside the predictions, over all blocks."""
    shares = [answer["common"]["share"] if "common" in answer else 0.0 for answer in answers]
    rows = [len(answer["predictions"]) for answer in answers]
    found: dict[str, Any] = {"common": float(np.average(shares, weights=rows)) if sum(rows) else 0.0}
    for name in ("spread", "strongest", "novelty"):
        if all(name in answer for answer in answers):
            blocks = [answer.get(name) or [None] * len(answer["predictions"]) for answer in answers]
            found[name] = np.array([value for block in blocks for value in block], np.float64)  # type: ignore[attr-defined]
    if all("intervals" in answer for answer in answers):
        pairs = [pair for answer in answers for pair in answer.get("intervals", ())]
        open_ended = np.array([[-np.inf, np.inf]] * len(pairs))
        known = np.array([pair if None not in pair else (0, 0) for pair in pairs], np.float64).reshape(-1, 2)
        found["intervals"] = np.where([[None in pair] for pair in pairs], open_ended, known)
    if all("sets" in answer for answer in answers):
        found["sets"] = tuple(tuple(labels) for answer in answers for labels in answer.get("sets", ()))
    return found


def _placed(answer: Predicted, classes: list[Label]) -> Floats:
    """The probabilities of one answer in the columns of all classes."""
    own = answer.get("classes") or []
    rows = answer.get("probabilities") or []
    at = {label: place for place, label in enumerate(classes)}
    shares = np.zeros((len(rows), len(classes)))
    shares[:, [at[label] for label in own]] = rows
    return shares


def evaluation_of(answer: Evaluated) -> Evaluation:
    """An evaluation as a peer answered it."""
    tally = Tally()
    tally.add(answer["votes"])
    matrix = answer.get("confusion_matrix")
    return Evaluation(
        task=answer["task"],
        rows=answer["rows"],
        scores=dict(answer["metrics"]),
        classes=np.array(matrix["classes"]) if matrix else None,
        confusion_matrix=np.array(matrix["counts"], np.int64) if matrix else None,
        votes=votes_of(tally),
        combine=answer.get("combined", answer["combine"]),
    )


def votes_of(tally: Tally) -> Votes:
    """The votes behind all blocks."""
    votes = tally.votes()
    return Votes(votes["cast"], votes["expected"], tuple(votes["missing"]), tuple(votes.get("replicas", ())))


def probabilities_of(prediction: Prediction) -> Floats:
    """The probabilities; BadInput where the ensemble predicts numbers."""
    if prediction.probabilities is None:
        raise BadInput("probabilities are for classification, and this ensemble's target is a number: call predict")
    return prediction.probabilities
