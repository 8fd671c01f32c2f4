"""Laws of fits that are asked for at once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from p2pml.ensemble.summary import Epoch, FitCommand
from p2pml.peer.fitting import Fitting
from p2pml.peer.training import Trainer
from p2pml.peer.voting import Voting


class Disk:
    """A trainer that never ends, and remembers which fits it was to keep."""

    def __init__(self) -> None:
        self.kept: list[FitCommand] = []

    def keep_wish(self, command: FitCommand) -> None:
        self.kept.append(command)

    async def train(self, command: FitCommand) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        """There is nothing to free."""


async def test_of_two_fits_at_once_the_older_is_never_the_last_on_disk() -> None:
    """While the later one is being written the older one waits, and then is no news."""
    disk = Disk()
    fitting = Fitting(cast(Trainer, disk), cast(Voting, None), lambda: None)
    later, older = (FitCommand(Epoch(1, peer), None) for peer in ("b", "a"))
    await asyncio.gather(fitting.promise(later), fitting.promise(older))
    assert disk.kept == [later]
    assert fitting.wanted == later
    await fitting.close()
