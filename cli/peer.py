"""`p2pml peer start`: the daemon, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ADDRESS, examples, option


@click.group(epilog=examples("p2pml peer start --data rows.csv"))
def peer() -> None:
    """Start a peer on this machine's rows."""


@peer.command(
    epilog=examples(
        "p2pml peer start --data houses.csv --target price",
        "p2pml peer start --data houses.parquet --model random-forest --name oslo --cluster houses",
        "P2PML_JOIN=10.0.0.5:7733,10.0.0.6:7733 p2pml peer start --data houses.csv --no-mdns",
        "p2pml peer start --data houses.csv --profile wan --join oslo.example.org:7733",
    )
)
@option("--data", required=True, type=click.Path(path_type=Path), help="This peer's rows: CSV, .gz or Parquet.")
@option("--target", metavar="COL", help="Column to predict. [default: the last one]")
@option(
    "--task",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "classification", "regression"]),
    help="What the target is; auto finds out.",
)
@option(
    "--model",
    metavar="NAME",
    default="hist-gradient-boosting",
    show_default=True,
    help="hist-gradient-boosting, random-forest, extra-trees, decision-tree, linear, sgd, mlp, svm, knn, "
    "naive-bayes, or your own package.module:factory.",
)
@option("--cluster", default="default", show_default=True, help="Peers of one name work together.")
@option("--name", help="What people call this peer. [default: the data file's name]")
@option("--host", metavar="ADDR", help="Use only the interface that has this address. [default: every one]")
@option(
    "--port",
    type=click.IntRange(0, 65535),
    help="TCP and UDP port, 0 for any free one. [default: the last one used, else from 7733 up]",
)
@option("--join", type=ADDRESS, multiple=True, help="Where a peer may live, if mDNS does not reach it.")
@option(
    "--secret-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Hear only peers that have the secret in FILE. To change it, have two lines for a while: the first is written "
    "with, all are read.",
)
@option("--no-mdns", is_flag=True, help="Neither announce nor look by mDNS.")
@option(
    "--profile",
    type=click.Choice(["local", "lan", "wan"]),
    default="lan",
    show_default=True,
    help="Pace at which the peers watch one another, the same for all of a cluster: on one machine, at one site, or "
    "over sites far apart.",
)
@option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where identity and model are kept. [default: a folder in the user's state directory]",
)
@option(
    "--holdout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the rows that is never trained on, for scores.",
)
@option(
    "--min-count",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Tell the other peers nothing of groups of fewer training rows.",
)
@option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the held-out cut and the model.",
)
@option(
    "--replicas",
    type=click.IntRange(0, 16),
    default=2,
    show_default=True,
    help="How many other peers hold a copy of each model, and vote with it when its own peer is gone; the same for "
    "all of a cluster. 0: none.",
)
@option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="For people or for programs; on standard error.",
)
def start(no_mdns: bool, **values: Any) -> Any:
    """Train on FILE, find the other peers of the cluster, and answer with them until stopped.

    SIGTERM or Ctrl-C leaves the cluster politely. Started again, the peer comes back under the same
    identity with its model from disk.
    """
    from p2pml.peer.options import PeerOptions
    from p2pml.peer.process import run_peer

    return run_peer(PeerOptions(mdns=not no_mdns, **values))
