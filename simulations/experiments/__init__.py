"""The experiments of the papers that the protocol stands on, with our figures beside plain SWIM's and the claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import lifeguard
from .harness import Experiment

EXPERIMENTS: Mapping[str, Experiment[Any]] = {"lifeguard": lifeguard}
"""All of them by name."""
