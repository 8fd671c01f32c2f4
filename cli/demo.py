"""`p2pml demo`: real peers on this machine that answer as one, also when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pml.errors import NoVotes, RemoteError
from p2pml.peer.totals import Tally

from .options import examples, option
from .show import Say, number, progress, table

if TYPE_CHECKING:
    from p2pml.peer.answers import Predicted

    from .demo_data import Digits
    from .processes import PeerProcess, Processes

LOOPBACK = "127.0.0.1"

PATIENCE = 45.0
"""Seconds for all peers to start, meet and train: three times what two slow cores need for four."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at how far the peers are."""

SHOWN = 10
"""Predictions that are shown beside the truth."""


@click.command(epilog=examples("p2pml demo", "p2pml demo --peers 6 --keep"))
@option("--peers", type=click.IntRange(2, 16), default=4, show_default=True, help="How many peers to start.")
@option("--keep", is_flag=True, help="Leave the peers running, and say how to ask and how to stop them.")
def demo(peers: int, keep: bool) -> None:
    """See it work: real peers on this machine, each with its own rows, and one that is killed.

    The rows are handwritten digits that come with scikit-learn. Everything stays on 127.0.0.1 and in a
    temporary folder, and nothing is left running.
    """
    # Peers share this machine's cores, and threads of several that wait for each other slow all down twentyfold.
    os.environ["OMP_NUM_THREADS"] = "1"
    from . import demo_data
    from .processes import Processes

    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="p2pml-demo-"))
    names = [f"peer-{at}" for at in range(1, peers + 1)]
    # Undone in the opposite order: the peers end before their files go.
    with _ends_on_signals(), ExitStack() as tidy, Processes(f"demo-{secrets.token_hex(3)}", folder) as processes:
        tidy.callback(shutil.rmtree, folder, ignore_errors=True)
        with progress("cutting the data"):
            digits = demo_data.load()
            parts = demo_data.write_parts(digits, names, folder)
        asyncio.run(Story(processes, digits, parts).tell())
        if keep:
            demo_data.write(folder / "new.csv", digits.questions())
            processes.keep()
            tidy.pop_all()
            _say_how(processes, folder)
    ending = "" if keep else "; nothing is left running"
    print(f"\nThat took {time.monotonic() - began:.0f} s{ending}.")


