"""Many seeds over local processes, each reported in the order of the seeds, and some run twice."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from .plans import Plan
from .reports import DETERMINISM, Breach, Report

REPEATED = 20
"""The first of so many plans is run a second time, in a process with other hashes of text, and must be the same."""

REPEATABLE = 30_000.0
"""Peers times seconds of a plan above which it is not run twice: it takes minutes."""

SAME_TRACE = "one seed gives one trace"


def sweep(run: Callable[[Plan], Report], plans: Iterable[Plan], jobs: int) -> Iterator[tuple[Plan, Report]]:
    """Run plans in so many processes, and give each back with its report, in their order."""
    plans = list(plans)
    # Fresh interpreters: hashes of text differ from one to the next, and must not matter.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, fresh) as pool, ProcessPoolExecutor(1, fresh) as other:
        twice = [plan for plan in plans[::REPEATED] if plan.peers * plan.seconds <= REPEATABLE]
        again = {plan: other.submit(run, plan) for plan in twice}
        try:
            for plan, report in zip(plans, pool.map(run, plans), strict=True):
                yield plan, compared(report, again[plan].result()) if plan in again else report
        finally:
            for one in (pool, other):
                one.shutdown(cancel_futures=True)


def compared(report: Report, again: Report) -> Report:
    """Give the first of two reports of one plan, as a failure if they differ."""
    if report.trace == again.trace and report.measures == again.measures:
        return replace(report, properties={**report.properties, SAME_TRACE: True})
    words = f"the traces are {report.trace} and {again.trace}"
    breach = Breach(SAME_TRACE, DETERMINISM, 0.0, words)
    return replace(report, properties={**report.properties, SAME_TRACE: False}, breach=breach)
