"""The cluster's secret: read from a file, so that it is neither in a process list nor in a shell's history."""

from __future__ import annotations

from pathlib import Path

from p2pml.errors import BadInput

LEAST = 16
"""Bytes of a secret: fewer can be guessed by who records a packet."""
MOST_FILE = 64 * 1024
"""Bytes of the file: more is some other file."""


def read_secrets(path: Path | None) -> tuple[bytes, ...]:
    """Read one secret a line, the one to write with first. Raises `BadInput`; without a path there is none."""
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
    except OSError as error:
        raise BadInput(f"--secret-file {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    found = tuple(line.strip() for line in data.splitlines() if line.strip())
    if not found or len(data) > MOST_FILE or any(len(secret) < LEAST for secret in found):
        raise BadInput(
            f"--secret-file {path} holds no secret: it takes one a line of at least {LEAST} characters, "
            "such as `openssl rand -hex 32` prints"
        )
    return found
