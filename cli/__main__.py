"""`python -m p2pml.cli`, for where the command itself is not on the path."""

from __future__ import annotations

from .main import main

main()
