"""The two layers that a plan can run on: the protocol alone, which is fast, and whole daemons, which are whole."""

from __future__ import annotations

from .plans import Plan
from .reports import Report, Tell, nobody


def run(plan: Plan, tell: Tell = nobody) -> Report:
    """Run a plan on its layer, and tell now and then how far it is.

    Raises `BadInput` for an operation that the layer does not have.
    """
    # Imported late: whole daemons bring scikit-learn and aiohttp with them.
    if plan.layer == "daemon":
        from .daemons import run as run_daemons

        return run_daemons(plan, tell=tell)
    from .core import run as run_core

    return run_core(plan, tell)
