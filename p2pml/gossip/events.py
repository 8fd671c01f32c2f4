"""Everything that can happen to a node: the only things that change its state."""

from __future__ import annotations

from typing import TypeAlias

from .records import Address
from .value import value


@value
class Start:
    """The first event: timers begin, and the seeds are greeted. Seeds are IP addresses, tried for ever."""

    seeds: tuple[Address, ...] = ()


@value
class DatagramReceived:
    """A datagram arrived. Drain the socket before timers are fired (a bounded number at a time)."""

    source: Address
    data: bytes


@value
class StreamReceived:
    """A request came over a stream; exactly one `AnswerStream(token, …)` follows at once."""

    source: Address
    data: bytes
    token: int


@value
class StreamAnswered:
    """The answer to our `OpenStream` of this token."""

    token: int
    data: bytes


@value
class StreamFailed:
    """Our `OpenStream` of this token got no answer."""

    token: int


@value
class TimerFired:
    """A timer's time has come. Timers that were overtaken are still fired, and ignored by their token."""

    token: int


@value
class Join:
    """Somebody says that a peer may live at these addresses: an idempotent hint, never trusted."""

    addresses: tuple[Address, ...]


@value
class SetEntry:
    """Write an own catalogue entry, or delete it with `None`. Writing the same value again changes nothing.

    Raises `BadInput`, with no state changed, for a key or value past its limit or one key too many.
    """

    key: str
    value: bytes | None


@value
class Moved:
    """This machine is reached at another address now. Everybody is told; the same address again changes nothing.

    Raises `BadInput`, with no state changed, for what is no IP address with a port.
    """

    address: Address


@value
class Unreachable:
    """A member did not answer a request of the daemon: probe it at once. It is no verdict by itself."""

    id: str


@value
class Leave:
    """Go politely: the others are told at once, and the node is silent from then on."""


Event: TypeAlias = (
    Start
    | DatagramReceived
    | StreamReceived
    | StreamAnswered
    | StreamFailed
    | TimerFired
    | Join
    | SetEntry
    | Moved
    | Unreachable
    | Leave
)
