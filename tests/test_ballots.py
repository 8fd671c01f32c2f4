"""Laws of how votes travel: each names its model, and none is taken for another."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from p2pml.ensemble.fields import Field, Schema
from p2pml.ensemble.typed import Reader, Typed
from p2pml.ensemble.values import Kind
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError
from p2pml.peer.ballots import Ballot, Cast, PackedQuestion, Question, Refused, Wanted, ballots_data, read_ballots

ANN, BOB = Wanted("a" * 32, "model-a"), Wanted("b" * 32, "model-b")


def ballot(wanted: Wanted, density: Any = None) -> Ballot:
    return Ballot(wanted.owner, wanted.model, 7, Vote(None, np.array([1.0, 2.0])), density)


def sent(*cast: Cast, source: str = ANN.owner, wanted: tuple[Wanted, ...] = (ANN, BOB)) -> dict[str, Cast]:
    """The same after a trip over the wire."""
    return read_ballots(msgspec.msgpack.decode(msgspec.msgpack.encode(ballots_data(cast))), 2, wanted, source)


def test_a_question_names_the_models_that_it_wants() -> None:
    """The rows are encoded once; each peer is asked for its models."""
    schema = Schema("y", "regression", Kind.NUMBER, (Field("x", Kind.NUMBER),))
    question = Question(Reader(schema).read({"x": [1, None]}), 5, "s")
    asked = msgspec.msgpack.decode(question.body([ANN]))
    assert asked == {
        "columns": {"x": [1.0, None]},
        "first_row": 5,
        "space": "s",
        "models": [list(msgspec.to_builtins(ANN))],
    }
    packed = msgspec.msgpack.decode(question.packed([ANN]), type=PackedQuestion)
    assert (packed.models, packed.first_row, packed.space) == ([ANN], 5, "s")
    assert dict(Typed.from_data(packed.rows)) == {"x": [1.0, None]}


def test_a_ballot_carries_its_densities_or_is_refused() -> None:
    """With a RemoteError, like a vote."""
    back = sent(ballot(ANN, np.array([-1.0, -2.0])))[ANN.owner]
    assert isinstance(back, Ballot)
    assert back.density is not None
    assert back.density.tolist() == [-1.0, -2.0]
    for density in (b"", "text", np.array([np.nan, 0.0]).tobytes()):
        with pytest.raises(RemoteError, match="beside its vote"):
            read_ballots({"ballots": [ballot(ANN).to_data() | {"density": density}]}, 2, [ANN], ANN.owner)


def test_one_answer_holds_the_votes_of_several_models() -> None:
    """A holder casts its own vote and that of a replica; what it cannot cast it says, without control characters."""
    back = sent(ballot(ANN), Refused(BOB.owner, "it is \x1b[31mgone"))
    assert isinstance(back[ANN.owner], Ballot)
    assert back[BOB.owner] == Refused(BOB.owner, "it is  [31mgone")
    unsaid = sent(ballot(ANN))[BOB.owner]
    assert isinstance(unsaid, Refused)
    assert "not in the answer" in unsaid.why


def test_a_replica_is_the_very_model_and_an_owner_may_have_a_newer_one() -> None:
    """Of another peer's model, only the digest that was named is taken."""
    newer = Wanted(BOB.owner, "newer")
    assert isinstance(sent(ballot(newer), source=ANN.owner)[BOB.owner], Refused)
    assert isinstance(sent(ballot(newer), source=BOB.owner)[BOB.owner], Ballot)


def test_a_peer_of_the_first_version_casts_its_own_vote() -> None:
    """Its answer names nobody, so it is its own."""
    old = {"vote": Vote(None, np.array([1.0, 2.0])).to_data(), "rows": 7, "model": "m", "density": None}
    back = read_ballots(old, 2, [ANN], ANN.owner)[ANN.owner]
    assert isinstance(back, Ballot)
    assert (back.owner, back.model) == (ANN.owner, "m")


@pytest.mark.parametrize(
    "data",
    [None, {"ballots": [1, 2, 3]}, {"ballots": [1]}, {"ballots": [{"owner": "a" * 32}]}, {"ballots": "text"}],
)
def test_what_is_no_answer_is_refused(data: object) -> None:
    """With a RemoteError."""
    with pytest.raises(RemoteError, match="cannot be read"):
        read_ballots(data, 2, [ANN, BOB], ANN.owner)


def test_a_vote_that_nobody_asked_for_is_refused() -> None:
    """A peer cannot vote in the name of others at will."""
    with pytest.raises(RemoteError, match="not wanted"):
        sent(ballot(BOB), wanted=(ANN,))
