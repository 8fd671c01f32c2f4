"""What a node asks of the world, in the order in which it is to be done, and what it has to tell."""

from __future__ import annotations

from typing import TypeAlias

from .records import Address, Member, Status
from .value import value


@value
class MemberChanged:
    """Another member appeared, or its name, address, status or generation changed.

    `before` is its status until now, `None` if it was not known. Of itself a node never tells this.
    """

    member: Member
    before: Status | None


@value
class EntryChanged:
    """Another member's catalogue entry has a new value, or is gone (`None`). Own writes are not told."""

    owner: str
    key: str
    value: bytes | None


@value
class IdentityConflict:
    """Another process runs under this identity and has the better right to it: this node is silent now.

    `address` is the other's, as it claims it. The way out is to give one of the two its own state folder.
    """

    id: str
    address: Address


@value
class GenerationRaised:
    """The cluster remembers a later run of this identity (an old disk was restored): a higher one was taken.

    Persist `generation` before doing the effects that follow it. `Node.me` has it already, and the node has
    written its own catalogue entries anew.
    """

    generation: int


@value
class SecretRefused:
    """Somebody at this address speaks without a secret of this cluster. Told once: the counters say how often."""

    address: Address


Change: TypeAlias = MemberChanged | EntryChanged | IdentityConflict | GenerationRaised | SecretRefused


@value
class SendDatagram:
    """Send one datagram of at most 1,200 bytes. It may be lost, and a send that fails is not reported."""

    to: Address
    data: bytes


@value
class OpenStream:
    """Send one request and bring back its answer as `StreamAnswered(token)`, or `StreamFailed(token)`.

    At most 4 MiB each way; give up within some seconds.
    """

    to: Address
    data: bytes
    token: int


@value
class AnswerStream:
    """Answer the `StreamReceived` of this token. Empty data means that the request was refused."""

    token: int
    data: bytes


@value
class SetTimer:
    """Bring back `TimerFired(token)` at this time, on the scale of the `now` that `handle` is given."""

    at: float
    token: int


@value
class Notify:
    """Tell the daemon that something changed."""

    change: Change


Effect: TypeAlias = SendDatagram | OpenStream | AnswerStream | SetTimer | Notify
