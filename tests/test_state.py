"""Laws of what a peer keeps on disk: whatever becomes of the disk or the process, it is named and survived."""

from __future__ import annotations

import io
import json
import os
from functools import partial
from pathlib import Path

import pytest
from crashing import crash
from fakes import Shell
from running import HereWorkshop, peer_here, soon, write_part
from test_shelf import parcel

from p2pml.ensemble.summary import Epoch, FitCommand
from p2pml.errors import BadInput
from p2pml.peer.logs import Unfailing
from p2pml.peer.store import Store, write_verified

here = partial(peer_here, workshop=HereWorkshop())


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a peer that has trained and is gone."""
    import asyncio

    there = tmp_path_factory.mktemp("state")

    async def live() -> None:
        async with here(write_part(there / "p.csv"), there / "s") as peer:
            await soon(lambda: peer.voting.ground and peer.store.has("space"), "it stands in its space")

    asyncio.run(live())
    return there / "s"


def copied(folder: Path, there: Path) -> Path:
    there.mkdir()
    for path in folder.iterdir():
        (there / path.name).write_bytes(path.read_bytes())
    return there


def flip(path: Path) -> None:
    """One bit in the middle."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def files(shell: Shell, folder: Path) -> tuple[int, dict[str, str]]:
    done = shell("state", "check", folder, "--json")
    return done.code, {each["file"]: each["state"] for each in json.loads(done.out)["files"]}


def test_a_folder_that_is_sound_is_listed_file_by_file(shell: Shell, folder: Path) -> None:
    """For people and for programs."""
    done = shell("state", "check", folder)
    assert done.code == 0
    for words in ("identity", "held-out rows", "model", "moments of the rows", "sound"):
        assert words in done.out
    code, states = files(shell, folder)
    assert (code, set(states.values())) == (0, {"sound"})


def test_a_flipped_bit_in_any_file_is_named(shell: Shell, folder: Path, tmp_path: Path) -> None:
    """And nothing is changed by looking."""
    names = [path.name for path in folder.iterdir() if path.name != "lock"]
    for at, name in enumerate(names):
        there = copied(folder, tmp_path / str(at))
        flip(there / name)
        assert files(shell, there) == (1, {**dict.fromkeys(os.listdir(folder), "sound"), name: "damaged"})
        assert sorted(os.listdir(there)) == sorted(os.listdir(folder))
    assert "a peer that starts here mends it" in shell("state", "check", there).err


def test_what_is_missing_set_aside_or_strange_is_told(shell: Shell, folder: Path, tmp_path: Path) -> None:
    """A model that is named and not there counts as damage; the others do not."""
    there = copied(folder, tmp_path / "s")
    model = next(path for path in there.iterdir() if path.name.startswith("arrays-"))
    model.rename(there / "arrays-0.corrupt")
    (there / "notes.txt").write_text("mine")
    code, states = files(shell, there)
    assert (code, states[model.name], states["arrays-0.corrupt"], states["notes.txt"]) == (
        1,
        "missing",
        "set aside",
        "unknown",
    )
    assert "set aside before" in shell("state", "check", there).err


@pytest.mark.parametrize(("text", "why"), [(None, "not a state folder"), ("99", "newer p2pml")])
def test_what_is_no_folder_of_ours_is_refused(shell: Shell, tmp_path: Path, text: str | None, why: str) -> None:
    """With exit code 2 and the way out."""
    if text is not None:
        write_verified(tmp_path / "format", text.encode())
    done = shell("state", "check", tmp_path)
    assert done.code == 2
    assert why in done.err


@pytest.mark.parametrize("begin", ["sample-", "arrays-", "trained", "space", "generation"])
async def test_a_flipped_bit_is_survived(folder: Path, tmp_path: Path, begin: str) -> None:
    """The peer says so, sets the file aside, and is whole again."""
    there = copied(folder, tmp_path / "s")
    name = next(name for name in os.listdir(folder) if name.startswith(begin))
    flip(there / name)
    part = write_part(tmp_path / "p.csv")
    async with here(part, there) as peer:
        await soon(lambda: peer.why_not_ready() is None, "it is ready")
        await soon(lambda: (there / f"{name}.corrupt").exists() and peer.store.has(name), "it is mended")
        await peer.fitting.settled()
        assert peer.trainer.whole(peer.voting.trained) if peer.voting.trained else False


async def test_a_damaged_model_is_mended_from_a_replica(tmp_path: Path) -> None:
    """Without a training: the others hold the very same one."""
    a, b = write_part(tmp_path / "a.csv"), write_part(tmp_path / "b.csv", seed=1)
    async with here(a, tmp_path / "sa") as other:
        async with here(b, tmp_path / "sb", join=(other.address,)) as peer:
            await soon(lambda: peer.id in other.shelf.words and peer.store.has("space"), "its model is held")
            trained = peer.voting.trained
        assert trained is not None
        flip(tmp_path / "sb" / f"arrays-{trained.digest}")
        async with here(b, tmp_path / "sb", join=(other.address,)) as again:
            await soon(lambda: again.voting.trained, "it votes")
            assert again.fitting.took is None
            assert again.voting.trained is not None
            assert again.voting.trained.digest == trained.digest


async def test_a_fit_that_was_acknowledged_outlives_a_crash(folder: Path, tmp_path: Path) -> None:
    """Though the crash came before any training began, and nobody else heard of it."""
    there = copied(folder, tmp_path / "s")
    store = Store(there)
    store.write_document("fit", FitCommand(Epoch(7, "f" * 32), "linear").to_data())
    store.close()
    async with here(write_part(tmp_path / "p.csv"), there) as peer:
        await soon(lambda: (t := peer.voting.trained) and t.command.epoch.counter == 7, "it trained for it")
        assert peer.voting.trained is not None
        assert peer.voting.trained.name == "linear"


def test_a_log_on_a_full_disk_stops_nobody() -> None:
    """What the disk does not take is lost, and nothing else."""
    log = Unfailing(Full())
    assert log.write("words") == 0
    log.flush()
    sound = io.StringIO()
    assert Unfailing(sound).write("words") == 5
    assert sound.getvalue() == "words"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def no_room(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


async def test_a_full_disk_costs_the_new_model_and_not_the_old_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit is refused in one sentence, and the model goes on voting."""
    there = copied(folder, tmp_path / "s")
    async with here(write_part(tmp_path / "p.csv"), there) as peer:
        await soon(lambda: peer.voting.trained, "it votes")
        before = peer.voting.trained
        assert before is not None
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", no_room)
            with pytest.raises(BadInput, match=r"disk of this peer refuses"):
                await peer.crew.fit(None, wait=True)
        assert peer.voting.trained is before
        ballot = await peer.voting.vote({"height": [1], "width": [2], "colour": ["red"]})
        assert ballot.model == before.digest


def test_no_moment_of_death_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """Twenty deaths amid writing; `python tests/crashing.py 1000` has more."""
    words, pieces, _ = parcel()
    assert sum(crash(tmp_path / "state", words, pieces, seed) for seed in range(20)) >= 20
