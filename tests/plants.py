"""Bugs to plant in the protocol and in the daemon, one at a time: what a simulation must find."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from p2pml.ensemble import vote
from p2pml.ensemble.combine import combine
from p2pml.ensemble.sums import Sum
from p2pml.ensemble.vote import Vote
from p2pml.gossip import Status
from p2pml.gossip.broadcast import Broadcasts
from p2pml.gossip.catalogue import Catalogue
from p2pml.gossip.context import Context
from p2pml.gossip.healing import Healing
from p2pml.gossip.membership import Membership
from p2pml.gossip.records import merge
from p2pml.gossip.suspicion import Suspicions
from p2pml.gossip.sync import Sync
from p2pml.gossip.wire import Wire
from p2pml.peer import asking, combining, counting, daemon, identity, reach, relaying, store, training
from p2pml.peer.answers import Missing, Votes
from p2pml.peer.options import PeerOptions
from p2pml.simulations import machines
from p2pml.simulations.daemons import CALM, NO_ERROR, STAYS
from p2pml.simulations.promises import BOOTED, BOUNDED, FORWARD, READABLE
from p2pml.simulations.reports import LATE, UNTRUE, VOTES

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def lost_refutation(patch: pytest.MonkeyPatch) -> None:
    """Who is suspected does not say that it lives."""
    patch.setattr(Membership, "_refute", lambda self, claim: None)


def stale_timer(patch: pytest.MonkeyPatch) -> None:
    """What a cancelled timer was set for is done all the same."""
    patch.setattr(Context, "cancel", lambda self, token: None)


def skipped_write(patch: pytest.MonkeyPatch) -> None:
    """A delta's last write is skipped, and its version counted as known."""
    apply = Catalogue.apply
    patch.setattr(Catalogue, "apply", lambda self, delta: apply(self, delta._replace(writes=delta.writes[:-1])))


def last_word_wins(patch: pytest.MonkeyPatch) -> None:
    """Of two claims about one incarnation the later one heard is kept."""

    def planted(one: Any, other: Any) -> Any:
        same = (one.epoch, one.incarnation) == (other.epoch, other.incarnation)
        return other if same else merge(one, other)

    patch.setattr("p2pml.gossip.membership.merge", planted)


def hasty_verdict(patch: pytest.MonkeyPatch) -> None:
    """A suspect is dead after one and a half seconds."""
    patch.setattr(Suspicions, "_schedule", lambda self, one: self._await(one, self._context.now + 1.5))


