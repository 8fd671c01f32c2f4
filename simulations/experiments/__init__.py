"""The experiments of the papers that the protocol stands on, with our figures beside plain SWIM's and the claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import heal, hyparview, join_burst, lifeguard, rapid, scuttlebutt, swim
from .harness import Experiment

EXPERIMENTS: Mapping[str, Experiment[Any]] = {
    "lifeguard": lifeguard,
    "swim": swim,
    "rapid": rapid,
    "join-burst": join_burst,
    "scuttlebutt": scuttlebutt,
    "hyparview": hyparview,
    "heal": heal,
}
"""All of them by name."""
