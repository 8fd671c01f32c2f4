"""Whole daemons through a schedule of faults in virtual time, asked for predictions all the while.

    plan = draw(peers=30, seconds=90.0, seed=7)      # or Plan(…, operations=…), or Plan.from_data(…)
    report = run(plan, seed=7)
    report.held, report.trace, report.properties, report.measures, report.breach, report.timeline

`run` is deterministic: the same plan and seed give the same `trace`, in any process and under any PYTHONHASHSEED.
It puts files into a temporary folder alone, and neither opens a socket nor starts a thread or a process.
`report.breach` is the first property that broke, with its kind ("safety", "liveness" or "crash"), time and words.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import structlog

from p2pml.gossip import Status
from p2pml.peer.rare import rare_turns

from .kernel import NetworkedLoop
from .loop import Process
from .machines import Machine
from .network import Rule
from .operations import Operation, in_order
from .parts import write_part
from .questions import Client
from .sandbox import sandbox

SETTLED = 35.0
"""Seconds after the last operation by which views and votes must be whole: the dead are greeted every few seconds,
and TCP asks again within its own waits."""
QUIET = 10.0
"""Seconds at the start in which no rare turn is taken and a drawn plan has no fault: all train their first model."""
JOINED = 3
"""Machines that every other is told to join."""
UNEXPECTED = ("a request failed unexpectedly", "something went wrong inside")
"""What a daemon logs where it made a mistake."""
GLANCE = 5.0
"""Virtual seconds between two rows of the timeline."""


@dataclass(frozen=True)
class Plan:
    """What is run: the peers, for how long (s), with which faults, and how they are asked."""

    peers: int = 30
    seconds: float = 90.0
    operations: tuple[Operation, ...] = ()
    every: float = 2.0
    """Seconds between two questions, each to a peer drawn from those that are ready."""
    deadline: float = 2.0
    """Seconds that an answer may take."""
    rows: int = 40
    """Rows of each peer's part."""
    rare: float = 0.0
    """The probability that the daemon takes a rare turn where it has a choice."""

    def to_data(self) -> dict[str, Any]:
        """Write it as plain data."""
        plain = {name: getattr(self, name) for name in ("peers", "seconds", "every", "deadline", "rows", "rare")}
        return plain | {"operations": [operation.to_data() for operation in self.operations]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Read it back; raises `BadInput` for an operation that does not exist."""
        return cls(**{**data, "operations": tuple(Operation.from_data(one) for one in data["operations"])})


@dataclass(frozen=True)
class Breach:
    """A property that did not hold."""

    property: str
    kind: str
    at: float
    words: str


@dataclass
class Report:
    """What a run showed. `timeline` has a row for every few seconds: time, peers alive, believed so, votes, score."""

    seed: int
    trace: str
    properties: dict[str, bool]
    measures: dict[str, float]
    breaches: list[Breach]
    timeline: list[dict[str, float]]

    @property
    def breach(self) -> Breach | None:
        """The first property that broke, and when."""
        return min(self.breaches, key=lambda breach: breach.at, default=None)

    @property
    def held(self) -> bool:
        """Whether every property held."""
        return all(self.properties.values())


SAFETY = (
    "answers come by their deadline",
    "the count of votes is true",
    "no peer ends by itself",
    "nothing goes wrong inside",
)
LIVENESS = ("views equal the live peers", "answers hold every vote")


def run(plan: Plan, seed: int) -> Report:
    """Run a plan to its end."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (a folder of its own within)
    with tempfile.TemporaryDirectory(prefix="p2pml-simulation-", dir=memory) as folder:
        loop = NetworkedLoop(seed)
        try:
            with sandbox(loop, seed):
                this = Run(plan, seed, loop, Path(folder))
                with hearing(this), rare_turns(this.rarely):
                    return loop.run_until_complete(this.to_the_end())
        finally:
            loop.close()


@contextmanager
def hearing(this: Run) -> Iterator[None]:
    """Hear what the daemons log instead of showing it: an unexpected failure is a breach."""
    before = structlog.get_config()

    def hear(logger: object, name: str, event: structlog.typing.EventDict) -> NoReturn:
        if name == "error" and event["event"] in UNEXPECTED:
            this.breach("nothing goes wrong inside", f"{event['event']}: {event.get('why')}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, seed: int, loop: NetworkedLoop, folder: Path) -> None:
        """Make the machines; all are down."""
        self.plan, self.seed, self.loop, self.kernel = plan, seed, loop, loop.kernel
        self.rng = random.Random(f"{seed}/run")  # noqa: S311 (a simulation)
        for index in range(plan.peers):
            write_part(folder / f"part-{index}.csv", index, plan.peers, plan.rows, seed)
        self.machines = [Machine(loop, index, folder, seed) for index in range(plan.peers)]
        self.breaches: list[Breach] = []
        self.turns: dict[str, int] = {}
        self.over = max((operation.at + _lasts(operation) for operation in plan.operations), default=0.0)
        """When the last fault ends, and rare turns with it, in s."""
        self.timeline: list[dict[str, float]] = []
        self.client = Client(self, seed)
        self.fair = self.kernel.network.conditions
        loop.set_exception_handler(self._mishap)

    # Operations.

    def _boot(self, machine: Machine) -> None:
        """Start a machine that is down; the first few others are whom it joins."""
        if machine.process is None:
            machine.boot(tuple(other.address for other in self.machines[:JOINED] if other is not machine))

    def _do(self, operation: Operation) -> None:
        self.kernel.note(str(operation))
        network = self.kernel.network
        hosts = [self.machines[index] for index in operation.hosts]
        here = frozenset(machine.address for machine in hosts)
        match operation.what:
            case "partition":
                others = frozenset(machine.address for machine in self.machines) - here
                network.rules[:0] = [Rule("split", here, others), Rule("split", others, here)]
            case "cut":
                there = frozenset(self.machines[index].address for index in operation.others)
                network.rules.insert(0, Rule("cut", here, there))
            case "loss":
                worse = replace(self.fair, loss=operation.amount)
                network.rules += [Rule("loss", here or None, None, worse), Rule("loss", None, here or None, worse)]
            case "heal":
                network.heal()
            case "black-hole":
                name = f"black hole {operation.at}"
                network.rules[:0] = [Rule(name, here, None), Rule(name, None, here)]
                self.loop.call_later(operation.amount, network.heal, name)
            case "reset":
                for machine in hosts:
                    self.kernel.tear(machine.address[0])
            case _:
                for machine in hosts:
                    self._do_to(machine, operation)

    def _do_to(self, machine: Machine, operation: Operation) -> None:
        match operation.what:
            case "crash":
                machine.kill()
            case "torn":
                machine.kill()
                machine.tear_file(self.rng)
            case "restart":
                machine.kill()
                self._boot(machine)
            case "leave":
                machine.leave()
            case "pause":
                machine.pause()
                self.loop.call_later(operation.amount, machine.resume, machine.process)
            case "slow":
                if machine.process is not None:
                    machine.process.slowness = operation.amount
            case "fit":
                if machine.ready:
                    self.client.fit(machine)

    # The course of a run.

    async def to_the_end(self) -> Report:
        """Boot everybody, do what the plan says, look at what is left, and take it all down."""
        for machine in self.machines:
            self.loop.call_later(self.rng.random(), self._boot, machine)
        for operation in in_order(self.plan.operations):
            self.loop.call_at(operation.at, self._do, operation)
        asking = self.loop.create_task(self.client.ask_all_along(), context=Process("client").context())
        watching = self.loop.create_task(self._watch())
        await asyncio.sleep(self.plan.seconds)
        for task in (asking, watching):
            task.cancel()
        await asyncio.gather(asking, watching, return_exceptions=True)
        await self._look_at_the_end()
        report = self._report()
        await self._take_down()
        return report

    def rarely(self, site: str) -> bool:
        """Whether the daemon takes a rare turn; each that is taken is counted."""
        if not QUIET < self.loop.time() < self.over or self.rng.random() >= self.plan.rare:
            return False
        self.turns[site] = self.turns.get(site, 0) + 1
        return True

    def breach(self, name: str, words: str) -> None:
        """Note that a property does not hold."""
        kind = "liveness" if name in LIVENESS else "crash" if name == SAFETY[3] else "safety"
        self.breaches.append(Breach(name, kind, self.loop.time(), words))

    def _mishap(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.breach("nothing goes wrong inside", f"{context['message']}: {type(error).__name__}: {error}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(GLANCE)
            up = [machine for machine in self.machines if machine.serving]
            believed = [len(self.believed(machine)) for machine in up]
            for machine in self.machines:
                if machine.failure is not None:
                    self.breach("no peer ends by itself", f"{machine.name}: {machine.failure}")
                    machine.failure = None
            self.timeline.append(
                {"time": self.loop.time(), "alive": len(up), "believed": sum(believed) / max(1, len(up))}
                | self.client.since_last_time()
            )

    async def _look_at_the_end(self) -> None:
        """Once all faults are over for long enough, everybody must know everybody, and every vote be cast."""
        if self.plan.seconds - self.over < SETTLED:
            return
        up = [machine for machine in self.machines if machine.serving]
        names = {machine.peer.id: machine.name for machine in self.machines if machine.peer is not None}
        live = {machine.peer.id for machine in up if machine.peer is not None}
        for machine in up:
            if (seen := self.believed(machine)) != live:
                missing, extra = ({names.get(id, id) for id in ids} for ids in (live - seen, seen - live))
                self.breach("views equal the live peers", f"{machine.name} misses {missing} and has {extra}")
        if up:
            question = await self.client.ask(self.rng.choice(up))
            if question.cast != len(up):
                self.breach("answers hold every vote", f"{question.cast} of {len(up)}: {question.words}")

    def believed(self, machine: Machine) -> set[str]:
        """Whom a machine holds alive."""
        assert machine.peer is not None
        return {member.id for member in machine.peer.node.members() if member.status in (Status.ALIVE, Status.SUSPECT)}

    def _report(self) -> Report:
        measures = self.client.measures() | {
            "packets_per_peer_second": self.kernel.packets / self.plan.peers / self.plan.seconds,
            "bytes_per_peer_second": self.kernel.bytes / self.plan.peers / self.plan.seconds,
        }
        measures |= {f"rare {site}": float(self.turns[site]) for site in sorted(self.turns)}
        broken = {breach.property for breach in self.breaches}
        properties = {name: name not in broken for name in (*SAFETY, *LIVENESS)}
        return Report(self.seed, self.kernel.trace, properties, measures, self.breaches, self.timeline)

    async def _take_down(self) -> None:
        """End all programs, the dead and the paused among them, so that each frees what it holds."""
        self.loop.set_exception_handler(lambda loop, context: None)
        await self.client.close()
        self.kernel.network.rules.insert(0, Rule("end", None, None))
        for process in list(self.loop.stopped):
            self.loop.continue_process(process)
        while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in sorted(tasks, key=hash):
                task.cancel()
            await asyncio.wait(tasks)


def _lasts(operation: Operation) -> float:
    return operation.amount if operation.what in ("pause", "black-hole") else 0.0


def draw(peers: int, seconds: float, seed: int) -> Plan:
    """Draw a plan from a seed: crashes, a split, a one-way cut, pauses, resets and loss, and then all is healed."""
    rng = random.Random(f"{seed}/plan")  # noqa: S311 (a simulation)
    end = max(QUIET, seconds - SETTLED - 5.0)

    def moment() -> float:
        return round(rng.uniform(QUIET, end), 3)

    def some(share: float) -> tuple[int, ...]:
        return tuple(sorted(rng.sample(range(peers), max(1, round(share * peers)))))

    operations = [
        Operation(round(rng.uniform(0, end), 3), "loss", amount=round(rng.uniform(0, 0.05), 3)),
        Operation(moment(), "partition", some(0.4)),
        Operation(moment(), "cut", some(0.1), some(0.3)),
        Operation(moment(), "pause", some(0.05), amount=round(rng.uniform(1, 12), 3)),
        Operation(moment(), "black-hole", some(0.05), amount=round(rng.uniform(1, 12), 3)),
        Operation(moment(), "reset", some(0.2)),
        Operation(moment(), "slow", some(0.05), amount=50.0),
    ]
    for _ in range(max(2, peers // 6)):
        hosts, crashed = some(1 / peers), moment()
        operations += [
            Operation(crashed, rng.choice(("crash", "crash", "torn", "leave")), hosts),
            Operation(round(rng.uniform(crashed + 1, end + 2), 3), "restart", hosts),
        ]
    operations.append(Operation(end + 2, "heal"))
    rare = rng.choice((0.0, 0.0, 0.01, 0.05))
    return Plan(peers, seconds, in_order(operations), rare=rare)
