"""Votes through others: where too many peers would have to be asked, a few ask the others and add up what they hear.

Of H peers about √H are asked for a sum, each for those of about √H peers, itself among them: the least that anybody
then has to ask. What does not come so, or comes late, is asked for directly, so a peer between that dies, or that is of
an older version, costs questions and no vote.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from p2pml.errors import BadInput, PeerUnreachable, RemoteError
from p2pml.gossip import Member

from .adding import Partial
from .ballots import Ballot
from .pace import FLOOR
from .placing import keepers
from .round import Round

WIDE = 32
"""Peers that are asked one by one, at most: from about 30 on, sums take less time, with half the processor of the asker
(`tests/benchmarks/serving/relays.py`)."""
SHARE = 0.5
"""The share of what is left that the sum has to come in: in the rest, what did not come is asked for directly."""
IN_TIME = 0.8
"""The share of that in which the peers behind have to vote, so that what came by then is sent in time."""
RUSHED = 0.1
"""The share of what is left that a vote may usually take: where it takes more, it may come too late through another."""
SLOW = 2.0
"""How many times what a sum usually takes is waited before its votes are asked for directly: that costs as many
questions as there are peers behind it."""
REST, LACKING = 60.0, 5.0
"""Seconds for which a peer is not asked for sums after none came, of an older version or of a liar, or one that lacked
votes that others cast: it may be cut off from them, or not have heard of a new model yet."""


def grouped(asked: Mapping[str, Sequence[str]], me: str, ahead: Mapping[str, float]) -> dict[str, list[str]]:
    """Which votes to ask of which peer between, from which would be asked of whom. These are of those that can be, with
    the seconds that each lately cost beside the votes; of who is alike, each asker has others (see `keepers`)."""
    steps = {id: int(seconds / FLOOR).bit_length() for id, seconds in ahead.items()}
    relays = sorted(keepers(me, ahead, len(ahead)), key=steps.__getitem__)[: math.isqrt(max(len(asked) - 1, 0)) + 1]
    groups = {relay: list(asked[relay]) for relay in relays}
    others = [holder for holder in asked if holder not in groups]
    for at, holder in enumerate(others if relays else ()):
        groups[relays[at % len(relays)]] += asked[holder]
    return groups


class Group:
    """The votes that are asked of one peer between."""

    def __init__(
        self,
        relay: Member,
        voters: Sequence[str],
        ask: Callable[[], Coroutine[Any, Any, Partial]],
        after: float | None,
        directly: Callable[[Collection[str]], Round],
        unreachable: Callable[[Member, str], None],
    ) -> None:
        """`ask` asks the peer `relay`; `directly` begins a round of some of its votes, at the latest `after` seconds
        later. Where it does not answer, `unreachable` is told."""
        self.partial: Partial | None = None
        self.round: Round | None = None
        """The round of what was asked for directly."""
        self.rest = 0.0
        """Seconds for which others had better be asked for sums than this peer."""
        self.relay, self.voters, self._ask, self._after = relay, voters, ask, after
        self._directly, self._unreachable = directly, unreachable

    @property
    def cast(self) -> dict[str, tuple[Ballot, Member]]:
        """The votes that are in no sum, and who cast each."""
        directly = self.round.cast if self.round else {}
        return {voter: each for voter, each in directly.items() if voter not in self._counted}

    @property
    def _counted(self) -> set[str]:
        return {each.owner for each in self.partial.counted} if self.partial else set()

    async def run(self, deadline: float) -> None:
        """Ask until all is cast, nobody is left to ask, or it is `deadline`, in the time of the loop."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._through())]
        try:
            pending: set[asyncio.Task[None]]
            _, pending = await asyncio.wait(tasks, timeout=self._after)
            if left := self._open():
                self.round = self._directly(left)
                tasks.append(loop.create_task(self.round.run(deadline)))
                pending.add(tasks[-1])
            while pending and self._open():
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if self.cast and tasks[0].done():
                self.rest = LACKING if self.partial else REST
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _through(self) -> None:
        """Ask the peer between."""
        try:
            self.partial = await self._ask()
        except (RemoteError, BadInput) as error:
            if isinstance(error, PeerUnreachable):
                self._unreachable(self.relay, str(error))

    def _open(self) -> list[str]:
        """The votes that have not come."""
        had = self.cast.keys() | self._counted
        return [voter for voter in self.voters if voter not in had]
