"""Whole daemons through a plan, in virtual time, asked for predictions all the while.

    report = run(draw("swarm", seed=7, peers=10, seconds=60.0))      # `draw` of p2pml.simulations.scenarios
    report.held, report.breach, report.trace, report.properties, report.measures, report.timeline

As in the layer core, a plan has two phases: things break, then the core is healed and must come together, here with
every vote of the core in an answer. Everything is drawn from the plan's seed: the same plan leaves the same trace, in
any process and under any PYTHONHASHSEED. A run writes into a temporary folder alone, and neither opens a socket nor
starts a thread or a process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import structlog

from p2pml.peer.rare import rare_turns

from . import promises
from .disks import Died, Disks
from .faults import Faults
from .kernel import NetworkedLoop
from .loop import Process
from .machines import Machine, warm_up
from .network import Rule
from .parts import write_part
from .plans import Plan
from .promises import Onlooker
from .questions import Client
from .reports import CRASH, LATE, LIVENESS, SAFETY, UNTRUE, VOTES, Breach, Report, Tell, nobody
from .sandbox import sandbox

PATIENCE = 150.0
"""Virtual seconds that a healed core has to recover: ten greetings of the dead, or five of the longest suspicions."""
QUIET = 10.0
"""Seconds at the start in which no rare turn is taken: all train their first model."""
GLANCE = 1.0
"""Virtual seconds between two looks at what is believed."""
AT_REST = 6.0
"""Datagrams a second of each peer below which a cluster is at rest: some two are the probes and their answers."""
LISTENING = 3.0
"""Virtual seconds over which they are counted."""
ENDING = 60.0
"""Virtual seconds for all programs to end at the end: several times what a peer takes to say goodbye."""
VOUCHING = 5
"""Machines of the core whose answers must all hold every vote of the core when it has recovered."""
ROWS = 40
"""Rows of each peer's part."""
RARE = (0.0, 0.01, 0.05, 0.1)
"""Probabilities of which each run has one: that the daemon takes a rare turn where it has a choice."""
UNEXPECTED = ("a request failed unexpectedly", "something went wrong inside")
"""What a daemon logs where it made a mistake."""

STAYS = "no peer ends by itself"
NO_ERROR = "nothing goes wrong inside"
VIEWS = "the core's views equal the live peers"
CALM = "message rates return to their baseline"
LAWS = {
    **dict.fromkeys(promises.LAWS, SAFETY),
    CALM: LIVENESS,
    LATE: SAFETY,
    UNTRUE: SAFETY,
    STAYS: SAFETY,
    NO_ERROR: CRASH,
    VIEWS: LIVENESS,
    VOTES: LIVENESS,
}
"""The properties, and the kind of each one's failure."""


def run(plan: Plan, every: float = 2.0, rare: float | None = None, tell: Tell = nobody) -> Report:
    """Run a plan to its end, or to the first breach, with a question every so many seconds.

    It tells now and then how far it is. `rare` is the probability of rare turns; None draws it from the seed.
    """
    warm_up()
    # In memory, where there is such a folder: a real disk's waits are no part of virtual time.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (the run's folder is made in it)
    with tempfile.TemporaryDirectory(prefix="p2pml-simulation-", dir=memory) as folder:
        loop, disks = NetworkedLoop(plan.seed, plan.weather), Disks()
        try:
            with sandbox(loop, plan.seed, lambda descriptor: disks.fsync(descriptor, loop.now)):
                this = Run(plan, loop, disks, Path(folder), every, rare)
                this.tell = tell
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
            this.breach(NO_ERROR, f"{event['event']}: {event.get('why')}")
        this.seen[f"log {event['event']}"] += 1
        raise structlog.DropEvent

    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


