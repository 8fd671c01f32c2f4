"""Messages as bytes and back: msgpack arrays, each field checked, and one error for whatever is wrong.

A message is an array whose first item says which; unknown messages are skipped and further items of a known
one are ignored, so that both can be added without a new protocol version (`wire.PROTOCOL` says when it
takes one). Ids are 16 raw bytes, addresses are packed IPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, TypeAlias

import msgpack

from p2pml.errors import RemoteError

from . import limits
from .messages import (
    Ack,
    Claim,
    Delta,
    Digest,
    Head,
    Line,
    Message,
    More,
    Nack,
    Packet,
    Ping,
    PingRequest,
    Wants,
    Write,
)
from .records import PRECEDENCE, STRENGTH, Address, Record, Status, is_word


class PacketError(RemoteError):
    """Bytes that are no packet of ours. `reason` is the word that drops are counted by."""

    def __init__(self, reason: str, detail: str) -> None:
        """Say what is wrong with the bytes."""
        super().__init__(f"a packet was dropped: {detail}")
        self.reason = reason


Fields: TypeAlias = Sequence[Any]

STRENGTH_LIMIT = limits.INCARNATION_LIMIT * len(PRECEDENCE)


def malformed(detail: str) -> PacketError:
    """Name what is wrong inside a packet of our own cluster and version."""
    return PacketError("malformed", detail)


# Fields: each takes what msgpack made of the bytes, and returns it checked.


def _number(value: Any, limit: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value < limit:  # bool is an int, and no number here
        raise malformed(f"{value!r:.40} is not a number from {least} to {limit - 1}")
    return value


def _id(value: Any) -> str:
    if type(value) is not bytes or len(value) != 16:
        raise malformed("an id is not 16 bytes")
    return value.hex()


def _word(value: Any) -> str:
    if type(value) is not str or not is_word(value):
        raise malformed("a name is not a printable word within its limit")
    return value


def _items(value: Any, most: int) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise malformed(f"a list is none, or longer than {most}")
    return value


def _address(host: Any, port: Any) -> Address:
    if type(host) is not bytes or len(host) not in (4, 16):
        raise malformed("an address is not 4 or 16 bytes")
    return _unpack_host(host), _number(port, 65536, 1)


@lru_cache(maxsize=limits.MEMBERS_LIMIT)
def _unpack_host(host: bytes) -> str:
    return str(ip_address(host))


@lru_cache(maxsize=limits.MEMBERS_LIMIT)
def _pack_host(host: str) -> bytes:
    return ip_address(host).packed


# Messages: one function to write the fields, one to read them.


def _record_fields(record: Record) -> list[Any]:
    host, port = record.address
    return [
        bytes.fromhex(record.id),
        record.name,
        _pack_host(host),
        port,
        STRENGTH[record.status],
        record.generation,
        record.nonce,
        record.incarnation,
        [bytes.fromhex(accuser) for accuser in record.accusers],
    ]


def _read_record(fields: Fields) -> Record:
    peer, name, host, port, status, generation, nonce, incarnation, accusers = fields[:9]
    named = tuple(_id(accuser) for accuser in _items(accusers, limits.ACCUSERS_LIMIT))
    if any(one >= other for one, other in pairwise(named)):
        raise malformed("the accusers are not in order")
    status = PRECEDENCE[_number(status, len(PRECEDENCE))]
    if named and status is not Status.SUSPECT:
        raise malformed("only a suspect has accusers")
    return Record(
        id=_id(peer),
        name=_word(name),
        address=_address(host, port),
        status=status,
        generation=_number(generation, limits.GENERATION_LIMIT, 1),
        nonce=_number(nonce, limits.NONCE_LIMIT),
        incarnation=_number(incarnation, limits.INCARNATION_LIMIT),
        accusers=named,
    )


def _read_line(value: Any) -> Line:
    peer, generation, strength, collected, version = _items(value, 5)
    return Line(
        _id(peer),
        _number(generation, limits.GENERATION_LIMIT),
        _number(strength, STRENGTH_LIMIT),
        _number(collected, limits.VERSION_LIMIT),
        _number(version, limits.VERSION_LIMIT),
    )


def _read_lines(value: Any) -> tuple[Line, ...]:
    return tuple(_read_line(line) for line in _items(value, limits.MEMBERS_LIMIT))


def _read_write(value: Any) -> Write:
    key, version, content = _items(value, 3)
    if type(key) is not str or not is_key(key):
        raise malformed("a catalogue key is not a printable word within its limit")
    if content is not None and (type(content) is not bytes or len(content) > limits.VALUE_LIMIT):
        raise malformed("a catalogue value is no bytes within their limit")
    return Write(key, _number(version, limits.VERSION_LIMIT, 1), content)


def is_key(key: str) -> bool:
    """Whether the text can be the key of a catalogue entry."""
    return bool(key) and key.isprintable() and len(key.encode()) <= limits.KEY_LIMIT


def _read_delta(fields: Fields) -> Delta:
    owner, generation, nonce, collected, since, until, written = fields[:7]
    writes = tuple(_read_write(write) for write in _items(written, limits.KEYS_LIMIT))
    delta = Delta(
        _id(owner),
        _number(generation, limits.GENERATION_LIMIT, 1),
        _number(nonce, limits.NONCE_LIMIT),
        _number(collected, limits.VERSION_LIMIT),
        _number(since, limits.VERSION_LIMIT),
        _number(until, limits.VERSION_LIMIT),
        writes,
    )
    versions = [delta.since, *(write.version for write in writes), delta.until + 1]
    if any(one >= other for one, other in pairwise(versions)):
        raise malformed("the versions of a delta do not rise")
    return delta


def _read_ping_request(fields: Fields) -> PingRequest:
    sequence, target, host, port = fields[:4]
    return PingRequest(_sequence(sequence), _id(target), _address(host, port))


def _sequence(value: Any) -> int:
    return _number(value, limits.SEQUENCE_LIMIT)


def _read_digest(fields: Fields) -> Digest:
    complete, live, lines = fields[:3]
    if type(complete) is not bool:
        raise malformed("a digest does not say whether it is complete")
    return Digest(complete, _number(live, limits.GENERATION_LIMIT), _read_lines(lines))


CODES: dict[type[Message], int] = {
    kind: code
    for code, kind in enumerate((Ping, Ack, PingRequest, Nack, Claim, Head, Digest, Wants, Delta, More), start=1)
}
"""On the wire for ever: add at the end, never reuse."""

_WRITERS: dict[type[Message], Callable[[Any], list[Any]]] = {
    Ping: lambda ping: [CODES[Ping], ping.sequence, bytes.fromhex(ping.target)],
    Ack: lambda ack: [CODES[Ack], *ack],
    PingRequest: lambda asked: [
        CODES[PingRequest],
        asked.sequence,
        bytes.fromhex(asked.target),
        _pack_host(asked.address[0]),
        asked.address[1],
    ],
    Nack: lambda nack: [CODES[Nack], *nack],
    Claim: lambda claim: [CODES[Claim], *_record_fields(claim.record)],
    Head: lambda head: [CODES[Head], bytes.fromhex(head.owner), *head[1:]],
    Digest: lambda digest: [CODES[Digest], digest.complete, digest.live],
    Wants: lambda wants: [CODES[Wants]],
    Delta: lambda delta: [CODES[Delta], bytes.fromhex(delta.owner), *delta[1:]],
    More: lambda more: [CODES[More], *more] if more.live else [CODES[More]],
}
"""All fields but lines, which are written one by one."""

_READERS: dict[int, Callable[[Fields], Message]] = {
    CODES[Ping]: lambda fields: Ping(_sequence(fields[0]), _id(fields[1])),
    CODES[Ack]: lambda fields: Ack(_sequence(fields[0]), _number(fields[1], 2**64)),
    CODES[PingRequest]: _read_ping_request,
    CODES[Nack]: lambda fields: Nack(_sequence(fields[0])),
    CODES[Claim]: lambda fields: Claim(_read_record(fields)),
    CODES[Head]: lambda fields: Head(
        _id(fields[0]), _number(fields[1], limits.GENERATION_LIMIT, 1), _number(fields[2], limits.VERSION_LIMIT)
    ),
    CODES[Digest]: _read_digest,
    CODES[Wants]: lambda fields: Wants(_read_lines(fields[0])),
    CODES[Delta]: _read_delta,
    CODES[More]: lambda fields: More(*(_number(live, limits.GENERATION_LIMIT) for live in fields[:1])),
}


_PACKER = msgpack.Packer()
"""Kept, as it costs more to make one than to write a message; it is empty between calls."""


def encode(message: Message) -> bytes:
    """Write one message."""
    fields = _WRITERS[type(message)](message)
    if type(message) is Digest or type(message) is Wants:
        lines = _list_head(len(message.lines)), *map(encode_line, message.lines)
        return b"".join((_list_head(len(fields) + 1), *map(_PACKER.pack, fields), *lines))
    packed: bytes = _PACKER.pack(fields)
    return packed


@lru_cache(maxsize=8 * limits.MEMBERS_LIMIT)
def encode_line(line: Line) -> bytes:
    """Write one line: a large table is compared often, and most of its lines are as they were."""
    packed: bytes = _PACKER.pack((bytes.fromhex(line.id), *line[1:]))
    return packed


def encode_body(source: str, generation: int, nonce: int, parts: Sequence[bytes], before: bytes = b"") -> bytes:
    """Write a packet's body around messages that are written already, after what comes `before` it."""
    return b"".join((before, _body_head(source, generation, nonce), _list_head(len(parts)), *parts))


