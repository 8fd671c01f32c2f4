"""Disks of simulated machines: what is on them after a crash, when they are full, and when the power goes.

The files themselves are real. A program makes them durable by `os.fsync` alone, so that is where all this happens:
of a file it keeps the content, of a folder the names. A process that dies leaves what it wrote; a machine whose power
goes keeps what was synced (as after ALICE, Pillai et al., OSDI 2014).
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from .loop import PROCESS, Process

HEAD = b"p2pml-state\n"
"""What every verified file of a state folder begins with; then come its digest and its body."""
UNVERIFIED = ("lock",)
"""Files of a state folder that have no digest."""


class Died(BaseException):
    """A process ended in the middle of a write. No handler of an error runs after that, as after SIGKILL."""


class Disks:
    """The disks of all machines."""

    def __init__(self) -> None:
        """Have room, and lose nothing."""
        self.full_until: dict[str, float] = {}
        """Until when the disks are full, by the folder's path."""
        self.dying: dict[Process, Callable[[], None]] = {}
        """Processes that end in the middle of their next write, each with what ends it."""
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def fsync(self, descriptor: int, now: float) -> None:
        """Make a file or the names of a folder durable; raises OSError where the disk is full."""
        process = PROCESS.get()
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        status = os.fstat(descriptor)
        folder = stat.S_ISDIR(status.st_mode)
        if process is not None and process in self.dying:
            if not folder:
                os.ftruncate(descriptor, status.st_size // 2)
            self.dying.pop(process)()
            raise Died
        if self.is_full(path if folder else path.parent, now):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if folder:
            self._names[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._contents[status.st_ino] = path.read_bytes()

    def is_full(self, folder: Path, now: float) -> bool:
        """Whether nothing can be written there."""
        return now < self.full_until.get(str(folder), 0.0)

    def cut_power(self, folder: Path) -> None:
        """Leave what was synced: a file whose content never was is empty, one whose name never was is gone."""
        names = self._names.get(folder.stat().st_ino, {})
        kept = {name: self._contents.get(number, b"") for name, number in names.items() if name != "lock"}
        for path in files(folder):
            path.unlink()
        for name, content in sorted(kept.items()):
            (folder / name).write_bytes(content)
            self._contents[(folder / name).stat().st_ino] = content
        self._names[folder.stat().st_ino] = {entry.name: entry.inode() for entry in os.scandir(folder)}


def files(folder: Path) -> list[Path]:
    """The files of a state folder but for its lock, by name."""
    return sorted(path for path in folder.iterdir() if path.name != "lock")


def damageable(folder: Path) -> list[Path]:
    """Those that a fault may damage: the identity is not among them, since whoever loses it is another peer."""
    return [path for path in files(folder) if path.name != "identity"]


def tear(folder: Path, rng: random.Random) -> None:
    """Leave half of one file, as a disk that lied about a write may."""
    if found := damageable(folder):
        torn = rng.choice(found)
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])


def flip(folder: Path, rng: random.Random) -> None:
    """Flip one bit of one file."""
    if found := [path for path in damageable(folder) if path.stat().st_size]:
        flipped = rng.choice(found)
        content = bytearray(flipped.read_bytes())
        place = rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        flipped.write_bytes(content)


def copy(folder: Path, to: Path) -> None:
    """Make `to` a copy of a state folder."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)


def put_back(folder: Path, copied: Path) -> None:
    """Make a state folder what it was when it was copied; where it never was, nothing is left but the identity."""
    for path in damageable(folder):
        path.unlink()
    for path in damageable(copied) if copied.is_dir() else []:
        shutil.copyfile(path, folder / path.name)


def unreadable(folder: Path) -> str | None:
    """Which file of a state folder cannot be verified; None where all can. Half-written ones have other names."""
    for path in files(folder):
        if path.name in UNVERIFIED or path.name.startswith(".") or ".corrupt" in path.name:
            continue
        raw = path.read_bytes()
        body = raw[len(HEAD) + 32 :]
        if raw[: len(HEAD)] != HEAD or raw[len(HEAD) : len(HEAD) + 32] != sha256(body).digest():
            return path.name
    return None
