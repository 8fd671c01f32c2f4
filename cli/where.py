"""The options that say which peer a command asks: any that it can find, or the named one."""

from __future__ import annotations

import functools
from typing import Any

import click
from click.core import ParameterSource

from p2pml.peer.contact import Contact, Where

from .options import ADDRESS, Command, option

__all__ = ["Contact", "Where", "where_options"]


def where_options(command: Command) -> Command:
    """The options that say which peer to ask; the command gets them as `where`."""

    @functools.wraps(command)
    def with_where(**values: Any) -> Any:
        names = ("any_peer", "peer", "cluster", "join", "host", "no_mdns")
        any_peer, peer, cluster, join, host, no_mdns = (values.pop(name) for name in names)
        if any_peer and peer:
            if _typed("any_peer") == _typed("peer"):
                raise click.UsageError("Say either --any-peer or --peer HOST:PORT, not both")
            peer = None if _typed("any_peer") else peer
        return command(where=Where(peer, cluster, join, host, not no_mdns), **values)

    for add in reversed(_OPTIONS):
        with_where = add(with_where)
    return with_where  # type: ignore[return-value]  # the same command, with other parameters


_OPTIONS = (
    option("--any-peer", is_flag=True, help="Ask any peer that can be found (the default)."),
    option("--peer", type=ADDRESS, help="Ask this peer and no other."),
    option("--cluster", default="default", show_default=True, help="Name of the cluster to look in."),
    option("--join", type=ADDRESS, multiple=True, help="Where a peer may live, if mDNS does not reach it."),
    option("--host", metavar="ADDR", help="Look only on the interface that has this address."),
    option("--no-mdns", is_flag=True, help="Do not look by mDNS, only by --join."),
)


def _typed(name: str) -> bool:
    """Whether an option stood on the command line, which goes before the environment."""
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE
