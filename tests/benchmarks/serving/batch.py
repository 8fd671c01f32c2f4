"""A large file through `p2pml predict`, beside onnxruntime alone: `python tests/benchmarks/serving/batch.py 1000000`.

Three peers with a forest of 100 trees each on 127.0.0.1. The file is predicted once; then once more, killed by SIGKILL
in the middle and resumed. Prints rows a second and processor time a row of all processes, both beside the three forests
alone, where each core runs them in a process of its own, just before and just after; the most memory of each process,
and whether both outputs are the same byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import filecmp
import gzip
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Self

from cluster import RealPeer, cluster
from rows import NAMES, questions, write_part
from yardsticks import compiled, models

DISTINCT = 50_000
"""Rows that are made; the file repeats them."""
LIMIT_ROWS = 10_000
"""Rows of a call of onnxruntime."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("--combine", default="mean", help="that of the three forests; auto adds the common vote")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pml-batch-") as there:
        folder = Path(there)
        big = write_big(folder / "big.csv.gz", asked.rows)
        parts = [write_part(folder / f"part{at}.csv", 2_000, at) for at in range(3)]
        flags = ("--model", "random-forest", "--profile", "local")
        with Alone(parts) as forests, cluster(folder, parts, *flags) as peers:
            before_it = forests.measure()
            whole, resumed = folder / "whole.parquet", folder / "resumed.parquet"
            began, before, used = time.monotonic(), sum(peer.cpu() for peer in peers), client_time()
            predict(peers[0], big, whole, asked.combine).wait()
            wall = time.monotonic() - began
            both = zip(before_it, forests.measure(), strict=True)
            most, least = ((before + after) / 2 for before, after in both)
            client, theirs = client_time() - used, sum(peer.cpu() for peer in peers) - before
            cost = 1e6 * (client + theirs) / asked.rows
            rate = asked.rows / wall
            print(f"{asked.rows:,} rows in {wall:.0f} s: {rate:,.0f} a second, the three forests alone {most:,.0f}:")
            print(f"{rate / most:.0%} of the limit; us of all processors a row:")
            print(f"{cost:.1f}, of which the client {1e6 * client / asked.rows:.1f}; the three forests alone")
            print(f"{least:.1f}: {least / cost:.0%} of the limit", flush=True)
            print("most memory, MB:", *(f"{each:.0f}" for each in (client_memory(), *map(memory, peers))))
            killed = predict(peers[0], big, resumed, asked.combine)
            time.sleep(wall / 2)
            killed.send_signal(signal.SIGKILL)
            print(f"killed: {killed.wait()}; resumed: {predict(peers[0], big, resumed, asked.combine).wait()}")
            print(
                "equal" if filecmp.cmp(whole, resumed, shallow=False) else "NOT EQUAL",
                f"{whole.stat().st_size:,} bytes",
            )


def write_big(path: Path, rows: int) -> Path:
    """So many rows, without the target."""
    data = questions(min(rows, DISTINCT))
    with gzip.open(path, "wt", newline="", encoding="utf-8", compresslevel=1) as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        for start in range(0, rows, len(data)):
            writer.writerows(islice(data, rows - start))
    return path


class Alone:
    """The three forests, in a process for each core, which are all measured at once."""

    def __init__(self, parts: list[Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self._cores = os.cpu_count() or 1
        self._pool = ProcessPoolExecutor(self._cores, context, _prepare, (parts, context.Barrier(self._cores)))

    def __enter__(self) -> Self:
        self.measure()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def measure(self) -> tuple[float, float]:
        """Rows a second of all cores together, and microseconds of the processor a row, the mean of all cores."""
        rates, costs = zip(*self._pool.map(_measure, range(self._cores)), strict=True)
        return sum(rates), sum(costs) / self._cores


_ready: dict[str, Any] = {}
"""What a process of `Alone` made ready: the models that vote, the columns, and where it waits for the others."""


def _prepare(parts: list[Path], together: Any) -> None:
    columns = {name: list(cells) for name, cells in zip(NAMES, zip(*questions(LIMIT_ROWS), strict=True), strict=True)}
    _ready.update(voters=compiled(models(parts)), columns=columns, together=together)


def _measure(core: int) -> tuple[float, float]:
    rates, costs = [], []
    _ready["together"].wait()
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        for voter in _ready["voters"]:
            voter.vote(_ready["columns"])
        rates.append(LIMIT_ROWS / (time.perf_counter() - began))
        costs.append(1e6 * (time.process_time() - used) / LIMIT_ROWS)
    return sorted(rates)[2], sorted(costs)[2]


def predict(peer: RealPeer, big: Path, output: Path, rule: str) -> subprocess.Popen[bytes]:
    """`p2pml predict`, which goes on where one before it stopped."""
    command = [sys.executable, "-m", "p2pml.cli", "predict", str(big), "--output", str(output), "--resume"]
    command += ["--peer", f"127.0.0.1:{peer.port}", "--combine", rule]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"P2PML_HOST": "127.0.0.1"})


def client_time() -> float:
    """Seconds of the processor of all clients that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def client_memory() -> float:
    """The most that a child that has ended held, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def memory(peer: RealPeer) -> float:
    """The most that a peer has held, in MB."""
    assert peer.process is not None
    said = Path(f"/proc/{peer.process.pid}/status").read_text()
    return float(next(line.split()[1] for line in said.splitlines() if line.startswith("VmHWM"))) / 1e3


if __name__ == "__main__":
    main()
