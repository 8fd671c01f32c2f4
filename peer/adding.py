"""Sums of votes between peers: one peer asks others for some votes, and sends on what they add up to, and whose they
are.

So an answer of hundreds of peers costs whoever is asked tens of questions, and still names every vote.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from p2pml.ensemble.sums import Sum, read_floats
from p2pml.ensemble.values import Floats
from p2pml.errors import RemoteError

from .ballots import Adding, Ballot, Wanted


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """A vote that is in a sum: whose model cast it, that model's digest, the rows that it was trained on, and the id of
    the peer that cast it."""

    owner: str
    model: str
    rows: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    by: str


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """Some votes, added up: `plain` without their densities and `dense` with them, which is there at a temperature and
    where each vote has one. Then there also is `known`, shape (rows,): the logarithm of the sum of all densities times
    training rows."""

    counted: tuple[Counted, ...]
    plain: Sum
    dense: Sum | None = None
    known: Floats | None = None

    @classmethod
    def of(cls, cast: Sequence[tuple[Ballot, str]], adding: Adding, favour: tuple[str, float] | None = None) -> Partial:
        """Of ballots, each with the id of who cast it; `favour` is a peer, and a factor for its vote's weight."""
        cast = sorted(cast, key=lambda pair: pair[0].owner)
        plain, dense, known = [], [], []
        for ballot, _ in cast:
            more = float(np.log(favour[1])) if favour is not None and ballot.owner == favour[0] else 0.0
            rows = float(np.log(max(ballot.rows, 1)))
            even = np.full(len(ballot.vote.values), more + rows * adding.by_rows)
            plain.append(Sum.of(ballot.vote, even))
            if ballot.density is not None:
                known.append(rows + ballot.density)
                dense.append(Sum.of(ballot.vote, more + known[-1] / (adding.temperature or 1.0)))
        counted = tuple(Counted(ballot.owner, ballot.model, ballot.rows, by) for ballot, by in cast)
        if len(known) < len(cast):
            return cls(counted, Sum.total(plain))
        together = np.asarray(np.logaddexp.reduce(known, axis=0))
        return cls(counted, Sum.total(plain), None if adding.temperature is None else Sum.total(dense), known=together)

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack; `read_partial` is the other end."""
        return {
            "counted": self.counted,
            "plain": self.plain.to_data(),
            "dense": None if self.dense is None else self.dense.to_data(),
            "known": None if self.known is None else self.known.astype("<f8").tobytes(),
        }


def read_partial(
    data: object, rows: int, wanted: Sequence[Wanted], adding: Adding, holders: Mapping[str, Collection[str]]
) -> Partial:
    """What another peer added up of the votes that were wanted, some of which may be missing; `holders` are the ids of
    those who can cast each.

    A vote counts only if it is of the very model that was named, and cast by one of those; none counts twice.
    RemoteError where the answer is none.
    """
    try:
        return _read(data, rows, wanted, adding, holders)
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"its sum of votes cannot be read: {error}") from error


def _read(
    data: Any, rows: int, wanted: Sequence[Wanted], adding: Adding, holders: Mapping[str, Collection[str]]
) -> Partial:
    named = {each.owner: each.model for each in wanted}
    counted = msgspec.convert(data["counted"], tuple[Counted, ...])
    if not 0 < len({each.owner for each in counted}) == len(counted):
        raise ValueError("it counts a vote twice, or none")
    if any(named.get(each.owner) != each.model or each.by not in holders[each.owner] for each in counted):
        raise ValueError("it has a vote that was not wanted of it")
    plain = Sum.from_data(data["plain"], rows, len(counted))
    dense = None if data["dense"] is None else Sum.from_data(data["dense"], rows, len(counted))
    known = None if data["known"] is None else read_floats(data["known"], (rows,))
    if (dense is None) != (known is None or adding.temperature is None):
        raise ValueError("it has densities and has them not")
    if dense is not None and dense.classes != plain.classes:
        raise ValueError("its sums are of other classes")
    return Partial(counted, plain, dense, known)
