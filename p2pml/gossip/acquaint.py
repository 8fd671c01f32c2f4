"""Nodes that know one another from the start, for simulations of what comes after."""

from __future__ import annotations

from collections.abc import Sequence

from . import limits
from .node import Node


def acquaint(nodes: Sequence[Node]) -> None:
    """Let nodes that have started know one another at once, as if they had been together for long.

    To meet through seeds takes each node a claim about each other. The nodes share a directory.
    """
    first, *others = [node._context for node in nodes]
    for node in nodes:
        node._open_catalogue()
    for other in others:
        first.members.put(other.own, other.now)
        shelf = other.catalogue.delta(other.me.id, other.own.epoch, (0, 0), limits.STREAM_LIMIT)[0]
        assert shelf is not None
        first.catalogue.apply(shelf)
        first.state ^= other.state
    first.hush()
    for node in nodes:
        node._sync.settle()
    for other in others:
        other.members.copy(first.members)
        other.catalogue.copy(first.catalogue)
        other.state = first.state
        other.hush()
