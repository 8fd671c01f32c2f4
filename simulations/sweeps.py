"""Many seeds over processes, each reported in the order of the seeds, and some run twice.

The processes are those of this machine, or of a Dask cluster whose machines have the same p2pml installed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias

from p2pml.errors import BadInput, P2pmlError

from .plans import Plan
from .reports import DETERMINISM, Breach, Report, Tell, nobody

REPEATED = 20
"""The first of so many plans is run a second time, in a process with other hashes of text, and must be the same."""

REPEATABLE = 60_000.0
"""Peers times seconds of a plan above which it is not run twice: it takes minutes."""

SAME_TRACE = "one seed gives one trace"

Run: TypeAlias = Callable[..., Report]
"""Runs a plan, and tells how far it is, if it is given whom to tell."""


def sweep(
    run: Run, plans: Iterable[Plan], jobs: int, dask: str | None = None, tell: Tell = nobody
) -> Iterator[tuple[Plan, Report]]:
    """Run plans in so many processes, or on the Dask cluster at an address, and give each back, in their order.

    What is run twice is run on this machine the second time. A single plan tells how far it is. Raises `BadInput`
    where there is no such cluster, and `Ended` where a process was ended from outside.
    """
    plans = list(plans)
    twice = [plan for plan in plans[::REPEATED] if plan.peers * plan.seconds <= REPEATABLE]
    engine = local(run, plans, jobs, tell) if dask is None else on_dask(run, plans, dask)
    with closing(engine) as reports, _Processes(1) as other:
        again = {plan: other.submit(run, plan) for plan in twice}
        try:
            for plan, report in zip(plans, reports, strict=True):
                yield plan, compared(report, again[plan].result()) if plan in again else report
        except BrokenProcessPool as error:
            raise Ended("a process that ran a seed was ended, perhaps for want of memory: try fewer --jobs") from error


class Ended(P2pmlError):
    """A process was ended from outside before its seed was done."""


class _Processes(ProcessPoolExecutor):
    """Fresh interpreters: hashes of text differ from one to the next, and must not matter."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, multiprocessing.get_context("spawn"))

    def __exit__(self, *error: object) -> None:
        """Do not begin what still waits when nobody wants it any more."""
        self.shutdown(cancel_futures=True)


def local(run: Run, plans: Sequence[Plan], jobs: int, tell: Tell) -> Generator[Report, None, None]:
    """Run plans in processes of this machine; a single one in this very process."""
    if jobs == 1 and len(plans) == 1:
        yield run(plans[0], tell)
        return
    with _Processes(jobs) as pool:
        yield from pool.map(run, plans)


def on_dask(run: Run, plans: Sequence[Plan], address: str) -> Generator[Report, None, None]:
    """Run plans on a Dask cluster."""
    try:
        import distributed
    except ImportError as error:
        raise BadInput("--dask takes what is not installed: pip install 'p2pml[dask]'") from error
    dask: Any = distributed  # much of it has no types
    try:
        client = dask.Client(address, timeout=CONNECTING)
    except (OSError, ValueError) as error:
        raise BadInput(f"there is no Dask scheduler at {address}: {error}") from error
    with client:
        futures = client.map(run, plans, pure=False)
        try:
            for future in futures:
                yield future.result()
        except (dask.KilledWorker, CancelledError) as error:
            raise Ended(f"the Dask cluster at {address} did not run a seed to its end: {error}") from error
        finally:
            client.cancel(futures)


CONNECTING = 10.0
"""Seconds that a Dask scheduler has to answer."""


def compared(report: Report, again: Report) -> Report:
    """Give the first of two reports of one plan, as a failure if they differ."""
    if report.trace == again.trace and report.measures == again.measures:
        return replace(report, properties={**report.properties, SAME_TRACE: True})
    words = f"the traces are {report.trace} and {again.trace}"
    breach = Breach(SAME_TRACE, DETERMINISM, 0.0, words)
    return replace(report, properties={**report.properties, SAME_TRACE: False}, breach=breach)
