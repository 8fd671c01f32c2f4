"""What is claimed about one member, and the order of such claims: the join of two is always the stronger.

A claim is compared by generation, boot nonce, incarnation and status, in this order. The nonce decides only
between two processes that run under one identity and generation (a copied state folder): all observers then
keep the same one of the two. Only the member itself raises the first three; others can only strengthen the
status. As the join of two claims is the greater one, it does not matter in which order they are heard, how
often, or through whom.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeAlias

from p2pml.errors import BadInput

from . import limits
from .value import value

if TYPE_CHECKING:
    from .messages import Line
    from .wire import Part

Address: TypeAlias = tuple[str, int]
"""An IP address (never a host name) and a port, the same for UDP and TCP."""


class Status(StrEnum):
    """What is believed of a member."""

    ALIVE = "alive"
    """It said so itself, and nobody doubts it."""
    SUSPECT = "suspect"
    """Somebody's probes of it failed; it has until the deadline to refute."""
    DEAD = "dead"
    """It did not refute in time. It may still come back, by raising its incarnation or its generation."""
    LEFT = "left"
    """It said that it goes. Only a new generation brings it back, or its own refutation of a forged leave."""


PRECEDENCE = (Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT)
"""Within one incarnation a later status overrides an earlier one."""

STRENGTH = {status: strength for strength, status in enumerate(PRECEDENCE)}


@value
class Member:
    """A member as it is seen by this node. `address` is where it is sent to: where it was last heard from."""

    id: str
    name: str
    address: Address
    status: Status
    generation: int
    incarnation: int


@value
class Me:
    """This node's own identity.

    `id`: 32 lower-case hexadecimal characters, the first 16 bytes of the hash of the public key.
    `generation`: at least 1, higher at each start, persisted before use. `nonce`: 64 random bits, new at
    each start.
    """

    id: str
    name: str
    cluster: str
    address: Address
    generation: int
    nonce: int

    def __post_init__(self) -> None:
        """Refuse what no other peer would accept."""
        check_id(self.id)
        check_word(self.name, "peer name (--name)")
        check_word(self.cluster, "cluster name (--cluster)")
        check_address(self.address)
        if not 1 <= self.generation < limits.GENERATION_LIMIT:
            raise BadInput(f"the generation {self.generation} is not between 1 and {limits.GENERATION_LIMIT - 1}")
        if not 0 <= self.nonce < limits.NONCE_LIMIT:
            raise BadInput("the boot nonce is not a number of 64 bits")


STATUS_BITS, INCARNATION_BITS, NONCE_BITS = 2, 32, 64
STRENGTH_BITS = INCARNATION_BITS + STATUS_BITS


@dataclass(slots=True, unsafe_hash=True)
class Record:
    """One claim about one member. `accusers`: who says so of a suspect, sorted, at most four.

    It is a value: nothing changes one, though the fields that are computed keep the class from being called so.
    """

    id: str
    name: str
    address: Address
    status: Status
    generation: int
    nonce: int
    incarnation: int
    accusers: tuple[str, ...] = ()
    epoch: tuple[int, int] = field(init=False, compare=False, repr=False)
    """Which run of the member this is about: generation and boot nonce."""
    rank: int = field(init=False, compare=False, repr=False)
    """Generation, nonce, incarnation and status as one number: what claims are compared by."""
    live: bool = field(init=False, compare=False, repr=False)
    """Whether the member takes part: a suspect does, until the verdict."""
    mark: int = field(init=False, compare=False, repr=False)
    """The claim's part of the hash of a node's tables."""
    part: Part | None = field(init=False, compare=False, repr=False, default=None)
    """The claim as a message and as it is written in packets, once it has been: many nodes of a simulation tell it."""
    line: Line | None = field(init=False, compare=False, repr=False, default=None)
    """The member's line in the last digest: a large table is compared often, and most lines are as they were."""

    def __post_init__(self) -> None:
        """Compute once what is compared often."""
        status = STRENGTH[self.status]
        self.epoch = (self.generation, self.nonce)
        run = self.generation << NONCE_BITS | self.nonce
        self.rank = run << STRENGTH_BITS | self.incarnation << STATUS_BITS | status
        self.live = status < STRENGTH[Status.DEAD]
        self.mark = mark(self.id, self.generation, self.nonce, self.incarnation, status)

    @property
    def strength(self) -> int:
        """Incarnation and status as one number, as digests carry it."""
        return self.rank & STRENGTH_MASK


STRENGTH_MASK = (1 << STRENGTH_BITS) - 1


def merge(one: Record, other: Record) -> Record:
    """Join two claims about one member: the higher rank, and between equals all that they say together."""
    if one.rank != other.rank:
        return one if one.rank > other.rank else other
    alike = one.address == other.address and one.name == other.name
    if alike and (one.accusers == other.accusers or {*other.accusers} <= {*one.accusers}):
        return one
    first = one if alike else max(one, other, key=_presentation)
    return believed(first, first.status, *one.accusers, *other.accusers)


def believed(record: Record, status: Status, *accusers: str) -> Record:
    """Say of a member what a claim says, with this status and these accusers; it is the same one if it says so."""
    named = tuple(sorted(set(accusers))[: limits.ACCUSERS_LIMIT])
    if record.status is status and record.accusers == named:
        return record
    of = record
    return _claim(of.id, of.name, of.address, status, of.generation, of.nonce, of.incarnation, named)


_claim = lru_cache(maxsize=limits.MEMBERS_LIMIT)(Record)
"""Makes a claim; the nodes of a simulation share those to which they all come, each by a way of its own."""


def _presentation(record: Record) -> tuple[bool, Address, str]:
    """Order equal claims that show different names or addresses; one that can be reached is greater."""
    return (not is_unspecified(record.address), record.address, record.name)


@lru_cache(maxsize=8 * limits.MEMBERS_LIMIT)
def mark(*parts: str | int) -> int:
    """Hash to 64 bits, alike on every machine and in every process; 0 is the mark of nothing."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def is_unspecified(address: Address) -> bool:
    """Whether the address means `every interface of mine`, which nobody else can send to."""
    return address[0] in ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound to


def check_id(peer: str) -> None:
    """Raise `BadInput` unless the text is a peer's id."""
    if len(peer) != 32 or not set(peer) <= set("0123456789abcdef"):
        raise BadInput(f"{peer!r} is no peer id: it takes 32 lower-case hexadecimal characters")


def check_word(word: str, what: str) -> None:
    """Raise `BadInput` unless the word can be shown to people and fits its limit."""
    if not is_word(word):
        raise BadInput(f"the {what} {word!r} cannot be used: it takes 1 to {limits.NAME_LIMIT} bytes of printable text")


def is_word(word: str) -> bool:
    """Whether the word is printable (it will be shown on terminals) and within its limit."""
    return bool(word) and word.isprintable() and len(word.encode()) <= limits.NAME_LIMIT


def check_address(address: Address) -> None:
    """Raise `BadInput` unless the address is an IP literal with a port."""
    host, port = address
    try:
        ip_address(host)
    except ValueError:
        raise BadInput(f"{host!r} is no IP address: resolve host names first") from None
    if not 0 < port < 65536:
        raise BadInput(f"{port} is no port: it takes 1 to 65535")
