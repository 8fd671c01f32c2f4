"""Laws of whom to ask: few peers where questions cost more than votes, many where votes take long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pml.peer.covering import QUESTION, cover

RING = {f"p{at}": [f"p{(at + by) % 9}" for by in range(3)] for at in range(9)}
"""Nine peers, each of whose models it holds itself, and two others after it."""


def asked(vote: float, ahead: float = 0.0, holders: dict[str, list[str]] = RING) -> dict[str, list[str]]:
    return cover(holders, lambda voter: vote, lambda holder: ahead, "p0")


def test_quick_votes_are_asked_of_few() -> None:
    """Three of nine hold all models here, and it makes no difference how far away all are."""
    assert len(asked(QUESTION / 10)) == len(asked(QUESTION / 10, ahead=0.05)) == 3


def test_long_votes_are_cast_by_their_owners_at_the_same_time() -> None:
    """Nobody has to cast a second one before the others have cast their first."""
    assert all(len(voters) == 1 for voters in asked(100 * QUESTION).values())


def test_what_is_far_away_is_asked_for_what_is_not_here() -> None:
    """Also where votes take long."""
    here = {"a": ["b", "p0"], "b": ["b", "p0"], "c": ["b", "p0"]}
    assert asked(0.01, ahead=0.05, holders=here) == {"p0": ["a", "b", "c"]}
    assert asked(0.01, ahead=0.05, holders=here | {"d": ["b"]})["b"][0] == "d"


@given(st.dictionaries(st.text("abc", min_size=1), st.lists(st.sampled_from("xyz"), unique=True)), st.floats(0, 1))
def test_each_vote_is_asked_once_of_one_who_holds_it(holders: dict[str, list[str]], vote: float) -> None:
    """And one that nobody holds of nobody."""
    found = [(voter, holder) for holder, voters in asked(vote, holders=holders).items() for voter in voters]
    assert sorted(voter for voter, _ in found) == sorted(voter for voter in holders if holders[voter])
    assert all(holder in holders[voter] for voter, holder in found)