@lru_cache(maxsize=4 * limits.MEMBERS_LIMIT)
def _body_head(source: str, generation: int, nonce: int) -> bytes:
    """Write what all packets of one run begin with; a process has one run, and a simulation ten thousand."""
    fields = [bytes.fromhex(source), generation, nonce]
    return b"".join((_PACKER.pack_array_header(4), *(_PACKER.pack(field) for field in fields)))


@lru_cache(maxsize=256)
def _list_head(count: int) -> bytes:
    head: bytes = _PACKER.pack_array_header(count)
    return head


def decode_body(body: bytes) -> Packet:
    """Read a packet's body. Raises `PacketError`, and nothing else, whatever the bytes."""
    try:
        if len(body) > limits.PACKET_LIMIT:
            source, generation, nonce, values = _items(msgpack.unpackb(body, **_BOUNDS), 4)
            messages = [_read_message(value) for value in _items(values, limits.MESSAGES_LIMIT)]
        else:
            unpacker = msgpack.Unpacker(**_BOUNDS, max_buffer_size=limits.PACKET_LIMIT)
            unpacker.feed(body)
            if unpacker.read_array_header() != 4:
                raise malformed("it does not have four parts")
            source, generation, nonce = unpacker.unpack(), unpacker.unpack(), unpacker.unpack()
            messages = [_read_part(part) for part in _parts(body, unpacker)]
        return Packet(
            _id(source),
            _number(generation, limits.GENERATION_LIMIT, 1),
            _number(nonce, limits.NONCE_LIMIT),
            tuple([message for message in messages if message is not None]),
        )
    except PacketError:
        raise
    # The last four are what fields that are too few, and msgpack on hostile bytes, may raise.
    except (msgpack.UnpackException, ValueError, TypeError, IndexError, RecursionError) as error:
        raise malformed(f"it cannot be read ({type(error).__name__})") from error


_BOUNDS = {
    "raw": False,
    "strict_map_key": True,
    "max_map_len": 0,
    "max_ext_len": 0,
    "max_array_len": limits.MESSAGES_LIMIT,
}


def _parts(body: bytes, unpacker: msgpack.Unpacker) -> Iterator[bytes]:
    """Cut a datagram into its messages, unread."""
    count = unpacker.read_array_header()
    at = unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        until = unpacker.tell()
        yield body[at:until]
        at = until
    if at != len(body):
        raise malformed("something follows its messages")


def _read_part(part: bytes) -> Message | None:
    """Read one message of a datagram; None where it is of an unknown kind. News is heard often, and read once."""
    return (_read_news if part[1] in _NEWS else _read_any)(part)


def _read_any(part: bytes) -> Message | None:
    return _read_message(msgpack.unpackb(part, **_BOUNDS))


_NEWS = {CODES[Claim], CODES[Head], CODES[Delta]}
"""The second byte of such messages."""

_read_news = lru_cache(maxsize=1024)(_read_any)


def _read_message(value: Any) -> Message | None:
    fields = _items(value, limits.MESSAGES_LIMIT)
    reader = _READERS.get(_number(fields[0], 2**16))
    return None if reader is None else reader(fields[1:])
