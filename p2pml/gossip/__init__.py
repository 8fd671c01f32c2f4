"""The protocol, without IO: membership, the shared catalogue and what is spread by gossip."""

from __future__ import annotations

from .effects import (
    AnswerStream,
    Change,
    Effect,
    EntryChanged,
    GenerationRaised,
    IdentityConflict,
    MemberChanged,
    Notify,
    OpenStream,
    SecretRefused,
    SendDatagram,
    SetTimer,
)
from .events import (
    DatagramReceived,
    Event,
    Join,
    Leave,
    Moved,
    SetEntry,
    Start,
    StreamAnswered,
    StreamFailed,
    StreamReceived,
    TimerFired,
    Unreachable,
)
from .node import Node
from .records import Address, Me, Member, Status
from .settings import Settings

__all__ = [
    "Address",
    "AnswerStream",
    "Change",
    "DatagramReceived",
    "Effect",
    "EntryChanged",
    "Event",
    "GenerationRaised",
    "IdentityConflict",
    "Join",
    "Leave",
    "Me",
    "Member",
    "MemberChanged",
    "Moved",
    "Node",
    "Notify",
    "OpenStream",
    "SecretRefused",
    "SendDatagram",
    "SetEntry",
    "SetTimer",
    "Settings",
    "Start",
    "Status",
    "StreamAnswered",
    "StreamFailed",
    "StreamReceived",
    "TimerFired",
    "Unreachable",
]
