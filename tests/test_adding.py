"""Laws of sums between peers: each says whose votes are in it, and what cannot be so is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from town import plan

from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError
from p2pml.peer.adding import Partial, read_partial
from p2pml.peer.ballots import Adding, Ballot, Wanted

ANN, BOB = Wanted("a" * 32, "model-a"), Wanted("b" * 32, "model-b")
HOLDERS = {ANN.owner: {ANN.owner}, BOB.owner: {BOB.owner, ANN.owner}}
WARM = Adding(temperature=2.0)


def sent(adding: Adding = WARM, *, dense: bool = True) -> Any:
    """The sum of two votes, both cast by Ann, as it travels."""
    density = np.array([-1.0, -2.0]) if dense else None
    cast = [(Ballot(each.owner, each.model, 7, Vote(None, np.ones(2)), density), ANN.owner) for each in (BOB, ANN)]
    return msgspec.msgpack.decode(msgspec.msgpack.encode(Partial.of(cast, adding).to_data()))


def read(data: Any, adding: Adding = WARM) -> Partial:
    return read_partial(data, 2, [ANN, BOB], adding, HOLDERS)


def test_a_sum_names_every_vote_that_is_in_it() -> None:
    """Whose model, which one, and who cast it."""
    counted = read(sent()).counted
    assert [(each.owner, each.model, each.rows, each.by) for each in counted] == [
        (ANN.owner, ANN.model, 7, ANN.owner),
        (BOB.owner, BOB.model, 7, ANN.owner),
    ]


def test_densities_are_added_up_where_all_have_them() -> None:
    """Those alone tell how unlikely a row is; with a temperature they weigh votes too."""
    warm, even, none = read(sent()), read(sent(Adding()), Adding()), read(sent(dense=False))
    assert (warm.dense is None, even.dense is None, none.dense is None) == (False, True, True)
    assert warm.known is not None
    assert warm.known == pytest.approx(np.log(14) + np.array([-1.0, -2.0]))
    assert (even.known is None, none.known is None) == (False, True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: {}, "read"),
        (lambda data: None, "read"),
        (lambda data: data | {"counted": []}, "twice, or none"),
        (lambda data: data | {"counted": [data["counted"][0]] * 2}, "twice, or none"),
        (lambda data: data | {"counted": [["c" * 32, "model-c", 7, ANN.owner]]}, "not wanted"),
        (lambda data: data | {"counted": [[BOB.owner, "another", 7, ANN.owner]]}, "not wanted"),
        (lambda data: data | {"counted": [[ANN.owner, ANN.model, 7, BOB.owner]]}, "not wanted"),
        (lambda data: data | {"counted": [[ANN.owner, ANN.model, -7, ANN.owner]]}, "read"),
        (lambda data: data | {"counted": data["counted"][:1]}, "as many votes"),
        (lambda data: data | {"known": None}, "has them not"),
        (lambda data: data | {"dense": None}, "has them not"),
        (lambda data: data | {"known": b"\xff" * 16}, "not finite"),
        (lambda data: data | {"dense": data["dense"] | {"classes": ["a"]}}, "other classes"),
    ],
)
def test_what_is_no_such_sum_is_refused(change: Any, why: str) -> None:
    """With a RemoteError: nobody counts a vote twice, invents one, or casts it in another's place."""
    with pytest.raises(RemoteError, match=why):
        read(change(sent()))


def test_only_rules_that_weigh_votes_let_them_be_added_up() -> None:
    """A median, a stack and how sure an answer is take every single vote."""
    assert plan("auto", 3.0).adding == plan("local", 3.0).adding == Adding(temperature=3.0)
    assert plan("auto", None).adding == plan("mean").adding == Adding()
    assert plan("weighted").adding == Adding(by_rows=True)
    assert plan("density").adding == Adding(temperature=1.0)
    assert [plan(rule).adding for rule in ("median", "trimmed-mean", "stacked")] == [None] * 3
    assert plan("auto", usual={}).adding is plan("auto", level=0.9).adding is None
