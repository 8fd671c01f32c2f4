"""The envelope of every packet: protocol version and cluster. Sealed and opened here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import TypeAlias

from . import codec
from .codec import PacketError
from .messages import Claim, Message, Packet
from .records import Me, Record

Part: TypeAlias = tuple[Message, bytes]
"""A message and what is written of it."""

PROTOCOL = 1
"""The first byte of every packet. To bump it:

1. Try not to: a new message, or a field at the end of one, is ignored by older peers (`codec`).
2. Otherwise read both numbers and write the older one, for one release; a test keeps a stored packet of each.
3. In the release after it write the newer one, and in the next drop the older reader and say so in CHANGELOG.
"""

TAG_SIZE = 8
"""Bytes that name the cluster or, where it has a secret, authenticate the packet: to forge one takes 2^63 tries, and
no source is heard more than 128 times a second."""

OVERHEAD = 1 + TAG_SIZE + 1 + 18 + 9 + 9 + 3
"""Bytes of a sealed packet beside its messages, at most: the envelope, and the body's head."""


class Wire:
    """One cluster's way to put messages into packets."""

    def __init__(self, cluster: str, secrets: Sequence[bytes] = ()) -> None:
        """Speak for the cluster of this name. The first secret is written with, and all of them are read.

        So a secret is changed without a stop: every peer gets the new one as its second, then as its first, and then
        the old one goes.
        """
        tag = blake2b(cluster.encode(), digest_size=TAG_SIZE, person=b"p2pml-cluster").digest()
        self._envelope = bytes([PROTOCOL]) + tag
        self._keys = [blake2b(tag + secret, digest_size=32, person=b"p2pml-secret").digest() for secret in secrets]

    def part(self, message: Message) -> Part:
        """Write one message, to be sealed with others."""
        return self.claim(message.record) if type(message) is Claim else (message, codec.encode(message))

    def claim(self, record: Record) -> Part:
        """Write a claim, once for all packets that carry it."""
        if record.part is None:
            message = Claim(record)
            record.part = (message, codec.encode(message))
        return record.part

    def seal(self, me: Me, parts: Sequence[Part]) -> bytes:
        """Make a packet of messages that are written already."""
        written = [data for _, data in parts]
        if not self._keys:
            return codec.encode_body(me.id, me.generation, me.nonce, written, self._envelope)
        body = codec.encode_body(me.id, me.generation, me.nonce, written)
        return bytes([PROTOCOL]) + _code(self._keys[0], body) + body

    def open(self, data: bytes, limit: int) -> Packet:
        """Read a packet of at most `limit` bytes. Raises `PacketError`, and nothing else."""
        if len(data) > limit:
            raise PacketError("oversize", f"it has {len(data)} bytes, the limit is {limit}")
        if len(data) <= len(self._envelope):
            raise codec.malformed("it is too short to be one")
        if data[0] != PROTOCOL:
            raise PacketError("version", f"it is of protocol {data[0]}, this peer speaks {PROTOCOL}")
        tag, body = data[1 : len(self._envelope)], data[len(self._envelope) :]
        if self._keys:
            if not any(compare_digest(tag, _code(key, body)) for key in self._keys):
                raise PacketError("secret", "it was not written with a secret of this cluster")
        elif not data.startswith(self._envelope):
            raise PacketError("cluster", "it belongs to another cluster, or to one with a secret")
        return codec.decode_body(body)


def _code(key: bytes, body: bytes) -> bytes:
    """Authenticate a packet's body."""
    return blake2b(body, digest_size=TAG_SIZE, key=key, person=b"p2pml-packet").digest()
