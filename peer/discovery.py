"""Announcing this peer by mDNS, one interface at a time, and hearing the others.

Each interface gets an announcer of its own that carries that interface's address alone, so nobody hears an
address that the network they heard it on does not reach. Interfaces come and go: the list is read again
every few seconds. A browser asks for its first seconds only, so announcements are repeated.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from .finder import SERVICE, Address, Announcement, Browser, own_addresses

LOOK_AGAIN = 3.0
"""Seconds between two looks at the machine's interfaces."""
ANNOUNCE_AGAIN = 30.0
"""Seconds between two announcements: two within the minute in which a healed network should have met again."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Interface:
    zeroconf: AsyncZeroconf
    browser: Browser
    info: AsyncServiceInfo


class Discovery:
    """Announces (id, cluster, port) on every interface, and tells `heard` of the addresses of others."""

    def __init__(self, id: str, cluster: str, port: int, host: str | None, heard: Callable[[Address], None]) -> None:
        self._id, self._cluster, self._port, self._host = id, cluster, port, host
        self._heard = heard
        self._interfaces: dict[str, _Interface] = {}
        self._warned: set[str] = set()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background: announcing takes about a second, and nothing waits for it."""
        self._watch = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Say goodbye on every interface and stop."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(self._drop(address) for address in list(self._interfaces)))

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        announced = loop.time()
        while True:
            wanted = await asyncio.to_thread(own_addresses, self._host)
            for address in set(self._interfaces) - set(wanted):
                log.info("an interface went away", address=address)
                await self._drop(address)
            for address in wanted:
                if address not in self._interfaces:
                    await self._add(address)
            if loop.time() - announced > ANNOUNCE_AGAIN:
                announced = loop.time()
                for interface in list(self._interfaces.values()):
                    await interface.zeroconf.async_update_service(interface.info)
            await asyncio.sleep(LOOK_AGAIN)

    async def _add(self, address: str) -> None:
        info = AsyncServiceInfo(
            SERVICE,
            f"{self._id}.{SERVICE}",
            addresses=[socket.inet_aton(address)],
            port=self._port,
            properties={"id": self._id, "cluster": self._cluster},
            server=f"p2pml-{self._id}.local.",
        )
        try:
            zeroconf = AsyncZeroconf(interfaces=[address])
        except OSError as error:
            self._warn("this interface cannot be used for mDNS; reach others over it by --join", address, error)
            return
        try:
            await zeroconf.async_register_service(info, cooperating_responders=True)
        except (OSError, ZeroconfError) as error:
            self._warn("announcing by mDNS failed; it is tried again", address, error)
            await zeroconf.async_close()
            return
        browser = Browser(zeroconf.zeroconf, self._on_announcement)
        self._interfaces[address] = _Interface(zeroconf, browser, info)
        self._warned.discard(address)
        log.debug("announced", address=address, port=self._port)

    def _warn(self, what: str, address: str, error: Exception) -> None:
        """Say once what is tried again every few seconds."""
        if address not in self._warned:
            self._warned.add(address)
            log.warning(what, address=address, why=str(error) or type(error).__name__)

    async def _drop(self, address: str) -> None:
        interface = self._interfaces.pop(address)
        await interface.browser.close()
        await interface.zeroconf.async_close()

    def _on_announcement(self, announcement: Announcement) -> None:
        if announcement.cluster == self._cluster and announcement.id != self._id:
            self._heard(announcement.address)
