"""How fast three peers answer, beside the same three forests in one process: one table, all of one run.

    python tests/benchmarks/serving/bench.py [--seconds 5] [--rows 1,100,10000] [--concurrency 1,16]

Three real peers on 127.0.0.1, each with a forest of 100 trees on 2,000 rows of 20 columns, are asked by the client
library in this process. Latencies and processor time are in milliseconds; the processor time of a request is that of
all processes together, the client's own included. What runs in one process has no concurrency: its rows stand for
any. `gain` is how many times the latency (p50) and the processor time are smaller than scikit-learn's. In one process
and by the rule mean there are the three forests; auto weighs them, and here adds the common vote.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import others
from cluster import RealPeer, cluster
from load import Ask, Measured, measure
from rows import NAMES, questions, write_part
from yardsticks import compiled, in_process, models, pipelines

from p2pml.peer.client import PeerClient

TREES_ROWS = 2_000
RULES = ("mean", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line")
    parser.add_argument("--rows", default="1,100,10000")
    parser.add_argument("--concurrency", default="1,16")
    parser.add_argument("--only", default="", help="leave out yardsticks but scikit-learn, for a quick look")
    parser.add_argument("--replicas", type=int, default=2, help="0: each vote travels from the peer that trained it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pml-bench-") as folder:
        parts = [write_part(Path(folder) / f"part{at}.csv", TREES_ROWS, at) for at in range(3)]
        bench = Bench(parts, asked.seconds, bool(asked.only))
        flags = ("--model", "random-forest", "--profile", "local", "--replicas", str(asked.replicas))
        with cluster(Path(folder), parts, *flags) as peers:
            for rows in map(int, asked.rows.split(",")):
                bench.one_process(rows)
                for concurrency, rule in itertools.product(map(int, asked.concurrency.split(",")), RULES):
                    asyncio.run(bench.peers(peers, rows, concurrency, rule))
        if not asked.only:
            for line in others.lines(models(parts), list(map(int, asked.rows.split(","))), asked.seconds):
                print(line, flush=True)


class Bench:
    """Measures line by line and prints each."""

    def __init__(self, parts: list[Path], seconds: float, quick: bool) -> None:
        self._seconds, self._quick, self._parts = seconds, quick, parts
        self._trained = models(parts)
        self._compiled = compiled(self._trained)
        self._beside: Measured | None = None
        print("| rows | what | open | p50 | p99 | p99.9 | cpu | answers/s | gain p50 | gain cpu |")
        print("|---" * 10 + "|", flush=True)

    def one_process(self, rows: int) -> None:
        """The yardsticks on so many rows."""
        data = questions(rows)
        self._beside = None
        self._beside = self._line(rows, "scikit-learn, in one process", in_process(self._trained, data))
        self._line(rows, "onnxruntime, in one process: the limit", in_process(self._compiled, data))
        if not self._quick:
            self._line(rows, "scikit-learn's pipelines, in one process", pipelines(self._parts, data))

    async def peers(self, peers: list[RealPeer], rows: int, concurrency: int, rule: str) -> None:
        """Three peers, asked through the first."""
        columns = dict(zip(NAMES, zip(*questions(rows), strict=True), strict=True))
        async with PeerClient(peers[0].address) as client:

            async def ask() -> object:
                answer = await client.predict(columns, proba=True, combine=rule)
                assert answer["votes"]["cast"] == 3
                return answer

            def cpu() -> float:
                return time.process_time() + sum(peer.cpu() for peer in peers)

            client_began, wall = time.process_time(), time.perf_counter()
            measured = await measure(ask, concurrency, self._seconds, 3 * concurrency, cpu)
            share = (time.process_time() - client_began) / (time.perf_counter() - wall)
            self._print(rows, f"three peers, {rule} (the client takes {share:.0%} of a core)", concurrency, measured)

    def _line(self, rows: int, what: str, ask: Ask) -> Measured:
        measured = asyncio.run(measure(ask, 1, self._seconds / 2, 3, time.process_time))
        self._print(rows, what, 1, measured)
        return measured

    def _print(self, rows: int, what: str, concurrency: int, measured: Measured) -> None:
        beside = self._beside or measured
        gains = f"{beside.p50 / measured.p50:.1f} | {beside.cpu / measured.cpu:.1f}"
        print(f"| {rows:,} | {what} | {concurrency} | {measured} | {gains} |", flush=True)


if __name__ == "__main__":
    main()
