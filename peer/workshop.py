"""Where a training runs: in a process of its own, so that the event loop never trains.

It starts `p2pml.peer.worker`, keeps a pipe open to it, and awaits its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from p2pml.errors import BadInput

OUTCOME_BYTES = 16 * 1024 * 1024
"""Most bytes of a worker's outcome: a schema of 4,096 columns and its scores stay far below."""

SMALL_PART = 64 * 2**20
"""Bytes of a data file below which training uses one thread. Threads that sleep while they wait for each other, as they
must beside other peers, took five times as long on 20,000 rows, three times on 100,000, and as long on a million."""


class Workshop(Protocol):
    """Runs a job of `p2pml.peer.worker`, one at a time."""

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job's outcome; its model lies in the job's folder. Raises `BadInput` where there is none."""

    async def close(self) -> None:
        """End a job that still runs."""


class WorkerProcess:
    """The workshop of a real peer; a simulated one, where no process can run, has its own."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def close(self) -> None:
        """End a job that still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job's outcome; a job that still runs is ended first. Cancelled, it ends its process."""
        await self.close()
        environment = dict(os.environ)
        if await asyncio.to_thread(_is_small, Path(job["data"])):
            environment.setdefault("OMP_NUM_THREADS", "1")
        # -P: a file called numpy.py in the folder where the user stands must not shadow the library.
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "p2pml.peer.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=OUTCOME_BYTES,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            await process.wait()
        except ConnectionError:
            line = b""
            await process.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        return _outcome(line, process.returncode)


def _outcome(line: bytes, code: int | None) -> dict[str, Any]:
    if not line:
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        raise BadInput(
            f"the training process {how} and left no model; its own words stand above. "
            "If memory ran out, give this peer fewer rows or a smaller model"
        )
    outcome: dict[str, Any] = json.loads(line)
    if "refused" in outcome:
        raise BadInput(outcome["refused"])
    return outcome


def _is_small(data: Path) -> bool:
    """Whether one thread trains this part faster than several that wait for each other."""
    return data.is_file() and data.stat().st_size < SMALL_PART
