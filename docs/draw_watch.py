"""Draws docs/watch.svg from a real run: `python docs/draw_watch.py`, in an environment with the extra `test`.

Four peers on 127.0.0.1 train on handwritten digits, are asked, scored and retrained; one is killed.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import tempfile
from contextlib import ExitStack, aclosing
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from running import RealPeer, all_vote, call, soon

from p2pml.cli.screen import screen
from p2pml.cli.watching import View
from p2pml.peer.client import PeerClient

PICTURE = Path(__file__).resolve().parent / "watch.svg"
NAMES = ("north", "east", "south", "west")
WIDTH, HEIGHT = 96, 24


def write_parts(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """A part for each name, and some digits to ask about that nobody trains on."""
    digits = load_digits()
    names = [f"pixel_{number}" for number in range(64)]
    rows = [[*map(float, image), int(digit)] for image, digit in zip(digits.data, digits.target, strict=True)]
    parts = []
    for number, name in enumerate(NAMES):
        parts.append(folder / f"{name}.csv")
        with open(parts[-1], "w", newline="") as file:
            csv.writer(file).writerows([[*names, "digit"], *rows[40 + number :: 4]])
    return parts, {"columns": names, "data": [row[:-1] for row in rows[:40]]}


async def story(peers: list[RealPeer], view: View, questions: dict[str, Any]) -> None:
    """What happens until the picture is taken: amid the second training, with one peer dead."""

    async def ask(number: int, path: str, body: object) -> None:
        await asyncio.to_thread(call, peers[number].address, path, body)

    def happened(words: str, times: int = 1) -> bool:
        return sum(words in line.words for line in view.happened) >= times

    for number in range(12):
        await ask(number % 4, "/v1/predict", questions)
    await ask(0, "/v1/evaluate", {})
    await soon(lambda: happened("epoch 0"), "the first score")
    await ask(1, "/v1/fit", {"model": "extra-trees"})
    await soon(lambda: happened(" trained ", 4), "all retrained")
    await ask(0, "/v1/evaluate", {})
    peers[3].kill()
    for _ in range(12):
        await ask(0, "/v1/predict", questions)
    await soon(lambda: happened("is dead"), "one is dead")
    for _ in range(12):
        await ask(0, "/v1/predict", questions)
    await asyncio.sleep(6)  # until the pulses of the others tell how long they trained
    await ask(1, "/v1/fit", {"wait": False})
    await soon(lambda: len(view.trainings) == 3, "three train")
    await asyncio.sleep(5)  # so that there is something to see of it


async def picture(peers: list[RealPeer], questions: dict[str, Any]) -> str:
    """The screen at the end of the story, as SVG."""
    view = View()
    view.address = peers[0].address
    host, _, port = peers[0].address.partition(":")

    async def listen() -> None:
        async with PeerClient((host, int(port))) as client, aclosing(client.events()) as events:
            async for event in events:
                view.fold(event)

    listening = asyncio.create_task(listen())
    await soon(lambda: view.rows, "the stream began")
    await story(peers, view, questions)
    listening.cancel()
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(screen(view, WIDTH, HEIGHT, 0.5))
    return console.export_svg(title="p2pml watch")


def main() -> None:
    """Run the peers and write the picture."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        parts, questions = write_parts(Path(folder))
        peers: list[RealPeer] = []
        for part in parts:
            join = ["--join", peers[0].address] if peers else []
            peer = RealPeer(part, Path(folder), "--no-mdns", *join, cluster="digits")
            stack.callback(peer.end)
            peers.append(peer.start())
        asyncio.run(soon(lambda: all(all_vote(peer, len(peers)) for peer in peers), "all peers vote"))
        PICTURE.write_text(asyncio.run(picture(peers, questions)), encoding="utf-8")


if __name__ == "__main__":
    main()
