"""`p2pml state check`: whether a state folder is sound."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .options import examples, json_option
from .show import json_line, note, plain, table


@click.group(epilog=examples("p2pml state check DIR"))
def state() -> None:
    """Look at the folder in which a peer keeps its state."""


@state.command(
    epilog=examples(
        "p2pml state check ~/.local/state/p2pml/houses/oslo-0123456789ab",
        "p2pml state check --json . | jq .sound",
    )
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def check(folder: Path, as_json: bool) -> int:
    """Verify every file of DIR by its digest, and change nothing.

    The exit code is 0 if all is sound, and 1 if a file is damaged or missing. A peer that is started on the folder sets
    a damaged file aside, and mends it from replicas or by training anew.
    """
    from p2pml.peer.inspecting import ASIDE, DAMAGED, MISSING, inspect

    found = inspect(folder)
    broken = [each for each in found if each.state in (DAMAGED, MISSING)]
    if as_json:
        json_line({"folder": str(folder), "sound": not broken, "files": [asdict(each) for each in found]})
        return 1 if broken else 0
    table(["file", "what it is", "bytes", "state"], [[each.file, each.kind, each.bytes, each.state] for each in found])
    for each in broken:
        note(f"{plain(each.file)} is {each.state}; a peer that starts here mends it, or trains anew.")
    aside = sum(each.state == ASIDE for each in found)
    if aside:
        note(f"{aside} damaged files were set aside before; delete them when nobody needs them.")
    note(f"{len(found) - len(broken) - aside} of {len(found)} files are sound or not p2pml's.")
    return 1 if broken else 0
