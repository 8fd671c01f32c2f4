"""Laws of votes that are added up in pieces: the answer is that of all of them at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.ensemble.combine import Cast, combine
from p2pml.ensemble.sums import Sum
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError

RULES = ("mean", "weighted", "density")


def drawn(peers: int, classes: bool, seed: int) -> tuple[list[Cast], dict[str, Any]]:
    """Votes on four rows, of peers that do not all know the same classes, and log-densities that are far apart."""
    rng = np.random.default_rng(seed)
    casts: list[Cast] = []
    for at in range(peers):
        known = tuple("abcd"[: rng.integers(1, 5)]) if classes else None
        values = rng.dirichlet(np.ones(len(known)), 4) if known else rng.normal(0, 1e3, 4)
        casts.append((f"{at:02}", Vote(known, values), int(rng.integers(0, 1000))))
    return casts, {peer: rng.normal(-1e3, 1e3, 4) for peer, *_ in casts}


def in_pieces(casts: list[Cast], densities: dict[str, Any], rule: str, heat: float, cuts: list[int]) -> Sum:
    """The sum of sums, with a cut after each number of votes."""
    logs = {
        peer: (np.log(max(rows, 1)) + densities[peer]) / heat if rule == "density" else np.full(4, np.log(max(rows, 1)))
        for peer, _, rows in casts
    }
    each = [Sum.of(vote, np.zeros(4) if rule == "mean" else logs[peer]) for peer, vote, _ in casts]
    ends = sorted({*(cut % len(each) for cut in cuts), 0, len(each)})
    return Sum.total([Sum.total(each[start:end]) for start, end in pairwise(ends)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.booleans(), st.sampled_from(RULES), st.lists(st.integers(0, 11)), st.integers(0, 999))
def test_any_pieces_give_the_answer_of_all(peers: int, classes: bool, rule: str, cuts: list[int], seed: int) -> None:
    """To 1e-9 of the largest number, by every rule that weighs votes, also where a weight is e^3000 times another."""
    casts, densities = drawn(peers, classes, seed)
    whole = combine(casts, rule, densities, 3.0)
    pieces = in_pieces(casts, densities, rule, 3.0, cuts).answer()
    if classes:
        assert pieces.classes == whole.classes
        assert np.abs(np.asarray(pieces.probabilities) - np.asarray(whole.probabilities)).max() < 1e-9
    else:
        assert np.allclose(np.asarray(pieces.predictions), np.asarray(whole.predictions), rtol=1e-9, atol=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.lists(st.integers(0, 17)))
def test_a_tie_stays_a_tie(half: list[bool], cuts: list[int]) -> None:
    """Votes of 0 and 1 are added up as whole numbers, so the first class is predicted however they are cut."""
    ones = np.array([[1.0, 0.0]] * 4)
    sides = [side for first in half for side in (first, not first)]
    casts: list[Cast] = [
        (f"{at:02}", Vote(("a", "b"), ones if side else ones[:, ::-1]), 1) for at, side in enumerate(sides)
    ]
    assert in_pieces(casts, {}, "mean", 1.0, cuts).answer().predictions == ["a"] * 4


@pytest.mark.parametrize("classes", [True, False])
def test_a_sum_travels_whole(classes: bool) -> None:
    """Bit for bit."""
    casts, densities = drawn(5, classes, 1)
    sent = in_pieces(casts, densities, "density", 1.0, [])
    back = Sum.from_data(sent.to_data(), 4, 5)
    assert back.classes == sent.classes
    for name in ("top", "weight", "values"):
        assert (getattr(back, name) == getattr(sent, name)).all()


@pytest.mark.parametrize(
    "more",
    [
        {"top": np.full(4, np.nan)},
        {"top": np.full(4, -1e301)},
        {"weight": np.full(4, 0.5)},
        {"weight": np.full(4, 5.1)},
        {"values": np.ones((4, 2))},
        {"values": np.ones(3)},
        {"classes": ["b", "a"]},
        {"classes": None},
        {"more": np.ones(4)},
    ],
)
def test_what_cannot_be_a_sum_of_votes_is_refused(more: dict[str, Any]) -> None:
    """With a RemoteError: no weight is lost or made up, and probabilities add up to the weights."""
    vote = Vote(("a", "b"), np.array([[0.25, 0.75]] * 4))
    data = Sum.total([Sum.of(vote, np.zeros(4))] * 5).to_data()
    Sum.from_data(data, 4, 5)
    with pytest.raises(RemoteError, match="sum of votes"):
        Sum.from_data(
            data | {name: each.tobytes() if isinstance(each, np.ndarray) else each for name, each in more.items()}, 4, 5
        )
