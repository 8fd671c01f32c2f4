"""Laws of the linear stack of votes, and of how far a peer's own vote is trusted at home."""

from __future__ import annotations

import numpy as np
import pytest
from test_calibration import Cast, world

from p2pml.ensemble.combine import combine
from p2pml.ensemble.home import Home
from p2pml.ensemble.stack import Gram
from p2pml.ensemble.trials import Trial
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError


def test_a_stack_is_least_squares_with_no_negative_weight() -> None:
    """Of two honest votes and one that is noise, the noise has no say."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=2_000)
    votes: list[Cast] = [(id, Vote(None, truth + rng.normal(0, sd, 2_000)), 1) for id, sd in (("a", 0.1), ("b", 0.2))]
    votes.append(("c", Vote(None, rng.normal(size=2_000)), 1))
    flat = {id: np.zeros(2_000) for id in "abc"}
    plain, dense = Gram.of(truth, votes, flat).coefficients()
    # Densities that are alike make the second coefficient that of the vote again, a third of it.
    assert plain + dense / 3 == pytest.approx([0.8, 0.2, 0.0], abs=0.03)


def test_sums_over_parts_give_the_stack_of_all_rows() -> None:
    """Whoever adds them up, and after their journey."""
    truth, votes, densities = world(300, 1, knowing=True)

    def some(rows: slice) -> Gram:
        cut = [(id, Vote(None, vote.values[rows]), n) for id, vote, n in votes]
        return Gram.from_data(Gram.of(truth[rows], cut, {id: logs[rows] for id, logs in densities.items()}).to_data())

    whole, halves = some(slice(0, 300)), some(slice(0, 90)).merge(some(slice(90, 300)))
    assert (halves.rows, halves.voters) == (300, whole.voters)
    assert halves.coefficients() == pytest.approx(whole.coefficients())
    new, votes, densities = world(300, 2, knowing=True)
    error = np.square(whole.answer(votes, densities).predictions - new).mean()
    assert error < np.square(combine(votes).predictions - new).mean() / 4


def test_a_stack_of_classes_gives_probabilities() -> None:
    """Also where a voter is missing, and one knows a class that the other does not."""
    rng = np.random.default_rng(3)
    truth = np.array(["x", "y"], object)[rng.integers(0, 2, 200)]
    sure = (truth == "y") * 0.8 + 0.1
    votes: list[Cast] = [
        ("a", Vote(("x", "y"), np.column_stack([1 - sure, sure])), 1),
        ("b", Vote(("z",), np.ones((200, 1))), 1),
    ]
    gram = Gram.of(truth, votes, {id: np.zeros(200) for id in "ab"})
    answer = gram.answer(votes, {id: np.zeros(200) for id in "ab"})
    assert answer.probabilities is not None
    assert answer.probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    assert answer.predictions == truth.tolist()
    assert gram.answer(votes[:1], {"a": np.zeros(200)}).predictions == truth.tolist()
    only = gram.answer(votes[1:], {"b": np.zeros(200)})
    assert only.predictions == ["z"] * 200


GOOD = Gram.of(*world(9, 1, knowing=True)).to_data()


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": -1},
        {"voters": ["b", "a"]},
        {"voters": [1, 2]},
        {"products": b"\0" * 8},
        {"products": np.full(15, np.nan).tobytes()},
        {"products": np.arange(15.0).tobytes()},
    ],
)
def test_what_cannot_be_the_sums_of_a_stack_is_refused(changed: dict[str, object]) -> None:
    """With a RemoteError."""
    assert Gram.from_data(GOOD).to_data() == GOOD
    with pytest.raises(RemoteError, match="the sums for a stack"):
        Gram.from_data(GOOD | changed)


def test_at_home_the_own_vote_weighs_more_where_that_gains() -> None:
    """Peer a knows its half of the line alone; densities that say nothing leave its vote too little weight there."""
    truth, votes, densities = world(500, 1, knowing=True)
    left = truth < 0
    mine = [(id, Vote(None, vote.values[left]), n) for id, vote, n in votes]
    flat = {id: np.zeros(left.sum()) for id in densities}
    home = Home(truth[left], mine, flat, "a")
    assert min(home.favour(None), home.favour(1.0)) >= 30
    answer = combine(mine, favour=("a", home.favour(None)))
    error = np.square(answer.predictions - truth[left]).mean()
    assert error < np.square(combine(mine).predictions - truth[left]).mean() / 4


def test_at_home_chance_moves_nothing() -> None:
    """A gain within its own standard error is none."""
    truth, votes, densities = world(500, 1, knowing=False)
    assert Home(truth, votes, densities, "a").favour(None) == 1.0
    assert (
        Home(
            truth[:0], [(id, Vote(None, np.zeros(0)), n) for id, _, n in votes], {id: np.zeros(0) for id in "ab"}, "a"
        ).favour(2.0)
        == 1.0
    )


def test_a_trial_tells_nothing_of_few_rows() -> None:
    """Sums stay, and sketches are left out."""
    truth, votes, densities = world(4, 1, knowing=True)
    trial = Trial.of(truth, votes, densities, "a", 5)
    assert (trial.usual, trial.errors_at(None), trial.calibration.rows) == (None, None, 4)
    truth, votes, densities = world(50, 1, knowing=True)
    many = Trial.of(truth, votes, densities, "a", 5)
    at = many.errors_at(1.0)
    assert at is not None
    assert at.values[-1] == pytest.approx(np.abs(combine(votes, "density", densities).predictions - truth).max())
