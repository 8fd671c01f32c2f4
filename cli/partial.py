"""A result on its way to a file: it grows beside it, with a journal by which an interrupted run can go on.

The journal says what has been asked of what, and how many rows and bytes are whole. It is written after the rows that
it counts are on disk, so a run that goes on cuts off what is not counted and asks for it again: no row is lost or
stands there twice.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from p2pml.errors import BadInput, NoVotes, RemoteError

APART = 1.0
"""Seconds between two entries of the journal, which each wait for the disk."""


class Journal(msgspec.Struct):
    """`about` is the file, its size and time, and the settings; `state` is the writer's and the tally's."""

    about: dict[str, Any]
    rows: int = 0
    size: int = 0
    state: dict[str, Any] = {}


class Partial:
    """The file beside the one at `path`, open to be written. Use `partial`."""

    def __init__(self, path: Path, about: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.whole = path.with_name(f".{path.name}.whole")
        """Where another form of the result can be made, to take its place."""
        self._unfinished = path.with_name(f".{path.name}.part")
        self._noted = path.with_name(f".{path.name}.journal")
        try:
            self.stream: IO[bytes] = open(self._unfinished, "a+b")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BadInput(f"--output {path} cannot be written: {reason}.") from error
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.stream.close()
            raise BadInput(f"another run is writing {path}: wait for its end, or take another --output.") from error
        if not resume:
            self._noted.unlink(missing_ok=True)
        try:
            self.journal = self._journal(about) if resume else Journal(about)
        except BadInput:
            self.stream.close()
            raise
        self.kept = self.journal.rows
        """Rows that the journal on disk counts."""
        self.stream.truncate(self.journal.size)
        self.stream.seek(self.journal.size)
        self._last = time.monotonic()

    def note(self, rows: int, state: dict[str, Any]) -> None:
        """All rows up to this one are written: keep that in mind, and in the journal now and then."""
        self.journal = Journal(self.journal.about, rows, self.stream.tell(), state)
        if time.monotonic() - self._last >= APART:
            self.keep()

    def keep(self) -> None:
        """Write the journal."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        new = self._noted.with_name(self._noted.name + ".new")
        with open(new, "wb") as file:
            file.write(msgspec.json.encode(self.journal))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._noted)
        self.kept = self.journal.rows
        self._last = time.monotonic()

    def finish(self, whole: Path | None = None) -> None:
        """Put the result in its place: `whole`, or what was written."""
        self.stream.flush()
        result = whole or self._unfinished
        with open(result, "rb") as file:
            os.fsync(file.fileno())
        result.replace(self.path)
        self.forget()

    def forget(self) -> None:
        """Leave nothing behind."""
        self._unfinished.unlink(missing_ok=True)
        self._noted.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another run have it."""
        self.whole.unlink(missing_ok=True)
        # What a full disk did not take is not in the journal.
        with suppress(OSError):
            self.stream.close()

    def _journal(self, about: dict[str, Any]) -> Journal:
        """Where the interrupted run stopped; BadInput where that was another one, a new one where there is none."""
        try:
            journal = msgspec.json.decode(self._noted.read_bytes(), type=Journal)
        except FileNotFoundError:
            return Journal(about)
        except msgspec.MsgspecError as error:
            raise BadInput(f"{self._noted} is damaged: leave --resume out to begin anew.") from error
        if different := [name for name in about if about[name] != journal.about.get(name)]:
            raise BadInput(
                f"the interrupted run to {self.path} was another one (its {different[0]} differs): "
                "leave --resume out to begin anew."
            )
        if os.fstat(self.stream.fileno()).st_size < journal.size:
            raise BadInput(f"{self._unfinished} is shorter than its journal says: leave --resume out to begin anew.")
        return journal


@contextmanager
def partial(path: Path, about: dict[str, Any], resume: bool) -> Iterator[Partial]:
    """What grows into the file at `path`. Where it was interrupted, no peer answered any more, or the disk is full, it
    can be gone on with; of anything else that went wrong nothing is left."""
    growing = Partial(path, about, resume)
    try:
        yield growing
    except (RemoteError, NoVotes):
        raise
    except OSError as error:
        way_out = "Make room, or choose another file."
        if growing.kept:
            way_out = f"{growing.kept:,} rows are kept: make room and run the same command with --resume to go on."
        else:
            growing.forget()
        reason = (error.strerror or str(error)).lower()
        raise BadInput(f"--output {path} cannot be written: {reason}. {way_out}") from error
    except Exception:
        growing.forget()
        raise
    finally:
        growing.close()
