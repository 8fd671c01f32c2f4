"""Large things between peers, by the digest of their content: in blocks, at a pace that leaves room for votes.

What was fetched stays when its source falls silent, and the next source goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence

from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Member

from .wire import PeerWire

PIECE_PATH = "/v1/peer/piece/"
BLOCK = 2**20
"""Bytes of one answer: 10 ms of a gigabit link, so that no vote waits long behind it."""
PACE = 32 * 2**20
"""Bytes a second that one peer fetches, at most: a quarter of a gigabit link, and a forest in a quarter of a second."""
BLOCK_SECONDS = 10.0
"""Seconds for one block."""
HALF_DONE = 4
"""Pieces that are kept half done; the oldest is forgotten first."""


class Pieces:
    """Gives out what this peer has."""

    def __init__(self, find: Callable[[str], bytes | None]) -> None:
        """`find` gives the content under a digest; it blocks."""
        self._find = find
        # Several peers fetch a new model at once, block by block; it is read and verified once.
        self._last: tuple[str, bytes] | None = None
        self._lock = threading.Lock()

    def block(self, digest: str, start: int) -> dict[str, object]:
        """The block of a piece that begins at `start`, and the piece's size; raises BadInput where there is none."""
        with self._lock:
            if self._last is None or self._last[0] != digest:
                content = self._find(digest)
                if content is None:
                    raise BadInput(f"this peer does not have the piece {digest[:8]}; ask another one")
                self._last = (digest, content)
            content = self._last[1]
            if start + BLOCK >= len(content) > BLOCK:
                self._last = None
        return {"size": len(content), "block": content[start : start + BLOCK]}


class Fetcher:
    """Fetches what this peer lacks."""

    def __init__(self, wire: PeerWire) -> None:
        self._wire = wire
        self._half_done: dict[str, bytearray] = {}

    async def fetch(self, digest: str, sources: Sequence[Member], limit: int) -> bytes:
        """The content under a digest, of at most `limit` bytes, from one of these peers; RemoteError from the last.

        Content that a SHA-256 names (64 digits) is verified; what has another digest, whoever reads it verifies.
        """
        failure = RemoteError("nobody has it")
        for source in sources:
            try:
                return await self._from(source, digest, limit)
            except RemoteError as error:
                failure = error
        raise failure

    async def _from(self, source: Member, digest: str, limit: int) -> bytes:
        loop = asyncio.get_running_loop()
        content = self._half_done.setdefault(digest, bytearray())
        while len(self._half_done) > HALF_DONE:
            del self._half_done[next(iter(self._half_done))]
        while True:
            began = loop.time()
            data = await self._wire.get(source, f"{PIECE_PATH}{digest}?from={len(content)}", BLOCK_SECONDS)
            match data:
                case {"size": int(size), "block": bytes(block)} if (
                    0 < len(block) <= BLOCK and len(content) + len(block) <= size <= limit
                ):
                    content += block
                case _:
                    self._half_done.pop(digest, None)
                    raise RemoteError("what it sent is no block of that piece, or the piece is too large")
            if len(content) == size:
                break
            await asyncio.sleep(max(0.0, len(block) / PACE - (loop.time() - began)))
        self._half_done.pop(digest, None)
        whole = bytes(content)
        if len(digest) == 64 and await asyncio.to_thread(_sha256, whole) != digest:
            raise RemoteError("what it sent has another digest")
        return whole


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
