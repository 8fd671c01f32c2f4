"""How long answers take and what they cost, at a concurrency: the same measure for all that is compared."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Measured:
    """Seconds at percentiles of latency, seconds of processor time a request, and requests a second of wall time."""

    p50: float
    p99: float
    p999: float
    cpu: float
    rate: float

    def __str__(self) -> str:
        times = " | ".join(f"{1000 * each:.3f}" for each in (self.p50, self.p99, self.p999, self.cpu))
        return f"{times} | {self.rate:,.0f}"


async def measure(ask: Ask, concurrency: int, seconds: float, least: int, cpu: Callable[[], float]) -> Measured:
    """Ask for so many seconds, and at least so often, always with `concurrency` questions open."""
    for _ in range(2 * concurrency):
        await ask()
    gc.collect()
    took: list[float] = []
    began, used = time.perf_counter(), cpu()

    async def one() -> None:
        while time.perf_counter() - began < seconds or len(took) < least:
            start = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - start)

    await asyncio.gather(*(one() for _ in range(concurrency)))
    wall, used = time.perf_counter() - began, cpu() - used
    took.sort()
    p50, p99, p999 = (took[min(len(took) - 1, int(share * len(took)))] for share in (0.5, 0.99, 0.999))
    return Measured(p50, p99, p999, used / len(took), len(took) / wall)
