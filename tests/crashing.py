"""Kill a process with SIGKILL while it writes its state folder, again and again, and hold the folder to its law.

`python tests/crashing.py 1000` does it a thousand times. The process is forked, and runs the store's own code: it
writes documents and large bodies, puts replicas on its shelf and takes them down. Through a pipe it acknowledges each
write once it has returned. Whatever the moment of its death: the folder opens, every file verifies, and nothing that
was acknowledged is gone.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path

from p2pml.peer.inspecting import SOUND, inspect
from p2pml.peer.shelf import Parcel, Shelf
from p2pml.peer.store import Store

LONGEST = 0.05
"""Seconds that a process lives at most: some dozens of writes."""


def crash(folder: Path, words: object, pieces: Parcel, seed: int) -> int:
    """Let a process write until it is killed; returns how many writes it had acknowledged in this life."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _write_for_ever(folder, words, pieces, writing, seed)
    os.close(writing)
    # From its first word on, so that death comes in the middle of writing and not of starting.
    begun = os.read(reading, 8)
    time.sleep(random.Random(seed).uniform(0, LONGEST))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = begun
    while chunk := os.read(reading, 65536):
        said += chunk
    os.close(reading)
    numbers = [number for (number,) in struct.iter_unpack("<q", said[: len(said) // 8 * 8])]
    last = max(numbers)
    _hold(folder, last)
    return len(numbers)


def _write_for_ever(folder: Path, words: object, pieces: Parcel, pipe: int, seed: int) -> None:
    store = Store(folder)
    shelf = Shelf(store)
    shelf.open()
    number = store.read_document("generation", lambda data: int(data["generation"])) or 0
    rng = random.Random(seed)
    while True:
        number += 1
        store.write(f"model-{number % 3}", rng.randbytes(rng.randrange(300_000)))
        if rng.random() < 0.3:
            shelf.put(words, pieces)  # type: ignore[arg-type]
        elif rng.random() < 0.3:
            shelf.drop(words.owner)  # type: ignore[attr-defined]
        store.write_document("generation", {"generation": number})
        os.write(pipe, struct.pack("<q", number))


def _hold(folder: Path, acknowledged: int) -> None:
    """What must be true after any death."""
    broken = [found for found in inspect(folder) if found.state != SOUND and not found.file.startswith(".")]
    assert not broken, broken
    store = Store(folder)
    try:
        kept = store.read_document("generation", lambda data: int(data["generation"]))
        assert (kept or 0) >= acknowledged, f"{acknowledged} was acknowledged, and {kept} is there"
        assert not list(folder.glob(".*")), "what a broken-off write left is still there"
        shelf = Shelf(store)
        shelf.open()
        for owner, held in shelf.words.items():
            assert shelf.replica(owner, held.model) is not None
    finally:
        store.close()


if __name__ == "__main__":
    from test_shelf import parcel

    count = int(sys.argv[1])
    words, pieces, _ = parcel()
    with tempfile.TemporaryDirectory() as there:
        total = sum(crash(Path(there) / "state", words, pieces, seed) for seed in range(count))
    print(f"{count} deaths amid {total} acknowledged writes: the folder opened every time, and nothing was gone")
