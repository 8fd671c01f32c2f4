"""One round of votes: each is asked of one holder, and of the next one where that fails or takes longer than it
usually does.

The first that casts a vote wins, and a question of which nothing is wanted any more is taken back (Dean and Barroso,
"The tail at scale", 2013: hedged requests). Waiting for a holder's own 95th percentile first keeps the extra votes at a
twentieth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from p2pml.errors import BadInput, PeerUnreachable, RemoteError
from p2pml.gossip import Member

from .ballots import Ballot, Cast
from .covering import Choose

UNKNOWN = 0.5
"""The share of the time that is left after which others are asked too, where nobody knows how long a holder takes: it
may be one on whose connection next to nothing comes."""

EARLY = 1e-6
"""Seconds by which a wait may end early, as clocks are rounded: to wait for so little again may be to wait for ever."""


class Round:
    """The votes of some models, by the id of the peer that trained each."""

    def __init__(
        self,
        holders: Mapping[str, Sequence[Member]],
        choose: Choose,
        ask: Callable[[Member, list[str]], Coroutine[Any, Any, Mapping[str, Cast]]],
        after: Callable[[Member, int], float | None],
        unreachable: Callable[[Member, str], None],
    ) -> None:
        """`choose` says whom to ask for which votes; `ask` asks one holder for some, and after `after` seconds, of a
        holder and a number of votes, others are asked too (None: nobody knows). Who does not answer is told to
        `unreachable`."""
        self.cast: dict[str, tuple[Ballot, Member]] = {}
        """Each vote, and who cast it."""
        self.why: dict[str, list[str]] = {voter: [] for voter in holders}
        """What stood in the way of each vote, holder by holder."""
        self.late: set[str] = set()
        """The votes that were still asked for when the time was up."""
        self._choose, self._ask, self._after, self._unreachable = choose, ask, after, unreachable
        self._holders = {holder.id: holder for each in holders.values() for holder in each}
        self._left = {voter: [holder.id for holder in each] for voter, each in holders.items()}
        self._out: dict[asyncio.Task[Mapping[str, Cast]], tuple[Member, list[str]]] = {}
        self._due: dict[asyncio.Task[Mapping[str, Cast]], float] = {}
        self._deadline = 0.0

    async def run(self, deadline: float) -> None:
        """Ask until all is cast, nobody is left to ask, or it is `deadline`, in the time of the loop."""
        loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._send(self.why)
        try:
            while self._out:
                if (now := loop.time()) + EARLY >= deadline:
                    break
                left = max(0.0, min([deadline, *self._due.values()]) - now)
                done, _ = await asyncio.wait(self._out, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                again = [voter for task in done for voter in self._settled(task)]
                self._take_back()
                again += self._overdue(loop.time() + EARLY)
                self._send(again)
            for holder, voters in self._out.values():
                self.late |= set(voters) - self.cast.keys()
                # The next asker need not wait for this one as long.
                self._unreachable(holder, "it let a deadline pass")
        finally:
            for task in list(self._out):
                self._drop(task)

    def first(self) -> dict[str, list[str]]:
        """Which votes it would ask of whom to begin with, by id."""
        left = {voter: each for voter, each in self._left.items() if each}
        return self._choose(left) if left else {}

    def refused(self, voter: str, holder: Member, why: str) -> None:
        """A holder does not cast this vote."""
        if holder.id in self._left[voter]:
            self._left[voter].remove(holder.id)
        self.why[voter].append(why if holder.id == voter else f"{holder.name}, which holds a replica: {why}")

    def _send(self, voters: Iterable[str]) -> None:
        """Ask one more holder for each of these votes, where one is left."""
        loop = asyncio.get_running_loop()
        left = {voter: self._left[voter] for voter in voters if voter not in self.cast and self._left[voter]}
        for id, chosen in self._choose(left).items() if left else ():
            for voter in chosen:
                self._left[voter].remove(id)
            holder = self._holders[id]
            task = loop.create_task(self._ask(holder, chosen))
            self._out[task] = holder, chosen
            if any(self._left[voter] for voter in chosen):
                patience = self._after(holder, len(chosen))
                now = loop.time()
                self._due[task] = now + (UNKNOWN * (self._deadline - now) if patience is None else patience)

    def _settled(self, task: asyncio.Task[Mapping[str, Cast]]) -> list[str]:
        """The votes that were asked for and are still open, of a question that came to its end."""
        holder, voters = self._out.pop(task)
        self._due.pop(task, None)
        match task.exception():
            case None:
                for voter, cast in task.result().items():
                    if isinstance(cast, Ballot):
                        self.cast.setdefault(voter, (cast, holder))
                    else:
                        self.refused(voter, holder, cast.why)
            case RemoteError() | BadInput() as error:
                if isinstance(error, PeerUnreachable):
                    self._unreachable(holder, str(error))
                for voter in voters:
                    self.refused(voter, holder, str(error))
            case error:
                raise error
        return voters

    def _overdue(self, now: float) -> list[str]:
        """The votes that take longer than they usually do."""
        overdue = [task for task, due in self._due.items() if due <= now]
        for task in overdue:
            del self._due[task]
        return [voter for task in overdue for voter in self._out[task][1]]

    def _take_back(self) -> None:
        """Cancel the questions of which all was answered by others."""
        for task, (_, voters) in list(self._out.items()):
            if all(voter in self.cast for voter in voters):
                self._drop(task)

    def _drop(self, task: asyncio.Task[Mapping[str, Cast]]) -> None:
        del self._out[task]
        self._due.pop(task, None)
        task.cancel()
        # What a loser says comes too late to matter.
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
