"""Laws of the bytes: what is written is read, and what cannot be read is one kind of error."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from gossip_support import WIRE, claim, identity, packet
from hypothesis import given
from hypothesis import strategies as st

from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Me, Status, codec, limits
from p2pml.gossip.codec import CODES, PacketError
from p2pml.gossip.messages import (
    Ack,
    Claim,
    Delta,
    Digest,
    Head,
    Line,
    More,
    Nack,
    Packet,
    Ping,
    PingRequest,
    Wants,
    Write,
)
from p2pml.gossip.records import Record
from p2pml.gossip.wire import OVERHEAD, PROTOCOL, Wire

ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
ports = st.integers(1, 65535)
addresses = st.tuples(st.ip_addresses().map(lambda ip: str(ip).split("%")[0]), ports)
words = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=limits.NAME_LIMIT)
sequences = st.integers(0, limits.SEQUENCE_LIMIT - 1)
generations = st.integers(1, limits.GENERATION_LIMIT - 1)
versions = st.integers(1, limits.VERSION_LIMIT - 1)
nonces = st.integers(0, limits.NONCE_LIMIT - 1)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Draw any valid claim."""
    status = draw(st.sampled_from(Status))
    accusers = draw(st.sets(ids, max_size=limits.ACCUSERS_LIMIT)) if status is Status.SUSPECT else set()
    return Record(
        draw(ids),
        draw(words),
        draw(addresses),
        status,
        draw(generations),
        draw(nonces),
        draw(st.integers(0, limits.INCARNATION_LIMIT - 1)),
        tuple(sorted(accusers)),
    )


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    """Draw any valid delta."""
    since, *rising, until = sorted(draw(st.sets(versions, min_size=2, max_size=8)))
    values = st.none() | st.binary(max_size=64)
    writes = tuple(Write(draw(words), version, draw(values)) for version in rising)
    return Delta(draw(ids), draw(generations), draw(nonces), draw(versions), since, until, writes)


lines = st.builds(
    Line, ids, generations | st.just(0), st.integers(0, codec.STRENGTH_LIMIT - 1), versions | st.just(0), versions
)
some_lines = st.lists(lines, max_size=5).map(tuple)
messages = st.one_of(
    st.builds(Ping, sequences, ids),
    st.builds(Ack, sequences, st.integers(0, 2**64 - 1)),
    st.builds(PingRequest, sequences, ids, addresses),
    st.builds(Nack, sequences),
    st.builds(Claim, records()),
    st.builds(Head, ids, generations, versions),
    st.builds(Digest, st.booleans(), st.integers(0, 5000), some_lines),
    st.builds(Wants, some_lines),
    deltas(),
    st.builds(More, st.integers(0, 5000)),
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=30,
)


def envelope(body: bytes) -> bytes:
    """Put bytes where a packet of our cluster has its body."""
    return bytes([PROTOCOL]) + packet(identity(0))[1:9] + body


def body(*messages: Any, head: Any = (b"i" * 16, 1, 2)) -> bytes:
    """Write a body whose messages are as they are given."""
    packed: bytes = msgpack.packb([*head, list(messages)])
    return envelope(packed)


@given(st.lists(messages, max_size=5), generations, nonces)
def test_what_is_written_is_read(said: list[Any], generation: int, nonce: int) -> None:
    """A packet is read as it was written, its types included."""
    me = replace(identity(1), generation=generation, nonce=nonce)
    read = WIRE.open(packet(me, *said), limits.STREAM_LIMIT)
    assert read == Packet(me.id, generation, nonce, tuple(said))
    assert [type(message) for message in read.messages] == [type(message) for message in said]


