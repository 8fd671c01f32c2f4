"""Predictions while peers are killed, stopped and restarted all along; exit code 1 where one is lost, late or untrue.

    python tests/benchmarks/serving/chaos.py [--count 100000] [--peers 8] [--every 10] [--deadline 5]

Every so many seconds one peer is killed with SIGKILL and started again, or stopped with SIGSTOP and continued. Half of
the questions go to one peer and count where it ran all the while; the others are put as `--any-peer` does, and all
count. The part of peer k holds nothing but the target 2 to the power of k, so its vote is just that: the mean times the
votes cast tells whose votes stand behind an answer, and that has to be what it says of itself.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from cluster import RealPeer, cluster

from p2pml.errors import P2pmlError
from p2pml.peer.answers import Predicted
from p2pml.peer.client import PeerClient
from p2pml.peer.contact import Contact, Where

SLACK = 1.0
"""Seconds beyond the deadline in which an answer counts as in time: the way back, on a machine that is busy."""
OPEN = 16
"""Questions that are open at once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--every", type=float, default=10.0)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pml-chaos-") as folder:
        parts = [write_part(Path(folder) / f"part{at}.csv", at) for at in range(asked.peers)]
        with cluster(Path(folder), parts, "--model", "decision-tree", "--task", "regression") as peers:
            chaos = Chaos(peers, asked.deadline, random.Random(asked.seed))
            asyncio.run(chaos.run(asked.count, asked.every))
    print(chaos.report())
    sys.exit(1 if chaos.faults else 0)


def write_part(path: Path, at: int) -> Path:
    """Rows whose target is 2 to the power of `at`."""
    rng = random.Random(at)
    path.write_text("x,y\n" + "".join(f"{rng.random()},{2**at}\n" for _ in range(60)))
    return path


class Chaos:
    """Asks, disturbs, and counts."""

    def __init__(self, peers: list[RealPeer], deadline: float, chance: random.Random) -> None:
        self._peers, self._deadline, self._chance = peers, deadline, chance
        self._disturbed = dict.fromkeys(range(len(peers)), 0.0)
        """When each peer was last disturbed; infinity while it is down."""
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._took: list[float] = []

    async def run(self, count: int, every: float) -> None:
        """Ask so many questions while one peer is disturbed after the other."""
        self._left = count
        async with AsyncExitStack() as stack:
            where = Where(cluster=None, join=tuple(peer.address for peer in self._peers), mdns=False)
            contact = await stack.enter_async_context(Contact(where))
            clients = [await stack.enter_async_context(PeerClient(peer.address)) for peer in self._peers]
            disturbing = asyncio.create_task(self._disturb(every))
            await asyncio.gather(*(self._ask_on(contact, clients) for _ in range(OPEN)))
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)

    def report(self) -> str:
        """What became of the questions."""
        took = sorted(self._took)
        lines = [", ".join(f"{what}: {number:,}" for what, number in sorted(self.counts.items()))]
        lines += [f"{1000 * took[int(share * (len(took) - 1))]:.1f} ms at {share:.1%}" for share in (0.5, 0.99, 0.999)]
        return "\n".join([*lines, f"{len(self.faults)} faults", *self.faults[:10]])

    async def _ask_on(self, contact: Contact, clients: list[PeerClient]) -> None:
        while self._left > 0:
            self._left -= 1
            if self._left % 2:
                await self._ask(contact, None)
            else:
                at = self._chance.randrange(len(clients))
                await self._ask(clients[at], at)

    async def _ask(self, asked: Contact | PeerClient, at: int | None) -> None:
        began, answer, why = time.monotonic(), None, ""

        async def put(client: PeerClient) -> Predicted:
            return await client.predict({"x": [0.5]}, combine="mean", deadline=self._deadline)

        try:
            answer = await (asked.ask(put) if isinstance(asked, Contact) else put(asked))
        except P2pmlError as error:
            why = str(error)
        took = time.monotonic() - began
        if at is not None and self._disturbed[at] > began - SLACK:
            self.counts["of a peer that was disturbed"] += 1
        elif answer is None:
            self.faults.append(f"lost after {took:.1f} s ({'any peer' if at is None else f'peer {at}'}): {why}")
        elif at is not None and took > self._deadline + SLACK:
            self.faults.append(f"late: {took:.1f} s")
        elif untrue := self._untrue(answer):
            self.faults.append(untrue)
        else:
            votes = answer["votes"]
            self.counts[f"{votes['cast']} votes"] += 1
            self.counts["asked of any peer" if at is None else "asked of one peer"] += 1
            self._took.append(took)

    def _untrue(self, answer: Predicted) -> str:
        """How the votes that stand behind an answer differ from those that it says."""
        votes = answer["votes"]
        total = float(answer["predictions"][0]) * votes["cast"]
        voted = {at for at in range(len(self._peers)) if round(total) >> at & 1}
        missing = {int(entry["name"].removeprefix("part")) for entry in votes["missing"]}
        if abs(total - round(total)) > 1e-6 or len(voted) != votes["cast"] or voted & missing:
            return f"untrue: {votes} behind a sum of {total}"
        if votes["cast"] + len(votes["missing"]) != votes["expected"]:
            return f"untrue: {votes}"
        return ""

    async def _disturb(self, every: float) -> None:
        """Kill or stop one peer at a time, and bring it back."""
        while True:
            at = self._chance.randrange(len(self._peers))
            peer, number = self._peers[at], self._chance.choice((signal.SIGKILL, signal.SIGSTOP))
            self._disturbed[at] = float("inf")
            self.counts[number.name] += 1
            peer.signal(number)
            await asyncio.sleep(every / 2)
            if number is signal.SIGSTOP:
                peer.signal(signal.SIGCONT)
            else:
                await asyncio.to_thread(peer.end)
                await asyncio.to_thread(peer.start)
            await self._ready(peer)
            self._disturbed[at] = time.monotonic()
            await asyncio.sleep(every / 2)

    async def _ready(self, peer: RealPeer) -> None:
        """Wait until it answers."""
        async with PeerClient(peer.address) as client:
            while True:
                try:
                    await client.predict({"x": [0.5]}, deadline=self._deadline)
                except P2pmlError:
                    await asyncio.sleep(0.1)
                else:
                    return


if __name__ == "__main__":
    main()
