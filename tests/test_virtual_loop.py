"""Laws of virtual time: what passes, who takes a turn, what is refused, and what the network does to sockets."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from p2pml.simulations.cluster import PORT
from p2pml.simulations.kernel import NetworkedLoop
from p2pml.simulations.loop import Process, Refused, Spinning
from p2pml.simulations.sandbox import EPOCH, sandbox
from p2pml.simulations.sockets import DATAGRAM_BUFFER

ONE, OTHER = ("10.0.0.1", PORT), ("10.0.0.2", PORT)


class World:
    """A loop with its kernel; programs are started in processes of their own."""

    def __init__(self, seed: int = 0) -> None:
        self.loop = NetworkedLoop(seed)
        self.kernel, self.network = self.loop.kernel, self.loop.kernel.network
        self.seed = seed

    def start(self, work: Coroutine[Any, Any, Any], name: str = "program") -> tuple[Process, asyncio.Task[Any]]:
        process = Process(name)
        return process, self.loop.create_task(work, context=process.context())

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        try:
            with sandbox(self.loop, self.seed):
                return self.loop.run_until_complete(main)
        finally:
            self.loop.close()


class Log(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes what it hears and when, and answers nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.heard: list[tuple[float, bytes]] = []
        self.lost: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append((self.loop.time(), data))

    def datagram_received(self, data: bytes, source: Any) -> None:
        self.heard.append((self.loop.time(), data))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(type(error).__name__)


async def serve(world: World, log: Log) -> None:
    """Listen at OTHER for ever."""
    await world.loop.create_server(lambda: log, *OTHER)
    await asyncio.Event().wait()


async def connect(world: World, log: Log) -> Any:
    """Connect from ONE's machine to OTHER."""
    sock = socket.socket()
    sock.bind((ONE[0], 0))
    await world.loop.sock_connect(sock, OTHER)
    transport, _ = await world.loop.create_connection(lambda: log, sock=sock)
    return transport


def connected(behaviour: Callable[[World, Process, Any, Log, Log], Coroutine[Any, Any, Any]], seed: int = 0) -> Any:
    """Run `behaviour` with a connection from ONE to a process at OTHER."""
    world = World(seed)

    async def main() -> Any:
        mine, theirs = Log(world.loop), Log(world.loop)
        process, _ = world.start(serve(world, theirs))
        await asyncio.sleep(0.01)
        return await behaviour(world, process, await connect(world, mine), mine, theirs)

    return world.run(main())


def test_a_day_passes_at_once() -> None:
    """Where nothing is ready, the clock jumps, and every clock that a program may read goes with it."""

    async def day() -> tuple[float, ...]:
        await asyncio.sleep(86_400)
        loop = asyncio.get_running_loop()
        return loop.time(), time.monotonic(), time.perf_counter(), time.time() - EPOCH

    clock = time.process_time()
    assert World().run(day()) == (86_400,) * 4
    assert time.process_time() - clock < 5
    assert time.time() > EPOCH + 86_400, "the real clock is back"


def test_what_would_leave_virtual_time_is_refused() -> None:
    """Threads, subprocesses and sleeping for real."""

    async def leave() -> None:
        with pytest.raises(Refused):
            threading.Thread(target=int).start()
        with pytest.raises(Refused):
            time.sleep(0)  # noqa: ASYNC251 (that it is refused is the point)
        with pytest.raises(Refused):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(OSError, match="unreachable"):
            socket.socket().connect(("127.0.0.1", 1))

    World().run(leave())


def test_chance_comes_from_the_seed_even_where_the_system_is_asked() -> None:
    """What reads os.urandom repeats with the seed."""

    async def chances() -> tuple[bytes, int]:
        return os.urandom(8), random.SystemRandom().getrandbits(64)

    assert World(1).run(chances()) == World(1).run(chances()) != World(2).run(chances())


def test_a_thread_takes_the_time_of_its_machine() -> None:
    """It runs inline, and on a slow machine its result comes later."""

    async def threads() -> float:
        await asyncio.to_thread(int)
        return asyncio.get_running_loop().time()

    world = World()
    process, task = world.start(threads())
    process.slowness = 50.0
    usual = World().run(threads())

    async def main() -> Any:
        return await task

    assert world.run(main()) == pytest.approx(50 * usual)


