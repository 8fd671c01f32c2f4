"""Laws of replicas among real daemons: who is gone still votes, from plain arrays that others hold."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from running import peer_here, soon, write_part

from p2pml.gossip import Status
from p2pml.peer.daemon import Peer

ROWS: dict[str, list[object]] = {"height": [1, 9, 5], "width": [2, 9, 4], "colour": ["red", "blue", None]}


async def cluster(stack: AsyncExitStack, folder: Path, count: int, **options: Any) -> list[Peer]:
    """So many peers, once every model is held by as many others as it should be."""
    peers: list[Peer] = []
    for at in range(count):
        join = (peers[0].address,) if peers else ()
        part = write_part(folder / f"part-{at}.csv", seed=at)
        peers.append(await stack.enter_async_context(peer_here(part, folder / f"s{at}", join=join, **options)))
    await soon(lambda: all(in_place(peer, count) for peer in peers), "every replica is in its place")
    return peers


def in_place(peer: Peer, count: int) -> bool:
    """Whether a peer sees all vote, and everyone held as often as there are peers to hold it."""
    voters = peer.colleagues.roll().voters
    each = min(peer.options.replicas, count - 1)
    held = [len(peer.colleagues.held.holders(v.id, v.summary.digest or "")) for v in voters if v.summary]
    return len(held) == count and all(some >= each for some in held)


async def gone(peer: Peer, of: Peer) -> None:
    await soon(
        lambda: member.status in (Status.LEFT, Status.DEAD) if (member := of.node.member(peer.id)) else False, "gone"
    )


async def ask(peer: Peer, rule: str = "mean") -> Any:
    return await peer.asker.ask(ROWS, 3, rule=rule, seconds=20)


async def test_who_is_gone_still_votes(tmp_path: Path) -> None:
    """The answer is the same, the votes are all there, and it says who cast that of whom."""
    async with AsyncExitStack() as stack:
        peers = await cluster(stack, tmp_path, 2)
        async with AsyncExitStack() as late:
            last = await late.enter_async_context(
                peer_here(write_part(tmp_path / "l.csv", seed=9), tmp_path / "l", join=(peers[0].address,))
            )
            await soon(lambda: all(in_place(peer, 3) for peer in (*peers, last)), "all is in place")
            before = await ask(peers[0])
        await gone(last, peers[0])
        after = await ask(peers[0])
        assert np.abs(after.answer.probabilities - before.answer.probabilities).max() < 1e-9
        assert (after.votes["cast"], after.votes["expected"], after.votes["missing"]) == (3, 3, [])
        assert last.id in [entry["peer"] for entry in after.votes["replicas"]]