@given(st.binary(max_size=2000))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Any bytes at all are read, or are a `PacketError`."""
    for attempt in (data, envelope(data)):
        try:
            WIRE.open(attempt, limits.PACKET_LIMIT)
        except PacketError:
            continue


@given(st.lists(messages, min_size=1, max_size=4), st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_no_damage_raises_anything_else(said: list[Any], place: int, damage: bytes) -> None:
    """A packet that was damaged, cut or lengthened anywhere is read, or is a `PacketError`."""
    data = packet(identity(1), *said)
    place %= len(data)
    for attempt in (data[:place] + damage + data[place + len(damage) :], data[:place], data + damage):
        try:
            WIRE.open(attempt, limits.STREAM_LIMIT)
        except PacketError:
            continue


@given(anything, st.integers(0, 12))
def test_no_msgpack_raises_anything_else(value: Any, code: int) -> None:
    """Well-formed msgpack of any shape is read, or is a `PacketError`."""
    fields = value if isinstance(value, list) else [value]
    for attempt in (msgpack.packb(value), msgpack.packb([b"i" * 16, 1, 2, [[code, *fields]]])):
        try:
            WIRE.open(envelope(attempt), limits.STREAM_LIMIT)
        except PacketError:
            continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (packet(identity(0))[:9], "malformed"),
        (b"\x02" + packet(identity(0))[1:], "version"),
        (Wire("another").seal(identity(0), []), "cluster"),
        (packet(identity(0)) + bytes(limits.PACKET_LIMIT), "oversize"),
    ],
)
def test_a_drop_says_why(data: bytes, reason: str) -> None:
    """What is no packet of this cluster and version is refused by the reason that drops are counted by."""
    with pytest.raises(PacketError) as raised:
        WIRE.open(data, limits.PACKET_LIMIT)
    assert isinstance(raised.value, RemoteError)
    assert raised.value.reason == reason


ID = b"i" * 16
RECORD = [ID, "name", b"\x0a\0\0\1", 7946, 0, 1, 2, 3, []]
LONG = "n" * (limits.NAME_LIMIT + 1)


def changed(index: int, value: Any) -> list[Any]:
    """Write a claim with one field changed."""
    return [5, *RECORD[:index], value, *RECORD[index + 1 :]]


@pytest.mark.parametrize(
    "message",
    [
        [],
        ["one"],
        [True, 1],
        [1],
        [1, 1],
        [1, -1, ID],
        [1, 1.0, ID],
        [1, limits.SEQUENCE_LIMIT, ID],
        [1, 1, b"short"],
        [1, 1, "i" * 16],
        [2, 1, -1],
        [3, 1, ID, b"\x0a\0\0", 1],
        [3, 1, ID, "10.0.0.1", 1],
        [3, 1, ID, b"\x0a\0\0\1", 0],
        [3, 1, ID, b"\x0a\0\0\1", 65536],
        changed(1, ""),
        changed(1, LONG),
        changed(1, "red\x1b[31m"),
        changed(1, b"name"),
        changed(4, len(Status)),
        changed(5, 0),
        changed(5, limits.GENERATION_LIMIT),
        changed(6, -1),
        changed(7, limits.INCARNATION_LIMIT),
        changed(8, [ID]),
        changed(8, ID),
        [*changed(4, 1)[:-1], [ID, ID]],
        [*changed(4, 1)[:-1], [bytes([index]) * 16 for index in range(limits.ACCUSERS_LIMIT + 1)]],
        [6, ID, 0, 1],
        [7, 1, 1, []],
        [7, True, 1, [[ID, 1, 1, 1]]],
        [7, True, 1, [[ID, 1, 1, 1, 1, 1]]],
        [8, ID],
        [8, [[ID, 1, 1, 1, 1]] * (limits.MEMBERS_LIMIT + 1)],
        [9, ID, 1, 2, 0, 5, 4, []],
        [9, ID, 1, 2, 0, 0, 4, [["k", 5, b"v"]]],
        [9, ID, 1, 2, 0, 0, 4, [["k", 2, b"v"], ["l", 2, b"v"]]],
        [9, ID, 1, 2, 0, 1, 4, [["k", 1, b"v"]]],
        [9, ID, 1, 2, 0, 0, 4, [["", 1, b"v"]]],
        [9, ID, 1, 2, 0, 0, 4, [["k" * (limits.KEY_LIMIT + 1), 1, b"v"]]],
        [9, ID, 1, 2, 0, 0, 4, [[b"k", 1, b"v"]]],
        [9, ID, 1, 2, 0, 0, 4, [["k", 1, "v"]]],
        [9, ID, 1, 2, 0, 0, 4, [["k", 1, bytes(limits.VALUE_LIMIT + 1)]]],
        [9, ID, 1, 2, 0, 0, 99, [[f"k{index}", index + 1, b"v"] for index in range(limits.KEYS_LIMIT + 1)]],
        "message",
    ],
)
def test_a_field_past_its_bound_is_malformed(message: Any) -> None:
    """Every field has a type and a bound, and a packet that breaks one is dropped whole."""
    with pytest.raises(PacketError) as raised:
        WIRE.open(body(message), limits.STREAM_LIMIT)
    assert raised.value.reason == "malformed"


@pytest.mark.parametrize(
    "head", [(b"short", 1, 2), (ID, 0, 2), (ID, 1, limits.NONCE_LIMIT - 1, 3), (ID, 1), (ID, 1, "2")]
)
def test_a_sender_past_its_bound_is_malformed(head: Any) -> None:
    """The sender's fields have types and bounds too."""
    with pytest.raises(PacketError, match="dropped"):
        WIRE.open(body(head=head), limits.STREAM_LIMIT)


def test_what_was_read_before_is_known_by_its_bytes_alone() -> None:
    """News that was heard is not read again, and what is merely equal to it, such as a true to a one, is other news."""
    head = WIRE.open(body([6, ID, 1, 1]), limits.PACKET_LIMIT).messages
    assert WIRE.open(body([6, ID, 1, 1], [6, ID, 1, 1]), limits.PACKET_LIMIT).messages == head * 2
    for other in ([6, ID, True, 1], [6, ID, 1.0, 1]):
        with pytest.raises(PacketError):
            WIRE.open(body(other), limits.PACKET_LIMIT)


@pytest.mark.parametrize("room", [0, limits.PACKET_LIMIT])
def test_bytes_after_the_messages_are_malformed(room: int) -> None:
    """In a datagram and in a message by stream."""
    with pytest.raises(PacketError):
        WIRE.open(body([99, bytes(room)]) + b"\0", limits.STREAM_LIMIT)


