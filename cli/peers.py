"""`p2pml peers`: who is in the cluster and what each knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from .options import examples, json_option
from .show import json_line, note, plain, table
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import PeerRow, Peers


@click.command(epilog=examples("p2pml peers", "p2pml peers --cluster houses --json | jq .peers"))
@where_options
@json_option
def peers(where: Where, as_json: bool) -> None:
    """Show who is in the cluster and what each knows."""
    answer = asyncio.run(_ask(where))
    if as_json:
        json_line(answer)
        return
    rows = [_row(peer, answer["asked"]) for peer in answer["peers"]]
    table(["peer", "status", "address", "model", "state", "rows", "epoch", "own score"], rows)
    for peer in answer["peers"]:
        if reason := (peer.get("model") or {}).get("reason"):
            note(f"{plain(peer['name'])}: {plain(reason)}")
    alive = sum(peer["status"] == "alive" for peer in answer["peers"])
    note(f"{alive} of {len(rows)} peers of cluster {plain(answer['cluster'])} are alive; * was asked.")


async def _ask(where: Where) -> Peers:
    async with Contact(where) as contact:
        return await contact.ask(lambda peer: peer.peers())


def _row(peer: PeerRow, asked: str) -> list[object]:
    model = peer.get("model") or {}
    name = peer["name"] + (" *" if peer["id"] == asked else "")
    return [
        name,
        peer["status"],
        peer["address"],
        model.get("name"),
        model.get("state"),
        model.get("rows"),
        _epoch(model.get("epoch")),
        _score(model.get("metrics")),
    ]


def _epoch(epoch: object) -> object:
    return epoch.get("counter") if isinstance(epoch, dict) else epoch


def _score(metrics: object) -> str | None:
    """The score that people ask for first."""
    if not isinstance(metrics, dict):
        return None
    for name in ("r2", "accuracy"):
        if isinstance(value := metrics.get(name), float):
            return f"{name} {value:.3f}"
    return None
