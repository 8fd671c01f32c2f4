"""Scores of classification from counts and tables that add up over any cut of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .combine import Answer
from .fields import check_classes
from .tallies import Tally, most_scores
from .values import Floats

_TINY = float(np.finfo(np.float64).eps)
"""scikit-learn keeps probabilities this far from 0 and 1 before it takes their logarithm."""

_SCORES = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "precision_macro",
    "recall_macro",
    "log_loss",
    "roc_auc",
    "average_precision",
)


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationStatistics:
    """Sufficient statistics of true labels and predicted probabilities.

    `classes` are all that the ensemble or the truth names, ascending; `confusion`, int64 of shape (true,
    predicted), counts rows; `loss` is the sum of logarithmic losses; `tallies` holds one table a class.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    loss: float
    tallies: tuple[Tally, ...]

    @property
    def rows(self) -> int:
        """How many rows were scored."""
        return int(self.confusion.sum())

    @classmethod
    def of(cls, truth: NDArray[np.object_], answer: Answer) -> ClassificationStatistics:
        """Statistics of the rows, shape (rows,), whose true label is not None.

        A class that the truth names and no peer knows has probability 0 throughout.
        """
        assert answer.classes is not None
        assert answer.probabilities is not None
        known = np.array([label is not None for label in truth], bool)
        labels = truth[known].tolist()
        classes = tuple(sorted({*answer.classes, *labels}))
        place = {name: index for index, name in enumerate(classes)}
        shares = np.zeros((len(labels), len(classes)))
        shares[:, [place[name] for name in answer.classes]] = answer.probabilities[known]
        true = np.array([place[label] for label in labels], np.int64)
        predicted = np.array([place[name] for name in answer.predictions], np.int64)[known]
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(confusion, (true, predicted), 1)
        likely = np.clip(shares[np.arange(len(labels)), true], _TINY, 1 - _TINY)
        tallies = tuple(Tally.of(shares[:, index], true == index) for index in range(len(classes)))
        return cls(classes, confusion, float(-np.log(likely).sum()), tallies)

    def merge(self, other: ClassificationStatistics) -> ClassificationStatistics:
        """The statistics of both sets of rows together, over the union of their classes."""
        classes = tuple(sorted({*self.classes, *other.classes}))
        one, two = self._widened(classes), other._widened(classes)
        tallies = tuple(mine.merge(theirs) for mine, theirs in zip(one.tallies, two.tallies, strict=True))
        return ClassificationStatistics(classes, one.confusion + two.confusion, one.loss + two.loss, tallies)

    def scores(self) -> dict[str, float | None]:
        """What scikit-learn's functions of the same names say of the rows; None where they are undefined.

        With two classes, `roc_auc` and `average_precision` are of the second; with more, the mean over the
        classes that occur, each against the rest. The macro averages are over classes that occur or are
        predicted, and a class never predicted has precision 0.
        """
        if self.rows == 0:
            return dict.fromkeys(_SCORES)
        hits = self.confusion.diagonal()
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        occurs, seen = support > 0, (support + predicted) > 0
        recall = _ratio(hits, support)
        found = (
            float(hits.sum()) / self.rows,
            float(recall[occurs].mean()),
            float(_ratio(2 * hits, support + predicted)[seen].mean()),
            float(_ratio(hits, predicted)[seen].mean()),
            float(recall[seen].mean()),
            self.loss / self.rows if len(self.classes) > 1 else None,
            _over_classes(self.tallies, [tally.area for tally in self.tallies]),
            _over_classes(self.tallies, [tally.precision for tally in self.tallies]),
        )
        return dict(zip(_SCORES, found, strict=True))

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack; of the confusion only what is not 0: places (true * classes + predicted)
        and counts as little-endian uint32. Very many distinct scores are rounded (see `tallies`)."""
        flat = self.confusion.ravel()
        places = np.flatnonzero(flat)
        return {
            "classes": list(self.classes),
            "confusion": [places.astype("<u4").tobytes(), flat[places].astype("<u4").tobytes()],
            "loss": self.loss,
            "tallies": [tally.rounded(most_scores(len(self.classes))).to_data() for tally in self.tallies],
        }

    @classmethod
    def from_data(cls, data: object) -> ClassificationStatistics:
        """The statistics that another peer sent; RemoteError if they cannot be of any rows."""
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RemoteError(f"the statistics that a peer sent cannot be read: {error}") from error

    def _widened(self, classes: tuple[str, ...]) -> ClassificationStatistics:
        """The same rows among more classes: the new ones have probability 0 and do not occur."""
        if classes == self.classes:
            return self
        places = [classes.index(name) for name in self.classes]
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        confusion[np.ix_(places, places)] = self.confusion
        absent = Tally.absent(self.rows)
        known = dict(zip(self.classes, self.tallies, strict=True))
        return ClassificationStatistics(
            classes, confusion, self.loss, tuple(known.get(name, absent) for name in classes)
        )


def _ratio(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> Floats:
    """Elementwise, 0 where there is nothing to divide by."""
    return parts / np.maximum(wholes, 1)


def _over_classes(tallies: tuple[Tally, ...], values: list[float | None]) -> float | None:
    """Of two classes the value of the second; of more the mean over those that occur, None if one has none."""
    if len(tallies) == 2:
        return values[1]
    occurring = [value for tally, value in zip(tallies, values, strict=True) if tally.positives.any()]
    return _mean(occurring)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _read(data: Any) -> ClassificationStatistics:
    classes = check_classes(data["classes"])
    count = len(classes)
    places, counts = (np.frombuffer(raw, "<u4").astype(np.int64) for raw in data["confusion"])
    if len(data) != 4 or len(places) != len(counts) or (np.diff(places) <= 0).any():
        raise ValueError("a confusion matrix whose places are not ascending")
    flat = np.zeros(count * count, np.int64)
    flat[places] = counts
    confusion = flat.reshape(count, count)
    loss = data["loss"]
    if type(loss) is not float or not math.isfinite(loss) or loss < 0:
        raise ValueError(f"a loss of {loss!r:.40}")
    if len(data["tallies"]) != count:
        raise ValueError("not one table a class")
    tallies = tuple(Tally.from_data(raw, most_scores(count)) for raw in data["tallies"])
    support, rows = confusion.sum(axis=1), int(confusion.sum())
    for tally, expected in zip(tallies, support.tolist(), strict=True):
        positives = int(tally.positives.sum())
        if positives != expected or positives + int(tally.negatives.sum()) != rows:
            raise ValueError("tables that do not count the rows of the confusion matrix")
    return ClassificationStatistics(classes, confusion, loss, tallies)
