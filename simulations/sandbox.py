"""What a program in virtual time may not have for real: clocks, sockets, threads, sleep and chance without a seed."""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from .loop import PROCESS, Refused, VirtualLoop
from .sockets import VirtualSocket

EPOCH = 1_700_000_000.0
"""What the wall clock says at 0 s of virtual time."""
CLOCKS = ("time", "monotonic", "perf_counter")
WITH_CLOCKS = ("aiohttp", "aiohappyeyeballs", "asyncio", "p2pml")
"""Packages whose modules may have taken a clock by its name."""


@contextmanager
def sandbox(
    loop: VirtualLoop, seed: object = 0, fsync: Callable[[int], None] = lambda descriptor: None
) -> Iterator[None]:
    """Within it the clocks are the loop's, sockets its kernel's, and chance comes from `seed`; threads are refused.

    Disks are asked to sync by `fsync`: real ones are slow. The collector of garbage rests meanwhile, as it would
    call finalizers at moments of its own. What the programs import should be imported before.
    """
    clocks = {
        "time": lambda: EPOCH + loop.time() + (process.ahead if (process := PROCESS.get()) else 0.0),
        "monotonic": loop.time,
        "perf_counter": loop.time,
        "thread_time": loop.time,
    }
    chance = random.Random(f"{seed}/urandom")  # noqa: S311 (a simulation)
    swaps: list[tuple[Any, str, Any]] = [(time, name, clock) for name, clock in clocks.items()]
    swaps += list(_by_name(clocks))
    swaps += [
        (time, "sleep", _refuse("time.sleep")),
        # numpy asks for chance also where it is given a seed, and then does not use it.
        (os, "urandom", chance.randbytes),
        (random, "_urandom", chance.randbytes),
        (threading.Thread, "start", _refuse("a thread")),
        (os, "fsync", fsync),
        (socket, "socket", VirtualSocket),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in swaps]
    # aiohttp masks what a websocket's client sends by chance of its own.
    masks = sys.modules["aiohttp._websocket.writer"].WebSocketWriter.__init__.__kwdefaults__
    usual, masks["random"] = masks["random"], random.Random(f"{seed}/masks")  # noqa: S311 (a simulation)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for place, name, value in swaps:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        masks["random"] = usual
        if collecting:
            gc.enable()


def _by_name(clocks: dict[str, Any]) -> Iterator[tuple[Any, str, Any]]:
    real = {id(getattr(time, name)): clock for name, clock in clocks.items()}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in WITH_CLOCKS:
            for attribute, value in list(vars(module).items()):
                if (clock := real.get(id(value))) is not None:
                    yield module, attribute, clock


def _refuse(what: str) -> Any:
    def refused(*args: object, **how: object) -> NoReturn:
        raise Refused(f"{what} cannot be had in virtual time")

    return refused
