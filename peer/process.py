"""A peer as a process: its event loop, its signals, its state folder and its log, until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import structlog
from threadpoolctl import threadpool_limits

from p2pml.errors import BadInput
from p2pml.gossip.limits import NAME_LIMIT

from . import logs
from .daemon import Peer, default_name
from .memory import return_large_pieces
from .options import PeerOptions
from .store import Store, default_folder

TURN = 0.0005
"""Seconds after which a thread that computes lets the event loop go on; with Python's own 5 ms some answers took that
much longer."""

RARELY = (700, 10, 100)
"""When Python collects its three generations. With its own (700, 10, 10) a busy peer went through all that it had made
twice a second, and that was the slowest of each thousand answers."""

log = structlog.get_logger()


def run_peer(options: PeerOptions) -> None:
    """Run a peer until SIGINT or SIGTERM; raises `BadInput` where the options or the part do not allow it."""
    logs.set_up(options.log_format)
    # Threads of OpenMP that spin while they wait starve the other peers of a machine: a training took 20 times
    # as long beside three others. Set before scikit-learn is loaded; the training process inherits it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Nor do those of matrix products sleep: beside three trainings, two of them took a minute for a second's work.
    threadpool_limits(1)
    return_large_pieces()
    sys.setswitchinterval(TURN)
    # A user's own `package.module:factory` lies beside the data; last on the path, it cannot hide a library.
    sys.path.append(os.getcwd())
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(options))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop where it is installed (`pip install p2pml[fast]`), else asyncio's own."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


async def _run(options: PeerOptions) -> None:
    name = options.name or default_name(options)
    for flag, text in (("--name", name), ("--cluster", options.cluster)):
        if not text.isprintable() or not 0 < len(text.encode()) <= NAME_LIMIT:
            raise BadInput(f"{flag} {text!r} must be of 1 to {NAME_LIMIT} bytes of printable text; choose another")
    store = Store(options.state or default_folder(options.cluster, name, options.data))
    try:
        peer = Peer(options, store)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_mishap)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, peer.stop)
        await peer.start()
        settling = loop.create_task(_settle(peer))
        try:
            await peer.stopped()
        finally:
            settling.cancel()
            await peer.close()
    finally:
        store.close()


async def _settle(peer: Peer) -> None:
    """Once there is a model, take what has been made by then out of the collector's sight, as it lives as long as the
    peer: a collection then takes a millisecond or two, for which some answer waits, and not ten."""
    await peer.fitting.settled()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)


def _log_mishap(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited: a line in the log, without the inside of the program."""
    error = context.get("exception")
    log.error("something went wrong inside", what=context["message"], why=f"{type(error).__name__}: {error}")