class Run:
    """One run of a plan."""

    def __init__(
        self, plan: Plan, loop: NetworkedLoop, disks: Disks, folder: Path, every: float, rare: float | None
    ) -> None:
        """Make the machines; all are down."""
        self.plan, self.loop, self.kernel = plan, loop, loop.kernel
        self.rng = random.Random(f"{plan.seed}/run")  # noqa: S311 (a simulation)
        self.rare = self.rng.choice(RARE) if rare is None else rare
        for index in range(plan.peers):
            write_part(folder / f"part-{index}.csv", index, plan.peers, ROWS, plan.seed)
        self.machines = [Machine(loop, index, folder, plan.seed, disks) for index in range(plan.peers)]
        if any(operation.what == "replay" for operation in plan.operations):
            self.kernel.kept = {}
        self.core = [self.machines[index] for index in plan.core]
        self.faults = Faults(loop, self.machines, self.rng)
        self.client = Client(self, every)
        self.timeline: list[dict[str, float]] = []
        # Nothing proves an identity: who makes packets up can invent peers, and be somebody.
        self.honest = not any(operation.what == "noise" for operation in plan.operations)
        self.onlooker = Onlooker(self.machines, self.honest)
        self.seen: Counter[str] = Counter()
        """What happened, by what it is: operations, rare turns, warnings of the daemons, answers by kind."""
        self.first: Breach | None = None
        self.recovered: float | None = None
        self.resting = False
        """Whether nobody is asked any more."""
        self.over = False
        """Whether nothing is done any more: a process that was killed while all end would never end."""
        self.tell: Tell = nobody
        self._broken = asyncio.Event()
        loop.set_exception_handler(self._mishap)

    # The course of a run.

    async def to_the_end(self) -> Report:
        """Boot everybody, do what the plan says, heal the core, and take it all down."""
        plan = self.plan
        for machine in self.machines[: plan.first]:
            self.loop.call_later(machine.index / plan.peers, self.faults.boot, machine)
        for operation in plan.operations:
            self.loop.call_at(operation.at, self._do, operation)
        asking = self.loop.create_task(self.client.ask_all_along(), context=Process("client").context())
        await self._let_pass(plan.seconds)
        await self._recover()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await self._come_to_rest()
        report = self._report()
        await self._take_down()
        return report

    def breach(self, law: str, words: str) -> None:
        """Note that a property does not hold; the first one ends the run."""
        if self.first is None:
            self.first = Breach(law, LAWS[law], self.loop.now, words)
            self._broken.set()

    def rarely(self, site: str) -> bool:
        """Whether the daemon takes a rare turn; each that is taken is counted."""
        if not QUIET < self.loop.now < self.plan.seconds or self.rng.random() >= self.rare:
            return False
        self.seen[f"rare {site}"] += 1
        return True

    def _do(self, operation: Any) -> None:
        if self.loop.now <= self.plan.seconds and not self.over:
            self.kernel.note(str(operation))
            self.seen[f"operation {operation.what}"] += 1
            if operation.what == "fit":
                self.client.fit(self.machines[operation.hosts[0]])
            else:
                self.faults.do(operation)

    async def _let_pass(self, until: float) -> None:
        """Let time pass, up to a time or the first breach, and look at the peers now and then."""
        while self.first is None and (left := until - self.loop.now) > 1e-6:
            try:
                await asyncio.wait_for(self._broken.wait(), min(GLANCE, left))
            except TimeoutError:
                self._glance()

    async def _recover(self) -> None:
        """Heal the core, and give it its time to be whole."""
        begin = self.loop.now
        self.faults.heal(self.core)
        wrong: tuple[str, str] | None = (VIEWS, "nobody looked")
        while self.first is None and wrong is not None:
            if self.loop.now > begin + PATIENCE:
                self.breach(*wrong)
                return
            await self._let_pass(self.loop.now + GLANCE)
            for machine in self.core:
                if machine.usurped and machine.process is None:
                    # Noise that was still on its way: whoever keeps the peer running starts it again.
                    self.faults.boot(machine)
            wrong = self._strangers() or await self._missing_votes()
        self.recovered = self.loop.now - begin

    async def _come_to_rest(self) -> None:
        """Wait until nobody has anything to tell; where somebody is cut off from the core, there always is."""
        begin, self.resting = self.loop.now, True
        while self.first is None and {machine for machine in self.machines if machine.up} <= set(self.core):
            before = self.kernel.datagrams
            await self._let_pass(self.loop.now + LISTENING)
            rate = (self.kernel.datagrams - before) / len(self.core) / LISTENING
            if rate <= AT_REST:
                return
            if self.loop.now > begin + PATIENCE:
                self.breach(CALM, f"each peer gets {rate:.1f} datagrams a second, and has nothing to tell")

    def _strangers(self) -> tuple[str, str] | None:
        """Who of the core does not hold who of the core alive."""
        for machine in self.core:
            if not machine.ready:
                return VIEWS, f"{machine.name} does not run, or has no model"
            believed = self.believed(machine)
            for other in self.core:
                if other.peer is not None and other.peer.id not in believed:
                    return VIEWS, f"{machine.name} does not hold {other.name} alive"
        return None

    async def _missing_votes(self) -> tuple[str, str] | None:
        """Whose vote of the core is missing from the answers of some of the core."""
        core = {machine.name for machine in self.core}
        asked = self.rng.sample(self.core, min(VOUCHING, len(self.core)))
        for question in await asyncio.gather(*(self.client.ask(machine) for machine in asked)):
            missing = [f"{name}: {why}" for name, why in question.missing.items() if name in core]
            if missing or not question.answered:
                return VOTES, "; ".join(missing) or question.error
        return None

    def _glance(self) -> None:
        for machine in self.machines:
            if machine.failure is not None and (self.honest or not machine.usurped):
                self.breach(STAYS, f"{machine.name}: {machine.failure}")
        if (wrong := self.onlooker.look()) is not None:
            self.breach(*wrong)
        if self.resting:
            return
        up = [machine for machine in self.machines if machine.serving]
        believed = sum(len(self.believed(machine)) for machine in up)
        row = {"time": self.loop.now, "alive": float(len(up)), "believed": believed / max(1, len(up))}
        self.timeline.append(row | self.client.since_last_time())
        self.tell(self.loop.time())

    def believed(self, machine: Machine) -> set[str]:
        """Whom a machine holds alive."""
        assert machine.peer is not None
        return {record.id for record in machine.peer.node.records() if record.live}

    def _mishap(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Died):
            return
        self.breach(NO_ERROR, f"{context['message']}: {type(error).__name__}: {error}")

    def _report(self) -> Report:
        kernel, seconds = self.kernel, max(GLANCE, self.loop.now)
        measures = self.client.measures() | {
            "seconds": self.loop.now,
            "operations": float(len(self.plan.operations)),
            "messages_per_peer_second": kernel.packets / self.plan.peers / seconds,
            "bytes_per_peer_second": kernel.bytes / self.plan.peers / seconds,
        }
        if self.recovered is not None:
            measures["recovered_after"] = self.recovered
        properties = {law: self.first is None or self.first.property != law for law in LAWS}
        plan = self.plan
        seen = dict(sorted((self.seen + self.onlooker.seen()).items()))
        breach, timeline = self.first, tuple(self.timeline)
        return Report(plan.scenario, plan.seed, kernel.trace, properties, measures, breach, timeline, seen)

    async def _take_down(self) -> None:
        """End all programs, the dead and the paused among them, so that each frees what it holds."""
        self.over = True
        for machine in self.machines:
            machine.mend_disk()
        self.loop.set_exception_handler(lambda loop, context: None)
        await self.client.close()
        self.kernel.network.rules.insert(0, Rule("end", None, None))
        while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            # Also who was just about to end by itself, and by that stopped what else it had begun.
            for process in list(self.loop.stopped):
                self.loop.continue_process(process)
            for task in sorted(tasks, key=hash):
                task.cancel()
            await asyncio.wait(tasks, timeout=ENDING)