def test_endless_work_and_endless_waiting_are_told() -> None:
    """A loop that spins while no time passes, and one that nothing will ever wake."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 (spinning is the point)
            await asyncio.sleep(0)

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    for work in (spin, wait):
        world = World()
        task = world.loop.create_task(work())
        with pytest.raises(Spinning):
            world.loop.run_until_complete(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        world.loop.close()


def test_sets_of_tasks_are_iterated_in_the_order_of_their_making() -> None:
    """asyncio keeps tasks in sets, and addresses would order them otherwise in each run."""

    async def order() -> list[int]:
        tasks = [asyncio.ensure_future(asyncio.sleep(0, number)) for number in range(20)]
        done, _ = await asyncio.wait(tasks)
        return [task.result() for task in done]

    filler = [object() for _ in range(1000)]
    first = World().run(order())
    del filler[::3]
    assert World().run(order()) == first


def test_processes_take_turns_as_the_seed_says_and_keep_their_own_order() -> None:
    """What is ready at the same instant is shuffled between processes, never within one."""

    def turns(seed: int) -> list[tuple[int, int]]:
        world, said = World(seed), list[tuple[int, int]]()

        async def program(number: int) -> None:
            await asyncio.sleep(1)
            for step in range(3):
                asyncio.get_running_loop().call_soon(said.append, (number, step))

        async def main() -> None:
            for number in range(4):
                world.start(program(number))
            await asyncio.sleep(2)

        world.run(main())
        return said

    orders = {tuple(turns(seed)) for seed in range(8)}
    assert len(orders) > 1
    assert turns(3) == turns(3)
    for order in orders:
        for number in range(4):
            assert [step for which, step in order if which == number] == [0, 1, 2]


def test_a_paused_process_reads_its_sockets_before_its_late_timers() -> None:
    """As a stopped one does when it goes on: what came meanwhile is there, and every timer is late."""
    world = World()
    said: list[object] = []

    class Reader(Log):
        def datagram_received(self, data: bytes, source: Any) -> None:
            said.append(data)

    async def program() -> None:
        await world.loop.create_datagram_endpoint(lambda: Reader(world.loop), local_addr=OTHER)
        for delay in (2.0, 1.0):
            world.loop.call_later(delay, said.append, delay)

    async def main() -> float:
        process, _ = world.start(program())
        await asyncio.sleep(0.5)
        sender, _ = await world.loop.create_datagram_endpoint(lambda: Log(world.loop), local_addr=ONE)
        world.loop.stop_process(process)
        sender.sendto(b"hello", OTHER)
        await asyncio.sleep(5)
        assert said == []
        world.loop.continue_process(process)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return world.loop.time()

    assert world.run(main()) == 5.5
    assert said == [b"hello", 1.0, 2.0]


def test_datagrams_wait_for_a_paused_process_as_far_as_its_buffer_goes() -> None:
    """The rest is lost."""
    world = World()
    log = Log(world.loop)

    async def program() -> None:
        await world.loop.create_datagram_endpoint(lambda: log, local_addr=OTHER)

    async def main() -> None:
        process, _ = world.start(program())
        await asyncio.sleep(0.1)
        sender, _ = await world.loop.create_datagram_endpoint(lambda: Log(world.loop), local_addr=ONE)
        world.loop.stop_process(process)
        for _ in range(500):
            sender.sendto(b"x" * 1000, OTHER)
        await asyncio.sleep(1)
        world.loop.continue_process(process)
        await asyncio.sleep(1)

    world.run(main())
    assert len(log.heard) == DATAGRAM_BUFFER // 1000


def test_a_killed_process_takes_no_step_and_its_kernel_closes_its_sockets() -> None:
    """The other end hears the end of the stream, and the port refuses and is free."""

    async def kill(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.kernel.kill(process)
        transport.write(b"too late")
        await asyncio.sleep(1)
        assert mine.lost == ["NoneType"]
        assert theirs.heard == []
        with pytest.raises(ConnectionRefusedError):
            await connect(world, Log(world.loop))
        world.start(serve(world, Log(world.loop)))
        await asyncio.sleep(0.1)
        assert await connect(world, Log(world.loop))

    connected(kill)


def test_a_stopped_process_is_connected_to_and_says_nothing() -> None:
    """Its kernel accepts for it: the caller learns of it by its own deadline alone."""

    async def stop(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.loop.stop_process(process)
        late = Log(world.loop)
        (await connect(world, late)).write(b"are you there?")
        await asyncio.sleep(60)
        assert (theirs.heard, late.lost) == ([], [])
        world.loop.continue_process(process)
        await asyncio.sleep(1)
        assert [data for _, data in theirs.heard] == [b"are you there?"]

    connected(stop)


def test_a_stream_over_a_lossy_link_arrives_whole_and_in_order() -> None:
    """What is lost is sent again, and what comes after it waits."""

    async def lose(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.network.conditions = replace(world.network.conditions, loss=0.3)
        for number in range(100):
            transport.write(b"%d," % number)
        await asyncio.sleep(600)
        assert b"".join(data for _, data in theirs.heard) == b"".join(b"%d," % number for number in range(100))
        assert theirs.heard[-1][0] > 0.2

    connected(lose)


def test_a_cut_is_one_way_and_a_stream_outlives_it() -> None:
    """The other direction goes on; after the healing the rest arrives with the next attempt."""

    async def cut(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.network.cut([ONE], [OTHER])
        transport.write(b"delayed")
        theirs.transport.write(b"passes")
        await asyncio.sleep(10)
        assert (theirs.heard, [data for _, data in mine.heard]) == ([], [b"passes"])
        world.network.heal()
        await asyncio.sleep(30)
        assert [data for _, data in theirs.heard] == [b"delayed"]

    connected(cut)


def test_a_connection_through_a_cut_is_asked_for_until_it_heals() -> None:
    """A caller waits as long as it likes, and the request that passes connects it."""
    world = World()

    async def main() -> float:
        world.start(serve(world, Log(world.loop)))
        world.network.cut([OTHER], [ONE])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect(world, Log(world.loop)), 5)
        world.loop.call_later(10, world.network.heal)
        await connect(world, Log(world.loop))
        return world.loop.time()

    assert 15 < world.run(main()) < 40


def test_a_torn_connection_breaks_in_the_middle_of_its_next_data() -> None:
    """Half arrives, and both ends hear of the reset."""

    async def tear(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.kernel.tear(OTHER[0])
        transport.write(b"0123456789")
        await asyncio.sleep(1)
        assert [data for _, data in theirs.heard] == [b"01234"]
        assert mine.lost == theirs.lost == ["ConnectionResetError"]

    connected(tear)


def test_the_same_seed_leaves_the_same_trace() -> None:
    """And another seed another one."""

    async def talk(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> str:
        for _ in range(5):
            transport.write(b"hello")
            await asyncio.sleep(0.1)
        return world.kernel.trace

    assert connected(talk, 1) == connected(talk, 1) != connected(talk, 2)


def test_a_skewed_clock_runs_as_it_is_told_and_never_steps() -> None:
    """Its process waits less or more virtual time, and no other does."""
    world = World()
    said: list[float] = []

    async def program() -> None:
        for _ in range(2):
            await asyncio.sleep(2)
            said.extend((world.loop.time(), world.loop.now))

    async def main() -> None:
        process, _ = world.start(program())
        await asyncio.sleep(1)
        process.skew(world.loop.now, 2.0)
        await asyncio.sleep(9)

    world.run(main())
    # What was arranged before keeps its moment; from then on two seconds by that clock are one.
    assert said == pytest.approx([3.0, 2.0, 5.0, 3.0])


def test_a_wall_clock_jumps_for_its_own_process_alone() -> None:
    """Timers do not: they go by another clock."""
    world = World()

    async def program() -> tuple[float, float]:
        await asyncio.sleep(2)
        return time.time() - EPOCH, time.monotonic()

    async def main() -> tuple[tuple[float, float], float]:
        process, task = world.start(program())
        process.ahead += 1000
        return await task, time.time() - EPOCH

    assert world.run(main()) == ((1002, 2), 2)


def test_a_mute_host_is_connected_to_and_is_not_heard() -> None:
    """It hears what it is told, and what it says meanwhile is lost for good."""

    async def mute(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.kernel.rates[OTHER[0]] = 0.0
        theirs.transport.write(b"lost")
        transport.write(b"heard")
        await asyncio.sleep(10)
        del world.kernel.rates[OTHER[0]]
        theirs.transport.write(b"again")
        await asyncio.sleep(10)
        assert [[data for _, data in log.heard] for log in (theirs, mine)] == [[b"heard"], [b"again"]]

    connected(mute)


def test_a_slow_speaker_says_so_many_bytes_a_second() -> None:
    """As a slow-loris does."""

    async def drip(world: World, process: Process, transport: Any, mine: Log, theirs: Log) -> None:
        world.kernel.rates[ONE[0]] = 8.0
        began = world.loop.now
        transport.write(b"x" * 40)
        await asyncio.sleep(60)
        assert sum(len(data) for _, data in theirs.heard) == 40
        assert theirs.heard[-1][0] - began == pytest.approx(5, abs=0.3)

    connected(drip)


def test_datagrams_can_be_sent_once_more() -> None:
    """Those that a machine sent last."""
    world = World()
    log = Log(world.loop)

    async def main() -> None:
        world.kernel.kept = {}
        await world.loop.create_datagram_endpoint(lambda: log, local_addr=OTHER)
        sender, _ = await world.loop.create_datagram_endpoint(lambda: Log(world.loop), local_addr=ONE)
        sender.sendto(b"once", OTHER)
        await asyncio.sleep(1)
        world.kernel.resend(ONE[0])
        await asyncio.sleep(1)

    world.run(main())
    assert [data for _, data in log.heard] == [b"once", b"once"]
