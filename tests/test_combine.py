"""Laws of how votes become one answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.ensemble.combine import RULES, Answer, combine
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, NoVotes, RemoteError

Cast = tuple[str, Vote, int]
WITHOUT_DENSITIES = [rule for rule in RULES if rule != "density"]


def values(*numbers: float) -> Vote:
    return Vote(None, np.array(numbers, float))


def shares(classes: str, *rows: tuple[float, ...]) -> Vote:
    return Vote(tuple(classes), np.array(rows, float))


def asked(rule: str, *votes: Vote, rows: tuple[int, ...] = (1, 2, 3, 4)) -> Answer:
    return combine([(f"peer {index}", vote, rows[index]) for index, vote in enumerate(votes)], rule)


def test_numbers_are_averaged_weighed_or_halved_in_the_middle() -> None:
    """Each rule is what its name says in statistics."""
    votes = (values(1, 10), values(2, 20), values(9, 90))
    assert asked("mean", *votes).predictions == pytest.approx([4, 40])
    assert asked("median", *votes).predictions == pytest.approx([2, 20])
    assert asked("weighted", *votes).predictions == pytest.approx([32 / 6, 320 / 6])
    assert asked("mean", *votes).classes is None
    assert asked("mean", *votes).probabilities is None


def test_classes_are_the_union_and_an_unknown_one_has_probability_zero() -> None:
    """A peer that has never seen a class says that it cannot be."""
    answer = asked("mean", shares("ac", (0.25, 0.75)), shares("b", (1,)))
    assert answer.classes == ("a", "b", "c")
    assert answer.probabilities == pytest.approx(np.array([[0.125, 0.5, 0.375]]))
    assert answer.predictions == ["b"]


def test_a_tie_goes_to_the_first_class() -> None:
    """Nothing else would be the same for all who ask."""
    assert asked("mean", shares("b", (1,)), shares("a", (1,))).predictions == ["a"]


def test_weights_are_training_rows() -> None:
    """A peer without rows counts as one with one."""
    votes = (shares("ab", (1, 0)), shares("ab", (0, 1)))
    assert asked("weighted", *votes, rows=(1, 3)).probabilities == pytest.approx(np.array([[0.25, 0.75]]))
    assert asked("weighted", *votes, rows=(0, 0)).probabilities == pytest.approx(np.array([[0.5, 0.5]]))


def test_the_median_of_probabilities_adds_up_to_one_again() -> None:
    """Where all medians are nothing, the mean stands in."""
    votes = (shares("ab", (0.9, 0.1)), shares("ab", (0.8, 0.2)), shares("ab", (0.1, 0.9)))
    assert asked("median", *votes).probabilities == pytest.approx(np.array([[0.8, 0.2]]))
    apart = (shares("a", (1,)), shares("b", (1,)), shares("c", (1,)))
    assert asked("median", *apart).probabilities == pytest.approx(np.full((1, 3), 1 / 3))
    three = (shares("abc", (0.6, 0.2, 0.2)), shares("abc", (0.2, 0.6, 0.2)), shares("abc", (0.2, 0.2, 0.6)))
    assert asked("median", *three).probabilities == pytest.approx(np.full((1, 3), 1 / 3))


@st.composite
def casts(draw: st.DrawFn) -> list[Cast]:
    """Votes of one task on the same rows."""
    rows = draw(st.integers(0, 3))
    regression = draw(st.booleans())
    made: list[Cast] = []
    for index in range(draw(st.integers(1, 4))):
        numbers = np.random.default_rng(draw(st.integers(0, 2**20)))
        classes = None if regression else tuple(sorted(draw(st.sets(st.sampled_from("abcd"), min_size=1))))
        raw = numbers.random((rows, len(classes))) if classes else numbers.normal(size=rows)
        made.append((f"{index}", Vote(classes, raw / raw.sum(1, keepdims=True) if classes else raw), index))
    return made


@given(casts(), st.sampled_from(WITHOUT_DENSITIES))
def test_the_answer_is_the_same_whatever_the_order(votes: list[Cast], rule: str) -> None:
    """Bit for bit, so that it does not matter who asks."""
    answer = combine(votes, rule)
    for order in itertools.permutations(votes):
        again = combine(order, rule)
        assert list(again.predictions) == list(answer.predictions)
        assert np.array_equal(np.asarray(again.probabilities), np.asarray(answer.probabilities))


@given(casts(), st.sampled_from(WITHOUT_DENSITIES))
def test_an_answer_is_one_prediction_a_row(votes: list[Cast], rule: str) -> None:
    """Probabilities add up to one, and the likeliest class is predicted."""
    answer = combine(votes, rule)
    rows = len(votes[0][1].values)
    assert len(answer.predictions) == rows
    if answer.classes is not None and answer.probabilities is not None:
        assert answer.probabilities.shape == (rows, len(answer.classes))
        assert answer.probabilities.sum(axis=1) == pytest.approx(np.ones(rows))
        assert answer.predictions == [answer.classes[index] for index in answer.probabilities.argmax(axis=1)]


def test_one_vote_is_the_answer() -> None:
    """Under every rule."""
    for rule in WITHOUT_DENSITIES:
        assert asked(rule, shares("ab", (0.3, 0.7))).probabilities == pytest.approx(np.array([[0.3, 0.7]]))


def test_what_cannot_be_combined_is_refused() -> None:
    """Each with its own kind of error: the caller's, nobody's, or another peer's."""
    with pytest.raises(
        BadInput, match="no rule 'mode' to combine votes: choose one of mean, median, weighted, trimmed-mean, density"
    ):
        asked("mode", values(1))
    with pytest.raises(NoVotes, match="no vote was cast"):
        asked("mean")
    with pytest.raises(RemoteError, match="the vote of peer peer 1 is of another task"):
        asked("mean", values(1), shares("a", (1,)))
    with pytest.raises(RemoteError, match="on other rows"):
        asked("mean", values(1), values(1, 2))
