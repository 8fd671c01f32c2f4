"""An asyncio loop in virtual time: where nothing is ready, the clock jumps to what is due next.

Programs run on it unmodified. Each belongs to a `Process`, carried by a context variable into every task and
callback that it makes, so that it can be stopped between two steps like a real one: what becomes ready
meanwhile waits. Threads run inline and take virtual time; what would leave virtual time is refused.

This is the one file that uses private names of asyncio (`_run_once`, `_ready`, `_scheduled`, the fields of a
handle); tests/test_parity.py holds its behaviour to that of a real loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import socket
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")

THREAD = 0.001
"""Virtual seconds that a call in a thread takes, on a machine of usual speed."""
MANY = 100
"""Cancelled timers that may lie in the heap before it is tidied, if they are also half of it."""
INSTANT = 100_000
"""Rounds of the loop without time passing after which it is said to spin."""


class Refused(RuntimeError):
    """A program asked for something that cannot be had in virtual time."""


class Spinning(RuntimeError):
    """The programs keep each other busy while no time passes, or wait for something that is never due."""


class Process:
    """One run of a program. `slowness` multiplies the time that its threads take; `ahead` is how many seconds its
    wall clock is before the others', and `rate` how many times as fast all its clocks run, where it is skewed."""

    def __init__(self, name: str) -> None:
        """Run."""
        self.name = name
        self.slowness = self.rate = 1.0
        self.ahead = 0.0
        self.skewed = self.stopped = False
        self.held: list[asyncio.Handle] = []
        self._since = (0.0, 0.0)

    def skew(self, now: float, rate: float) -> None:
        """Let the clocks run so many times as fast from the virtual time `now` on; they never step."""
        self._since, self.rate, self.skewed = (now, self.clock(now)), rate, True

    def clock(self, now: float) -> float:
        """What its clock says at a virtual time."""
        since, then = self._since
        return then + (now - since) * self.rate

    def due(self, when: float) -> float:
        """The virtual time at which its clock will say `when`."""
        since, then = self._since
        return since + (when - then) / self.rate

    def context(self) -> Context:
        """Make a context whose callbacks and tasks belong to this process."""
        context = Context()
        context.run(PROCESS.set, self)
        return context


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Numbered:
    """Hashes by the order of making, so that sets of tasks and futures are iterated alike in every run."""

    _number: int

    def __hash__(self) -> int:
        """Use a number that no address has a part in."""
        return self._number


class _Future(Numbered, asyncio.Future[Any]):
    def __init__(self, loop: VirtualLoop) -> None:
        self._number = next(loop.numbers)
        super().__init__(loop=loop)


class _Task(Numbered, asyncio.Task[Any]):
    def __init__(self, coro: Coroutine[Any, Any, Any], loop: VirtualLoop, **how: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coro, loop=loop, **how)
        self.process = PROCESS.get() if (context := how.get("context")) is None else context.get(PROCESS)


Due = tuple[float, int, asyncio.TimerHandle]
"""When a timer is due, how many were made before it, and itself: of two at one time the first made is the first."""