class Story:
    """What happens once the peers are started, told as it happens."""

    def __init__(self, processes: Processes, digits: Digits, parts: dict[str, Path]) -> None:
        self._processes = processes
        self._digits = digits
        self._parts = parts
        self._questions = digits.questions()
        self._truth = digits.unseen[digits.schema.target]

    async def tell(self) -> None:
        """From the first meeting to the answer without the peer that was killed."""
        began = time.monotonic()
        self._processes.start(self._parts)
        peers = self._processes.peers
        with progress("peers start") as say:
            await self._until_ready(say)
            took = time.monotonic() - began
            say("training one model on all rows, for comparison")
            centre = await asyncio.to_thread(self._digits.score_of_one_model)
        print(f"{len(peers)} peers found each other and trained, each on rows of its own, in {took:.0f} s.\n")
        answer = await self._predict(peers[0])
        self._show_predictions(answer)
        await self._show_scores(answer, centre)
        victim, other = peers[1], peers[-1] if len(peers) > 2 else peers[0]
        victim.kill()
        print(f"\n{victim.name} was just killed with SIGKILL.\n")
        answer = await self._predict(other)
        for stood_in in answer["votes"].get("replicas", []):
            if stood_in["name"] == victim.name:
                print(f"{victim.name}'s vote came from a replica of its model, at {stood_in['by']}.")
        print(f"The ensemble's accuracy now: {number(self._accuracy(answer))}.")

    async def _until_ready(self, say: Say) -> None:
        """Wait until every peer sees every other one, with a model that votes and that others hold."""
        peers = self._processes.peers
        end = time.monotonic() + PATIENCE
        while True:
            self._processes.check()
            seen = await asyncio.gather(*(self._sees(peer) for peer in peers))
            met, ready = min(alive for alive, _ in seen), min(voting for _, voting in seen)
            if ready == len(peers):
                return
            say(f"peers meet ({met} of {len(peers)}) and train ({ready} of {len(peers)})")
            if time.monotonic() > end:
                raise NoVotes(f"The peers did not get ready within {PATIENCE:g} s; is the machine very busy?")
            await asyncio.sleep(LOOK_AGAIN)

    async def _sees(self, peer: PeerProcess) -> tuple[int, int]:
        """How many living peers one peer sees, and how many of them can vote."""
        from p2pml.peer.client import PeerClient

        try:
            async with PeerClient(peer.address, LOOPBACK) as client:
                rows = [row for row in (await client.peers())["peers"] if row["status"] == "alive"]
        except RemoteError:
            return 0, 0
        ready = [row for row in rows if (row.get("model") or {}).get("state") == "ready"]
        # A model that others hold outlives its peer.
        return len(rows), sum(bool(row.get("held_by")) or len(self._parts) == 1 for row in ready)

    async def _predict(self, peer: PeerProcess) -> Predicted:
        from p2pml.peer.client import PeerClient

        began = time.monotonic()
        async with PeerClient(peer.address, LOOPBACK) as client:
            answer = await client.predict(self._questions)
        tally = Tally()
        tally.add(answer["votes"])
        took = (time.monotonic() - began) * 1000
        print(f"{peer.name} was asked about {len(self._truth)} digits that nobody trained on.")
        print(f"It answered in {took:.0f} ms with {tally}.\n")
        return answer

    def _accuracy(self, answer: Predicted) -> float:
        right = sum(str(label) == true for label, true in zip(answer["predictions"], self._truth, strict=True))
        return right / len(self._truth)

    def _show_predictions(self, answer: Predicted) -> None:
        print("  predicted ", *answer["predictions"][:SHOWN], "…")
        print("  the truth ", *self._truth[:SHOWN], "…\n")

    async def _show_scores(self, answer: Predicted, centre: float) -> None:
        """The scores of each peer alone, of the ensemble, and of one model on all rows."""
        from p2pml.ensemble.vote import Vote
        from p2pml.peer.client import PeerClient

        rows: list[list[object]] = []
        for peer in self._processes.peers:
            async with PeerClient(peer.address, LOOPBACK) as client:
                ballot = await client.vote(self._questions)
            vote = Vote.from_data(ballot["vote"], len(self._truth))
            rows.append([f"{peer.name} alone", ballot["rows"], self._digits.score(self._digits.unseen, vote)])
        cast = answer["votes"]["cast"]
        rows.append([f"the ensemble of {cast}", sum(int(str(row[1])) for row in rows), self._accuracy(answer)])
        rows.append(["one model on all rows", len(self._digits.rows[self._digits.schema.target]), centre])
        table(["who predicts", "trained on rows", "accuracy"], rows)


def _say_how(processes: Processes, folder: Path) -> None:
    """How to ask the peers that were kept, and how to stop them."""
    where = f"--cluster {processes.cluster} --host {LOOPBACK} --join {LOOPBACK}:{processes.peers[0].port}"
    running = " ".join(str(peer.process.pid) for peer in processes.peers if peer.process.poll() is None)
    print(
        f"\nThe peers go on. Ask them:\n\n  p2pml peers {where}\n  p2pml predict {folder}/new.csv {where}\n\n"
        f"and stop them:\n\n  kill {running}; rm -r {folder}"
    )


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the demo as Ctrl-C does: in order."""

    def end(number: int, frame: object) -> None:
        # asyncio ends its tasks in order on this signal, but not on an exception from a handler.
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell that starts a job in the background has it ignore SIGINT, and then raising it would do nothing.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
