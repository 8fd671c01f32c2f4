"""The README's shell blocks run as they are written, against a small cluster on 127.0.0.1."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import call, environment, eventually
from test_readme import BLOCKS

pytestmark = pytest.mark.process

ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install -q -e .": "it sets up an environment from the network; "
    "its demo is run by test_cli_demo.py",
    "python3 -m venv .venv && .venv/bin/pip install -q tox": "it runs these very tests",
}
"""Blocks that are not run here, by how they begin, and why."""
NEVER_ENDS = re.compile(r"^p2pml peer start", re.MULTILINE)


def why_not(block: str) -> str | None:
    return next((why for beginning, why in ELSEWHERE.items() if block.startswith(beginning)), None)


def write_houses(folder: Path) -> None:
    """The rows that the README speaks of: houses with their price, and new ones without."""
    chance = random.Random(7)
    with open(folder / "houses.csv", "w", newline="") as houses, open(folder / "new.csv", "w", newline="") as new:
        known, unknown = csv.writer(houses), csv.writer(new)
        known.writerow(["rooms", "area", "district", "price"])
        unknown.writerow(["rooms", "area", "district"])
        for number in range(220):
            rooms, district = chance.randint(1, 8), chance.choice(["north", "south"])
            area = round(rooms * chance.uniform(15, 25), 1)
            price = area * (3000 if district == "north" else 2000)
            (known if number < 200 else unknown).writerow(
                [rooms, area, district, round(price)] if number < 200 else [rooms, area, district]
            )


class Reader:
    """Somebody who types what the README says, in a folder with their rows, in a shell that p2pml is installed in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = environment() | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            # The README's own cluster is called default, and so may be somebody else's on this machine.
            "P2PML_CLUSTER": f"readme-{os.getpid()}",
            "P2PML_LOG_FORMAT": "json",
        }
        self.shells: list[subprocess.Popen[bytes]] = []

    def types(self, block: str) -> str:
        """Run a block to its end; what it printed."""
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def starts(self, block: str) -> str:
        """Run a block that goes on for ever, until its peer says that it has started; the peer's address."""
        log = self.folder / f"shell-{len(self.shells)}.log"
        words = ["bash", "-euo", "pipefail", "-c", block]
        with open(log, "wb") as out:
            # In a group of its own, so that the shell and its peer end together.
            shell = subprocess.Popen(words, cwd=self.folder, env=self.environment, stderr=out, start_new_session=True)
        self.shells.append(shell)

        def address() -> str | None:
            assert shell.poll() is None, log.read_text()
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            return next((str(line["address"]) for line in lines if line["event"] == "peer started"), None)

        return eventually(address, f"the peer of this block starts: {block}") or ""

    def leaves(self) -> None:
        for shell in self.shells:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(60)


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    write_houses(folder)
    somebody = Reader(folder)
    try:
        yield somebody
    finally:
        somebody.leaves()


def voting(address: str) -> int:
    rows = call(address, "/v1/peers").data["peers"]
    return sum(row["status"] == "alive" and (row["model"] or {}).get("state") == "ready" for row in rows)


@pytest.mark.parametrize("block", [block for block in BLOCKS if why_not(block)], ids=lambda block: block[:40])
def test_blocks_that_run_elsewhere(block: str) -> None:
    """They are named, with the reason."""
    pytest.skip(str(why_not(block)))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here, which a block of the README uses")
def test_every_other_block_runs_as_it_is_written(tmp_path: Path) -> None:
    """In the README's order: peers are started, asked and retrained. Only a port that is taken here is another one."""
    blocks = [block for block in BLOCKS if not why_not(block)]
    assert sum(bool(NEVER_ENDS.search(block)) for block in blocks) == 2
    said = []
    with reader(tmp_path) as somebody:
        addresses: list[str] = []
        for block in blocks:
            if NEVER_ENDS.search(block):
                addresses.append(somebody.starts(block))
                count = len(addresses)
                eventually(lambda count=count: all(voting(one) == count for one in addresses), "they met and trained")  # type: ignore[misc]
            else:
                said.append(somebody.types(block.replace("localhost:7733", addresses[0])))
        rows = (tmp_path / "predicted.csv").read_text().splitlines()
        assert len(list((tmp_path / "parts").iterdir())) >= 4
    assert rows[0].startswith("rooms,area,district,prediction")
    assert len(rows) == 21
    asked, curl = said
    assert "houses *" in asked or "part_0 *" in asked
    assert "2 of 2 peers alive" in asked
    answer = json.loads(curl)
    assert answer["votes"]["cast"] == 2
    assert answer["predictions"][0] > 0
