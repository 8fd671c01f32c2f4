"""Laws of how sure an answer is: sketches, conformal bounds, and what is told of each row."""

from __future__ import annotations

import numpy as np
import pytest

from p2pml.ensemble.certainty import Certainty, errors_of, likely, reach
from p2pml.ensemble.combine import Cast, combine
from p2pml.ensemble.sketch import POINTS, Sketch, thresholds
from p2pml.ensemble.values import Floats
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError


def sketch(numbers: Floats) -> Sketch:
    found = Sketch.of(numbers, 5)
    assert found is not None
    return Sketch.from_data(found.to_data())


def test_a_sketch_has_the_distribution_of_its_numbers() -> None:
    """To a hundredth, and after its journey too."""
    numbers = np.random.default_rng(1).normal(size=5_000)
    found = sketch(numbers)
    assert len(found.values) == POINTS
    at = np.quantile(numbers, [0.1, 0.5, 0.9, 0.99])
    assert found.share(at) == pytest.approx([0.1, 0.5, 0.9, 0.99], abs=0.01)
    assert found.share(np.array([-99.0, 99.0])).tolist() == [0.0, 1.0]


def test_of_few_numbers_there_is_no_sketch() -> None:
    """Of some there is a point for each."""
    assert Sketch.of(np.ones(4), 5) is None
    found = Sketch.of(np.arange(23.0), 5)
    assert found is not None
    assert (found.rows, found.values.tolist()) == (23, list(range(23)))


@pytest.mark.parametrize(
    "data", [None, [0, b"\0" * 4], [1, b""], [9, b"abc"], [9, np.array([2, 1], "<f4").tobytes()], [1, b"\0" * 8]]
)
def test_what_cannot_be_a_sketch_is_refused(data: object) -> None:
    """With a RemoteError."""
    with pytest.raises(RemoteError, match="a sketch that a peer sent cannot be read"):
        Sketch.from_data(data)


@pytest.mark.parametrize(("rows", "groups"), [(20, 4), (60, 1), (1_000, 3)])
def test_bounds_hold_as_often_as_they_say(rows: int, groups: int) -> None:
    """Over many draws of the held-out rows and of new ones, whatever the number of peers that hold them."""
    rng = np.random.default_rng(rows + groups)
    held = []
    for _ in range(200):
        sketches = [sketch(np.abs(rng.normal(size=rows))) for _ in range(groups)]
        wrong = thresholds(sketches, np.full((groups, 100), 1 / groups), 0.9)
        held.append((np.abs(rng.normal(size=100)) <= wrong).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.012)


def test_where_few_rows_were_held_out_there_is_no_bound() -> None:
    """Nine rows cannot say what 95 of 100 do."""
    assert thresholds([sketch(np.arange(9.0))], np.ones((1, 2)), 0.95).tolist() == [np.inf, np.inf]


def test_a_row_s_bound_is_that_of_the_peers_that_it_is_like() -> None:
    """One peer errs ten times as much as the other."""
    rng = np.random.default_rng(2)
    errors = {"a": sketch(np.abs(rng.normal(size=900))), "b": sketch(10 * np.abs(rng.normal(size=900)))}
    votes: list[Cast] = [(id, Vote(None, np.zeros(2)), 10) for id in "ab"]
    sign = np.array([50.0, -50.0])
    answer = combine(votes, "density", {"a": sign, "b": -sign})
    wrong = reach(votes, answer, errors, 0.9)
    assert wrong is not None
    assert wrong == pytest.approx([1.64, 16.4], rel=0.1)
    even = reach(votes, combine(votes), errors, 0.9)
    assert even is not None
    assert wrong[0] < even[0] == even[1] < wrong[1]
    assert reach(votes, answer, {"c": errors["a"]}, 0.9) is None


def test_a_set_has_the_classes_that_are_likely_enough() -> None:
    """And the error of an answer is 1 less the probability of the truth, 1 where nobody knows the class."""
    votes: list[Cast] = [("a", Vote(("x", "y"), np.array([[0.7, 0.3], [0.05, 0.95], [0.5, 0.5]])), 1)]
    answer = combine(votes)
    assert likely(answer, np.array([0.75, 0.75, 0.4])).tolist() == [[True, True], [False, True], [False, False]]
    assert answer.probabilities is not None
    found = errors_of(answer.probabilities, np.array(["x", "z", "y"], object), answer.classes)
    assert found == pytest.approx([0.3, 1.0, 0.5])
    assert errors_of(np.array([1.0]), np.array([3.0]), None).tolist() == [2.0]


def test_what_is_told_of_each_row() -> None:
    """Votes' weighted deviation, the greatest weight, and how new the row is to whoever knows it best."""
    votes: list[Cast] = [("a", Vote(None, np.array([0.0, 0.0])), 1), ("b", Vote(None, np.array([2.0, 2.0])), 1)]
    densities = {"a": np.array([0.0, -50.0]), "b": np.log(np.array([3.0, np.exp(-49)]))}
    usual = {id: sketch(np.linspace(-1, 2, 100)) for id in "ab"}
    found = Certainty.of(votes, combine(votes, "density", densities), densities, usual)
    assert found.strongest[0] == pytest.approx(0.75)
    assert found.spread[0] == pytest.approx(2 * np.sqrt(0.75 * 0.25))
    assert found.novelty is not None
    assert found.novelty == pytest.approx([1 - (1 + np.log(3)) / 3, 1.0], abs=0.02)
    assert Certainty.of(votes, combine(votes), {}, {}).novelty is None


def test_the_spread_of_classes_is_that_of_the_predicted_one() -> None:
    """Of its probability."""
    votes: list[Cast] = [(id, Vote(("x", "y"), np.array([[p, 1 - p]])), 1) for id, p in (("a", 0.9), ("b", 0.5))]
    found = Certainty.of(votes, combine(votes), {}, {})
    assert found.spread == pytest.approx([0.2])
