"""Machines that run the whole daemon in virtual time, each with an address, a part and a state folder."""

from __future__ import annotations

import asyncio
import json
import random
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pml.ensemble.summary import Epoch, FitCommand
from p2pml.errors import P2pmlError
from p2pml.gossip import Address
from p2pml.peer.daemon import Peer
from p2pml.peer.options import PeerOptions
from p2pml.peer.store import Store
from p2pml.peer.training import Trainer
from p2pml.peer.worker import run as train

from .cluster import PORT
from .kernel import NetworkedLoop
from .loop import PROCESS, Process
from .parts import NAMES, questions, write_part

TRAINING = 0.8
"""Virtual seconds that a training takes on a machine of usual speed: mostly the start of its process."""
MODELS = ("decision-tree", "linear", "naive-bayes")
"""What the machines train, in turn: models that take milliseconds, as real ones in all else."""


class InlineWorkshop:
    """Trains where a process of its own would: it takes virtual time, and then the worker's own code runs at once."""

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job's outcome, as it comes through a worker's pipe."""
        process = PROCESS.get()
        await asyncio.sleep(TRAINING * (process.slowness if process else 1.0))
        outcome: dict[str, Any] = json.loads(json.dumps(train(job)))
        return outcome

    async def close(self) -> None:
        """End nothing: a training that is cancelled never began."""


@cache
def warm_up() -> None:
    """Import for real, once in a process, all that trainings and votes import late: clocks are virtual in a run."""

    class AtOnce(InlineWorkshop):
        async def run(self, job: dict[str, Any]) -> dict[str, Any]:
            return train(job)

    with TemporaryDirectory(prefix="p2pml-simulation-") as folder:
        part = Path(folder) / "part.csv"
        write_part(part, 0, 1, 40, 0)
        for model in MODELS:
            store = Disk(Path(folder) / model)
            trainer = Trainer(store, PeerOptions(data=part, model=model), AtOnce())
            trained = asyncio.run(trainer.train(FitCommand(Epoch())))
            trained.model.vote({name: [row[place] for row in questions(1, 0)] for place, name in enumerate(NAMES)})
            store.close()


class Disk(Store):
    """A state folder whose lock goes with its process, however that ends."""

    _closed = False

    def close(self) -> None:
        """Unlock the folder once."""
        if not self._closed:
            self._closed = True
            super().close()


class Machine:
    """One machine; `peer` is that of its last run, and `process` too."""

    def __init__(self, loop: NetworkedLoop, index: int, folder: Path, seed: int) -> None:
        """Have a part at `folder`/part-<index>.csv, an identity, and no process."""
        self._loop, self.index, self._seed = loop, index, seed
        self.name = f"host-{index}"
        self.address: Address = (f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", PORT)
        self._part = folder / f"part-{index}.csv"
        self.folder = folder / f"state-{index}"
        self.runs = 0
        self.process: Process | None = None
        self.peer: Peer | None = None
        self.failure: str | None = None
        """Why the last run ended by itself; None where it did not."""
        self.leaving = False
        self.since = 0.0
        """When the process was last started, ended, stopped, let go on, or made slower or faster, in s."""
        self.lives: list[asyncio.Task[None]] = []
        self._disk: Disk | None = None
        disk = Disk(self.folder)
        disk.write_document("identity", {"private_key": sha256(f"{seed}/key/{index}".encode()).digest()})
        disk.close()

    @property
    def up(self) -> bool:
        """Whether its process runs and does not stand still."""
        return self.process is not None and not self.process.stopped

    @property
    def ready(self) -> bool:
        """Whether it runs, has a model, and was not told to go."""
        return self.serving and not self.leaving and self.peer is not None and self.peer.voting.trained is not None

    @property
    def serving(self) -> bool:
        """Whether it runs and has bound its port."""
        return self.up and self.peer is not None and hasattr(self.peer, "crew")

    def boot(self, join: tuple[Address, ...], slowness: float = 1.0) -> None:
        """Start a process."""
        assert self.process is None, f"{self.name} runs"
        self.runs += 1
        self.peer, self.failure, self.leaving, self.since = None, None, False, self._loop.time()
        process = self.process = Process(f"{self.name}/{self.runs}")
        process.slowness = slowness
        self.lives.append(self._loop.create_task(self._live(process, join), context=process.context()))

    def kill(self) -> None:
        """End the process as SIGKILL does; the kernel closes its sockets, and frees the folder's lock."""
        if self.process is not None:
            self._loop.kernel.kill(self.process)
            self._gone()

    def leave(self) -> None:
        """Ask the process to end, as SIGTERM does."""
        if self.up and self.peer is not None:
            self.leaving, self.since = True, self._loop.time()
            self._loop.call_soon(self.peer.stop, context=self.process.context() if self.process else None)

    def pause(self) -> None:
        """Let the process stand still."""
        if self.up and self.process is not None:
            self.since = self._loop.time()
            self._loop.stop_process(self.process)

    def resume(self, process: Process | None) -> None:
        """Let it go on, if it is still this one."""
        if process is not None and process is self.process and process.stopped:
            self.since = self._loop.time()
            self._loop.continue_process(process)

    def tear_file(self, rng: random.Random) -> None:
        """Leave half of one of its files, as a disk that lied about a write may; never of the identity."""
        files = [path for path in sorted(self.folder.iterdir()) if path.name not in ("lock", "identity")]
        if files:
            torn = rng.choice(files)
            torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])

    async def _live(self, process: Process, join: tuple[Address, ...]) -> None:
        """What `p2pml peer start` does, from its store to its end."""
        disk = self._disk = Disk(self.folder)
        try:
            options = PeerOptions(
                data=self._part,
                model=MODELS[self.index % len(MODELS)],
                cluster="simulated",
                name=self.name,
                host=self.address[0],
                port=self.address[1],
                join=join,
                mdns=False,
                state=self.folder,
            )
            chance = random.Random(f"{self._seed}/{self.index}/{self.runs}")  # noqa: S311 (a simulation)
            peer = self.peer = Peer(options, disk, InlineWorkshop(), chance)
            await peer.start()
            try:
                await peer.stopped()
            finally:
                await peer.close()
        except P2pmlError as error:
            self.failure = str(error)
        finally:
            disk.close()
            if process is self.process:
                self._gone()

    def _gone(self) -> None:
        self.process, self.since = None, self._loop.time()
        if self._disk is not None:
            self._disk.close()
