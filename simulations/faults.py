"""The operations of a plan, done to whole machines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from .hostile import LIES, lie
from .kernel import NetworkedLoop
from .machines import Machine
from .network import Rule
from .operations import Operation

WORSE = {"loss": "loss", "duplicate": "duplication", "reorder": "reordering"}
"""What of a link's conditions each operation makes worse."""
JOINED = 3
"""Machines that every other is told to join."""


class Faults:
    """Does operations, and heals."""

    def __init__(self, loop: NetworkedLoop, machines: Sequence[Machine], rng: random.Random) -> None:
        """Have done nothing yet; the network is as it is at its best."""
        self._loop, self._machines, self._rng = loop, machines, rng
        self._network = loop.kernel.network
        self._fair = self._network.conditions
        self._moves = 0

    def boot(self, machine: Machine) -> None:
        """Start a machine that is down; the first few others are whom it joins."""
        if machine.process is None:
            machine.boot(tuple(other.address for other in self._machines[:JOINED] if other is not machine))

    def heal(self, core: Sequence[Machine]) -> None:
        """Let these run, at their usual speed, on links as if nothing had happened; all else stays as it is."""
        addresses = frozenset(machine.address for machine in core)
        self._network.rules.insert(0, Rule("healed", addresses, addresses, self._fair))
        for machine in core:
            if machine.process is None or machine.leaving or machine.lying:
                machine.kill()
                self.boot(machine)
            machine.resume(machine.process)
            self._slow(machine, 1.0)
            self._skew(machine, 1.0)
            machine.mend_disk()
            self._loop.kernel.rates.pop(machine.address[0], None)

    def do(self, operation: Operation) -> None:
        """Do what an operation says, but for `fit`, which is asked for by HTTP."""
        network = self._network
        hosts = [self._machines[index] for index in operation.hosts]
        here = frozenset(machine.address for machine in hosts)
        match operation.what:
            case "partition":
                network.partition(here, frozenset(machine.address for machine in self._machines) - here)
            case "cut":
                network.cut(here, [self._machines[index].address for index in operation.others])
            case "loss" | "duplicate" | "reorder":
                network.heal(operation.what)
                worse = replace(self._fair, **{WORSE[operation.what]: operation.amount})  # type: ignore[arg-type]
                network.rules += [Rule(operation.what, here or None, None, worse)]
                network.rules += [Rule(operation.what, None, here or None, worse)]
            case "heal" if here:
                network.mend(here)
            case "heal":
                network.heal()
            case "swap" if len(hosts) == 2:
                one, other = hosts
                one.kill()
                other.kill()
                one.address, other.address = other.address, one.address
                self.boot(one)
                self.boot(other)
            case "black-hole":
                name = f"black hole {operation.at}"
                network.cut(here, None, name)
                network.cut(None, here, name)
                self._loop.call_later(operation.amount, network.heal, name)
            case _:
                for machine in hosts:
                    self._do_to(machine, operation)

    def _do_to(self, machine: Machine, operation: Operation) -> None:
        match operation.what:
            case "crash":
                machine.kill()
            case "torn" | "flip" | "stale" | "power":
                machine.kill()
                machine.damage(operation.what, self._rng)
            case "copy":
                machine.damage("copy", self._rng)
            case "die-writing":
                machine.die_writing()
            case "disk-full":
                machine.fill_disk(self._loop.now + operation.amount)
            case "restart":
                machine.kill()
                self.boot(machine)
            case "move":
                machine.kill()
                self._moves += 1
                machine.address = (f"10.128.{self._moves >> 8}.{self._moves & 255}", machine.address[1])
                self.boot(machine)
            case "leave":
                machine.leave()
            case "pause":
                machine.pause()
                self._loop.call_later(operation.amount, machine.resume, machine.process)
            case "slow":
                self._slow(machine, operation.amount)
            case "skew":
                self._skew(machine, operation.amount)
            case "jump" if machine.process is not None:
                machine.process.ahead += operation.amount
            case what:
                self._do_on_links(machine, what, operation.amount)

    def _do_on_links(self, machine: Machine, what: str, amount: float) -> None:
        kernel, host = self._loop.kernel, machine.address[0]
        match what:
            case "reset":
                kernel.tear(host)
            case "mute":
                kernel.rates[host] = 0.0
                self._loop.call_later(amount, kernel.rates.pop, host, None)
            case "drip":
                kernel.rates[host] = max(1.0, amount)
            case "replay":
                kernel.resend(host)
            case _ if what in LIES:
                lie(machine, what, self._machines, kernel, self._rng)

    def _skew(self, machine: Machine, rate: float) -> None:
        if machine.process is not None and machine.process.rate != rate > 0:
            machine.process.skew(self._loop.now, rate)

    def _slow(self, machine: Machine, times: float) -> None:
        if machine.process is not None and machine.process.slowness != max(1.0, times):
            machine.process.slowness, machine.since = max(1.0, times), self._loop.now
