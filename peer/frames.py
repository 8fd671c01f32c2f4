"""Frames of a link: many questions and answers at once over one websocket, each in chunks, so that a large one never
blocks a small one.

A binary message holds one frame or several. A frame is a byte that says what it is (its highest bit: more of the same
body follows), the question's number in four bytes, in four the bytes that follow, what belongs to its kind, and a chunk
of the body. All numbers are little-endian.

    ASK     which question (1 byte), the seconds left for it (float32), and the first chunk
    ANSWER  an HTTP status (2 bytes), and the first chunk
    MORE    the next chunk, of a question or an answer
    CANCEL  nothing: whoever asked does not want the answer any more

The end that opened the link asks, the other one answers. Bump `PROTOCOL` with any change that an older p2pml cannot
read: it then refuses the upgrade, and is asked over HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from p2pml.errors import RemoteError

PATH = "/v1/link"
PROTOCOL = "p2pml.link.2"
CHUNK = 64 * 1024
"""Bytes of a body in one frame: what a slow network sends in some milliseconds."""
MESSAGE = CHUNK + 64
"""Bytes of the longest message: of one frame with a whole chunk."""
MOST = 32 * 2**20
"""Bytes of all unfinished bodies of one link, in each direction: two of the largest questions."""

_MORE = 0x80
_HEAD = struct.Struct("<BII")
_ASK = struct.Struct("<Bf")
_ANSWER = struct.Struct("<H")


class Kind(IntEnum):
    """What a frame is."""

    ASK = 1
    ANSWER = 2
    MORE = 3
    CANCEL = 4


class Question(IntEnum):
    """What can be asked over a link."""

    VOTE = 1
    PREDICT = 2
    SUM = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """A whole question."""

    number: int
    question: int
    seconds: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer."""

    number: int
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The question of this number was taken back."""

    number: int


Whole = Ask | Answered | Cancelled


class BadFrame(RemoteError):
    """The other end does not keep to the frames: the link cannot go on."""


def ask(number: int, question: int, seconds: float, body: bytes) -> Iterator[bytes]:
    """The frames of a question."""
    return _frames(Kind.ASK, number, _ASK.pack(question, seconds), body)


def answer(number: int, status: int, body: bytes) -> Iterator[bytes]:
    """The frames of an answer."""
    return _frames(Kind.ANSWER, number, _ANSWER.pack(status), body)


def cancel(number: int) -> bytes:
    """The frame that takes a question back."""
    return _HEAD.pack(Kind.CANCEL, number, 0)


def _frames(kind: Kind, number: int, first: bytes, body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body) or 1, CHUNK):
        chunk = body[start : start + CHUNK] if len(body) > CHUNK else body
        more = _MORE if start + CHUNK < len(body) else 0
        yield _HEAD.pack(kind | more, number, len(first) + len(chunk)) + first + chunk
        kind, first = Kind.MORE, b""


@dataclass(slots=True)
class _Part:
    """A body of which chunks are still to come, with what its first frame said."""

    first: tuple[float, ...]
    chunks: list[bytes]


@dataclass(slots=True)
class Assembly:
    """Puts frames together again, as one end of a link receives them: `takes` is ASK or ANSWER."""

    takes: Kind
    most: int = MOST
    _parts: dict[int, _Part] = field(default_factory=dict)
    _size: int = 0

    def take(self, message: bytes) -> list[Whole]:
        """What the frames of this message complete; raises `BadFrame`."""
        wholes: list[Whole] = []
        at = 0
        while at < len(message):
            if len(message) - at < _HEAD.size:
                raise BadFrame("a frame was cut off")
            kind, number, size = _HEAD.unpack_from(message, at)
            at += _HEAD.size
            if size > len(message) - at:
                raise BadFrame("a frame was cut off")
            whole = self._frame(kind & ~_MORE, bool(kind & _MORE), number, message[at : at + size])
            if whole is not None:
                wholes.append(whole)
            at += size
        return wholes

    def _frame(self, kind: int, more: bool, number: int, rest: bytes) -> Whole | None:
        if kind == self.takes:
            head = _ASK if kind == Kind.ASK else _ANSWER
            if len(rest) < head.size:
                raise BadFrame("a frame was cut off")
            return self._begin(number, head.unpack_from(rest), rest[head.size :], more)
        if kind == Kind.MORE:
            return self._go_on(number, rest, more)
        if kind == Kind.CANCEL and self.takes == Kind.ASK:
            self.drop(number)
            return Cancelled(number)
        raise BadFrame(f"a frame of kind {kind} has no place here")

    def drop(self, number: int) -> None:
        """Forget what has come of a body."""
        part = self._parts.pop(number, None)
        if part is not None:
            self._size -= sum(map(len, part.chunks))

    def _begin(self, number: int, first: tuple[float, ...], chunk: bytes, more: bool) -> Whole | None:
        if number in self._parts:
            raise BadFrame("a number was used twice")
        if not more:
            return self._whole(number, first, chunk)
        self._parts[number] = _Part(first, [])
        return self._go_on(number, chunk, more)

    def _go_on(self, number: int, chunk: bytes, more: bool) -> Whole | None:
        part = self._parts.get(number)
        if part is None:
            # What was taken back, or is no longer waited for, may still be on its way.
            return None
        part.chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self.most:
            raise BadFrame(f"more than {self.most // 2**20} MiB are under way")
        if more:
            return None
        body = b"".join(part.chunks)
        self.drop(number)
        return self._whole(number, part.first, body)

    def _whole(self, number: int, first: tuple[float, ...], body: bytes) -> Whole:
        if self.takes == Kind.ASK:
            return Ask(number, int(first[0]), first[1], body)
        return Answered(number, int(first[0]), body)
