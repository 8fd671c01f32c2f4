"""The operations of a plan, done to whole machines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from .kernel import NetworkedLoop
from .machines import Machine
from .network import Rule
from .operations import Operation

JOINED = 3
"""Machines that every other is told to join."""


class Faults:
    """Does operations, and heals."""

    def __init__(self, loop: NetworkedLoop, machines: Sequence[Machine], rng: random.Random) -> None:
        """Have done nothing yet; the network is as it is at its best."""
        self._loop, self._machines, self._rng = loop, machines, rng
        self._network = loop.kernel.network
        self._fair = self._network.conditions

    def boot(self, machine: Machine) -> None:
        """Start a machine that is down; the first few others are whom it joins."""
        if machine.process is None:
            machine.boot(tuple(other.address for other in self._machines[:JOINED] if other is not machine))

    def heal(self, core: Sequence[Machine]) -> None:
        """Let these run, at their usual speed, on links as if nothing had happened; all else stays as it is."""
        addresses = frozenset(machine.address for machine in core)
        self._network.rules.insert(0, Rule("healed", addresses, addresses, self._fair))
        for machine in core:
            if machine.process is None or machine.leaving:
                machine.kill()
                self.boot(machine)
            machine.resume(machine.process)
            self._slow(machine, 1.0)

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
            case "loss":
                network.heal("loss")
                worse = replace(self._fair, loss=operation.amount)
                network.rules += [Rule("loss", here or None, None, worse), Rule("loss", None, here or None, worse)]
            case "heal":
                network.heal()
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
            case "torn":
                machine.kill()
                machine.tear_file(self._rng)
            case "restart":
                machine.kill()
                self.boot(machine)
            case "leave":
                machine.leave()
            case "pause":
                machine.pause()
                self._loop.call_later(operation.amount, machine.resume, machine.process)
            case "slow":
                self._slow(machine, operation.amount)
            case "reset":
                self._loop.kernel.tear(machine.address[0])

    def _slow(self, machine: Machine, times: float) -> None:
        if machine.process is not None and machine.process.slowness != max(1.0, times):
            machine.process.slowness, machine.since = max(1.0, times), self._loop.time()
