"""Peers on the network, by mDNS: who announces this cluster, on which interface, at which address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import ifaddr
import structlog
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pml.errors import BadInput

Address = tuple[str, int]

SERVICE = "_p2pml._tcp.local."
RESOLVE = 3.0
"""Seconds to wait for a peer's address after its name was heard."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a peer says of itself on one interface."""

    id: str
    cluster: str
    address: Address


class Browser:
    """Listens on one interface and tells `heard` of each announcement that it resolves."""

    def __init__(self, zeroconf: Zeroconf, heard: Callable[[Announcement], None]) -> None:
        self._zeroconf = zeroconf
        self._heard = heard
        self._resolving: set[asyncio.Task[None]] = set()
        # An answer by unicast reaches only one of the processes that share the mDNS port of one machine, so
        # the question asks for multicast from the first time on.
        self._browser = AsyncServiceBrowser(
            zeroconf, SERVICE, handlers=[self._on_change], question_type=DNSQuestionType.QM
        )

    async def close(self) -> None:
        """Stop listening; the Zeroconf instance stays open."""
        await self._browser.async_cancel()
        for task in self._resolving:
            task.cancel()
        await asyncio.gather(*self._resolving, return_exceptions=True)

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        # mDNS is no failure detector (pointers live 19 minutes and more), so a removal says nothing.
        if state_change is not ServiceStateChange.Removed:
            task = asyncio.get_running_loop().create_task(self._resolve(service_type, name))
            self._resolving.add(task)
            task.add_done_callback(self._resolving.discard)

    async def _resolve(self, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(self._zeroconf, RESOLVE * 1000, DNSQuestionType.QM):
            return
        properties = info.decoded_properties
        for address in info.parsed_addresses():
            if info.port and ":" not in address:
                self._heard(
                    Announcement(properties.get("id") or "", properties.get("cluster") or "", (address, info.port))
                )


def own_addresses(host: str | None) -> list[str]:
    """This machine's IPv4 addresses that peers may use: `host` alone if given, the loopback only as a last resort."""
    if host is not None:
        return [host]
    found = sorted(
        {
            str(address.ip)
            for adapter in ifaddr.get_adapters()
            for address in adapter.ips
            if address.is_IPv4 and address.ip != "0.0.0.0"  # noqa: S104 (it is excluded)
        }
    )
    return [a for a in found if not a.startswith("127.")] or ["127.0.0.1"]


def primary_address(host: str | None) -> str:
    """The one address that gossip gives to peers that no announcement reaches: that of the default route, if any.

    A peer that hears from us directly keeps the address it heard, whatever is claimed.
    """
    addresses = own_addresses(host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it only asks the routing table. The address is
            # reserved for documentation (RFC 5737), so no route but the default one leads there.
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return addresses[0]
        routed = str(probe.getsockname()[0])
    return routed if routed in addresses else addresses[0]


async def find(
    cluster: str, host: str | None, join: Sequence[Address], mdns: bool, timeout: float
) -> AsyncGenerator[Address, None]:
    """Addresses at which a peer of `cluster` may live: those of `join` first, then as mDNS hears them.

    Ends `timeout` seconds after the start. Raises `BadInput` where a name in `join` does not resolve.
    """
    given: set[Address] = set()
    for place in join:
        address = await resolve(place)
        given.add(address)
        yield address
    if not mdns:
        return
    async with aclosing(announcements(host, timeout)) as heard:
        async for announcement in heard:
            if announcement.cluster == cluster and announcement.address not in given:
                given.add(announcement.address)
                yield announcement.address


async def announcements(host: str | None, timeout: float) -> AsyncGenerator[Announcement, None]:
    """What peers of any cluster announce, for `timeout` seconds."""
    heard: asyncio.Queue[Announcement] = asyncio.Queue()
    # Peers that were confined to the loopback announce themselves nowhere else.
    addresses = sorted({*own_addresses(host), host or "127.0.0.1"})
    instances = [AsyncZeroconf(interfaces=[address]) for address in addresses]
    browsers = [Browser(instance.zeroconf, heard.put_nowait) for instance in instances]
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(left):
                    announcement = await heard.get()
            except TimeoutError:
                return
            yield announcement
    finally:
        for browser in browsers:
            await browser.close()
        for instance in instances:
            await instance.async_close()


async def resolve(address: Address) -> Address:
    """The same place with its name resolved to an IPv4 address; raises `BadInput` where that fails."""
    host, port = address
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise BadInput(
            f"--join {host}:{port} cannot be used, because {host!r} does not resolve to an IPv4 address; "
            "check the name, or write the address"
        ) from error
    return str(found[0][4][0]), int(found[0][4][1])
