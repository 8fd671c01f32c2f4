"""Laws of who is expected to vote, and of why somebody cannot."""

from __future__ import annotations

from p2pml.ensemble.electorate import Electorate
from p2pml.ensemble.schema import Field, Kind, Schema
from p2pml.ensemble.summary import ModelState, Summary

SCHEMA = Schema("price", "regression", Kind.NUMBER, (Field("rooms", Kind.NUMBER),))
OTHER = Schema("kind", "classification", Kind.CATEGORY, (Field("rooms", Kind.NUMBER),))


def voting(schema: Schema, rows: int = 10) -> Summary:
    return Summary(ModelState.READY, "linear", voting=True, schema=schema.fingerprint, rows=rows)


def test_each_live_peer_votes_or_has_a_reason() -> None:
    """Silence, a start, a training, a failure, an unknown schema and one that does not fit are told apart."""
    electorate = Electorate()
    electorate.learn(SCHEMA)
    said = {
        "silent": None,
        "starts": Summary(ModelState.LOADING, "linear"),
        "trains": Summary(ModelState.TRAINING, "linear"),
        "failed": Summary(ModelState.FAILED, "linear", reason="no rows"),
        "one": voting(SCHEMA),
        "two": voting(SCHEMA),
        "other": voting(OTHER),
    }
    decided = electorate.decide(said)
    assert decided.schema == SCHEMA
    assert decided.absent == {
        "silent": "it has said nothing of a model yet",
        "starts": "it is starting",
        "trains": "it is training its first model",
        "failed": "it has no model: no rows",
        "other": "its schema has not arrived yet",
    }
    electorate.learn(OTHER)
    assert "its target is 'kind'" in electorate.decide(said).misfits["other"]
    assert electorate.decide(said).absent["other"] == electorate.decide(said).misfits["other"]


def test_where_nobody_can_vote_there_is_no_schema() -> None:
    """And everybody is named."""
    assert Electorate().decide({"one": voting(SCHEMA)}).schema is None
    assert list(Electorate().decide({"one": voting(SCHEMA)}).absent) == ["one"]
