"""Laws of claims: their order, and that it does not matter how they arrive."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from gossip_support import claim, identity
from hypothesis import given
from hypothesis import strategies as st

from p2pml.gossip import Status, limits
from p2pml.gossip.records import PRECEDENCE, Record, is_unspecified, mark, merge

ME = identity(1)
peers = st.integers(2, 9).map(lambda index: identity(index).id)


@st.composite
def claims(draw: st.DrawFn) -> Record:
    """Draw a claim about one member, from few values, so that equal ranks are common."""
    status = draw(st.sampled_from(Status))
    return Record(
        ME.id,
        draw(st.sampled_from(["a", "b"])),
        draw(st.sampled_from([("10.0.0.1", 1), ("10.0.0.2", 1), ("0.0.0.0", 1)])),
        status,
        draw(st.integers(1, 2)),
        draw(st.integers(0, 1)),
        draw(st.integers(0, 1)),
        tuple(sorted(draw(st.sets(peers, max_size=4)))) if status is Status.SUSPECT else (),
    )


@given(claims(), claims())
def test_merging_commutes(one: Record, other: Record) -> None:
    """It does not matter which of two claims is heard first."""
    assert merge(one, other) == merge(other, one)


@given(claims(), claims(), claims())
def test_merging_associates(one: Record, other: Record, third: Record) -> None:
    """It does not matter through whom claims are heard, merged or one by one."""
    assert merge(merge(one, other), third) == merge(one, merge(other, third))


@given(claims(), claims())
def test_merging_is_idempotent(one: Record, other: Record) -> None:
    """It does not matter how often a claim is heard."""
    merged = merge(one, other)
    assert merge(one, one) == one
    assert merge(merged, other) == merged
    assert merge(one, merged) == merged


@given(claims(), claims())
def test_merging_never_goes_back(one: Record, other: Record) -> None:
    """What is merged has at least the rank of both."""
    assert merge(one, other).rank == max(one.rank, other.rank)


def test_claims_are_ordered_by_generation_nonce_incarnation_and_status() -> None:
    """Each of the four overrides all those after it."""
    rising = [
        claim(replace(ME, generation=generation, nonce=nonce), status, incarnation)
        for generation in (1, 2)
        for nonce in (0, 1)
        for incarnation in (0, 1)
        for status in PRECEDENCE
    ]
    for (place, one), (other_place, other) in permutations(enumerate(rising), 2):
        assert merge(one, other) == (one if place > other_place else other)


def test_accusers_add_up_to_their_limit() -> None:
    """Equal suspicions name all their accusers together; those kept are the same everywhere."""
    accusers = [identity(index) for index in range(2, 8)]
    one = claim(ME, Status.SUSPECT, 0, *accusers[:3])
    other = claim(ME, Status.SUSPECT, 0, *accusers[3:])
    assert merge(one, other).accusers == tuple(sorted(peer.id for peer in accusers))[: limits.ACCUSERS_LIMIT]


def test_an_address_that_can_be_reached_wins_over_one_that_cannot() -> None:
    """Of equal claims, the one that somebody completed with a real address is kept."""
    vague = claim(replace(ME, address=("0.0.0.0", 7946)))
    assert is_unspecified(vague.address)
    assert merge(vague, claim(ME)) == claim(ME)


def test_marks_depend_on_content_alone() -> None:
    """The hash of a claim is the same in every process and on every machine."""
    assert mark("a", 1, 2) == 13437270521215681092
    assert claim(ME).mark != claim(ME, Status.ALIVE, 1).mark


@pytest.mark.parametrize("status", Status)
def test_suspects_still_take_part(status: Status) -> None:
    """A member is live until the verdict."""
    assert claim(ME, status).live == (status in (Status.ALIVE, Status.SUSPECT))
