"""A rolling restart under load: `python tests/benchmarks/rolling.py PARTS_DIR NEW.csv` restarts one peer after another.

Meanwhile `AsyncEnsemble` asks the cluster, a question after the other; it turns to another peer when the one that it
asks leaves. Prints how many questions there were, which failed, and how many votes were missing once replicas were in
place.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from deaths import holds
from running import RealPeer, eventually

from p2pml import AsyncEnsemble
from p2pml.errors import P2pmlError

PATIENCE = 600.0


async def load(address: str, rows: dict[str, list[str]], stop: asyncio.Event) -> tuple[Counter[str], list[float]]:
    """Ask until told to stop; what became of the questions, and how long each took."""
    found: Counter[str] = Counter()
    took: list[float] = []
    async with await AsyncEnsemble.connect(address, cluster="rolling", host="127.0.0.1") as ensemble:
        while not stop.is_set():
            began = time.monotonic()
            try:
                answer = await ensemble.ask(rows)
            except P2pmlError as error:
                found[f"failed: {error}"] += 1
            else:
                missing = [f"{one['name']}: {one['reason']}" for one in answer.votes.missing]
                found["whole" if not missing else f"missing {missing}"] += 1
            took.append(time.monotonic() - began)
    return found, took


def rows_of(path: Path) -> dict[str, list[str]]:
    with open(path, newline="") as file:
        table = list(csv.reader(file))[:6]
    return {name: [row[at] for row in table[1:]] for at, name in enumerate(table[0][:-1])}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--model", default="linear")
    given = parser.parse_args()
    os.environ.setdefault("P2PML_HOST", "127.0.0.1")
    warnings.simplefilter("ignore")
    rows = await asyncio.to_thread(rows_of, given.new)
    peers: list[RealPeer] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for part in sorted(given.parts.glob("*.csv")):
                flags = ["--host", "127.0.0.1", "--no-mdns", "--model", given.model, "--name", part.stem]
                flags += ["--join", peers[0].address] if peers else []
                peers.append(RealPeer(part, Path(folder), *flags, cluster="rolling").start())

            def placed() -> bool:
                seen = [holds(peer) for peer in peers]
                return all(len(view) == len(peers) and all(len(h) >= 2 for h in view.values()) for view in seen)

            await asyncio.to_thread(eventually, placed, "all is in place", PATIENCE)
            stop = asyncio.Event()
            asking = [asyncio.create_task(load(peer.address, rows, stop)) for peer in peers[:2]]
            await asyncio.sleep(1)
            for peer in peers:
                began = time.monotonic()
                await asyncio.to_thread(peer.kill, signal.SIGTERM)
                left = time.monotonic() - began
                await asyncio.to_thread(peer.start)
                began = time.monotonic()
                await asyncio.to_thread(eventually, peer.ready, "it votes again", PATIENCE)
                voted = time.monotonic() - began
                print(f"{peer.data.stem} left within {left:.2f} s, and voted {voted:.2f} s after its start")
                await asyncio.to_thread(eventually, placed, "all is in place", PATIENCE)
            await asyncio.sleep(1)
            stop.set()
            for found, took in await asyncio.gather(*asking):
                print(f"{sum(found.values())} questions, the longest {max(took):.2f} s: {dict(found)}")
        finally:
            for peer in peers:
                peer.end()


if __name__ == "__main__":
    asyncio.run(main())
