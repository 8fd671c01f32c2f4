"""Rare turns: where the daemon has a choice, a simulation may have it take the one that hardly ever comes.

After the BUGGIFY of FoundationDB (Zhou et al., SIGMOD 2021, §4). Every turn must be one that the world can force:
a lost answer, a late thread, a timer that fires behind its time. Outside of a simulation none is ever taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONG = 3.0
"""Seconds that a rare wait takes: longer than the deadlines that simulations set."""

_choose: Callable[[str], bool] | None = None


def buggify(site: str) -> bool:
    """Whether to take the rare turn at `site`."""
    return _choose is not None and _choose(site)


@contextmanager
def rare_turns(choose: Callable[[str], bool]) -> Iterator[None]:
    """Let `choose` decide, by site, as long as this lasts."""
    global _choose
    before, _choose = _choose, choose
    try:
        yield
    finally:
        _choose = before
