"""Laws of many seeds: two hundred of the protocol alone, twenty of whole daemons, and all that failed once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pml.simulations.operations import MEANINGS
from p2pml.simulations.scenarios import SCENARIOS, WHOLE
from p2pml.simulations.stored import load, stored_breach

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))

Lot = tuple[str, str, int]
"""A layer, a scenario and a seed."""

CORE: list[Lot] = [
    *(("core", "swarm", seed) for seed in range(140)),
    *(("core", name, seed) for name in SCENARIOS if name not in WHOLE for seed in range(100, 105)),
]
DAEMONS: list[Lot] = [
    *(("daemon", name, seed) for seed, name in enumerate(SCENARIOS)),
    *(("daemon", "disk-faults", seed) for seed in (31, 33)),
    *(("daemon", name, 21) for name in ("byzantine", "swarm", "moves")),
    ("daemon", "partition", 22),
]
"""Each scenario, and some once more that few seeds do not exhaust."""

SOMETIMES = (
    *(f"operation {what}" for what in MEANINGS),
    *(f"member {kind}" for kind in ("joined", "suspected", "refuted", "died", "healed", "returned", "left")),
    *(f"answer {kind}" for kind in ("whole", "partial")),
    *(f"packet dropped_{reason}" for reason in ("malformed", "version", "cluster", "oversize")),
    *(f"rare {site}" for site in ("pump.timer-late", "api.vote-late")),
    "log a state file was set aside",
)
"""What some of the seeds must have put to the test: else all that holds is that nothing happened."""

RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from p2pml.simulations.layers import run
from p2pml.simulations.operations import MEANINGS
from p2pml.simulations.scenarios import draw
from p2pml.simulations.stored import load
lots, files = json.loads(sys.argv[1])
plans = [replace(draw(name, seed, *((3 + seed % 4, 30.0) if layer == "core" else (4, 20.0))), layer=layer)
         for layer, name, seed in lots]
reports = [run(plan) for plan in [*plans, *(load(Path(file)) for file in files)]]
print(json.dumps([[one.held, str(one.breach), one.trace, dict(one.measures), dict(one.seen)] for one in reports]))
"""


def begun(hash_seed: str, lots: list[Lot], files: list[Path], planted: str = "") -> subprocess.Popen[str]:
    """A process that runs everything, with other hashes of text."""
    # Not measured by coverage, which would double the time: other tests run the same lines.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.Popen(
        [sys.executable, "-c", planted + RUN, json.dumps([lots, [str(file) for file in files]])],
        env={**inherited, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def reports(process: subprocess.Popen[str]) -> list[Any]:
    out, _ = process.communicate()
    assert process.returncode == 0
    read: list[Any] = json.loads(out)
    return read


@pytest.mark.timeout(600)  # forty seconds on two cores of its own
def test_every_seed_holds_and_leaves_one_trace_under_any_hashes() -> None:
    """In two processes at once, each with hashes of its own: what is drawn from a seed is all that a run depends on.

    Among them they put every fault to the test, and every branch that matters."""
    lots = [*CORE, *DAEMONS]
    one, other = map(reports, [begun(hash_seed, lots, CORPUS) for hash_seed in ("1", "2")])
    assert len(one) == len(lots) + len(CORPUS) >= 222
    failures = [
        f"p2pml simulate {name} --seed {seed} --layer {layer}: {words}"
        for (layer, name, seed), (held, words, *_) in zip(lots, one, strict=False)
        if not held
    ]
    failures += [
        f"{file}: {words}" for file, (held, words, *_) in zip(CORPUS, one[len(lots) :], strict=True) if not held
    ]
    assert not failures
    assert one == other
    seen = {name for *_, happened in one for name in happened}
    assert [name for name in SOMETIMES if name not in seen] == []


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: str(path.stem))
def test_what_is_kept_failed_once(path: Path) -> None:
    """Each stored schedule is of a bug that was mended, and says how it showed."""
    assert stored_breach(path) is not None
    assert load(path).operations


SET_ITERATION = """
from p2pml.gossip.members import Members
sample = Members.sample
def planted(self, count, *but):
    peers = frozenset(one.id for one in sample(self, 99, *but))
    return [self.get(peer) for peer in list(peers)[:count]]
Members.sample = planted
"""


def test_an_iteration_over_a_set_is_caught() -> None:
    """Where hashes of text decide who is asked, two processes leave two traces."""
    one, other = map(reports, [begun(hash_seed, CORE[:1], [], SET_ITERATION) for hash_seed in ("1", "2")])
    assert one != other


SET_ITERATION_OF_COLLEAGUES = """
from p2pml.peer.colleagues import Colleagues
everyone = Colleagues.all
def planted(self):
    found = {colleague.id: colleague for colleague in everyone(self)}
    return [found[id] for id in frozenset(found)]
Colleagues.all = planted
"""


def test_an_iteration_over_a_set_is_caught_in_whole_daemons() -> None:
    """Likewise where they decide whose model is fetched first."""
    planted = [begun(hash_seed, DAEMONS[:1], [], SET_ITERATION_OF_COLLEAGUES) for hash_seed in ("1", "3")]
    one, other = map(reports, planted)
    assert one != other
