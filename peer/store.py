"""The state folder: every write is atomic and synced, every read is verified by its digest.

A file is written under another name, synced, and renamed over the old one, and then the folder is synced, so a
crash leaves the old file or the new one and never a mixture. What does not verify when it is read is set aside
under a name that ends in `.corrupt`, is named in a warning, and counts as absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import structlog

from p2pml.errors import BadInput, RemoteError

FORMAT = 1
"""Version of the folder's layout. A change that an older p2pml cannot read raises it, and `Store` then
reads both: the old number's reader is kept, with a test that opens a folder written by it."""
PLAIN = b"1"
"""The file `format` as it was before it had a digest: a flipped bit made it a newer one's."""

LINGERING, GLANCE = 1.0, 0.02
"""Seconds in which the lock of a peer that was killed must be gone, and between two looks."""

LEFT_OVER = ".*.new"
"""The names under which files are written before they are renamed."""

_MAGIC = b"p2pml-state\n"
_HEAD = len(_MAGIC) + 32

T = TypeVar("T")

log = structlog.get_logger()


class Store:
    """The state folder of one peer, locked against a second one.

    Raises `BadInput` where the folder cannot be made or written, or belongs to a running peer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._take()
        except OSError as error:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise BadInput(
                f"the state folder {folder} belongs to a running peer (process {owner}); "
                "stop that one, or give this one a folder of its own with --state DIR"
            ) from error
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
            self._check_format()
            for path in folder.glob(LEFT_OVER):
                # Of a write that a crash broke off; what it was to replace is whole.
                path.unlink(missing_ok=True)
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def _take(self) -> None:
        """Lock the folder. A peer that was killed while it started a training may leave the lock for a moment with the
        process that was to become the training, which lets go of it as it begins."""
        end = time.monotonic() + LINGERING
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(GLANCE)
            else:
                return

    def close(self) -> None:
        """Unlock the folder; the store must not be used afterwards."""
        os.close(self._lock)

    def write(self, name: str, body: bytes) -> None:
        """Put `body` under `name`, durably; raises `BadInput` and leaves the old content if the disk refuses."""
        try:
            write_verified(self.folder / name, body)
        except OSError as error:
            raise self._unusable(error) from error

    def read(self, name: str) -> bytes | None:
        """The body last written under `name`; None where there is none or it did not verify."""
        path = self.folder / name
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        if (body := verified(raw)) is not None:
            return body
        self.set_aside(name, "its digest does not match its content")
        return None

    def has(self, name: str) -> bool:
        """Whether there is a file under `name`; what is in it, `read` says."""
        return (self.folder / name).exists()

    def names(self, prefix: str) -> list[str]:
        """The names that start with `prefix`, in order; what was set aside is not among them."""
        return sorted(path.name for path in self.folder.glob(f"{prefix}*") if ".corrupt" not in path.name)

    def write_document(self, name: str, document: dict[str, Any]) -> None:
        """Put plain data (numbers, strings, bytes, lists, maps) under `name`."""
        self.write(name, msgpack.packb(document))

    def read_document(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """What `parse` makes of the document under `name`; set aside if it raises ValueError, KeyError, TypeError or
        RemoteError."""
        body = self.read(name)
        if body is None:
            return None
        try:
            return parse(msgpack.unpackb(body))
        except (ValueError, KeyError, TypeError, RemoteError) as error:
            self.set_aside(name, f"it does not hold what it should ({error})")
            return None

    def set_aside(self, name: str, why: str) -> None:
        """Rename a file that cannot be used, so that nothing is lost and nothing reads it again."""
        path = self.folder / name
        number = sum(1 for _ in self.folder.glob(f"{name}.corrupt*"))
        aside = path.with_name(f"{name}.corrupt{number or ''}")
        try:
            os.replace(path, aside)
        except OSError as error:
            # On a read-only disk it stays where it is, and is found damaged again.
            log.warning("a state file is damaged and could not be set aside", file=name, why=why, error=str(error))
            return
        log.warning("a state file was set aside", file=name, kept_as=aside.name, why=why)

    def keep_only(self, prefix: str, names: set[str]) -> None:
        """Delete the files that start with `prefix` and are not in `names`; set-aside files stay."""
        for path in self.folder.glob(f"{prefix}*"):
            if path.name in names or ".corrupt" in path.name:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("a state file that nobody needs could not be deleted", file=path.name, error=str(error))

    def _check_format(self) -> None:
        path = self.folder / "format"
        raw = path.read_bytes() if path.exists() else PLAIN
        found = format_of(raw)
        if found is None:
            if raw != PLAIN:
                self.set_aside("format", "it is no number with its digest")
            write_verified(path, str(FORMAT).encode())
        elif found > FORMAT:
            raise BadInput(
                f"the state folder {self.folder} was written by a newer p2pml (format {found}, this one "
                f"reads up to {FORMAT}); upgrade p2pml, or use another folder with --state DIR"
            )

    def _unusable(self, error: OSError) -> BadInput:
        return BadInput(
            f"the state folder {self.folder} cannot be used: {(error.strerror or str(error)).lower()}; "
            "mend that, or choose another folder with --state DIR"
        )


def format_of(raw: bytes) -> int | None:
    """The version of a state folder that its file `format` tells; None where that does not verify."""
    body = verified(raw)
    return int(body) if body is not None and body.isdigit() else None


def verified(raw: bytes) -> bytes | None:
    """The body of a file that `write_verified` wrote; None where it does not verify."""
    body = raw[_HEAD:]
    sound = raw[: len(_MAGIC)] == _MAGIC and raw[len(_MAGIC) : _HEAD] == hashlib.sha256(body).digest()
    return body if sound else None


def write_verified(path: Path, body: bytes) -> None:
    """Write `body` durably under a head that `Store.read` verifies; raises OSError."""
    write_durably(path, _MAGIC + hashlib.sha256(body).digest() + body)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def default_folder(cluster: str, name: str, data: Path) -> Path:
    """The state folder of a peer that names none: it depends on the cluster, the name and the data file's path."""
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    place = hashlib.sha256(f"{name}\0{data.absolute()}".encode()).hexdigest()[:12]
    return root / "p2pml" / _plain(cluster) / f"{_plain(name)}-{place}"


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text)[:40] or "_"
