"""What several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Threads that spin while they wait make a training beside another one 40 times slower; read when scikit-learn loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job that a shell started in the background ignores SIGINT, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the repository; without it the test is skipped."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not in ../shared/data")
    return folder
