"""Which peers hold replicas of a model: rendezvous hashing (Thaler and Ravishankar 1998), the same for all who see
the same peers, and when one comes or goes, only its own share moves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from heapq import nsmallest


def keepers(owner: str, live: Iterable[str], count: int) -> list[str]:
    """The `count` of these peers that should hold `owner`'s model, the first one first; never the owner itself."""
    return nsmallest(count, (peer for peer in live if peer != owner), key=lambda peer: _weight(owner, peer))


@lru_cache(maxsize=2**16)
def _weight(owner: str, peer: str) -> bytes:
    return hashlib.sha256(f"{owner} {peer}".encode()).digest()
