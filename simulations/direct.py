"""The wire without reading: packets are real bytes, and carry the messages that they were written of.

Reading costs most of what a wire costs, as everything that comes from elsewhere is checked. In a simulation nothing
does; every so many packets the real reader reads too, and must come to the same messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pml.gossip import limits
from p2pml.gossip.messages import Packet
from p2pml.gossip.records import Me
from p2pml.gossip.wire import Part, Wire

SAMPLE = 64
"""One packet in so many is read from its bytes."""


class Sealed(bytes):
    """A packet as bytes, and as itself."""

    packet: Packet


class DirectWire(Wire):
    """A wire whose packets do not have to be read. What was written elsewhere is read as usual."""

    def __init__(self, cluster: str) -> None:
        """Speak for the cluster of this name."""
        super().__init__(cluster)
        self._opened = 0

    def seal(self, me: Me, parts: Sequence[Part]) -> bytes:
        """Make a packet of written messages, and keep them beside its bytes."""
        sealed = Sealed(super().seal(me, parts))
        sealed.packet = Packet(me.id, me.generation, me.nonce, tuple([message for message, _ in parts]))
        return sealed

    def open(self, data: bytes, limit: int) -> Packet:
        """Take the messages of a packet as they are; of a sample, see that its bytes say the same."""
        self._opened += 1
        if not isinstance(data, Sealed) or not data.startswith(self._envelope) or len(data) > limit:
            return super().open(data, limit)
        if self._opened % SAMPLE == 0:
            assert super().open(data, limits.STREAM_LIMIT) == data.packet, "a packet's bytes say something else"
        return data.packet
