"""`p2pml doctor`: what stops two machines from meeting."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from .options import examples, option
from .show import json_line, plain, progress
from .where import Where, where_options

SIGNS = {"ok": "ok       ", "problem": "problem  ", "unchecked": "unchecked"}


@click.command(
    epilog=examples(
        "p2pml doctor",
        "p2pml doctor --cluster houses --join 10.0.0.5:7733",
        "p2pml doctor --json | jq '.findings[] | select(.status == \"problem\")'",
    )
)
@where_options
@option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(where: Where, as_json: bool) -> int:
    """Find what stops two machines from meeting, and say what to do about it.

    Looks at this machine's addresses, multicast, ports and firewall, and asks the peers that it finds. Run it on both
    machines. The exit code is 0 if nothing was found, and 1 otherwise.
    """
    from p2pml.peer.checkup import check_up

    with progress("this machine and the peers are examined"):
        findings = asyncio.run(check_up(where))
    well = all(finding.status != "problem" for finding in findings)
    if as_json:
        json_line({"well": well, "findings": [asdict(finding) for finding in findings]})
        return 0 if well else 1
    for finding in findings:
        print(f"{SIGNS[finding.status]}  {finding.check}: {plain(finding.said)}.")
        if finding.remedy:
            print(f"{'':11}→ {plain(finding.remedy)}.")
    return 0 if well else 1
