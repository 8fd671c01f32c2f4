"""What lies in a state folder, file by file: sound, damaged, missing, or none of ours. It only reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from p2pml.errors import BadInput, RemoteError

from .compiling import ARRAYS, PICKLED
from .held import LastWords
from .pooling import SUMS
from .shelf import HELD, REPLICA
from .store import FORMAT, PLAIN, format_of, verified

SOUND, DAMAGED, MISSING, ASIDE, STRANGE = "sound", "damaged", "missing", "set aside", "unknown"

KINDS = {
    "format": "version of the folder",
    "lock": "process that runs",
    "identity": "key by which the peer is known",
    "generation": "how often it was started",
    "place": "port, and addresses of the others",
    "fit": "last fit that was asked for",
    "trained": "what the model is of",
    "space": "shared space",
    ARRAYS: "model",
    PICKLED: "model, for scikit-learn",
    "holdout-": "held-out rows",
    "moments-": "moments of the rows",
    "sample-": "sample of the rows",
    HELD: "what a replica is of",
    REPLICA: "piece of a replica",
    SUMS: "sums of others for the common vote",
}
"""What a file holds, by its name or by how that begins."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file: `state` is one of the words above; `bytes` is None where it is missing."""

    file: str
    kind: str
    bytes: int | None
    state: str


def inspect(folder: Path) -> list[Found]:
    """All files of a state folder, by name; raises `BadInput` where it is none, or cannot be read."""
    try:
        if not (folder / "format").is_file():
            raise BadInput(f"{folder} is not a state folder: it has no file named format; give the folder of a peer")
        version = format_of((folder / "format").read_bytes())
        if version is not None and version > FORMAT:
            raise BadInput(f"{folder} was written by a newer p2pml (format {version}); upgrade p2pml to check it")
        bodies: dict[str, bytes] = {}
        found = [_look(path, bodies) for path in sorted(folder.iterdir())]
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {(error.strerror or str(error)).lower()}") from error
    there = {each.file for each in found}
    found += [Found(name, _kind(name) or "", None, MISSING) for name in sorted(_named(bodies) - there)]
    return found


def _look(path: Path, bodies: dict[str, bytes]) -> Found:
    name, kind = path.name, _kind(path.name)
    size = path.stat().st_size
    if ".corrupt" in name:
        return Found(name, _kind(name.partition(".")[0]) or "", size, ASIDE)
    if kind is None:
        return Found(name, "", size, STRANGE)
    if name == "lock":
        return Found(name, kind, size, SOUND)
    raw = path.read_bytes()
    if name == "format" and raw == PLAIN:
        return Found(name, kind, size, SOUND)
    body = verified(raw)
    if body is None:
        return Found(name, kind, size, DAMAGED)
    if name == "trained" or name.startswith(HELD):
        bodies[name] = body
    return Found(name, kind, size, SOUND)


def _kind(name: str) -> str | None:
    if name in KINDS:
        return KINDS[name]
    return next((kind for begin, kind in KINDS.items() if begin.endswith("-") and name.startswith(begin)), None)


def _named(bodies: dict[str, bytes]) -> set[str]:
    """The files that others name and that should be there."""
    named: set[str] = set()
    for name, body in bodies.items():
        try:
            data: Any = msgpack.unpackb(body)
            if name == "trained":
                outcome = data["outcome"]
                named |= {outcome["model"], outcome["holdout"], *outcome["knowledge"].values()}
            else:
                words = LastWords.read(data["words"])
                named |= {REPLICA + words.model, REPLICA + words.knowledge.moments}
                named |= {REPLICA + words.knowledge.density} if words.knowledge.density else set()
        except (KeyError, TypeError, ValueError, AttributeError, RemoteError):
            # It is of another version; the peer that reads it sets it aside.
            continue
    return named
