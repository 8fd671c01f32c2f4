"""Fit across the cluster: every live peer is told at once, and its end is awaited over the same connection.

Gossip spreads the command too, so a peer that cannot be reached directly still trains. A peer that is killed
breaks its connection, and one that vanishes without a word is given up when the protocol declares it dead.
"""

from __future__ import annotations

import asyncio

import msgspec

from p2pml.ensemble.summary import Epoch, FitCommand
from p2pml.errors import BadInput, PeerUnreachable, RemoteError
from p2pml.gossip import Member, Node, Status

from .answers import Epoch as ShownEpoch
from .answers import Fitted, FittedPeer
from .colleagues import Colleagues
from .fitting import Fitting
from .reach import Reach
from .voting import Voting
from .wire import PeerWire

FIT_PATH = "/v1/peer/fit"
LONGEST = 24 * 3600.0
"""Seconds that a training may take before its connection is given up."""
GLANCE = 0.5
"""Seconds between two looks at whether the protocol still believes a training peer alive."""


class Crew:
    """Has every peer train for one command, and reports what became of each."""

    def __init__(
        self,
        me: str,
        node: Node,
        colleagues: Colleagues,
        fitting: Fitting,
        voting: Voting,
        wire: PeerWire,
        reach: Reach,
    ) -> None:
        self._me = me
        self._node = node
        self._colleagues = colleagues
        self._fitting = fitting
        self._voting = voting
        self._wire = wire
        self._reach = reach

    async def fit(self, model: str | None, *, wait: bool) -> Fitted:
        """Retrain everywhere; raises `BadInput` where no peer could train `model`."""
        began = asyncio.get_running_loop().time()
        if model is not None:
            await self._check(model)
        highest = max(self._colleagues.highest_fit().epoch, self._fitting.wanted.epoch)
        command = FitCommand(Epoch(highest.counter + 1, self._me), model)
        live = [colleague.member for colleague in self._colleagues.all() if colleague.live]
        await self._fitting.promise(command)
        peers = await asyncio.gather(*(self._follow(member, command, wait) for member in live))
        return Fitted(
            epoch=ShownEpoch(counter=command.epoch.counter, peer=command.epoch.peer),
            peers=list(peers),
            took=asyncio.get_running_loop().time() - began,
        )

    async def fit_here(self, command: FitCommand, *, wait: bool) -> FittedPeer:
        """Train this peer's own part for `command`, or for a later one that takes its place."""
        await self._fitting.promise(command)
        me = self._node.me
        if not wait:
            return FittedPeer(id=me.id, name=me.name, status="started")
        await self._fitting.settled()
        why = self._fitting.failed(command.epoch)
        trained = self._voting.trained
        if why is not None or trained is None:
            return FittedPeer(id=me.id, name=me.name, status="failed", reason=why or "it has no model")
        return FittedPeer(
            id=me.id,
            name=me.name,
            status="trained",
            rows=trained.rows,
            took=self._fitting.took,
            metrics=trained.metrics,
        )

    async def _check(self, model: str) -> None:
        if ":" in model:
            raise BadInput(
                f"--model {model} names code, and what code runs on a machine is said there: start each peer "
                "with `p2pml peer start --model`, and fit without --model"
            )
        trained = self._voting.trained
        await asyncio.to_thread(_check_model, model, trained.schema.task if trained else "classification")

    async def _follow(self, member: Member, command: FitCommand, wait: bool) -> FittedPeer:
        if member.id == self._me:
            return await self.fit_here(command, wait=wait)
        body = msgspec.msgpack.encode({"command": command.to_data(), "wait": wait})
        asking = asyncio.create_task(self._wire.post(member, FIT_PATH, body, LONGEST))
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=GLANCE)
                if not asking.done() and (why := self._lost(member)):
                    return _gone(member, why)
            return _read(await asking, member)
        except PeerUnreachable as error:
            self._reach.failed(member, str(error))
            return _gone(member, f"{error} while it trained")
        except RemoteError as error:
            return _gone(member, str(error))
        finally:
            asking.cancel()

    def _lost(self, member: Member) -> str | None:
        now = self._node.member(member.id)
        if now is None or now.status in (Status.DEAD, Status.LEFT):
            return f"it is {now.status if now else Status.DEAD}"
        return "it was started anew" if now.generation != member.generation else None


def _check_model(model: str, task: str) -> None:
    # Imported here, in a thread, since scikit-learn takes a second that a starting peer does not have.
    from p2pml.ensemble.models import check_model

    check_model(model, task)


def _gone(member: Member, why: str) -> FittedPeer:
    return FittedPeer(id=member.id, name=member.name, status="missing", reason=why)


def _read(data: object, member: Member) -> FittedPeer:
    try:
        fitted = msgspec.convert(data, FittedPeer)
    except msgspec.ValidationError as error:
        raise RemoteError(f"its answer cannot be read: {error}") from error
    # A peer speaks of itself alone, whatever name its answer carries.
    fitted["id"], fitted["name"] = member.id, member.name
    return fitted
