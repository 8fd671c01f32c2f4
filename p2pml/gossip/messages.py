"""What nodes say to one another: a packet is its sender and a list of these."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from .records import Address, Record


class Ping(NamedTuple):
    """Are you there? Only `target` answers: another peer may live at its address by now."""

    sequence: int
    target: str


class Ack(NamedTuple):
    """I am here, or the member that you asked me to probe is. `state` is the hash of the answerer's tables."""

    sequence: int
    state: int


class PingRequest(NamedTuple):
    """Probe this member for me (SWIM §3.1)."""

    sequence: int
    target: str
    address: Address


class Nack(NamedTuple):
    """I am here, and the member that you asked me to probe does not answer me (Lifeguard §4.1)."""

    sequence: int


class Claim(NamedTuple):
    """One claim about one member."""

    record: Record


class Head(NamedTuple):
    """The catalogue of this owner is at this version: ask me for what you lack."""

    owner: str
    generation: int
    version: int


class Line(NamedTuple):
    """One member in a digest: the strongest claim heard, and how far its catalogue is known.

    All numbers are 0 for a member of whom nothing is known yet.
    """

    id: str
    generation: int
    strength: int
    collected: int
    version: int


class Digest(NamedTuple):
    """What I know: answer with what I lack, and with the lines where I know more than you.

    `complete`: all my live members are in it. `live`: how many they are.
    """

    complete: bool
    live: int
    lines: tuple[Line, ...]


class Wants(NamedTuple):
    """Send me what you know beyond these lines."""

    lines: tuple[Line, ...]


class Write(NamedTuple):
    """One version of one catalogue key; `None` marks a deleted one."""

    key: str
    version: int
    value: bytes | None


class Delta(NamedTuple):
    """The writes of one owner after `since`, up to and including `until`, in the order of their versions.

    `since` 0 replaces all that was known. `collected`: tombstones up to this version were dropped.
    """

    owner: str
    generation: int
    nonce: int
    collected: int
    since: int
    until: int
    writes: tuple[Write, ...]


class More(NamedTuple):
    """There is more that you lack than fits here: come and fetch it by stream.

    `live`: where all that is known of it is that the sender knows so many live members, more than you told of.
    """

    live: int = 0


Message: TypeAlias = Ping | Ack | PingRequest | Nack | Claim | Head | Digest | Wants | Delta | More


class Packet(NamedTuple):
    """Who speaks, in which of its runs, and what it says."""

    source: str
    generation: int
    nonce: int
    messages: tuple[Message, ...]
