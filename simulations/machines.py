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
from p2pml.errors import BadInput, P2pmlError
from p2pml.gossip import Address
from p2pml.peer.daemon import Peer
from p2pml.peer.identity import load_identity
from p2pml.peer.options import PeerOptions
from p2pml.peer.store import Store
from p2pml.peer.training import Trainer
from p2pml.peer.worker import run as train

from . import disks
from .cluster import PORT
from .disks import Disks
from .kernel import NetworkedLoop
from .loop import PROCESS, Process
from .parts import NAMES, questions, write_part

TRAINING = 0.8
"""Virtual seconds that a training takes on a machine of usual speed: mostly the start of its process."""
CLUSTER = "simulated"
"""The name of the machines' cluster."""
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

    def __init__(self, loop: NetworkedLoop, index: int, folder: Path, seed: int, disks: Disks) -> None:
        """Have a part at `folder`/part-<index>.csv, an identity, and no process."""
        self._loop, self.index, self._seed, self._disks = loop, index, seed, disks
        self.name = f"host-{index}"
        self.address: Address = (f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", PORT)
        self._part = folder / f"part-{index}.csv"
        self.folder = folder / f"state-{index}"
        self.unreadable: str | None = None
        """A file of the state folder that could not be verified when the machine booted, though no fault damaged it."""
        self.runs = 0
        self.process: Process | None = None
        self.peer: Peer | None = None
        self.failure: str | None = None
        """Why the last run ended by itself; None where it did not."""
        self.leaving = self.lying = False
        self.usurped = False
        """Whether the last run ended because somebody else spoke under its identity."""
        self.damaged = False
        """Whether a fault damaged the state folder, rather than a crash."""
        self.since = 0.0
        """When the process was last started, ended, stopped, let go on, or made slower or faster, in s."""
        self.lives: list[asyncio.Task[None]] = []
        self._disk: Disk | None = None
        disk = Disk(self.folder)
        disk.write_document("identity", {"private_key": sha256(f"{seed}/key/{index}".encode()).digest()})
        self.id = load_identity(disk).id
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
        if not self.damaged:
            self.unreadable = self.unreadable or disks.unreadable(self.folder)
        self.runs += 1
        self.peer, self.failure, self.since = None, None, self._loop.now
        self.leaving = self.lying = False
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
            self.leaving, self.since = True, self._loop.now
            self._loop.call_soon(self.peer.stop, context=self.process.context() if self.process else None)

    def pause(self) -> None:
        """Let the process stand still."""
        if self.up and self.process is not None:
            self.since = self._loop.now
            self._loop.stop_process(self.process)

    def resume(self, process: Process | None) -> None:
        """Let it go on, if it is still this one."""
        if process is not None and process is self.process and process.stopped:
            self.since = self._loop.now
            self._loop.continue_process(process)

    # What becomes of the disk of a machine whose process has ended.

    def die_writing(self) -> None:
        """Let the process end in the middle of its next write."""
        if self.process is not None:
            self._disks.dying[self.process] = self.kill

    def mend_disk(self) -> None:
        """Let the disk have room, and the process survive its next write."""
        self.fill_disk(0.0)
        if self.process is not None:
            self._disks.dying.pop(self.process, None)

    def fill_disk(self, until: float) -> None:
        """Let the disk be full until then."""
        self._disks.full_until[str(self.folder)] = until

    def damage(self, what: str, rng: random.Random) -> None:
        """Do to the state folder what an operation says."""
        copied = self.folder.with_name(f"copy-{self.index}")
        match what:
            case "torn":
                disks.tear(self.folder, rng)
            case "flip":
                disks.flip(self.folder, rng)
            case "stale":
                disks.put_back(self.folder, copied)
            case "copy":
                disks.copy(self.folder, copied)
            case "power":
                self._disks.cut_power(self.folder)
        self.damaged |= what in ("torn", "flip", "stale")

    async def _live(self, process: Process, join: tuple[Address, ...]) -> None:
        """What `p2pml peer start` does, from its store to its end."""
        try:
            disk = self._disk = Disk(self.folder)
            options = PeerOptions(
                data=self._part,
                model=MODELS[self.index % len(MODELS)],
                cluster=CLUSTER,
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
            # Whoever cannot write as it starts says so and ends, as it must.
            self.failure = None if self._disks.is_full(self.folder, self._loop.now) else str(error)
            self.usurped = isinstance(error, BadInput) and "copy of this state folder" in str(error)
        finally:
            if process is self.process:
                # What it still holds goes with the process.
                self.kill()

    def _gone(self) -> None:
        self.process, self.since = None, self._loop.now
        if self._disk is not None:
            self._disk.close()
