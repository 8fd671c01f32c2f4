"""What was freed goes back to the system, where glibc would keep it: a peer idles for most of its life."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

LARGE = 2**20
"""Bytes from which a piece of memory is the system's own. It comes page by page, which costs more than most of what is
done with it, so what is done to many rows is done in blocks below that."""
KEPT = 4 * 2**20
"""Bytes that are kept at the end of a heap for what comes next."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From <malloc.h>."""


def return_large_pieces() -> None:
    """From now on, whatever is large goes back the moment that it is freed. Of itself glibc keeps what is like the
    largest that was freed before: measured, 60 MB of the products of one common vote."""
    if (libc := _glibc("mallopt")) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)


def return_small_pieces() -> None:
    """Return what is free by now: after loading a forest's worth again."""
    if (libc := _glibc("malloc_trim")) is not None:
        libc.malloc_trim(0)


def _glibc(function: str) -> Any:
    """The C library, where it has that function."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, function) else None
