"""Four peers that train at once, beside the four trainings in turn: `python tests/benchmarks/training.py PARTS`.

Each part of the folder is first trained on by one peer alone, one after another; then all peers live, and once each has
what it needs of the others, one `fit` has all train at once. Prints the wall time of both. At best the second is the
first divided by the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from deaths import wait_for_all
from running import RealPeer, eventually

from p2pml.peer.answers import Fitted
from p2pml.peer.client import PeerClient

PATIENCE = 3600.0


def fit(peer: RealPeer) -> Fitted:
    """The report on a fit of the whole cluster, by one of its peers."""
    host, _, port = peer.address.rpartition(":")

    async def ask() -> Fitted:
        async with PeerClient((host, int(port))) as client:
            return await client.fit()

    return asyncio.run(ask())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=Path)
    parser.add_argument("--model", default="hist-gradient-boosting")
    parser.add_argument("--target", default="median_house_value")
    given = parser.parse_args()
    parts, cores = sorted(given.parts.glob("*.csv")), os.cpu_count() or 1
    flags = ["--host", "127.0.0.1", "--port", "0", "--no-mdns", "--model", given.model, "--target", given.target]
    peers: list[RealPeer] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            alone = []
            for part in parts:
                peer = RealPeer(part, Path(folder), *flags, cluster=f"alone-{part.stem}").start()
                try:
                    eventually(peer.ready, "it has trained", PATIENCE)
                    alone.append(fit(peer)["took"])
                finally:
                    peer.end()
                print(f"{part.stem} alone: {alone[-1]:.2f} s", flush=True)
            for part in parts:
                join = ["--join", peers[0].address] if peers else []
                peers.append(
                    RealPeer(part, Path(folder), *flags, "--name", part.stem, *join, cluster="training").start()
                )
            eventually(lambda: all(peer.ready() for peer in peers), "all have trained", PATIENCE)
            eventually(lambda: len(peers[0].peers()) == len(parts), "all know each other", PATIENCE)
            with parts[0].open(newline="") as file:
                names, row = itertools.islice(csv.reader(file), 2)
            wait_for_all(peers, {"columns": names, "data": [row]}, 2)
            report = fit(peers[0])
            best = sum(alone) / cores
            assert [each["status"] for each in report["peers"]] == ["trained"] * len(parts), report
            print(f"one after another {sum(alone):.2f} s; at once {report['took']:.2f} s on {cores} cores:", end=" ")
            print(f"{report['took'] / best:.2f} times the best that there is")
        finally:
            for peer in peers:
                peer.end()


if __name__ == "__main__":
    main()
