"""Failures as files: the plan, the breach and the trace, and what they were seen with."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p2pml.errors import BadInput

from .plans import Plan
from .reports import Breach, Report


def store(path: Path, plan: Plan, report: Report) -> None:
    """Write a plan with what it showed."""
    breach = report.breach
    data: dict[str, Any] = plan.to_data() | {
        "breach": None if breach is None else {"property": breach.property, "kind": breach.kind, "words": str(breach)},
        "trace": report.trace,
        "seen_with": {"python": platform.python_version(), "p2pml": version("p2pml")},
    }
    text = json.dumps(data, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Plan:
    """Read the plan of a file. Raises `BadInput` for what is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is no schedule: it is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path} is no schedule: it is not an object")
    return Plan.from_data(data)


def stored_breach(path: Path) -> Breach | None:
    """Say how the plan of a file failed when it was stored."""
    breach = json.loads(path.read_text(encoding="utf-8")).get("breach")
    return None if breach is None else Breach(str(breach["property"]), str(breach["kind"]), 0.0, str(breach["words"]))
