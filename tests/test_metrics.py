"""Laws of scores: they are scikit-learn's on the pooled rows, however the rows were cut and merged."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as scikit

from p2pml.ensemble.combine import Answer
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.tallies import MAX_SCORES, Tally, most_scores
from p2pml.errors import RemoteError

Array = NDArray[Any]
LABELS = list("abcd")


def close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)


def regression(truth: Array, predicted: Array) -> RegressionStatistics:
    return RegressionStatistics.of(truth, Answer(predicted, None, None, np.ones(1)))


def classification(truth: Array, shares: Array, classes: tuple[str, ...]) -> ClassificationStatistics:
    answer = Answer([classes[index] for index in shares.argmax(axis=1)], classes, shares, np.ones(1))
    return ClassificationStatistics.of(truth, answer)


def merged(parts: list[Any], order: list[int]) -> Any:
    """The parts merged in some order and grouping, each after a journey through msgpack."""
    read = [type(part).from_data(msgpack.unpackb(msgpack.packb(part.to_data()))) for part in parts]
    shuffled = [read[index % len(read)] for index in dict.fromkeys(index % len(read) for index in order)]
    shuffled += [part for part in read if not any(part is other for other in shuffled)]
    middle = len(shuffled) // 2
    halves = [
        functools.reduce(lambda a, b: a.merge(b), half) for half in (shuffled[:middle], shuffled[middle:]) if half
    ]
    return functools.reduce(lambda a, b: a.merge(b), halves)


def cut(rows: int, places: list[int]) -> list[slice]:
    """The rows in parts, some of which may be empty."""
    ends = [0, *sorted(place % (rows + 1) for place in places), rows]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


partition = st.lists(st.integers(0, 1000), max_size=4)


thousandths = st.integers(-900, 10**9).map(lambda value: value / 1_000)


@given(st.lists(st.tuples(thousandths, thousandths), min_size=2, max_size=40), partition, partition)
def test_regression_scores_are_those_of_scikit_learn(
    rows: list[tuple[float, float]], places: list[int], order: list[int]
) -> None:
    """For any cut of the rows and any order of merging."""
    truth, predicted = np.array(rows).T
    scores = merged([regression(truth[part], predicted[part]) for part in cut(len(rows), places)], order).scores()
    for name in ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "mean_squared_log_error"):
        assert close(scores[name], getattr(scikit, name)(truth, predicted)), name
    if truth.std() > 1e-6 * np.abs(truth).max():  # else scikit-learn's own rounding decides
        assert close(scores["r2"], scikit.r2_score(truth, predicted))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """Spreads are merged around their means (Chan et al.), not as sums of squares."""
    truth = 1e9 + np.random.default_rng(0).normal(size=1_000)
    predicted = truth + 0.1
    parts = [regression(truth[part], predicted[part]) for part in cut(1_000, [10, 200, 700])]
    assert close(merged(parts, [2, 0]).scores()["r2"], scikit.r2_score(truth, predicted))


def test_scores_of_a_constant_truth_are_those_of_scikit_learn() -> None:
    """It is hit or not; rounding in its mean does not matter."""
    constant = np.full(3, 0.1)
    assert regression(constant, constant).scores()["r2"] == 1
    assert regression(constant, constant + 1).scores()["r2"] == 0
    assert regression(constant[:1], constant[:1]).scores()["r2"] is None
    almost = np.array([0.0, 1e-200])  # whose squares float64 cannot hold
    assert regression(almost, almost + 1).scores()["r2"] is None


def test_a_logarithmic_error_is_undefined_from_minus_one_down() -> None:
    """As scikit-learn refuses it."""
    assert regression(np.array([1.0, -1.0]), np.array([1.0, 1.0])).scores()["mean_squared_log_error"] is None
    assert regression(np.array([1.0, 1.0]), np.array([1.0, -2.0])).scores()["mean_squared_log_error"] is None


def test_rows_without_a_truth_are_left_out() -> None:
    """They are no part of any score."""
    assert regression(np.array([1.0, np.nan]), np.array([1.0, 5.0])) == regression(np.ones(1), np.ones(1))
    shares = np.array([[0.4, 0.6], [1, 0]])
    assert classification(np.array(["b", None], object), shares, ("a", "b")).rows == 1


def test_no_rows_have_no_scores() -> None:
    """And merge with any others without a trace."""
    empty = regression(np.zeros(0), np.zeros(0))
    assert set(empty.scores().values()) == {None}
    one = regression(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    assert empty.merge(one) == one.merge(empty) == one
    nobody = classification(np.zeros(0, object), np.zeros((0, 2)), ("a", "b"))
    assert set(nobody.scores().values()) == {None}


def test_errors_beyond_float64_are_undefined() -> None:
    """JSON has no infinity."""
    with np.errstate(over="ignore"):
        scores = regression(np.array([0.0, 1e200]), np.array([1e200, 0.0])).scores()
    assert scores["mean_squared_error"] is None
    assert scores["mean_absolute_error"] == 1e200


@st.composite
def answered(draw: st.DrawFn) -> tuple[Array, Array, tuple[str, ...]]:
    """True labels, probabilities with ties and zeros, and their classes."""
    classes = tuple(LABELS[: draw(st.integers(2, 4))])
    rows = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    raw = rng.integers(0, draw(st.sampled_from([2, 4, 1000])), (rows, len(classes))) + 1e-9
    truth = rng.choice(classes[: draw(st.integers(1, len(classes)))], rows).astype(object)
    return truth, raw / raw.sum(axis=1, keepdims=True), classes


@given(answered(), partition, partition)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_classification_scores_are_those_of_scikit_learn(
    rows: tuple[Array, Array, tuple[str, ...]], places: list[int], order: list[int]
) -> None:
    """For any cut of the rows and any order of merging."""
    truth, shares, classes = rows
    parts = [classification(truth[part], shares[part], classes) for part in cut(len(truth), places)]
    total = merged(parts, order)
    scores, expected = total.scores(), expected_scores(truth, shares, classes)
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert (scores[name] is None) if value is None else close(scores[name], value), name
    predicted = np.array(classes)[shares.argmax(axis=1)]
    confusion = scikit.confusion_matrix(truth.astype(str), predicted, labels=list(total.classes))
    assert np.array_equal(total.confusion, confusion)


def expected_scores(truth: Array, shares: Array, classes: tuple[str, ...]) -> dict[str, float | None]:
    """What scikit-learn says of the pooled rows, None where it is undefined."""
    true, predicted = truth.astype(str), np.array(classes)[shares.argmax(axis=1)]
    macro = {"average": "macro", "zero_division": 0}
    recalls = scikit.recall_score(true, predicted, labels=np.unique(true), **macro)
    return {
        "accuracy": scikit.accuracy_score(true, predicted),
        "balanced_accuracy": recalls,  # scikit-learn's own, without its warning about unseen classes
        "f1_macro": scikit.f1_score(true, predicted, **macro),
        "precision_macro": scikit.precision_score(true, predicted, **macro),
        "recall_macro": scikit.recall_score(true, predicted, **macro),
        "log_loss": scikit.log_loss(true, shares, labels=list(classes)),
        "roc_auc": over_classes(scikit.roc_auc_score, true, shares, classes, both=True),
        "average_precision": over_classes(scikit.average_precision_score, true, shares, classes, both=False),
    }


def over_classes(
    score: Callable[[Array, Array], float], true: Array, shares: Array, classes: tuple[str, ...], both: bool
) -> float | None:
    """Of two classes the second, of more the mean over those that occur, where `both` needs other rows too."""
    columns = [1] if len(classes) == 2 else range(len(classes))
    found = [
        score(true == classes[index], shares[:, index])
        for index in columns
        if (true == classes[index]).any() and not (both and (true == classes[index]).all())
    ]
    return float(np.mean(found)) if found else None


def test_three_classes_that_all_occur_are_scored_one_against_the_rest() -> None:
    """As scikit-learn does when it is asked for the macro average."""
    rng = np.random.default_rng(1)
    truth, shares = rng.choice(LABELS[:3], 60).astype(object), rng.dirichlet(np.ones(3), 60)
    scores = classification(truth, shares, ("a", "b", "c")).scores()
    true = truth.astype(str)
    assert close(scores["roc_auc"], scikit.roc_auc_score(true, shares, multi_class="ovr", average="macro"))
    assert close(scores["balanced_accuracy"], scikit.balanced_accuracy_score(true, np.array(LABELS)[shares.argmax(1)]))


def test_parts_whose_classes_differ_merge_over_the_union() -> None:
    """A class that one ensemble did not know has probability 0 in its rows."""
    one = classification(np.array(["a", "b", "a"], object), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), ("a", "b"))
    two = classification(np.array(["c", "z"], object), np.array([[0.3, 0.7], [1.0, 0.0]]), ("b", "c"))
    total = merged([one, two], [])
    assert total.classes == ("a", "b", "c", "z")
    placed = np.array([[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0], [0.2, 0.8, 0, 0], [0, 0.3, 0.7, 0], [0, 1, 0, 0]])
    expected = expected_scores(np.array(["a", "b", "a", "c", "z"], object), placed, total.classes)
    scores = total.scores()
    assert all(close(scores[name], value) for name, value in expected.items() if value is not None)
    nobody = classification(np.zeros(0, object), np.zeros((0, 1)), ("q",))
    assert nobody.merge(one).scores()["accuracy"] == one.scores()["accuracy"]


def test_one_class_alone_leaves_some_scores_undefined() -> None:
    """There is nothing to tell apart."""
    scores = classification(np.array(["a", "a"], object), np.ones((2, 1)), ("a",)).scores()
    assert (scores["accuracy"], scores["log_loss"], scores["roc_auc"]) == (1, None, None)


def test_very_many_scores_are_rounded_only_when_they_travel() -> None:
    """Of 100,000 distinct scores at most 2^16 + 1 travel, and the area hardly moves."""
    rng = np.random.default_rng(0)
    scores, truth = rng.random(100_000), rng.random(100_000) < 0.3
    tally = Tally.of(scores, truth)
    assert close(tally.area, scikit.roc_auc_score(truth, scores))
    rounded = tally.rounded(MAX_SCORES)
    assert len(rounded.scores) <= MAX_SCORES
    assert np.array_equal(rounded.scores * 2**16, np.round(rounded.scores * 2**16))
    assert rounded.area == pytest.approx(tally.area, abs=1e-5)
    assert sum(most_scores(10) for _ in range(10)) <= 3 * MAX_SCORES


SUMS = regression(np.array([1.0, 2.0]), np.array([1.0, 3.0])).to_data()
COUNTS = classification(np.array(["a", "b"], object), np.array([[0.9, 0.1], [0.4, 0.6]]), ("a", "b")).to_data()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 2.0},
        {"rows": 2**60},
        {"undefined": 3},
        {"spread": -1.0},
        {"squared": float("nan")},
        {"absolute": float("inf")},
        {"mean": "1"},
        {"low": 9.0},
        {"more": 1},
    ],
)
def test_regression_statistics_that_cannot_be_are_a_remote_error(change: dict[str, Any]) -> None:
    """Counts and sums are checked before they are added."""
    with pytest.raises(RemoteError, match="the statistics that a peer sent"):
        RegressionStatistics.from_data({**SUMS, **change})


def raw(values: list[float], scores: bool = False) -> bytes:
    return np.array(values, "<f8" if scores else "<u4").tobytes()


def table(scores: list[float], positives: list[float], negatives: list[float]) -> list[bytes]:
    return [raw(scores, True), raw(positives), raw(negatives)]


GOOD = table([0.1, 0.6], [0, 1], [1, 0])


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["b", "a"]},
        {"classes": ["a"]},
        {"classes": None},
        {"confusion": [raw([0, 9]), raw([1, 1])]},
        {"confusion": [raw([3, 0]), raw([1, 1])]},
        {"confusion": [raw([0, 3]), raw([1])]},
        {"confusion": [raw([0, 3]), raw([1, 2])]},
        {"confusion": [b"abc", raw([1])]},
        {"confusion": [raw([0, 3])]},
        {"confusion": ["a", "b"]},
        {"loss": -1.0},
        {"loss": float("nan")},
        {"loss": 1},
        {"tallies": [GOOD]},
        {"tallies": [GOOD, table([0.1, 0.6], [1, 1], [1, 0])]},
        {"tallies": [GOOD, table([0.6, 0.1], [1, 0], [0, 1])]},
        {"tallies": [GOOD, table([0.1, 1.6], [0, 1], [1, 0])]},
        {"tallies": [GOOD, table([-0.1, 0.6], [0, 1], [1, 0])]},
        {"tallies": [GOOD, table([0.1, float("nan")], [0, 1], [1, 0])]},
        {"tallies": [GOOD, table([0.1, 0.3, 0.6], [0, 0, 1], [1, 0, 0])]},
        {"tallies": [GOOD, table([0.1, 0.6], [1], [1, 0])]},
        {"tallies": [GOOD, [raw([0.1, 0.6], True), "a", "b"]]},
        {"tallies": [GOOD, [b"0" * 8 * (MAX_SCORES + 1), b"", b""]]},
        {"tallies": [GOOD, [b"", b""]]},
        {"tallies": None},
        {"more": 1},
    ],
)
def test_classification_statistics_that_cannot_be_are_a_remote_error(change: dict[str, Any]) -> None:
    """Counts that contradict each other are as bad as what cannot be read."""
    ClassificationStatistics.from_data({**COUNTS, "tallies": [COUNTS["tallies"][0], GOOD]})
    with pytest.raises(RemoteError, match="the statistics that a peer sent cannot be read"):
        ClassificationStatistics.from_data({**COUNTS, **change})


@pytest.mark.parametrize("data", [None, 5, [], {}, "statistics"])
def test_anything_else_is_no_statistics(data: object) -> None:
    """Any data is refused in the same way."""
    for kind in (RegressionStatistics, ClassificationStatistics):
        with pytest.raises(RemoteError):
            kind.from_data(data)
