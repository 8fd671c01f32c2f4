"""Who is expected to vote, and why somebody cannot: decided from what live peers say of their models and schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .consensus import consensus
from .fields import Schema
from .summary import ModelState, Summary

SCHEMA_UNKNOWN = "its schema has not arrived yet"


@dataclass(frozen=True, slots=True)
class Decided:
    """The schema under which is voted, None where nobody can; by peer id, why somebody is expected but cannot vote.

    `misfits` are those of the absent whose schema does not fit the others'.
    """

    schema: Schema | None
    absent: Mapping[str, str]
    misfits: Mapping[str, str]


class Electorate:
    """Decides, and keeps the schemas that it was shown."""

    def __init__(self) -> None:
        self._schemas: dict[str, Schema] = {}
        self._agreed: tuple[object, Schema | None, Mapping[str, str]] = (None, None, {})

    def schema(self, fingerprint: str) -> Schema | None:
        """The schema of this fingerprint; None where it was not shown here."""
        return self._schemas.get(fingerprint)

    def learn(self, schema: Schema) -> None:
        """Remember a schema under its fingerprint."""
        self._schemas[schema.fingerprint] = schema

    def decide(self, said: Mapping[str, Summary | None]) -> Decided:
        """Who of the live peers votes, by what each says of its model: None where nothing can be read."""
        known = {
            id: (summary.schema, summary.rows)
            for id, summary in said.items()
            if summary and summary.voting and summary.schema in self._schemas
        }
        schema, misfits = self._agree(known)
        reasons = {id: misfits.get(id) or _why_absent(summary, id in known) for id, summary in said.items()}
        return Decided(schema, {id: why for id, why in reasons.items() if why is not None}, misfits)

    def _agree(self, known: dict[str, tuple[str, int]]) -> tuple[Schema | None, Mapping[str, str]]:
        """The consensus; it is computed anew only when a schema or a number of rows has changed."""
        if self._agreed[0] != known:
            schemas = {id: (self._schemas[fingerprint], rows) for id, (fingerprint, rows) in known.items()}
            self._agreed = (known, *consensus(schemas))
        return self._agreed[1], self._agreed[2]


def _why_absent(summary: Summary | None, schema_known: bool) -> str | None:
    if summary is None:
        return "it has said nothing of a model yet"
    if not summary.voting:
        if summary.state is ModelState.FAILED:
            return f"it has no model: {summary.reason}"
        return "it is starting" if summary.state is ModelState.LOADING else "it is training its first model"
    return None if schema_known else SCHEMA_UNKNOWN
