"""How many questions one answer costs, with sums of votes and without: `python tests/benchmarks/serving/relays.py`.

First counts, of the real polling of so many peers in one process, over no network. Then what asking so many peers costs
whoever is asked over real links, to one other process that stands for all of them: from where on sums pay.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import numpy as np
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[2]))
from town import Town, plan

from p2pml.gossip import Member, Status
from p2pml.peer import relaying
from p2pml.peer.adding import Partial
from p2pml.peer.answering import Answering, Handler
from p2pml.peer.ballots import Ballot, PackedQuestion, SumQuestion, ballots_data
from p2pml.peer.frames import PATH, Question
from p2pml.peer.polling import Polling
from p2pml.peer.wire import PeerWire

PEERS = (30, 100, 300, 1000)
ASKED = (4, 9, 16, 25, 36, 64, 100)
ROUNDS = 200
HOW = plan("auto")


async def count() -> None:
    print("| peers | replicas | asked, one by one | asked, with sums | most that another asks | all questions |")
    print("|---|---|---|---|---|---|")
    for peers in PEERS:
        for replicas in (2, 0):
            me, plain, town = f"{peers // 2:032x}", Town(peers, replicas=replicas), Town(peers, replicas=replicas)
            one_by_one, summed = await plain.answer(me, HOW, add=False), await town.answer(me, HOW)
            assert one_by_one.votes["cast"] == summed.votes["cast"] == peers
            assert np.abs(np.asarray(one_by_one.answer.probabilities) - summed.answer.probabilities).max() < 1e-9
            others = max((asked for id, asked in town.by.items() if id != me), default=0)
            print(f"| {peers} | {replicas} | {plain.by[me]} | {town.by[me]} | {others} | {town.by.total()} |")


def stand_in(peers: int, where: Connection) -> None:
    """All peers but the asker, in a process of their own, which says its port."""
    ballots = Town(peers, rows=1).ballots

    def votes(body: bytes, seconds: float) -> bytes:
        asked = msgspec.msgpack.decode(body, type=PackedQuestion)
        return msgspec.msgpack.encode(ballots_data([ballots[each.owner] for each in asked.models]))

    def sums(body: bytes, seconds: float) -> bytes:
        asked = msgspec.msgpack.decode(body, type=SumQuestion)
        cast: list[tuple[Ballot, str]] = [(ballots[each.owner], each.owner) for each in asked.models]
        return msgspec.msgpack.encode(Partial.of(cast, asked.adding).to_data())

    async def never(body: bytes, seconds: float) -> bytes:
        raise AssertionError("all is answered at once")

    async def serve() -> None:
        app = web.Application()
        handlers: dict[int, Handler] = {Question.VOTE: Handler(never, votes), Question.SUM: Handler(never, sums)}
        app.router.add_get(PATH, Answering(handlers).link, allow_head=False)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        where.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


async def measure(asked: int, wide: int, port: int) -> tuple[float, float]:
    """Of an answer that `asked` others have a vote in: the median of its ms, and this process's ms of processor."""
    relaying.WIDE = wide
    town = Town(asked + 1, rows=1, replicas=0)
    me = f"{asked:032x}"
    town.members = {
        id: Member(id, member.name, ("127.0.0.1", port), Status.ALIVE, 1, 0) for id, member in town.members.items()
    }
    roll = town.roll(me)
    async with aiohttp.ClientSession() as session:
        wire = PeerWire(session, lambda member, path, took: None)
        double: Any = town.pollings[me]
        polling = Polling(me, *cast(Any, (double._colleagues, double._voting, wire, double._reach)))
        took = []
        for at in range(ROUNDS + 20):
            if at == 20:
                began = time.process_time()
            start = time.perf_counter()
            heard = await polling.hear(roll, town.rows, 1, 5.0, HOW.space, adding=HOW.adding)
            took.append(time.perf_counter() - start)
            assert heard.votes["cast"] == asked + 1
        cpu = (time.process_time() - began) / ROUNDS
        await wire.close()
    return 1e3 * statistics.median(took[20:]), 1e3 * cpu


def main() -> None:
    asyncio.run(count())
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=stand_in, args=(max(ASKED) + 1, there), daemon=True)
    process.start()
    port = here.recv()
    print("\n| others asked | one by one, ms | cpu | through √, both hops, ms | cpu of the asker |")
    print("|---|---|---|---|---|")
    for asked in ASKED:
        flat, cpu = asyncio.run(measure(asked, asked, port))
        first, less = asyncio.run(measure(asked, 0, port))
        second, _ = asyncio.run(measure(max(1, round(asked**0.5) - 1), asked, port))
        print(f"| {asked} | {flat:.2f} | {cpu:.2f} | {first + second:.2f} | {less:.2f} |")
    process.terminate()


if __name__ == "__main__":
    main()
