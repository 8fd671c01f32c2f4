"""Laws of the state folder."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from p2pml.errors import BadInput
from p2pml.peer.identity import load_identity, next_generation
from p2pml.peer.store import FORMAT, Store, default_folder, format_of, write_verified


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in a folder of its own, unlocked at the end."""
    store = Store(tmp_path / "state")
    yield store
    store.close()


def test_what_was_written_is_read(store: Store) -> None:
    """A body comes back byte for byte, a document value for value."""
    store.write("body", b"\x00\xff" * 1000)
    store.write_document("document", {"a": [1, 2.5, "x", b"y", None]})
    assert store.read("body") == b"\x00\xff" * 1000
    assert store.read_document("document", dict) == {"a": [1, 2.5, "x", b"y", None]}


def test_what_is_absent_is_none(store: Store) -> None:
    """Nothing is made up for a file that is not there."""
    assert store.read("nothing") is None
    assert store.read_document("nothing", dict) is None


@pytest.mark.parametrize("place", [0, 12, 44, 50])
def test_a_flipped_bit_is_found_and_the_file_set_aside(store: Store, place: int) -> None:
    """Magic, digest and body are all verified, and the damaged bytes are kept for whoever wants them."""
    store.write("file", b"precious content")
    path = store.folder / "file"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    assert store.read("file") is None
    assert (store.folder / "file.corrupt").read_bytes() == bytes(raw)
    assert not path.exists()


def test_a_truncated_or_empty_file_is_set_aside(store: Store) -> None:
    """A torn write of another program is no content."""
    store.write("file", b"precious content")
    os.truncate(store.folder / "file", 40)
    assert store.read("file") is None
    (store.folder / "file").write_bytes(b"")
    assert store.read("file") is None
    assert sorted(path.name for path in store.folder.glob("*.corrupt*")) == ["file.corrupt", "file.corrupt1"]


def test_a_document_of_another_shape_is_set_aside(store: Store) -> None:
    """Valid bytes that do not hold what they should count as damaged."""
    store.write_document("document", {"other": 1})
    assert store.read_document("document", lambda data: data["wanted"]) is None
    assert (store.folder / "document.corrupt").exists()


def test_a_running_peers_folder_is_refused_with_its_process(store: Store) -> None:
    """Two peers never share a folder, and the message says whose it is."""
    with pytest.raises(BadInput, match=f"process {os.getpid()}.*--state"):
        Store(store.folder)


def test_a_closed_folder_opens_again(tmp_path: Path) -> None:
    """The lock goes with its owner."""
    Store(tmp_path).close()
    Store(tmp_path).close()


def test_a_lock_that_outlives_its_owner_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """A process that a killed peer had just begun to start holds it until it begins."""
    Store(tmp_path).close()
    held = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    letting_go = threading.Timer(0.05, os.close, (held,))
    letting_go.start()
    Store(tmp_path).close()
    letting_go.join()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be is named with the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file.*cannot be used.*--state DIR"):
        Store(tmp_path / "file")


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """An older p2pml does not touch what it cannot read."""
    Store(tmp_path).close()
    write_verified(tmp_path / "format", str(FORMAT + 1).encode())
    before = (tmp_path / "format").read_bytes()
    with pytest.raises(BadInput, match="newer p2pml"):
        Store(tmp_path)
    assert (tmp_path / "format").read_bytes() == before


@pytest.mark.parametrize("damaged", ["garbage", str(FORMAT + 1), ""])
def test_a_damaged_format_is_mended(tmp_path: Path, damaged: str) -> None:
    """It is set aside, also where it looks like a newer one's; the files verify one by one anyway."""
    Store(tmp_path).close()
    sound = (tmp_path / "format").read_bytes()
    (tmp_path / "format").write_text(damaged)
    Store(tmp_path).close()
    assert (tmp_path / "format").read_bytes() == sound
    assert (tmp_path / "format.corrupt").read_text() == damaged


def test_a_format_of_before_it_had_a_digest_is_taken(tmp_path: Path) -> None:
    """Without a word."""
    (tmp_path / "format").write_text("1")
    Store(tmp_path).close()
    assert format_of((tmp_path / "format").read_bytes()) == FORMAT
    assert not (tmp_path / "format.corrupt").exists()


def test_a_write_that_fails_leaves_the_old_content(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new content, never the old, and leaves no litter."""
    store.write("file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="no space left on device"):
        store.write("file", b"new")
    monkeypatch.undo()
    assert store.read("file") == b"old"
    assert not list(store.folder.glob(".file*"))


def test_keeping_some_files_spares_what_was_set_aside(store: Store) -> None:
    """Old models go; what was damaged stays for inspection."""
    for name in ("model-a", "model-b", "model-a.corrupt", "other"):
        (store.folder / name).write_bytes(b"")
    store.keep_only("model-", {"model-b"})
    assert {"model-b", "model-a.corrupt", "other"} <= {path.name for path in store.folder.iterdir()}
    assert not (store.folder / "model-a").exists()


def test_what_the_disk_does_not_let_go_is_named_and_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is read-only costs nobody more than the room."""

    def refuse(*how: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    store.write("model-a", b"a")
    monkeypatch.setattr(Path, "unlink", refuse)
    with capture_logs() as said:
        store.keep_only("model-", set())
    assert [line["file"] for line in said] == ["model-a"]
    assert store.read("model-a") == b"a"


def test_an_identity_stays_the_same(store: Store) -> None:
    """The key is made once; the id is 32 hexadecimal digits."""
    first, second = load_identity(store), load_identity(store)
    assert first.id == second.id
    assert len(bytes.fromhex(first.id)) == 16


def test_a_damaged_identity_becomes_a_new_one(store: Store) -> None:
    """A key that cannot be read is set aside, and the peer goes on as somebody new."""
    before = load_identity(store).id
    store.write_document("identity", {"private_key": b"short"})
    assert load_identity(store).id != before
    assert (store.folder / "identity.corrupt").exists()


def test_each_start_has_a_generation_of_its_own(store: Store) -> None:
    """The generation rises and is on disk before it is used."""
    assert [next_generation(store) for _ in range(3)] == [1, 2, 3]


def test_a_damaged_generation_begins_anew(store: Store) -> None:
    """A negative or missing number is set aside."""
    store.write_document("generation", {"generation": -1})
    assert next_generation(store) == 1


def test_default_folders_differ_by_cluster_name_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers of one machine that were told nothing do not meet in one folder, and a name cannot leave the root."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = {
        default_folder(cluster, name, Path(data))
        for cluster in ("one", "two")
        for name in ("a", "b")
        for data in ("x.csv", "y.csv")
    }
    assert len(folders) == 8
    assert tmp_path in default_folder("../..", "../../etc", Path("x")).parents
