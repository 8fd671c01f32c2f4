"""Laws of the memory of a peer: what it needed for a moment it does not keep."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MOMENT = """
import numpy as np
from p2pml.peer.memory import return_large_pieces

def held():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) // 1024

{first}
before = held()
del (large := [np.ones(20 * 2**17)])[:]
pieces = [np.ones(8 * 2**17), np.ones(2**14)]
del pieces[0]
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library gives memory back by rules of its own")
def test_a_large_piece_goes_back_when_it_is_freed() -> None:
    """Where it had larger ones before, glibc keeps it as long as something lies behind it (the control)."""

    def kept(first: str) -> int:
        ran = subprocess.run([sys.executable, "-c", MOMENT.format(first=first)], capture_output=True, check=True)
        return int(ran.stdout)

    assert kept("return_large_pieces()") < 4 < kept("")
