"""What a peer says when the rows that it is asked about have moved, as a small entry of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec

from p2pml.ensemble.drift import NOVELTY
from p2pml.errors import RemoteError

DRIFT = "drift"
"""The key in the catalogue; it is there as long as the alert stands, and goes before other entries."""
MOST = 8
"""Columns that are named."""
LONGEST = 100
"""Characters of a column's name in an alert: eight of them fit an entry in any script."""

Name = Annotated[str, msgspec.Meta(max_length=LONGEST)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Alert(msgspec.Struct, frozen=True):
    """Since when (s since 1970) which columns have moved, and how many more, found among so many rows; and whether such
    rows are novel to all peers."""

    since: Annotated[float, msgspec.Meta(ge=0)]
    columns: Annotated[list[Name], msgspec.Meta(max_length=MOST)]
    more: Count
    rows: Count
    novel: bool = False

    @classmethod
    def of(cls, since: float, moved: Sequence[tuple[str, str]], rows: int) -> Alert:
        """An alert for all these columns, each (kind, name)."""
        names = [name[:LONGEST] for kind, name in moved if kind != NOVELTY]
        return cls(since, names[:MOST], max(0, len(names) - MOST), rows, len(names) < len(moved))


def write(alert: Alert) -> bytes:
    """The entry's value."""
    return msgspec.msgpack.encode(alert)


def read(raw: bytes) -> Alert:
    """The other way; raises `RemoteError` on anything but what `write` gives."""
    try:
        alert = msgspec.msgpack.decode(raw, type=Alert)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"not an alert: {error}") from error
    if not math.isfinite(alert.since):
        raise RemoteError("not an alert: a time that is not finite")
    return alert