class VirtualLoop(base_events.BaseEventLoop):
    """Virtual time from 0 s on; hosts that are ready at the same instant take turns in an order drawn from `rng`."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[Due]
    _timer_cancelled_count: int

    def __init__(self, rng: random.Random) -> None:
        """Stand at 0 s."""
        super().__init__()
        self.set_debug(False)
        self._rng = rng
        self.now = 0.0
        """The virtual time in s, whatever the clock of any process says."""
        self._rounds = 0
        self.numbers = itertools.count()
        self.stopped: dict[Process, None] = {}
        """The processes that take no step, in the order of their stopping."""
        self.set_task_factory(_task)  # type: ignore[arg-type]

    def time(self) -> float:
        """The virtual time in s, as the clock of the running process has it."""
        process = PROCESS.get()
        return self.now if process is None or not process.skewed else process.clock(self.now)

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future that hashes by a number."""
        return _Future(self)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Arrange a call in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Arrange a call at a time in s, by the clock of the process that is called."""
        process = PROCESS.get() if context is None else context.get(PROCESS)
        due = process.due(when) if process is not None and process.skewed else when
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True  # type: ignore[attr-defined]
        heapq.heappush(self._scheduled, (due, next(self.numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Arrange a call after so many seconds by that clock."""
        process = PROCESS.get() if context is None else context.get(PROCESS)
        now = self.now if process is None or not process.skewed else process.clock(self.now)
        return self.call_at(now + delay, callback, *args, context=context)

    # Processes.

    def stop_process(self, process: Process) -> None:
        """Let a process take no further step."""
        process.stopped = True
        self.stopped[process] = None

    def continue_process(self, process: Process) -> None:
        """Let it go on: what its sockets have comes first, then the timers that came due meanwhile, by their times."""
        process.stopped = False
        self.stopped.pop(process, None)
        held, process.held = process.held, []
        timers = [handle for handle in held if isinstance(handle, asyncio.TimerHandle)]
        timers.sort(key=lambda timer: timer.when())
        self._ready.extend(handle for handle in held if not isinstance(handle, asyncio.TimerHandle))
        self._ready.extend(timers)

    def tasks_of(self, process: Process) -> list[asyncio.Task[Any]]:
        """List the unfinished tasks of a process, oldest first."""
        mine = (task for task in asyncio.all_tasks(self) if isinstance(task, _Task) and task.process is process)
        return sorted(mine, key=hash)

    # One round.

    def _run_once(self) -> None:
        if not self._ready:
            self._jump()
        ready, scheduled, now = self._ready, self._scheduled, self.now
        while scheduled and scheduled[0][0] <= now:
            due = heapq.heappop(scheduled)[2]
            due._scheduled = False  # type: ignore[attr-defined]
            ready.append(due)
        self._rounds += 1
        if self._rounds > INSTANT:
            raise Spinning(f"no time has passed since {self.now:.6f} s, yet something is always ready")
        if len(ready) == 1:
            self._step(ready.popleft())
            return
        batch = list(ready)
        ready.clear()
        for handle in self._interleave(batch):
            self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        """Run a callback, or keep it for when its process goes on."""
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.stopped:
            process.held.append(handle)
        else:
            handle._run()

    def _jump(self) -> None:
        """Go to the time of the first timer that was not cancelled."""
        if self._timer_cancelled_count > max(MANY, len(self._scheduled) / 2):
            self._scheduled = [due for due in self._scheduled if not due[2].cancelled()]
            heapq.heapify(self._scheduled)
            self._timer_cancelled_count = 0
        scheduled = self._scheduled
        while scheduled and scheduled[0][2]._cancelled:
            heapq.heappop(scheduled)
            self._timer_cancelled_count -= 1
        if not scheduled:
            raise Spinning(f"nothing is due any more after {self.now:.6f} s, yet something is waited for")
        self._rounds = 0
        self.now = max(self.now, scheduled[0][0])

    def _interleave(self, batch: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """Shuffle the turns of the processes; within one, the order stays."""
        turns: dict[Process | None, list[asyncio.Handle]] = {}
        for handle in batch:
            turns.setdefault(handle._context.get(PROCESS), []).append(handle)  # type: ignore[attr-defined]
        if len(turns) == 1:
            return batch
        order = list(turns.values())
        self._rng.shuffle(order)
        return [handle for turn in order for handle in turn]

    def _write_to_self(self) -> None:
        """Wake nobody: there is no other thread."""

    # Threads run inline.

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call `func` after the virtual time that it takes; a result nobody awaits any more is dropped."""
        future = self.create_future()
        process = PROCESS.get()
        self.call_later(THREAD * (process.slowness if process else 1.0), _call, future, func, args)
        return cast("asyncio.Future[T]", future)

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Do nothing: signals are operations of the simulation."""

    def remove_signal_handler(self, sig: int) -> bool:
        """Do nothing."""
        return False

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Resolve addresses that are written out; no name exists."""
        try:
            socket.inet_aton(host)
        except (OSError, TypeError) as error:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from error
        return [(socket.AF_INET, type or socket.SOCK_STREAM, proto, "", (host, int(port or 0)))]

    async def subprocess_exec(self, *args: Any, **how: Any) -> NoReturn:
        """Refuse: a process would live in real time."""
        raise Refused("a subprocess cannot run in virtual time")

    async def subprocess_shell(self, *args: Any, **how: Any) -> NoReturn:
        """Refuse likewise."""
        raise Refused("a subprocess cannot run in virtual time")


def _task(loop: VirtualLoop, coro: Coroutine[Any, Any, Any], **how: Any) -> _Task:
    return _Task(coro, loop, **how)


def _call(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = func(*args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 (a thread hands on whatever its function raised)
        if not future.cancelled():
            future.set_exception(error)
    else:
        if not future.cancelled():
            future.set_result(result)
