"""Where predictions go: standard output, or a file that appears only when it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from p2pml.errors import BadInput


def regular(path: str | None) -> Path | None:
    """The file that --output means, links followed; None where it is standard output, a device or a pipe.

    Raises `BadInput` where it is a directory.
    """
    if path is None or path == "-":
        return None
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise BadInput(f"--output {path} is a directory: give the name of a file.")
    return None if target.exists() and not target.is_file() else target


@contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """A text stream for a result, which replaces the file at `path` only if nothing goes wrong.

    Raises `BadInput` where the file cannot be written.
    """
    if path is None or path == "-":
        yield sys.stdout
        return
    # A link keeps pointing to what it points to, and a device or a pipe is written to, never replaced.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise BadInput(f"--output {path} is a directory: give the name of a file.")
        with target.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        stream = unfinished.open("x", encoding="utf-8", newline="")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadInput(f"--output {path} cannot be written: {reason}.") from error
    try:
        with stream:
            yield stream
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
