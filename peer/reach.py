"""Who does not answer at the moment: known at once, long before the protocol's verdict.

A peer that refuses a connection or lets a deadline pass is not asked again until it has answered a health
check, so only the first asker waits for it. The protocol is told, so that it probes the peer next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p2pml.errors import PeerUnreachable, RemoteError
from p2pml.gossip import Member, Node, Status

from .rare import buggify
from .wire import PeerWire

CHECK_EVERY = 0.5
"""Seconds between health checks of a peer that did not answer."""
CHECK_WAITS = 1.0
"""Seconds that a health check waits: a peer that needs longer would miss deadlines too."""


class Reach:
    """The peers that did not answer last time, each with the reason."""

    def __init__(self, node: Node, wire: PeerWire, tell: Callable[[str], None]) -> None:
        self._node = node
        self._wire = wire
        self._tell = tell
        self._why: dict[str, str] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}

    def why_not(self, id: str) -> str | None:
        """Why a peer is not asked now; None where it may be."""
        return self._why.get(id)

    def failed(self, member: Member, why: str) -> None:
        """A peer did not answer; it is left out until a health check succeeds."""
        self._why[member.id] = why
        self._tell(member.id)
        if member.id not in self._checks:
            self._checks[member.id] = asyncio.create_task(self._check(member.id))

    @contextmanager
    def asking(self, member: Member) -> Iterator[None]:
        """Around a request to a peer: one that is left out now is not asked, and one that does not answer is left
        out. Raises `RemoteError`."""
        if (why := self.why_not(member.id)) is not None:
            raise RemoteError(why)
        try:
            yield
        except PeerUnreachable as error:
            self.failed(member, str(error))
            raise

    async def close(self) -> None:
        """Stop checking."""
        for task in self._checks.values():
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)

    async def _check(self, id: str) -> None:
        try:
            while (member := self._node.member(id)) and member.status in (Status.ALIVE, Status.SUSPECT):
                try:
                    await self._wire.get(member, "/healthz", CHECK_WAITS)
                    if not buggify("reach.health-lost"):
                        return
                    await asyncio.sleep(CHECK_EVERY)
                except RemoteError:
                    await asyncio.sleep(CHECK_EVERY)
        finally:
            self._why.pop(id, None)
            del self._checks[id]
