"""Fresh seeds of every scenario on both layers, for as long as asked.

    tox -e soak -- --minutes 30 [--jobs 2] [--first SEED]

What fails is shrunk, stored in a file, and named with the command that shows it again; the exit code then is that of
the first failure, as of `p2pml simulate`. `--first` repeats an earlier soak, which says where it began.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, islice

from p2pml.cli.simulated import store_failure
from p2pml.simulations.layers import run
from p2pml.simulations.plans import Plan
from p2pml.simulations.reports import EXIT_CODES, HELD
from p2pml.simulations.scenarios import SCENARIOS, WHOLE, draw
from p2pml.simulations.sweeps import sweep

BATCH = 80
"""Plans between two looks at the clock."""
DAEMONS = 8
"""One plan in so many runs on whole daemons, which take some tens of times as long."""


def plan(seed: int) -> Plan:
    """The plan of a seed: another scenario from one to the next, and all else drawn."""
    rng = random.Random(f"{seed}/soak")
    scenario = list(SCENARIOS)[seed % len(SCENARIOS)]
    if scenario in WHOLE or seed // len(SCENARIOS) % DAEMONS == 0:
        return replace(draw(scenario, seed, rng.randint(3, 6), 20.0), layer="daemon")
    return draw(scenario, seed, rng.choice((3, 4, 5, 6, 8, 12, 20)), rng.choice((20.0, 45.0, 120.0)))


def soak(minutes: float, jobs: int, first: int) -> int:
    """Run seeds from `first` on until the time is over; the exit code says how it went."""
    print(f"seeds from {first} on, for {minutes:g} minutes; repeat with --first {first}", flush=True)
    end, seeds = time.monotonic() + 60 * minutes, count(first)
    done, operations, kind = 0, Counter[str](), HELD
    while time.monotonic() < end:
        for each, report in sweep(run, [plan(seed) for seed in islice(seeds, BATCH)], jobs):
            done += 1
            operations.update(operation.what for operation in each.operations)
            if report.breach is not None:
                kind = report.kind if kind == HELD else kind
                print(f"{each.scenario}, seed {each.seed}, layer {each.layer}: {report.breach}", flush=True)
                store_failure(each, report)
        print(f"{done} seeds, {max(0.0, end - time.monotonic()):.0f} s left", flush=True)
    print("operations: " + ", ".join(f"{times} {what}" for what, times in sorted(operations.items())))
    return EXIT_CODES[kind]


def main(arguments: Sequence[str]) -> int:
    """Read the command line, and soak."""
    parser = argparse.ArgumentParser(description="Fresh seeds of every scenario on both layers.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--first", type=int, default=secrets.randbelow(10**9), help="the first seed (default: fresh)")
    asked = parser.parse_args(arguments)
    return soak(asked.minutes, asked.jobs, asked.first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
