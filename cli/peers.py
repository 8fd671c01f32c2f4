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

MEANINGS = {
    "suspect": "it does not answer; it is asked again for some seconds before it is taken for dead.",
    "dead": "replicas of its model vote, if others hold any, until it is started again or the network reaches it.",
}
"""What a status that needs looking at means, and what to do."""
SCORES = ("r2", "accuracy")
"""Of a model's own scores, the one that people ask for first."""


@click.command(epilog=examples("p2pml peers", "p2pml peers --cluster houses --json | jq .peers"))
@where_options
@json_option
def peers(where: Where, as_json: bool) -> None:
    """Show who is in the cluster and what each knows."""
    answer = asyncio.run(_ask(where))
    if as_json:
        json_line(answer)
        return
    rows = sorted(answer["peers"], key=lambda peer: (peer["name"], peer["id"]))
    score = next((name for name in SCORES if any(name in _metrics(peer) for peer in rows)), "score")
    heads = ["peer", "status", "address", "model", "rows", "replicas", "epoch", score]
    table(heads, [_row(peer, answer["asked"], score) for peer in rows])
    for peer in rows:
        if reason := (peer.get("model") or {}).get("reason"):
            note(f"{plain(peer['name'])}: {plain(reason)}")
        if meaning := MEANINGS.get(peer["status"]):
            note(f"{plain(peer['name'])}: {meaning}")
    alive = sum(peer["status"] == "alive" for peer in rows)
    note(f"{alive} of {len(rows)} peers of cluster {plain(answer['cluster'])} are alive; * was asked.")


async def _ask(where: Where) -> Peers:
    async with Contact(where) as contact:
        return await contact.ask(lambda peer: peer.peers())


def _row(peer: PeerRow, asked: str, score: str) -> list[object]:
    model = peer.get("model") or {}
    # Only what is out of the ordinary is said: a model that votes is what a peer has.
    state = model.get("state", "ready")
    epoch = model.get("epoch")
    value = _metrics(peer).get(score)
    return [
        peer["name"] + (" *" if peer["id"] == asked else ""),
        peer["status"] if state == "ready" else f"{peer['status']}, {state}",
        peer["address"],
        model.get("name"),
        model.get("rows"),
        len(held) if (held := peer.get("held_by")) is not None else None,
        epoch.get("counter") if isinstance(epoch, dict) else epoch,
        round(value, 4) if isinstance(value, float) else None,
    ]


def _metrics(peer: PeerRow) -> dict[str, object]:
    metrics = (peer.get("model") or {}).get("metrics")
    return metrics if isinstance(metrics, dict) else {}
