"""What stops machines from meeting, as far as this one can see: each finding with what was checked, and a remedy."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

import p2pml

from .answers import Peers
from .contact import Where
from .finder import Announcement, announcements, resolve
from .machine import Finding, machine
from .words import plain

Address = tuple[str, int]

HEAR = 4.0
"""Seconds to listen for announcements: a peer announces itself within one, and is asked again after one and three."""
ANSWER = 3.0
"""Seconds that a peer has to answer."""
AWRY = 5.0
"""Seconds by which a clock may be wrong before it is said."""
MOST = 64
"""Peers that are asked, so that a large cluster is not a long examination."""
LARGEST = 4 * 2**20
"""Bytes of an answer that are read."""


@dataclass
class Seen:
    """A peer that answered at an address."""

    address: Address
    peers: Peers
    version: str
    clock: float | None
    """How far its clock is ahead of this one (s), to a second."""

    @property
    def name(self) -> str:
        rows = [row for row in self.peers["peers"] if row["id"] == self.peers["asked"]]
        return plain(rows[0]["name"] if rows else self.peers["asked"][:8])


@dataclass
class Search:
    """Who was heard and who answered."""

    heard: list[Announcement] = field(default_factory=list)
    answered: dict[str, Seen] = field(default_factory=dict)
    """By id."""
    silent: dict[Address, tuple[str, str]] = field(default_factory=dict)
    """How an address was learned that did not answer, and why it did not."""


async def check_up(where: Where) -> list[Finding]:
    """Look at this machine and at the peers that it can find; raises `BadInput` where a name does not resolve."""
    findings = await asyncio.to_thread(machine, where.host)
    search = await _search(where)
    return [*findings, *judge(search, where)]


def judge(search: Search, where: Where) -> list[Finding]:
    """What the search says; no IO."""
    cluster = where.cluster or "default"
    ours = [seen for seen in search.answered.values() if seen.peers["cluster"] == cluster]
    findings = [_meeting(search, ours, where, cluster)]
    for address, (how, why) in sorted(search.silent.items()):
        remedy = (
            f"see that the peer runs; on its machine, let TCP and UDP port {address[1]} through the firewall "
            f"(such as `sudo ufw allow {address[1]}`), and see that it was not started with --host 127.0.0.1"
        )
        findings.append(
            Finding("reach", "problem", f"{address[0]}:{address[1]}, {how}, cannot be reached: {why}", remedy)
        )
    if not ours:
        return findings
    return [*findings, _clocks(ours), _versions(ours), _views(ours)]


def _meeting(search: Search, ours: Sequence[Seen], where: Where, cluster: str) -> Finding:
    heard = {announcement.id for announcement in search.heard if announcement.cluster == cluster}
    others = sorted({seen.peers["cluster"] for seen in search.answered.values()} - {cluster})
    others = sorted({*others, *(a.cluster for a in search.heard if a.cluster != cluster)})
    if ours:
        names = ", ".join(sorted(seen.name for seen in ours))
        by = f"{len(heard)} of them heard by mDNS" if where.mdns else "mDNS was not tried"
        return Finding("peers", "ok", f"{len(ours)} peers of cluster {plain(cluster)} answer ({names}); {by}")
    if others:
        said = f"no peer of cluster {plain(cluster)} was found, but peers of {', '.join(map(plain, others))}"
        return Finding(
            "peers", "problem", said, f"say --cluster {plain(others[0])}, here or where the peers are started"
        )
    remedy = (
        "start one with `p2pml peer start`. If one runs elsewhere, the network between does not carry multicast (guest "
        "Wi-Fi, VPN, another subnet, a container's bridge): give its address with --join HOST:PORT"
    )
    return Finding("peers", "problem", f"no peer of cluster {plain(cluster)} was found", remedy)


def _clocks(seen: Sequence[Seen]) -> Finding:
    awry = {one.name: one.clock for one in seen if one.clock is not None and abs(one.clock) > AWRY}
    if not awry:
        return Finding("clocks", "ok", f"all clocks are within {AWRY:g} s of this one")
    said = ", ".join(
        f"{name} is {abs(by):.0f} s {'ahead' if by > 0 else 'behind'}" for name, by in sorted(awry.items())
    )
    remedy = (
        "set the clocks by NTP (`timedatectl set-ntp true`); peers meet all the same, but the ages they show are wrong"
    )
    return Finding("clocks", "problem", said, remedy)


def _versions(seen: Sequence[Seen]) -> Finding:
    other = {one.name: plain(one.version) for one in seen if one.version != p2pml.__version__}
    if not other:
        return Finding("versions", "ok", f"all run p2pml {p2pml.__version__}, as this machine does")
    said = ", ".join(f"{name} runs {version}" for name, version in sorted(other.items()))
    remedy = f"install one version everywhere; this machine has {p2pml.__version__}"
    return Finding("versions", "problem", said, remedy)


def _views(seen: Sequence[Seen]) -> Finding:
    """Whether those who answer over TCP are alive to each other over UDP."""
    lost = []
    for one in seen:
        rows = {row["id"]: row["status"] for row in one.peers["peers"]}
        for other in seen:
            status = rows.get(other.peers["asked"], "unknown")
            if status not in ("alive", "suspect"):
                lost.append(f"{one.name} sees {other.name} as {status}")
    if not lost:
        return Finding("gossip", "ok", "every peer that answers is alive to every other one")
    ports = ", ".join(str(port) for port in sorted({one.address[1] for one in seen}))
    remedy = (
        f"these peers answer over TCP, so it is UDP that does not get through: let UDP port {ports} pass in both "
        "directions. If they were started a moment ago, ask again"
    )
    return Finding("gossip", "problem", "; ".join(lost[:5]), remedy)


async def _search(where: Where) -> Search:
    search = Search()
    places: dict[Address, str] = {}
    for place in (*where.join, *([where.peer] if where.peer else ())):
        places[await resolve(place)] = "given by --join" if place in where.join else "given by --peer"
    if where.mdns:
        async with aclosing(announcements(where.host, HEAR)) as heard:
            async for announcement in heard:
                search.heard.append(announcement)
    announced = {a.id: a.address for a in reversed(search.heard)}
    for address in announced.values():
        places.setdefault(address, "announced by mDNS")
    async with _session(where.host) as session:
        for _ in range(2):
            # The second time round, those whom the first ones named.
            new = [
                a for a in places if a not in search.silent and a not in {s.address for s in search.answered.values()}
            ]
            await asyncio.gather(*(_look(session, address, places[address], search) for address in new[:MOST]))
            for seen in list(search.answered.values()):
                for row in seen.peers["peers"]:
                    host, _, port = row["address"].rpartition(":")
                    if row["status"] == "alive" and row["id"] not in search.answered and port.isdecimal():
                        places.setdefault((host, int(port)), f"alive to {seen.name}")
    return search


@asynccontextmanager
async def _session(host: str | None) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(host, 0) if host else None)
    timeout = aiohttp.ClientTimeout(total=ANSWER)
    async with aiohttp.ClientSession(connector=connector, trust_env=False, timeout=timeout) as session:
        yield session


async def _look(session: aiohttp.ClientSession, address: Address, how: str, search: Search) -> None:
    try:
        peers, _ = await _get(session, address, "/v1/peers")
        about, date = await _get(session, address, "/openapi.json")
        shape = msgspec.convert(peers, Peers)
        version = str(about["info"]["version"])
    except (KeyError, TypeError, ValueError, RecursionError, aiohttp.ClientPayloadError):
        search.silent[address] = (how, "what answers there is no p2pml peer")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        refused = "connection refused" if isinstance(error, aiohttp.ClientConnectorError) else "the connection was lost"
        search.silent[address] = (
            how,
            "no answer, as where a firewall drops" if isinstance(error, TimeoutError) else refused,
        )
    else:
        search.answered.setdefault(shape["asked"], Seen(address, shape, version, date))


async def _get(session: aiohttp.ClientSession, address: Address, path: str) -> tuple[Any, float | None]:
    """What is answered, and how far that clock is ahead (s)."""
    asked = time.time()
    async with session.get(f"http://{address[0]}:{address[1]}{path}", allow_redirects=False) as response:
        body = bytearray()
        async for piece in response.content.iter_chunked(2**16):
            body += piece
            if len(body) > LARGEST:
                raise ValueError("too long")
        said = response.headers.get("Date")
    try:
        date = email.utils.parsedate_to_datetime(said).timestamp() if said else None
    except ValueError:
        date = None
    # The header has whole seconds, of a moment between question and answer.
    ahead = None if date is None else date + 0.5 - (asked + time.time()) / 2
    return msgspec.json.decode(bytes(body)), ahead
