"""Real peers in processes of their own on this machine, which are gone when their owner is done with them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pml.errors import LocalError

LOOPBACK = "127.0.0.1"

GOODBYE = 5.0
"""Seconds in which a peer leaves politely before it is killed."""

PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections, so that one found free stays free."""


@dataclass(frozen=True, slots=True)
class PeerProcess:
    """One peer: its name and address, its process, and the file with its log."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.port

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait()


class Processes:
    """Peers of one cluster on the loopback interface. A context manager that leaves none running."""

    def __init__(self, cluster: str, folder: Path) -> None:
        self.cluster = cluster
        self.peers: list[PeerProcess] = []
        self._folder = folder
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept or error is not None:
            self.stop()

    def start(self, parts: dict[str, Path]) -> None:
        """Start a peer for each named part; they meet by mDNS, or else through the first one's address."""
        ports = free_ports(len(parts))
        for (name, data), port in zip(parts.items(), ports, strict=True):
            self._start(name, data, port, join=ports[0])

    def keep(self) -> None:
        """Let them run on when their owner is done."""
        self._kept = True

    def stop(self) -> None:
        """Have every peer leave, and kill what has not left in time."""
        running = [peer.process for peer in self.peers if peer.process.poll() is None]
        try:
            for process in running:
                process.terminate()
            deadline = time.monotonic() + GOODBYE
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            # Also where somebody lost patience with the goodbye.
            for process in running:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Raise `LocalError` with a peer's own last words if one has ended by itself."""
        for peer in self.peers:
            code = peer.process.poll()
            if code is not None and code != -signal.SIGKILL:
                words = peer.log.read_text(errors="replace").strip().splitlines()
                raise LocalError(f"{peer.name} ended with code {code}: {words[-1] if words else 'it said nothing'}")

    def _start(self, name: str, data: Path, port: int, join: int) -> None:
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "p2pml.cli", "peer", "start"]
        command += ["--data", str(data), "--name", name, "--cluster", self.cluster, "--host", LOOPBACK]
        command += ["--port", str(port), "--state", str(self._folder / f"{name}.state")]
        if port != join:
            command += ["--join", f"{LOOPBACK}:{join}"]
        # What is set for the user's own peers is not meant for these.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("P2PML_")}
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                # Ctrl-C is for their owner, who stops them in order.
                start_new_session=True,
            )
        self.peers.append(PeerProcess(name, port, process, log))


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free for TCP and UDP."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket(type=socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((LOOPBACK, port))
                udp.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
    return found
