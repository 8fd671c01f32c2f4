"""The links of one peer to the others: one each, opened with the first question and kept."""

from __future__ import annotations

import asyncio

import aiohttp

from p2pml.gossip import Member

from .link import MISDIRECTED, Link, NoLink

WITHOUT = 60.0
"""Seconds for which a peer that refused a link is asked over HTTP before it is offered another one."""
HANDSHAKE = 10.0
"""Seconds for the opening of a link, which a peer on a busy machine may need; no question waits longer than it may."""


class Links:
    """Links by peer id."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._open: dict[str, tuple[Link, tuple[str, int]]] = {}
        self._dialling: dict[str, asyncio.Task[Link]] = {}
        self._without: dict[str, float] = {}

    async def to(self, member: Member, seconds: float) -> Link | None:
        """The link to a peer; None where it takes none. Raises `NoLink` where another peer answers at its address,
        and what aiohttp raises where nobody does."""
        link, address = self._open.get(member.id, (None, None))
        if link is not None and link.open and address == member.address:
            return link
        if self._without.get(member.id, 0.0) > asyncio.get_running_loop().time():
            return None
        dialling = self._dialling.get(member.id)
        if dialling is None:
            dialling = asyncio.get_running_loop().create_task(self._dial(member, link))
            self._dialling[member.id] = dialling
            dialling.add_done_callback(lambda done: self._dialled(member.id, done))
        try:
            # Others may wait for the same link.
            async with asyncio.timeout(seconds):
                return await asyncio.shield(dialling)
        except NoLink as error:
            if error.status == MISDIRECTED:
                raise
            self._without[member.id] = asyncio.get_running_loop().time() + WITHOUT
            return None

    async def close(self) -> None:
        """Close all."""
        for task in self._dialling.values():
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        await asyncio.gather(*(link.close() for link, _ in self._open.values()))

    async def _dial(self, member: Member, before: Link | None) -> Link:
        if before is not None:
            await before.close()
        link = await Link.dial(self._session, member.address, HANDSHAKE, member.id)
        self._open[member.id] = link, member.address
        return link

    def _dialled(self, id: str, task: asyncio.Task[Link]) -> None:
        del self._dialling[id]
        # Whoever waited was told; nobody may wait any more.
        if not task.cancelled():
            task.exception()
