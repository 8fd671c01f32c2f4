"""Which peer is asked: any that can be found, or the named one; another when one falls silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from p2pml.errors import BadInput, NoVotes, P2pmlError, PeerUnreachable, RemoteError

from .answers import Fitted
from .words import plain

if TYPE_CHECKING:
    from .client import PeerClient

T = TypeVar("T")
Address = tuple[str, int]

LOOK = 5.0
"""Seconds to look for a peer: mDNS answers within one, and asks again after one and after three."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look. `peer` None is any peer of the cluster, `cluster` None that of the first peer that answers."""

    peer: Address | None = None
    cluster: str | None = "default"
    join: tuple[Address, ...] = ()
    host: str | None = None
    mdns: bool = True


class HalfDone(P2pmlError):
    """The peer fell silent after it was asked: asking another would be a second fit."""


class Contact:
    """The peer that is being asked, and those to turn to when it falls silent. An async context manager."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._clients: dict[Address, PeerClient] = {}
        self._current: PeerClient | None = None
        # Addresses that peers gave of each other; a peer that was killed can no longer be asked for them.
        self._known: dict[Address, None] = {}
        self._choosing = asyncio.Lock()
        self._cluster = where.cluster
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._where.host is not None:
            _check_host(self._where.host)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def ask(self, request: Callable[[PeerClient], Awaitable[T]]) -> T:
        """What a peer answers to `request`, which is put to one after the other until one can answer.

        Raises what the last one raised, or `NoVotes` if none was found.
        """
        tried: set[Address] = set()
        failure: RemoteError | NoVotes | None = None
        while True:
            client = await self._client(tried, failure)
            try:
                return await request(client)
            except (RemoteError, NoVotes) as error:
                if self._where.peer is not None:
                    raise
                tried.add(client.address)
                failure = error

    async def fit(self, model: str | None, *, wait: bool) -> Fitted:
        """Have every peer retrain, by one peer that lives; `HalfDone` where that one falls silent over it."""

        async def request(client: PeerClient) -> Fitted:
            await client.peers()
            try:
                return await client.fit(model, wait=wait)
            except PeerUnreachable as error:
                raise HalfDone(f"{error} The fit may go on without it: see `p2pml peers`.") from error

        return await self.ask(request)

    def learn(self, address: str) -> None:
        """Remember where another peer lives, to turn to it when the one that is asked falls silent."""
        host, _, port = address.rpartition(":")
        if port.isascii() and port.isdecimal():
            self._known.setdefault((host, int(port)))

    async def _client(self, tried: set[Address], failure: RemoteError | NoVotes | None) -> PeerClient:
        """A living peer whose address is not in `tried`."""
        async with self._choosing:
            if self._current is not None and self._current.address not in tried:
                return self._current
            if self._where.peer is not None:
                self._current = await self._connect(self._where.peer)
                return self._current
            async with aclosing(self._addresses(failure)) as addresses:
                async for address in addresses:
                    if address in tried:
                        continue
                    tried.add(address)
                    client = await self._connect(address)
                    try:
                        await self._look_around(client)
                    except (RemoteError, NoVotes) as error:
                        failure = failure or error
                        continue
                    tried.discard(address)
                    self._current = client
                    return client
        if isinstance(failure, NoVotes):
            raise failure
        raise NoVotes(self._nobody(failure))

    async def _addresses(self, failure: RemoteError | NoVotes | None) -> AsyncGenerator[Address, None]:
        for address in list(self._known):
            yield address
        if isinstance(failure, NoVotes):
            # Everyone alive was asked, and said that there is no vote: looking for more does not help.
            return
        from .finder import find

        where = self._where
        async for address in find(self._cluster or "", where.host, where.join, where.mdns, LOOK):
            yield address

    async def _connect(self, address: Address) -> PeerClient:
        from .client import PeerClient

        if address not in self._clients:
            client = PeerClient(address, self._where.host)
            self._clients[address] = await self._open.enter_async_context(client)
        return self._clients[address]

    async def _look_around(self, client: PeerClient) -> None:
        """Check that a peer of the right cluster lives there, and learn where the others are."""
        seen = await client.peers()
        if self._cluster is None:
            self._cluster = seen["cluster"]
        if seen["cluster"] != self._cluster:
            raise RemoteError(f"{client} is of cluster {plain(seen['cluster'])!r}.")
        for peer in seen["peers"]:
            if peer["status"] == "alive":
                self.learn(peer["address"])

    def _nobody(self, failure: RemoteError | None) -> str:
        where = self._where
        ways = ["by mDNS"] if where.mdns else []
        ways += [f"at {host}:{port}" for host, port in where.join]
        looked = " and ".join(ways) or "nowhere, for --no-mdns was given without --join"
        because = f" ({str(failure).rstrip('.')})" if failure else ""
        cluster = "" if self._cluster is None else f" of cluster {plain(self._cluster)!r}"
        return (
            f"No peer{cluster} answered, looked for {looked}{because}: "
            "start one with `p2pml peer start`, or say where one is by its HOST:PORT."
        )


def _check_host(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise BadInput(
                f"host {plain(host)} is not an address of this machine: give one that `ip address` shows."
            ) from error
