"""What the core simulator costs, and what its peers send: the figures of issue 3's second check, as tables.

    python tests/benchmarks/simulator/simulator.py [--quick]

Times are CPU-seconds, and costs are in pushes and pops of a tuple on a bare heap of the run's own size, measured right
after it in the same process, so that they compare between machines. Each row is a process of its own: its memory is
the most that it ever held. `--quick` takes two minutes; the rest up to an hour and 6 GB.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from heapq import heappop, heappush
from typing import NamedTuple

from p2pml.gossip import Settings
from p2pml.simulations.cluster import Cluster
from p2pml.simulations.core import Run, no_collector
from p2pml.simulations.lessons import lessons
from p2pml.simulations.scenarios import draw

ROUNDS = 50_000
"""Pushes and pops that are timed."""

SETTLE = 5.0
"""Virtual seconds before the load is counted."""

AWAY = 20.0
"""Virtual seconds that a peer which crashed stays down."""


class Row(NamedTuple):
    """One run. `cost` is that of a delivered datagram, in pushes and pops; `backlog` is the longest queue of news."""

    peers: int
    seconds: float
    cpu: float
    datagrams: int
    cost: float
    rate: float
    bytes: float
    backlog: int
    memory: float
    held: str = ""


HEADER = ("peers", "virtual s", "CPU s", "datagrams", "cost", "a peer a s", "bytes a peer a s", "backlog", "MB", "")


def bare(size: int) -> float:
    """Time one push and pop on a heap of so many tuples, in s: the least of three tries."""
    rng = random.Random(0)
    heap = sorted((rng.getrandbits(30), number, None) for number in range(size))
    delays = [rng.getrandbits(20) for _ in range(ROUNDS)]

    def timed() -> float:
        begin = time.process_time()
        for number, delay in enumerate(delays):
            heappush(heap, (heappop(heap)[0] + delay, number, None))
        return (time.process_time() - begin) / ROUNDS

    return min(timed() for _ in range(3))


def row(cluster: Cluster, seconds: float, cpu: float, before: tuple[int, int], backlog: int, held: str = "") -> Row:
    """Sum a run up."""
    network = cluster.network
    datagrams, sent = network.delivered - before[0], network.bytes - before[1]
    cost = cpu / max(1, datagrams) / bare(len(cluster.clock))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = cluster.size * seconds
    return Row(cluster.size, seconds, cpu, datagrams, cost, datagrams / each, sent / each, backlog, memory, held)


def scenario(peers: int, minutes: float) -> Row:
    """Run what `p2pml simulate churn --churn 10` runs, recovery, predictions and checks included."""
    plan = draw("churn", 1, peers, 60 * minutes, 10.0)
    lessons(peers, None, None)  # trained before, as it is once for all seeds
    with no_collector():
        begin = time.process_time()
        this = Run(plan)
        breach = this.breach()
        cpu = time.process_time() - begin
    return row(this.cluster, this.cluster.clock.now, cpu, (0, 0), 0, "held" if breach is None else str(breach))


def steady(peers: int, seconds: float, changes: float) -> Row:
    """Run a formed cluster in which so many peers a minute crash, and come back."""
    rng = random.Random(f"{peers}/{changes}")
    settings = replace(Settings.lan(), max_members=2 * peers)
    with no_collector():
        cluster = Cluster(peers, seed=1, settings=settings, direct=True, keeps_changes=False)
        cluster.form()

        def crash() -> None:
            index = rng.randrange(peers)
            if cluster[index].node is not None:
                cluster[index].crash()
                cluster.clock.after(AWAY, cluster[index].boot, [cluster[rng.randrange(peers)].address])
            cluster.clock.after(60 / changes, crash)

        if changes:
            cluster.clock.after(0.0, crash)
        cluster.run(SETTLE)
        before = (cluster.network.delivered, cluster.network.bytes)
        begin, backlog = time.process_time(), 0
        for _ in range(round(seconds)):
            cluster.run(1.0)
            backlog = max(backlog, *(host.running.queues()["news"] for host in cluster.up()))
        cpu = time.process_time() - begin
    return row(cluster, seconds, cpu, before, backlog)


def alone(run: Callable[..., Row], cases: Sequence[tuple[float, ...]]) -> Iterator[Row]:
    """Run each case in a process of its own, one after the other."""
    for case in cases:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            yield process.submit(run, *case).result()


def show(title: str, rows: Iterator[Row]) -> list[Row]:
    """Print rows as they come."""
    print(f"\n{title}\n" + "".join(f"{name:>18}" for name in HEADER))
    shown = []
    for one in rows:
        cells = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in one]
        print("".join(f"{cell:>18}" for cell in cells), flush=True)
        shown.append(one)
    return shown


def main() -> int:
    """Measure, and say what holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer peers and shorter runs")
    quick = parser.parse_args().quick
    sizes = (100, 300, 1000) if quick else (100, 300, 1000, 3000, 10_000)
    length = 10.0 if quick else 60.0

    whole = show(
        "churn, 10 % a minute, as `p2pml simulate churn`",
        alone(scenario, [(100 if quick else 1000, 0.5 if quick else 5)]),
    )
    fixed = show("30 changes a minute", alone(steady, [(size, length, 30.0) for size in sizes]))
    still = show("no change", alone(steady, [(size, length, 0.0) for size in (10, *sizes)]))
    moving = show(
        "10 % a minute crash", alone(steady, [(size, length, size / 10) for size in sizes[: 3 if quick else 4]])
    )

    grows = math.log(fixed[-1].cpu / fixed[0].cpu) / math.log(fixed[-1].peers / fixed[0].peers)
    rates = [one.rate for one in still]
    print(f"\na delivered datagram in the churn run costs {whole[0].cost:.1f} pushes and pops (to be at most 16)")
    print(f"with a fixed number of changes time grows as N^{grows:.2f} (at most 1.2)")
    print(f"load without churn: {min(rates):.2f} to {max(rates):.2f} datagrams a peer a second (within 10 %)")
    print(f"longest queue of news under churn: {', '.join(f'{one.peers}: {one.backlog}' for one in moving)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
