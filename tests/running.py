"""Real peers for the tests: in processes of their own, or in the test's own loop; on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from p2pml.peer.daemon import Peer
from p2pml.peer.options import PeerOptions
from p2pml.peer.store import Store
from p2pml.peer.worker import run as train
from p2pml.peer.workshop import Workshop

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds after which a condition that has not come true fails the test: far beyond what two busy cores need."""


def eventually(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true value of `condition`, looked at again and again."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(0.02)
    return value


async def soon(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The same inside a loop."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        await asyncio.sleep(0.01)
    return value


def write_part(path: Path, rows: int = 60, seed: int = 0, classes: tuple[str, ...] = ("no", "yes")) -> Path:
    """A small part: two numbers, a category, and a target that they decide."""
    rng = random.Random(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["height", "width", "colour", "kind"])
        for _ in range(rows):
            height, width = round(rng.uniform(0, 10), 3), round(rng.uniform(0, 10), 3)
            place = min(len(classes) - 1, int((height + width) / 20 * len(classes)))
            writer.writerow([height, width, rng.choice(["red", "blue"]), classes[place]])
    return path


ROWS: dict[str, Any] = {"columns": ["height", "width", "colour"], "data": [[1, 2, "red"], [9, 9, "blue"], [9, 8, None]]}


class Answer:
    """A response of a peer."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.status, self.body, self.content_type = status, body, content_type

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def call(address: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Answer:
    """One HTTP request to `address` (host:port)."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return Answer(response.status, response.read(), response.headers.get_content_type())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), error.headers.get_content_type())


class RealPeer:
    """A `p2pml peer start` in a process of its own."""

    def __init__(self, data: Path, folder: Path, *flags: str, cluster: str) -> None:
        self.data, self.folder, self.flags, self.cluster = data, folder, flags, cluster
        self.log = folder / f"{data.stem}-{uuid.uuid4().hex[:6]}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self._before = 0
        """Lines of its log before this start: the number of a process may come again."""

    def start(self) -> RealPeer:
        """Start, or start again with the same state."""
        command = [sys.executable, "-m", "p2pml.cli", "peer", "start", "--data", str(self.data)]
        command += ["--cluster", self.cluster, "--state", str(self.folder / f"state-{self.data.stem}"), *self.flags]
        command += ["--log-format", "json"]
        with open(self.log, "ab") as log:
            self._before = len(self.said())
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=environment())
        self.address = eventually(self._announced, f"{self.data.stem} says its address; see {self.log}") or ""
        return self

    def said(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def peers(self) -> dict[str, dict[str, Any]]:
        """What it says of each peer, by name."""
        return {row["name"]: row for row in call(self.address, "/v1/peers").data["peers"]}

    def ready(self) -> bool:
        return call(self.address, "/readyz").status == 200

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal and, unless it only pauses, wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.process.wait(PATIENCE)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()

    def _announced(self) -> str | None:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log.read_text()}"
        lines = [line for line in self.said()[self._before :] if line["event"] == "peer started"]
        return str(lines[-1]["address"]) if lines else None


def environment() -> dict[str, str]:
    """The environment of a command that must stay on this machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("P2PML_") or name.startswith("P2PML_TEST_")
    }
    return kept | {"P2PML_HOST": "127.0.0.1"}


@contextmanager
def real_peers(folder: Path, parts: list[Path], *flags: str) -> Iterator[list[RealPeer]]:
    """A cluster of processes, joined through the first one, ended at the end whatever happens."""
    cluster = f"test-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        peers: list[RealPeer] = []
        for part in parts:
            join = ["--join", peers[0].address] if peers else []
            peer = RealPeer(part, folder, "--no-mdns", *join, *flags, cluster=cluster)
            stack.callback(peer.end)
            peers.append(peer.start())
        for peer in peers:
            eventually(partial(all_vote, peer, len(peers)), "all peers see each other's models")
        yield peers


def all_vote(peer: RealPeer, count: int) -> bool:
    """Whether `peer` sees `count` live peers with models."""
    rows = peer.peers().values()
    return bool(sum(row["status"] == "alive" and (row["model"] or {}).get("state") == "ready" for row in rows) == count)


class HereWorkshop:
    """Trains in a thread of this process: the worker's own code, without the seconds that a process takes to start."""

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = await asyncio.to_thread(lambda: json.loads(json.dumps(train(job))))
        return outcome

    async def close(self) -> None:
        """A thread cannot be ended; its outcome is nobody's."""


@asynccontextmanager
async def peer_here(data: Path, folder: Path, workshop: Workshop | None = None, **options: Any) -> AsyncIterator[Peer]:
    """A peer inside the test's own loop, without mDNS."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "mdns": False,
        "model": "decision-tree",
        "cluster": "here",
    }
    store = Store(folder)
    try:
        peer = Peer(PeerOptions(data=data, **(defaults | options)), store, workshop)
        await peer.start()
        try:
            yield peer
        finally:
            await peer.close()
    finally:
        store.close()
