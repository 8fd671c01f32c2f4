"""What whole daemons cost in virtual time: issue 3's third check, 30 of them for 90 virtual seconds with every fault.

    python tests/benchmarks/simulator/daemons.py [--peers N] [--seconds S] [--seed SEED]

Crashes and restarts, a split, a one-way cut, pauses, resets, loss, and a question every two seconds. Times are
CPU-seconds over virtual ones: those of the start, in which all meet, train and agree on a space, of the faults, and of
the recovery after them. A push and pop on a bare heap, measured before and after, says how fast the machine was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # as `p2pml simulate` has it
sys.path.insert(0, str(Path(__file__).parents[2]))

from simulator import bare
from test_daemons import storm

from p2pml.simulations.daemons import run
from p2pml.simulations.machines import warm_up

START = 10.0
"""Virtual seconds until all have a model, replicas stand, and nothing is broken yet."""


def main() -> int:
    """Measure, and say what each part costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=90.0, help="virtual seconds with faults")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    warm_up()
    pace = bare(1000)
    begin = time.process_time()
    marks = [(0.0, begin)]
    plan = storm(asked.peers, asked.seconds, asked.seed)
    report = run(plan, tell=lambda now: marks.append((now, time.process_time())))
    end = (report.measures["seconds"], time.process_time())
    pace = (pace + bare(1000)) / 2

    def line(name: str, since: float, until: float) -> None:
        first = min(marks, key=lambda mark: abs(mark[0] - since))
        last = min([*marks, end], key=lambda mark: abs(mark[0] - until))
        spent, seconds = last[1] - first[1], last[0] - first[0]
        if seconds > 0:
            print(f"{name:9}{spent:7.2f} CPU-s for {seconds:6.1f} virtual s: {spent / seconds:6.1%} of the real time")

    print(f"{'held' if report.held else report.breach}; a push and pop on a bare heap takes {1e6 * pace:.2f} µs")
    line("start", 0.0, START)
    line("faults", START, asked.seconds)
    line("both", 0.0, asked.seconds)
    line("recovery", asked.seconds, end[0])
    return int(not report.held)


if __name__ == "__main__":
    sys.exit(main())
