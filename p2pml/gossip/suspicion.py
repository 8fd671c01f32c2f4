"""Suspicion: how long a member has to refute, and when its silence is a verdict of death.

The more members accuse independently, the sooner (Lifeguard §4.2). Beyond Lifeguard, an early verdict takes
enough accusers; any verdict takes word from a third member since the suspicion began (who hears nobody is cut
off itself), and a last probe that fails. A process that stood still moves all deadlines by as long as it stood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .context import Context
from .records import Record
from .settings import Settings

CONFIRMATIONS = 3
"""Independent confirmations after which nothing is gained by waiting (Lifeguard §4.2, K)."""

HEARING_GRACE = 2.0
"""Probe intervals between the first word from a third member and a verdict: time for one probe and its answer,
for the case that this node was cut off and has only just begun to hear again."""


def timeout(settings: Settings, live: int, accusers: int) -> float:
    """Say how long a suspicion lasts, in s, with so many members and accusers.

    The longest time is in proportion to how many could confirm: where nobody else can, there is nothing to
    wait for. Before min(3, live - 2) accuse, only the longest time will do.
    """
    shortest = settings.suspicion_alpha * max(1.0, math.log10(live)) * settings.probe_interval
    possible = min(CONFIRMATIONS, live - 2)
    if possible < 1:
        return shortest
    longest = shortest * (1 + (settings.suspicion_beta - 1) * possible / CONFIRMATIONS)
    if accusers < possible:
        return longest
    share = math.log(accusers) / math.log(possible + 1)
    return max(shortest, longest - (longest - shortest) * share)


@dataclass(slots=True)
class Suspicion:
    """One suspected member: since when, and since when a third member was heard meanwhile."""

    subject: str
    started: float
    accusers: int = 0
    deadline: float = 0.0
    token: int = 0
    heard: float | None = None
    waiting: bool = False
    answered: float = -math.inf


class Suspicions:
    """All suspicions of one node."""

    def __init__(self, context: Context, verdict: Callable[[str], None], doubt: Callable[[str], None]) -> None:
        """Suspect nobody. `verdict` declares a member dead; `doubt` probes one at once."""
        self._context = context
        self._verdict = verdict
        self._doubt = doubt
        self._open: dict[str, Suspicion] = {}
        self._unheard: dict[str, Suspicion] = {}

    def __len__(self) -> int:
        """Count the suspects."""
        return len(self._open)

    def update(self, record: Record) -> None:
        """Begin a suspicion, or count the accusers of one that is open."""
        suspicion = self._open.get(record.id)
        if suspicion is None:
            suspicion = self._open[record.id] = Suspicion(record.id, self._context.now)
            self._unheard[record.id] = suspicion
        # Names that nobody knows are no independent witnesses.
        suspicion.accusers = sum(
            self._context.members.is_live(accuser) for accuser in record.accusers if accuser != record.id
        )
        if not suspicion.waiting:
            self._schedule(suspicion)

    def close(self, subject: str) -> None:
        """End a suspicion: it was refuted, or overtaken."""
        suspicion = self._open.pop(subject, None)
        if suspicion is not None:
            self._unheard.pop(subject, None)
            self._context.cancel(suspicion.token)

    def heard_from(self, sender: str) -> None:
        """Note word from a live member: this node can hear, so silence begins to mean something."""
        for suspicion in [one for one in self._unheard.values() if one.subject != sender]:
            del self._unheard[suspicion.subject]
            suspicion.heard = self._context.now
            if suspicion.waiting:
                suspicion.waiting = False
                suspicion.started = self._context.now
                self._schedule(suspicion)
                self._doubt(suspicion.subject)

    def answered(self, subject: str) -> None:
        """Note that a suspect answered a probe, and so was told; its refutation should be on its way."""
        suspicion = self._open.get(subject)
        if suspicion is not None:
            suspicion.answered = self._context.now

    def shift(self, lateness: float) -> None:
        """Give every suspect as much more time as this process stood still."""
        for suspicion in self._open.values():
            suspicion.started += lateness
            if not suspicion.waiting:
                self._schedule(suspicion)

    def _schedule(self, suspicion: Suspicion) -> None:
        context = self._context
        span = timeout(context.settings, context.members.live, suspicion.accusers)
        self._await(suspicion, max(context.now, suspicion.started + span))

    def _await(self, suspicion: Suspicion, deadline: float) -> None:
        """Arrange the last probe, so that it has just failed at the deadline, or not."""
        context = self._context
        suspicion.deadline = deadline
        context.cancel(suspicion.token)
        begin = deadline - context.settings.probe_interval
        suspicion.token = context.timer(begin - context.now, lambda: self._last_probe(suspicion))

    def _last_probe(self, suspicion: Suspicion) -> None:
        context = self._context
        self._doubt(suspicion.subject)
        suspicion.token = context.timer(suspicion.deadline - context.now, lambda: self._expired(suspicion))

    def _expired(self, suspicion: Suspicion) -> None:
        context = self._context
        if context.now <= suspicion.answered + context.settings.probe_interval:
            self._await(suspicion, context.now + context.settings.probe_interval)
            return
        if context.members.live > 2:
            if suspicion.heard is None:
                suspicion.waiting = True
                return
            hearing = suspicion.heard + HEARING_GRACE * context.settings.probe_interval
            if context.now < hearing:
                self._await(suspicion, hearing)
                return
        self._verdict(suspicion.subject)
