"""Bugs to plant in the protocol, one at a time: what a simulation must find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2pml.gossip import Status
from p2pml.gossip.catalogue import Catalogue
from p2pml.gossip.context import Context
from p2pml.gossip.healing import Healing
from p2pml.gossip.membership import Membership
from p2pml.gossip.records import merge
from p2pml.gossip.suspicion import Suspicions
from p2pml.gossip.sync import Sync


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
