"""Bugs to plant in the protocol and in the daemon, one at a time: what a simulation must find."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from p2pml.ensemble.combine import combine
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
from p2pml.peer import asking, combining, daemon, identity, store, training
from p2pml.simulations.daemons import CALM, NO_ERROR, STAYS
from p2pml.simulations.promises import BOOTED, BOUNDED, FORWARD
from p2pml.simulations.reports import LATE, UNTRUE

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
    patch.setattr(Membership, "_hear_of_later_run", lambda self, claim: None)


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


PLANTS = {
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


def late_vote_awaited(patch: pytest.MonkeyPatch) -> None:
    """A vote that is not there by the deadline is taken for one that is."""
    patch.setattr(
        asking.Asker, "_outcome", lambda self, *of: next(one for one in of if hasattr(one, "result")).result()
    )


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


DAEMON_PLANTS: dict[Plant, tuple[str, str, int]] = {
    counted_twice: ("churn", UNTRUE, 0),
    torn_file_trusted: ("disk-faults", STAYS, 1),
    no_deadline: ("flap", LATE, 0),
    late_vote_awaited: ("swarm", NO_ERROR, 1),
    uncommitted_fit: ("churn", FORWARD, 3),
    news_for_ever: ("churn", CALM, 0),
    news_never_replaced: ("churn", BOUNDED, 0),
    undecided_version: ("byzantine", NO_ERROR, 0),
    another_self: ("churn", BOOTED, 0),
}
"""Each with a scenario that finds it soon, the property that it breaks, and a seed soon before one that finds it."""

SHRUNK = (counted_twice, no_deadline)
"""Those whose schedules every run of the tests shrinks: the others take longer."""
