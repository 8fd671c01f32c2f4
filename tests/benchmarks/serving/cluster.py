"""Real peers in real processes on 127.0.0.1, and the processor time that each has used."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2pml.errors import P2pmlError
from p2pml.peer.client import PeerClient

PATIENCE = 120.0
"""Seconds in which peers must train and find each other, on a busy machine."""
QUIET, IDLE = 3, 0.03
"""Seconds in a row in which no peer may use more than this share of a core before anything is measured."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class RealPeer:
    """One `p2pml peer start`."""

    part: Path
    folder: Path
    flags: tuple[str, ...]
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Start, on the port that it had; returns once it says where it listens."""
        log = self.folder / f"{self.part.stem}.log"
        before = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "p2pml.cli", "peer", "start", "--data", str(self.part), *self.flags]
        command += ["--host", "127.0.0.1", "--no-mdns", "--log-format", "json"]
        command += ["--state", str(self.folder / f"state-{self.part.stem}")]
        command += ["--port", str(self.port)]
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                command, stderr=said, stdin=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            for line in log.read_bytes()[before:].splitlines():
                if line.endswith(b"}") and (said_of := json.loads(line)).get("event") == "peer started":
                    self.port = int(said_of["address"].rpartition(":")[2])
                    return
            time.sleep(0.02)
        raise SystemExit(f"{self.part.stem} did not start: {log.read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        """Kill it, also where it is paused."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def cluster(folder: Path, parts: list[Path], *flags: str) -> Iterator[list[RealPeer]]:
    """Peers on these parts, once each sees all others vote."""
    peers: list[RealPeer] = []
    try:
        for part in parts:
            join = ("--join", f"127.0.0.1:{peers[0].port}") if peers else ()
            peers.append(RealPeer(part, folder, (*flags, *join)))
            peers[-1].start()
        asyncio.run(settled(peers))
        rest(peers)
        yield peers
    finally:
        for peer in peers:
            peer.end()


def rest(peers: list[RealPeer]) -> None:
    """Wait until nobody trains, copies models or computes anything else."""
    end = time.monotonic() + PATIENCE
    quiet = 0
    while quiet < QUIET and time.monotonic() < end:
        before = sum(peer.cpu() for peer in peers)
        time.sleep(1)
        quiet = quiet + 1 if sum(peer.cpu() for peer in peers) - before < IDLE * len(peers) else 0


async def settled(peers: list[RealPeer]) -> None:
    """Wait until each peer answers with the votes of all, and knows how to weigh them."""
    end = time.monotonic() + PATIENCE
    for peer in peers:
        async with PeerClient(peer.address) as client:
            while True:
                try:
                    seen = await client.peers()
                    if sum(bool(row["model"] and row["model"]["digest"]) for row in seen["peers"]) == len(peers):
                        break
                except P2pmlError:
                    pass
                if time.monotonic() > end:
                    raise SystemExit(f"the peers did not come together within {PATIENCE:g} s")
                await asyncio.sleep(0.1)
