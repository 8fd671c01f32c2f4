"""Whether parts can vote together: the schema that most peers share, and who does not fit it."""

from __future__ import annotations

from collections.abc import Mapping

from .fields import Field, Schema, columns_are
from .values import Kind

Peers = list[tuple[str, tuple[Schema, int]]]
Trait = tuple[str, str]

_PRESENT = "present"

_PLURAL = {
    Kind.NUMBER: "numbers",
    Kind.CATEGORY: "categories",
    Kind.BOOLEAN: "booleans",
    Kind.DATE: "dates",
    Kind.EMPTY: "no value",
}


def consensus(schemas: Mapping[str, tuple[Schema, int]]) -> tuple[Schema | None, dict[str, str]]:
    """The schema under which most peers can vote together, and a sentence for each peer that cannot.

    `schemas` maps peer ids to (schema, training rows). Target, task and each column are first settled by
    majority: of peers, then of their rows, then by name. Peers then join in the order of how far they are
    from that (then more rows, then id), each if it fits those that joined before. So at least one takes part,
    and the result depends on nothing but `schemas`. An empty column fits any kind; booleans fit categories,
    and the result then says categories.
    """
    if not schemas:
        return None, {}
    peers = sorted(schemas.items())
    first = peers[0][1][0]
    if all(schema == first for _, (schema, _) in peers):
        return first, {}
    majority = _majority(peers)

    def order(peer: tuple[str, tuple[Schema, int]]) -> tuple[int, int, str]:
        traits = _traits(peer[1][0])
        lacking = {trait for trait in majority - traits if trait[1] == _PRESENT}
        return len(traits - majority) + len(lacking), -peer[1][1], peer[0]

    agreed: Schema | None = None
    refused: dict[str, str] = {}
    for peer, (schema, _) in sorted(peers, key=order):
        if agreed is None:
            agreed = schema
        elif why := _difference(agreed, schema):
            refused[peer] = f"{why}: mend its file or its flags, and start it again"
        else:
            agreed = _widened(agreed, schema)
    return agreed, dict(sorted(refused.items()))


def _family(kind: Kind) -> str:
    """Kinds of one family vote together."""
    return Kind.CATEGORY.value if kind is Kind.BOOLEAN else kind.value


def _traits(schema: Schema) -> set[Trait]:
    """What has to agree, as (what, value); an empty column has no say about its kind."""
    traits = {("=target", schema.target), ("=task", schema.task), ("=kind", _family(schema.target_kind))}
    for field in schema.fields:
        traits.add((":" + field.name, _PRESENT))
        if field.kind is not Kind.EMPTY:
            traits.add(("." + field.name, _family(field.kind)))
    return traits


def _majority(peers: Peers) -> set[Trait]:
    """For each question the answer of most peers; for a column, whether more than half have it."""
    support: dict[Trait, tuple[int, int]] = {}
    for _, (schema, rows) in peers:
        for trait in _traits(schema):
            votes, weight = support.get(trait, (0, 0))
            support[trait] = (votes + 1, weight + rows)
    half = (len(peers) / 2, sum(rows for _, (_, rows) in peers) / 2)
    best: dict[str, tuple[tuple[int, int], str]] = {}
    for (what, value), strength in support.items():
        if (what not in best or (strength, value) > best[what]) and (value != _PRESENT or strength > half):
            best[what] = (strength, value)
    return {(what, value) for what, (_, value) in best.items()}


def _difference(agreed: Schema, schema: Schema) -> str:
    """In words how `schema` does not fit `agreed`; empty if it fits."""
    if schema.target != agreed.target:
        return f"its target is {schema.target!r} and that of the other peers is {agreed.target!r}"
    if schema.task != agreed.task:
        return f"its task is {schema.task} and that of the other peers is {agreed.task}"
    if _family(schema.target_kind) != _family(agreed.target_kind):
        ours, theirs = _PLURAL[schema.target_kind], _PLURAL[agreed.target_kind]
        return f"its target {schema.target!r} holds {ours} and that of the other peers {theirs}"
    kinds = {field.name: field.kind for field in schema.fields}
    theirs_by_name = {field.name: field.kind for field in agreed.fields}
    if missing := [name for name in theirs_by_name if name not in kinds]:
        return f"{columns_are(missing)} missing, which the other peers have"
    if extra := [name for name in kinds if name not in theirs_by_name]:
        return f"{columns_are(extra)} there, which the other peers do not have"
    for name, kind in kinds.items():
        if Kind.EMPTY not in (kind, theirs_by_name[name]) and _family(kind) != _family(theirs_by_name[name]):
            theirs = _PLURAL[theirs_by_name[name]]
            return f"its column {name!r} holds {_PLURAL[kind]} and that of the other peers {theirs}"
    return ""


def _widened(agreed: Schema, schema: Schema) -> Schema:
    kinds = {field.name: field.kind for field in schema.fields}
    return Schema(
        agreed.target,
        agreed.task,
        _wider(agreed.target_kind, schema.target_kind),
        tuple(Field(field.name, _wider(field.kind, kinds[field.name])) for field in agreed.fields),
    )


def _wider(first: Kind, second: Kind) -> Kind:
    if first is second or second is Kind.EMPTY:
        return first
    return second if first is Kind.EMPTY else Kind.CATEGORY
