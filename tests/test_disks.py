"""Laws of simulated disks: what is there after a crash, when they are full, and when the power goes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pml.errors import BadInput
from p2pml.peer.store import Store
from p2pml.simulations import disks
from p2pml.simulations.disks import Died, Disks
from p2pml.simulations.loop import Process


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Disks, Store]]:
    """A disk on which a store has written one file."""
    disk = Disks()
    monkeypatch.setattr(os, "fsync", lambda descriptor: disk.fsync(descriptor, 5.0))
    store = Store(tmp_path / "state")
    store.write("model", b"first")
    yield disk, store
    store.close()


@contextmanager
def process(work: Callable[[], object]) -> Iterator[Process]:
    """A process that does some work when the block ends."""
    made = Process("one")
    yield made
    made.context().run(work)


def test_what_a_store_wrote_outlives_the_power(machine: tuple[Disks, Store]) -> None:
    """And what nobody synced does not: a new name is gone, new content is as it was, or empty."""
    disk, store = machine
    (store.folder / "unsynced").write_bytes(b"soon lost")
    disk.cut_power(store.folder)
    assert store.read("model") == b"first"
    assert not (store.folder / "unsynced").exists()
    (store.folder / "new").write_bytes(b"not synced")
    (store.folder / "model").write_bytes(b"nor this")
    descriptor = os.open(store.folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    disk.cut_power(store.folder)
    assert store.read("model") == b"first"
    assert (store.folder / "new").read_bytes() == b""


def test_a_full_disk_refuses_and_keeps_what_it_has(machine: tuple[Disks, Store]) -> None:
    """Until it has room again."""
    disk, store = machine
    disk.full_until[str(store.folder)] = 6.0
    with pytest.raises(BadInput, match="no space left"):
        store.write("model", b"second")
    assert store.read("model") == b"first"
    disk.full_until[str(store.folder)] = 5.0
    store.write("model", b"second")
    assert store.read("model") == b"second"


def test_who_dies_in_the_middle_of_a_write_leaves_the_old_file(machine: tuple[Disks, Store]) -> None:
    """And half of the new one, under another name; no handler of an error runs."""
    disk, store = machine
    ended = list[str]()
    with pytest.raises(Died), process(lambda: store.write("model", b"second")) as dying:
        disk.dying[dying] = lambda: ended.append("here")
    assert ended == ["here"]
    assert store.read("model") == b"first"
    assert disks.unreadable(store.folder) is None
    (half,) = store.folder.glob(".model*")
    assert half.stat().st_size < (store.folder / "model").stat().st_size


@pytest.mark.parametrize("damage", [disks.tear, disks.flip])
def test_damage_is_seen_and_never_of_the_identity(
    machine: tuple[Disks, Store], damage: Callable[[Path, random.Random], None]
) -> None:
    """Whoever loses its identity is another peer."""
    _, store = machine
    (store.folder / "format").unlink()
    store.write("identity", b"me")
    for seed in range(5):
        damage(store.folder, random.Random(seed))
        assert disks.unreadable(store.folder) == "model"
        assert store.read("identity") == b"me"
        store.write("model", b"first")


def test_a_copy_comes_back_as_it_was(machine: tuple[Disks, Store], tmp_path: Path) -> None:
    """Where none was made, nothing is left."""
    _, store = machine
    disks.copy(store.folder, tmp_path / "copy")
    store.write("model", b"second")
    store.write("more", b"more")
    disks.put_back(store.folder, tmp_path / "copy")
    assert (store.read("model"), store.read("more")) == (b"first", None)
    disks.put_back(store.folder, tmp_path / "none")
    assert store.read("model") is None
