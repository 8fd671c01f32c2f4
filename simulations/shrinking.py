"""Shrinking: the least plan that still fails in the same way, found by leaving out and trying again.

First operations are left out (halves, then quarters, then one by one: delta debugging), then hosts of operations,
then peers, and then the times are rounded. A step is kept only where the same property breaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .operations import in_order
from .plans import Plan
from .reports import Breach, Report

RUNS = 400
"""Runs after which the least plan so far must do."""

ROUNDINGS = (10.0, 1.0, 0.1)
"""What times are rounded to, in s, the roundest first."""


@dataclass
class Shrinker:
    """One search, which keeps the least plan so far."""

    run: Callable[[Plan], Report]
    plan: Plan
    breach: Breach
    runs: int = 0

    def attempt(self, plan: Plan) -> bool:
        """Keep a plan if it fails in the same way."""
        if self.runs >= RUNS or plan == self.plan:
            return False
        self.runs += 1
        breach = self.run(plan).breach
        if not self.breach.same(breach):
            return False
        assert breach is not None
        self.plan, self.breach = plan, breach
        return True

    def to_the_end(self) -> None:
        """Go through all kinds of steps until none of them helps any more."""
        before: Plan | None = None
        while before != self.plan and self.runs < RUNS:
            before = self.plan
            self._operations()
            for steps in (_fewer_hosts, _fewer_peers, _a_larger_core, _fair_weather, _rounder_times):
                self._all(steps)

    def _operations(self) -> None:
        """Leave operations out, in ever smaller parts."""
        part = len(self.plan.operations)
        while part:
            begin = 0
            while begin < len(self.plan.operations):
                operations = self.plan.operations
                if not self.attempt(replace(self.plan, operations=operations[:begin] + operations[begin + part :])):
                    begin += part
            part //= 2

    def _all(self, steps: Callable[[Plan], Iterator[Plan]]) -> None:
        """Take steps of one kind as long as one of them helps."""
        while any(self.attempt(plan) for plan in steps(self.plan)):
            pass


def shrink(run: Callable[[Plan], Report], plan: Plan, breach: Breach) -> Shrinker:
    """Find the least plan that breaks as `plan` does, with `breach`; the result has it, and its breach."""
    search = Shrinker(run, plan, breach)
    search.to_the_end()
    return search


def _fewer_hosts(plan: Plan) -> Iterator[Plan]:
    for index, one in enumerate(plan.operations):
        before, after = plan.operations[:index], plan.operations[index + 1 :]
        for field, hosts in (("hosts", one.hosts), ("others", one.others)):
            for host in hosts if len(hosts) > 1 else ():
                fewer = tuple(other for other in hosts if other != host)
                yield replace(plan, operations=(*before, replace(one, **{field: fewer}), *after))  # type: ignore[arg-type]


def _fewer_peers(plan: Plan) -> Iterator[Plan]:
    for host in reversed(range(plan.peers)):
        if plan.peers > 2 and plan.core != (host,):
            yield plan.without(host)


def _a_larger_core(plan: Plan) -> Iterator[Plan]:
    yield replace(plan, core=tuple(range(plan.peers)))


def _fair_weather(plan: Plan) -> Iterator[Plan]:
    yield replace(plan, weather=type(plan.weather)())
    yield replace(plan, first=None)


def _rounder_times(plan: Plan) -> Iterator[Plan]:
    for step in ROUNDINGS:
        for index, one in enumerate(plan.operations):
            at, amount = _rounded(one.at, step), one.amount and max(step, _rounded(one.amount, step))
            for rounder in (replace(one, at=at), replace(one, amount=amount)):
                operations = (*plan.operations[:index], rounder, *plan.operations[index + 1 :])
                if _zeros(rounder.at, rounder.amount) > _zeros(one.at, one.amount):
                    yield replace(plan, operations=in_order(operations))
    last = max((one.at for one in plan.operations), default=0.0)
    shorter = math.ceil(last + 1)
    if shorter < plan.seconds:
        yield replace(plan, seconds=float(shorter))


def _rounded(time: float, step: float) -> float:
    return round(round(time / step) * step, 3)


def _zeros(*times: float) -> int:
    """How round some times are: those that are whole tens count three, whole seconds two, and so on."""
    return sum(time == _rounded(time, step) for time in times for step in ROUNDINGS)
