"""Laws of answers while peers die: a small run of tests/benchmarks/serving/chaos.py, with real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import environment

SCRIPT = Path(__file__).parent / "benchmarks" / "serving" / "chaos.py"


@pytest.mark.process
def test_nothing_is_lost_late_or_untrue_while_peers_are_killed_and_stopped() -> None:
    """Whoever is asked and lives answers, any peer stands in for one that does not, and every count is true."""
    command = [sys.executable, str(SCRIPT), "--peers", "3", "--count", "3000", "--every", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout
    assert "SIGKILL" in done.stdout or "SIGSTOP" in done.stdout
