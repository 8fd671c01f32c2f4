"""Whether a healed core has recovered: what its members must believe, given the links and hosts as they are.

Somebody in the core, or whose links with all of it are as good, must be held alive. Whoever is down, or cannot be
heard by the core in any way round, must not. Of all others (heard but deaf, slow, standing still, reached only
through somebody) both are fair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from p2pml.gossip import Address, Status

from .cluster import Cluster, Host
from .network import Network

VIEWS = "the core's views equal the live peers"
ENTRIES = "the core knows its entries"
QUIET = "doubts and queues drain"
LAWS = (VIEWS, ENTRIES, QUIET)

SAMPLE = 100
"""Hosts that are looked at however alike they say that they are."""


class Complaint(NamedTuple):
    """The law that does not hold yet, where that shows, and who shows it."""

    law: str
    words: str
    observer: int


def complaint(cluster: Cluster, core: Sequence[int], known: frozenset[int]) -> Complaint | None:
    """Say what keeps the core from having recovered; nothing if it has.

    Its hosts are looked at in their order: the one that complained last should come first. `known` are those that share
    the core's links. Somebody who is heard and is neither dead nor well keeps a cluster talking, so that nothing is
    said of queues and doubts while there is one.
    """
    hosts = cluster.hosts
    observers = [hosts[index] for index in core]
    down = [host for host in observers if host.node is None or host.paused]
    if down:
        return Complaint(VIEWS, f"{', '.join(host.name for host in down)} of the core does not run", down[0].index)
    well = {hosts[index].id for index in known} | {host.id for host in observers}
    heard = well if len(well) == len(cluster.up()) else {host.id for host in audible(cluster, observers)}
    names = {host.id: host.name for host in hosts}
    apart = differing(observers)
    for host in apart:
        live = {record.id for record in host.running.records() if record.live}
        for peer in sorted(well - live, key=names.__getitem__):
            return Complaint(VIEWS, f"{host.name} does not hold {names[peer]} alive", host.index)
        for peer in sorted(live - heard, key=names.__getitem__):
            return Complaint(VIEWS, f"{host.name} holds {names[peer]} alive, which cannot be heard", host.index)
    return entries(observers, apart) or (unrest(observers, apart) if heard == well else None)


def differing(observers: list[Host]) -> list[Host]:
    """Leave out most of those whose tables are said to be another's: to look at all in all takes their square."""
    step = -(-len(observers) // SAMPLE)
    seen: set[int] = set()
    found = []
    for place, host in enumerate(observers):
        state = host.running.state()
        if state not in seen or place % step == 0:
            found.append(host)
        seen.add(state)
    return found


def entries(observers: list[Host], apart: list[Host]) -> Complaint | None:
    """Say whose catalogue entries somebody in the core does not have."""
    written = [(owner, owner.running.entries(owner.id)) for owner in observers]
    for host in apart:
        known = host.running.entries
        for owner, entries in written:
            if known(owner.id) != entries:
                return Complaint(ENTRIES, f"{host.name} does not have the entries of {owner.name}", host.index)
    return None


def unrest(observers: list[Host], apart: list[Host]) -> Complaint | None:
    """Say who still doubts somebody, or has something to tell."""
    for host in apart:
        if any(record.status is Status.SUSPECT for record in host.running.records()):
            return Complaint(QUIET, f"{host.name} suspects somebody", host.index)
    for host in observers:
        if news := host.running.queues()["news"]:
            return Complaint(QUIET, f"{host.name} has {news} news to tell", host.index)
    return None


def as_good(cluster: Cluster, core: Collection[int]) -> frozenset[int]:
    """Find the others that run and whose links with all of the core are as good as if nothing had happened."""
    network = cluster.network
    core_addresses = [cluster[index].address for index in core]
    found = []
    for host in cluster.up():
        if host.index in core or host.paused:
            continue
        rules = [rule for rule in network.rules if rule.name != HEALED]
        touched = any(
            rule.matches(host.address, other) or rule.matches(other, host.address)
            for rule in rules
            for other in core_addresses
        )
        if not touched:
            found.append(host.index)
    return frozenset(found)


HEALED = "healed"
"""The name of the rule by which the links within the core are as if nothing had happened."""


def audible(cluster: Cluster, observers: list[Host]) -> list[Host]:
    """Find all who can be heard by the core, directly or through others, whether they hear it or not."""
    found = list(observers)
    waiting = sorted(set(cluster.up()).difference(found), key=lambda host: host.index)
    reached = list(observers)
    while reached:
        targets = [host.address for host in reached]
        reached = [host for host in waiting if passes(cluster.network, host.address, targets)]
        waiting = [host for host in waiting if host not in reached]
        found += reached
    return found


def passes(network: Network, source: Address, targets: list[Address]) -> bool:
    """Whether anything that is sent there can arrive."""
    return any(network.on_link(source, target).loss < 1 for target in targets)
