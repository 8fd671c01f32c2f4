"""What a peer says of its work, as a small entry of the catalogue: so that any peer can show the whole cluster.

An entry changes only where its content did, and at most every few seconds: a cluster that is asked nothing is silent.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from p2pml.errors import RemoteError

PULSE = "pulse"
"""The key in the catalogue."""

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(max_length=300)]


class Answered(msgspec.Struct, frozen=True):
    """An answer that the peer gave: when (s since 1970), on how many rows, with whose votes, and how fast (s)."""

    at: Amount
    rows: Count
    cast: Count
    expected: Count
    took: Amount


class EnsembleScore(msgspec.Struct, frozen=True):
    """A score of the ensemble on all peers' held-out rows that the peer was asked for."""

    at: Amount
    epoch: Count
    """The highest fit epoch among the members at that time."""
    metric: Name
    value: float
    rows: Count


class LastTraining(msgspec.Struct, frozen=True):
    """What was trained last, and how long it took (s)."""

    model: Name
    took: Amount


class Pulse(msgspec.Struct, frozen=True):
    """`started` is in seconds since 1970, `load` is rows voted on per second over the last half minute."""

    started: Amount
    load: Amount = 0.0
    training: LastTraining | None = None
    answer: Answered | None = None
    score: EnsembleScore | None = None


def write(pulse: Pulse) -> bytes:
    """The entry's value."""
    return msgspec.msgpack.encode(pulse)


def read(raw: bytes) -> Pulse:
    """The other way; raises `RemoteError` on anything but what `write` gives."""
    try:
        pulse = msgspec.msgpack.decode(raw, type=Pulse)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"not a pulse: {error}") from error
    numbers = [pulse.started, pulse.load]
    numbers += [pulse.training.took] if pulse.training else []
    numbers += [pulse.answer.at, pulse.answer.took] if pulse.answer else []
    numbers += [pulse.score.at, pulse.score.value] if pulse.score else []
    if not all(math.isfinite(number) for number in numbers):
        raise RemoteError("not a pulse: a number is not finite")
    return pulse
