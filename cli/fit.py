"""`p2pml fit`: every peer retrains."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from p2pml.errors import NoVotes

from .options import examples, json_option, option
from .show import json_line, note, progress, table
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import Fitted, FittedPeer


@click.command(epilog=examples("p2pml fit", "p2pml fit --model extra-trees --no-wait"))
@where_options
@option("--model", metavar="NAME", help="Train this model from now on. [default: each peer its own]")
@option("--no-wait", is_flag=True, help="Return as soon as the fit is announced.")
@json_option
def fit(where: Where, model: str | None, no_wait: bool, as_json: bool) -> None:
    """Have every peer retrain on its own rows.

    Two fits at once resolve to one. The old models go on answering until the new ones are there.
    """
    with progress("every peer trains"):
        answer = asyncio.run(_ask(where, model, not no_wait))
    if as_json:
        json_line(answer)
    else:
        _show(answer, not no_wait)
    if not any(peer["status"] in ("trained", "started") for peer in answer["peers"]):
        raise NoVotes("No peer trained; their logs say why.")


async def _ask(where: Where, model: str | None, wait: bool) -> Fitted:
    async with Contact(where) as contact:
        return await contact.fit(model, wait=wait)


def _show(answer: Fitted, wait: bool) -> None:
    table(["peer", "status", "rows", "seconds", "reason"], [_row(peer) for peer in answer["peers"]])
    good, what = ("trained", "trained") if wait else ("started", "started to train")
    count = sum(peer["status"] == good for peer in answer["peers"])
    epoch, took = answer["epoch"]["counter"], answer["took"]
    note(f"{count} of {len(answer['peers'])} peers {what} in epoch {epoch}, in {took:.1f} s.")


def _row(peer: FittedPeer) -> list[object]:
    took = peer.get("took")
    seconds = None if took is None else f"{took:.1f}"
    return [peer["name"], peer["status"], peer.get("rows"), seconds, peer.get("reason") or ""]
