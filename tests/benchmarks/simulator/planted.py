"""Every planted bug, one at a time: the seed that finds it, and how few operations it shrinks to.

    python tests/benchmarks/simulator/planted.py [--layer core|daemon] [PLANT ...]

One line a bug, of issue 3's fourth check: each is to be found within 500 seeds, from 0 on, and shrunk to at most 6
operations that break the same property again. All of them take some minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from plants import DAEMON_PLANTS, PLANTS, Plant

from p2pml.simulations.layers import run
from p2pml.simulations.plans import Plan
from p2pml.simulations.reports import Breach
from p2pml.simulations.scenarios import draw
from p2pml.simulations.shrinking import shrink

SEEDS = 500
"""Seeds within which a bug must be found."""
OPERATIONS = 6
"""Operations to which a schedule that finds it must shrink."""

Drawn = Callable[[int], Plan]
"""The plan of a seed."""


def core(plant: Plant) -> tuple[Drawn, str | None]:
    """Plans of the protocol alone for a bug; any property may break."""
    scenario, seconds = PLANTS[plant]
    return lambda seed: draw(scenario, seed, 5, seconds), None


def daemon(plant: Plant) -> tuple[Drawn, str | None]:
    """Plans of whole daemons for a bug, and the property that it breaks."""
    scenario, law, _ = DAEMON_PLANTS[plant]
    return lambda seed: replace(draw(scenario, seed, 4, 25.0), layer="daemon"), law


def find(drawn: Drawn, law: str | None) -> tuple[int, Plan, Breach] | None:
    """The first seed whose plan breaks the property (None: any)."""
    for seed in range(SEEDS):
        breach = run(plan := drawn(seed)).breach
        if breach is not None and law in (None, breach.property):
            return seed, plan, breach
    return None


def proven(plant: Plant, layer: str) -> bool:
    """Find a bug and shrink what finds it, and say so in one line."""
    drawn, law = core(plant) if layer == "core" else daemon(plant)
    begin, name = time.process_time(), f"{layer:7}{plant.__name__:22}"
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        if (found := find(drawn, law)) is None:
            print(f"{name}not found in {SEEDS} seeds, {time.process_time() - begin:.0f} CPU-s", flush=True)
            return False
        seed, plan, breach = found
        looked = time.process_time() - begin
        search = shrink(run, plan, breach)
        again = search.breach.same(run(Plan.from_data(search.plan.to_data())).breach)
    before, after = len(plan.operations), len(search.plan.operations)
    print(
        f"{name}seed {seed:3} in {looked:4.0f} CPU-s; {before:2} operations, {after} after {search.runs:3} runs and "
        f"{time.process_time() - begin - looked:4.0f} CPU-s{'' if again else ', which do not fail again'}: "
        f"{search.breach.property}",
        flush=True,
    )
    return again and after <= OPERATIONS


def main() -> int:
    """Prove all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layer", choices=("core", "daemon"), help="only bugs of the protocol, or of whole daemons")
    parser.add_argument("plants", nargs="*", metavar="PLANT", help="only these bugs")
    asked = parser.parse_args()
    everything: dict[str, Sequence[Plant]] = {"core": list(PLANTS), "daemon": list(DAEMON_PLANTS)}
    lot = [(plant, layer) for layer, plants in everything.items() for plant in plants]
    lot = [(plant, layer) for plant, layer in lot if asked.layer in (None, layer)]
    lot = [(plant, layer) for plant, layer in lot if not asked.plants or plant.__name__ in asked.plants]
    good = [proven(plant, layer) for plant, layer in lot]
    print(f"{sum(good)} of {len(good)} found within {SEEDS} seeds and shrunk to at most {OPERATIONS} operations")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