def test_more_messages_than_fit_a_table_are_malformed() -> None:
    """The number of messages in a packet is bounded."""
    with pytest.raises(PacketError):
        WIRE.open(body(*[[10]] * (limits.MESSAGES_LIMIT + 1)), limits.STREAM_LIMIT)


def test_what_a_later_version_adds_is_ignored() -> None:
    """Messages of an unknown kind, and further fields of a known one, are passed over."""
    read = WIRE.open(body([99, "new"], [4, 5, "more"]), limits.PACKET_LIMIT)
    assert read.messages == (Nack(5),)


def test_a_stored_packet_of_protocol_1_is_read() -> None:
    """What peers of protocol 1 send stays readable, and is still written so."""
    me = Me("00112233445566778899aabbccddeeff", "Ada", "tests", ("10.0.0.1", 7946), 3, 258)
    said = (Ping(1, me.id), Claim(claim(me, Status.ALIVE, 2)), Head(me.id, 3, 9))
    stored = bytes.fromhex(
        "01" + packet(me)[1:9].hex() + "94c41000112233445566778899aabbccddeeff03cd010293"
        "9301 01c41000112233445566778899aabbccddeeff"
        "9a05c41000112233445566778899aabbccddeeffa3416461c4040a000001cd1f0a0003cd01020290"
        "9406c41000112233445566778899aabbccddeeff0309"
    )
    assert packet(me, *said) == stored
    assert WIRE.open(stored, limits.PACKET_LIMIT).messages == said


def test_the_tag_of_a_cluster_does_not_change() -> None:
    """Peers of protocol 1 find their cluster by this tag."""
    assert packet(identity(0))[:9].hex() == "01" + "ac2672bf5cd1e537"


def test_a_record_fits_its_limit() -> None:
    """The largest claim there can be fits its limit, and so does the largest envelope."""
    me = Me("f" * 32, "n" * limits.NAME_LIMIT, "c", ("ffff::ffff", 65535), limits.GENERATION_LIMIT - 1, 2**64 - 1)
    accusers = tuple(f"{index:032x}" for index in range(limits.ACCUSERS_LIMIT))
    largest = replace(claim(me, Status.SUSPECT, limits.INCARNATION_LIMIT - 1), accusers=accusers)
    assert len(WIRE.part(Claim(largest))[1]) <= limits.RECORD_LIMIT
    assert len(WIRE.seal(me, [])) <= OVERHEAD


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", "0" * 31, "no peer id"),
        ("id", "G" * 32, "no peer id"),
        ("name", "", "--name"),
        ("name", "two\nlines", "--name"),
        ("cluster", LONG, "--cluster"),
        ("address", ("localhost", 1), "no IP address"),
        ("address", ("10.0.0.1", 0), "no port"),
        ("generation", 0, "generation"),
        ("generation", limits.GENERATION_LIMIT, "generation"),
        ("nonce", limits.NONCE_LIMIT, "nonce"),
    ],
)
def test_an_identity_that_others_would_drop_is_refused(field: str, value: Any, words: str) -> None:
    """A node cannot be made with an identity that no other would accept."""
    changes: dict[str, Any] = {field: value}
    with pytest.raises(BadInput, match=words):
        replace(identity(0), **changes)


def test_the_page_about_the_protocol_lists_every_message() -> None:
    """Code by code and in the order of the codec, so that a second implementation can be written from it."""
    page = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    listed = dict(re.findall(r"^\| (\d+) \| ([a-z ]+) \|", page, re.MULTILINE))
    names = {str(code): re.sub(r"\B([A-Z])", r" \1", kind.__name__).lower() for kind, code in CODES.items()}
    assert listed == names


# A secret.

OLD, NEW = (b"a secret of the cluster, the old", b"a secret of the cluster, the new")


@pytest.mark.parametrize(
    ("written", "read", "reason"),
    [
        ([OLD], [OLD], None),
        ([OLD], [NEW, OLD], None),
        ([NEW, OLD], [OLD, NEW], None),
        ([NEW, OLD], [OLD], "secret"),
        ([], [OLD], "secret"),
        ([OLD], [], "cluster"),
    ],
)
def test_a_packet_is_read_by_who_has_its_secret(written: list[bytes], read: list[bytes], reason: str | None) -> None:
    """The first of one's secrets is written with and all are read, so that it can be changed without a stop."""
    data = Wire("tests", written).seal(identity(0), [])
    if reason is None:
        assert Wire("tests", read).open(data, limits.PACKET_LIMIT).source == identity(0).id
        return
    with pytest.raises(PacketError) as raised:
        Wire("tests", read).open(data, limits.PACKET_LIMIT)
    assert raised.value.reason == reason


def test_a_secret_is_good_for_one_cluster_and_one_body() -> None:
    """A packet that was changed on its way is dropped, and so is that of another cluster with the same secret."""
    data = Wire("tests", [OLD]).seal(identity(0), [])
    for other in (data[:-1] + bytes([data[-1] ^ 1]), Wire("another", [OLD]).seal(identity(0), [])):
        with pytest.raises(PacketError):
            Wire("tests", [OLD]).open(other, limits.PACKET_LIMIT)
