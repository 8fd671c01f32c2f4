"""Votes between peers: a question names models by owner and digest, and each ballot says whose model cast it.

One question may ask its receiver for several models: its own, and those that it holds replicas of. What comes back
names each model again, so that an answer counts every model once, whoever cast its vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from p2pml.ensemble.typed import Typed
from p2pml.ensemble.values import Floats
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError

MAX_MODELS = 256
"""Models that one question names, at most: far more than a peer holds."""
FEW = 128
"""Rows up to which a question is encoded once another peer is asked; of more at once, as it is made in a thread."""
MAX_REASON = 300
"""Characters of why a vote was not cast: one sentence."""


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """A model whose vote is wanted: the id of the peer that trained it, and its digest."""

    owner: str
    model: str


class Adding(msgspec.Struct, frozen=True):
    """How votes are added up: evenly or by their models' training rows, and, where there is a temperature, by their
    densities too: of those one vote may lack its own, and then it is the former that counts."""

    by_rows: bool = False
    temperature: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote, whose model cast it, that model's digest, and the number of rows that it was trained on; and, where one
    was asked for in the space that the owner's density is in, its log-density at each row."""

    owner: str
    model: str
    rows: int
    vote: Vote
    density: Floats | None = None

    def to_data(self) -> dict[str, object]:
        """As plain data for msgpack; `read_ballots` is the other end."""
        density = None if self.density is None else self.density.astype("<f8").tobytes()
        vote = self.vote.to_data()
        return {"owner": self.owner, "model": self.model, "rows": self.rows, "vote": vote, "density": density}


@dataclass(frozen=True, slots=True)
class Refused:
    """A vote that was wanted of a peer which cannot cast it, and why."""

    owner: str
    why: str

    def to_data(self) -> dict[str, object]:
        """As plain data for msgpack; `read_ballots` is the other end."""
        return {"owner": self.owner, "why": self.why}


Cast = Ballot | Refused


class Question:
    """Rows that all voters are asked about; they are encoded once, however many peers are asked."""

    def __init__(self, rows: Typed, first_row: int, space: str | None) -> None:
        self.rows, self.first_row, self.space = rows, first_row, space
        self._typed = self._encoded() if rows.rows > FEW else None
        self._plain: msgspec.Raw | None = None

    def packed(self, wanted: Sequence[Wanted], adding: Adding | None = None) -> bytes:
        """What one peer is asked over a link: the vote of each of these models on the rows, or their sum."""
        if self._typed is None:
            self._typed = self._encoded()
        asked = {"rows": self._typed, "first_row": self.first_row, "space": self.space, "models": wanted}
        return msgspec.msgpack.encode(asked if adding is None else asked | {"adding": adding})

    def body(self, wanted: Sequence[Wanted]) -> bytes:
        """The same over HTTP, with the rows as any version reads them."""
        if self._plain is None:
            self._plain = msgspec.Raw(msgspec.msgpack.encode(dict(self.rows)))
        asked = {"columns": self._plain, "first_row": self.first_row, "space": self.space, "models": wanted}
        return msgspec.msgpack.encode(asked)

    def _encoded(self) -> msgspec.Raw:
        return msgspec.Raw(msgspec.msgpack.encode(self.rows.to_data()))


class PackedQuestion(msgspec.Struct):
    """What `Question.packed` is read as; the rows are checked by `Typed.from_data`."""

    rows: dict[str, Any]
    models: Annotated[list[Wanted], msgspec.Meta(min_length=1, max_length=MAX_MODELS)]
    first_row: Annotated[int, msgspec.Meta(ge=1)] = 1
    space: str | None = None


class SumQuestion(PackedQuestion, kw_only=True):
    """The same where the votes are wanted as a sum, for which the others are asked."""

    adding: Adding


def ballots_data(cast: Sequence[Cast]) -> dict[str, object]:
    """The answer to a question that names models."""
    return {"ballots": [each.to_data() for each in cast]}


def read_ballots(data: object, rows: int, wanted: Sequence[Wanted], source: str) -> dict[str, Cast]:
    """What the peer `source` cast on `rows` rows for each owner whose model was wanted of it.

    Its own model it may have exchanged meanwhile; of another peer it casts the very model that was named, or none.
    RemoteError where the answer is none.
    """
    match data:
        case {"ballots": list(entries)} if len(entries) <= len(wanted):
            pass
        case {"vote": vote, **rest}:
            # A peer of 0.1 casts its own vote alone, and does not say whose it is.
            entries = [{"vote": vote, **rest, "owner": source}]
        case _:
            raise RemoteError("its vote cannot be read")
    named = {each.owner: each.model for each in wanted}
    found: dict[str, Cast] = {owner: Refused(owner, "its vote was not in the answer") for owner in named}
    for entry in entries:
        cast = _read(entry, rows)
        if cast.owner not in named:
            raise RemoteError("it cast a vote that was not wanted of it")
        if isinstance(cast, Ballot) and cast.owner != source and cast.model != named[cast.owner]:
            cast = Refused(cast.owner, "it holds another model of that peer")
        found[cast.owner] = cast
    return found


def _read(entry: object, rows: int) -> Cast:
    match entry:
        case {"owner": str(owner), "why": str(why)}:
            # Another machine wrote it, and a terminal would obey its control characters.
            return Refused(owner, "".join(sign if sign.isprintable() else " " for sign in why[:MAX_REASON]))
        case {"owner": str(owner), "model": str(model), "rows": int(trained_on), "vote": vote, **more} if (
            0 <= trained_on < 2**53
        ):
            return Ballot(owner, model, trained_on, Vote.from_data(vote, rows), _density(more.get("density"), rows))
    raise RemoteError("its vote cannot be read")


def _density(raw: object, rows: int) -> Floats | None:
    if raw is None:
        return None
    if not isinstance(raw, bytes) or len(raw) != 8 * rows:
        raise RemoteError("the densities beside its vote cannot be read")
    density = np.frombuffer(raw, "<f8").astype(np.float64)
    if not np.isfinite(density).all():
        raise RemoteError("a density beside its vote is not finite")
    return density