def forgotten_dead(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for the dead and the seeds."""
    patch.setattr(Healing, "tick", lambda self: None)


def lost_generation(patch: pytest.MonkeyPatch) -> None:
    """Who has lost its count of generations does not take a later one."""
    patch.setattr(Membership, "_hear_of_later_run", lambda self, claim, itself: None)


def forged_incarnation(patch: pytest.MonkeyPatch) -> None:
    """A verdict raises the incarnation of whom it is passed on."""

    def planted(self: Any, peer: str) -> None:
        known = self._context.members.get(peer)
        self._adopt(known, replace(known, status=Status.DEAD, accusers=(), incarnation=known.incarnation + 1))

    patch.setattr(Membership, "declare_dead", planted)


def untold_write(patch: pytest.MonkeyPatch) -> None:
    """A write of the catalogue is neither told nor compared."""
    patch.setattr(Context, "spread_head", lambda self, record: None)
    patch.setattr(Sync, "on_state", lambda self, peer, state: None)


def own_death(patch: pytest.MonkeyPatch) -> None:
    """Who hears of its death believes it."""
    patch.setattr(
        Membership, "_refute", lambda self, claim: self._context.claim(replace(self._context.own, status=claim.status))
    )


def no_suspicion(patch: pytest.MonkeyPatch) -> None:
    """No deadline runs for a suspect."""
    patch.setattr(Suspicions, "update", lambda self, record: None)


PLANTS: dict[Plant, tuple[str, float]] = {
    lost_refutation: ("swarm", 30.0),
    stale_timer: ("swarm", 30.0),
    skipped_write: ("swarm", 30.0),
    last_word_wins: ("swarm", 30.0),
    hasty_verdict: ("swarm", 30.0),
    forgotten_dead: ("partition", 60.0),
    lost_generation: ("swarm", 30.0),
    forged_incarnation: ("swarm", 30.0),
    untold_write: ("swarm", 30.0),
    own_death: ("swarm", 30.0),
    no_suspicion: ("swarm", 30.0),
}
"""Each with a scenario and a length in s that find it soon."""


# In the daemon.


def counted_twice(patch: pytest.MonkeyPatch) -> None:
    """The first vote is combined twice, and counted once."""
    patch.setattr(combining, "combine", lambda ballots, *how, **why: combine([*ballots, ballots[0]], *how, **why))


def added_twice(patch: pytest.MonkeyPatch) -> None:
    """The first sum of votes is added up twice, and its votes are counted once."""

    class Twice:
        @staticmethod
        def total(sums: list[Sum]) -> Sum:
            return Sum.total([*sums, sums[0]])

    patch.setattr(relaying, "WIDE", 0)
    patch.setattr(combining, "Sum", Twice)


def torn_file_trusted(patch: pytest.MonkeyPatch) -> None:
    """What is read from disk is not held to its digest."""

    def read(self: store.Store, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes()[store._HEAD :] if path.exists() else None

    patch.setattr(store.Store, "read", read)


def no_deadline(patch: pytest.MonkeyPatch) -> None:
    """The asker waits for everybody three times as long as it was told."""
    ask = asking.Asker.ask

    def longer(self: asking.Asker, *rows: Any, seconds: float, **how: Any) -> Any:
        return ask(self, *rows, seconds=3 * seconds, **how)

    patch.setattr(asking.Asker, "ask", longer)


def missing_vote_counted(patch: pytest.MonkeyPatch) -> None:
    """A vote that did not come is counted among those that were cast."""

    def votes(cast: int, expected: int, missing: list[Missing]) -> Votes:
        return Votes(cast=expected, expected=expected, missing=missing)

    patch.setattr(counting, "Votes", votes)


def never_synced(patch: pytest.MonkeyPatch) -> None:
    """The new name of a file is made durable, and its content is not."""

    def write(path: Path, content: bytes) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    patch.setattr(store, "write_durably", write)


def uncommitted_fit(patch: pytest.MonkeyPatch) -> None:
    """Only the first training is remembered over a restart."""
    commit = training.Trainer._commit
    patch.setattr(
        training.Trainer,
        "_commit",
        lambda self, record: None if record["command"]["epoch"][0] else commit(self, record),
    )


def news_for_ever(patch: pytest.MonkeyPatch) -> None:
    """News is told again and again, however often it was."""
    patch.setattr("p2pml.gossip.context.transmit_limit", lambda *of: 10**9)


def news_never_replaced(patch: pytest.MonkeyPatch) -> None:
    """News is told for ever, and later news of a member does not take the place of earlier news of it."""
    news_for_ever(patch)
    numbers, put = itertools.count(), Broadcasts.put
    patch.setattr(Broadcasts, "put", lambda self, subject, *of: put(self, f"{subject} {next(numbers)}", *of))


def undecided_version(patch: pytest.MonkeyPatch) -> None:
    """A packet of another version is an error that nobody expects."""
    read = Wire.open

    def planted(self: Wire, data: bytes, limit: int) -> Any:
        if data and data[0] != 1:
            raise IndexError(data[0])
        return read(self, data, limit)

    patch.setattr(Wire, "open", planted)


def another_self(patch: pytest.MonkeyPatch) -> None:
    """Who starts again has another identity."""
    load = identity.load_identity

    def planted(of: store.Store) -> Any:
        if (of.folder / "generation").exists():
            (of.folder / "identity").unlink()
        return load(of)

    patch.setattr(daemon, "load_identity", planted)


def written_in_place(patch: pytest.MonkeyPatch) -> None:
    """A file is written where it will be, so that who dies meanwhile leaves half of it."""

    def write(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    patch.setattr(store, "write_durably", write)


def vote_trusted(patch: pytest.MonkeyPatch) -> None:
    """A vote is taken as it comes, whatever is said to be probabilities; nobody holds a replica that votes instead."""

    def read(data: Any, rows: int) -> Vote:
        return Vote(tuple(data["classes"]), np.frombuffer(data["values"], "<f8").reshape(rows, len(data["classes"])))

    patch.setattr(vote, "_read", read)
    patch.setattr(machines, "PeerOptions", partial(PeerOptions, replicas=0))


def silence_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A peer that did not answer once is never asked again; nobody holds a replica, which would hide it."""

    async def never(self: reach.Reach, id: str) -> None:
        await asyncio.Event().wait()

    patch.setattr(reach.Reach, "_check", never)
    patch.setattr(machines, "PeerOptions", partial(PeerOptions, replicas=0))


DAEMON_PLANTS: dict[Plant, tuple[str, str, int]] = {
    counted_twice: ("churn", UNTRUE, 0),
    added_twice: ("churn", UNTRUE, 0),
    torn_file_trusted: ("disk-faults", STAYS, 5),
    no_deadline: ("flap", LATE, 0),
    missing_vote_counted: ("swarm", UNTRUE, 1),
    uncommitted_fit: ("churn", FORWARD, 3),
    news_for_ever: ("churn", CALM, 0),
    news_never_replaced: ("churn", BOUNDED, 0),
    undecided_version: ("byzantine", NO_ERROR, 0),
    another_self: ("churn", BOOTED, 0),
    written_in_place: ("disk-faults", READABLE, 0),
    never_synced: ("disk-faults", READABLE, 12),
    vote_trusted: ("byzantine", UNTRUE, 6),
    silence_for_ever: ("flap", VOTES, 0),
}
"""Each with a scenario that finds it soon, the property that it breaks, and a seed soon before one that finds it."""

SHRUNK = (counted_twice, news_never_replaced, another_self)
"""Those whose schedules every run of the tests shrinks: the others take longer."""
