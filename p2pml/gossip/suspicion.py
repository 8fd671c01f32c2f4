"""Suspicion: how long a member has to refute, and when its silence is a verdict of death.

The more members accuse independently, the sooner (Lifeguard §4.2). Beyond Lifeguard, an early verdict takes
enough accusers; any verdict takes word from a third member since the suspicion began (who hears nobody is cut
off itself), and a last probe that fails. A process that stood still moves all deadlines by as long as it stood.

A network that comes back is noticed by who speaks: a member held dead, or a suspect among so many that they look
like the other side of a split. Then verdicts are frozen for a while, a few tell each suspect, and suspicions that come
from others are looked into instead of believed. A suspicion is frozen a few times only, so that no death is put off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Protocol

from .context import Context
from .records import Record
from .settings import Settings

CONFIRMATIONS = 3
"""Independent confirmations after which nothing is gained by waiting (Lifeguard §4.2, K)."""

HEARING_GRACE = 2.0
"""Probe intervals between the first word from a third member and a verdict: time for one probe and its answer,
for the case that this node was cut off and has only just begun to hear again."""

HEALING_GRACE = 2.0
"""Probe intervals for which verdicts are frozen once the lost speak again: time to tell each, and for its answer."""

SPLIT_SHARE = 0.25
"""Share of the members that, suspected all at once, look like a split of the network and not like a few crashes."""

FREEZES_LIMIT = 3
"""How often one suspicion is frozen: members that come and go cannot put a death off for more than a few seconds."""

WITNESSES = 5
"""Members that probe a suspect as soon as they hear of an accusation: enough that three confirm it, and no crowd."""

WITNESS_HELPERS = 1
"""Members that each of them asks for help: the accuser has asked its own already."""

JUDGED_LATER = 3.0
"""Probe intervals by which most members of a large cluster judge later than the accusers and a few others: the news
of the verdict takes less, and spares each of them a last probe and the last words."""

DEAF = 10.0
"""Probe intervals without a word from anybody after which this node is the one that is cut off: more than there are
between two probes of a member at its lowest health."""

CONFIRMED_GRACE = 0.5
"""Probe intervals that a suspect has, at least, where a confirmation brings its deadline forward to now."""

LAST_WORDS = (0.25, 0.03, 0.005)
"""Probe intervals before a verdict at which the suspect is told once more: the network may be back since the probe.
The last leaves time for little more than a packet and its answer."""

OVERTAKEN = 64
"""How many more steps may stand in the schedule than there are suspicions: what was overtaken is not taken out."""


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


class Doubt(Protocol):
    """Probes a member at once; `helpers`: how many members may be asked for help, by default as many as in a round."""

    def __call__(self, peer: str, *, helpers: int | None = None) -> None: ...


@dataclass(slots=True)
class Suspicion:
    """One suspected member: since when, and since when a third member was heard meanwhile.

    `patience` is for how long it is left to others to judge first (s). `frozen` is when the earliest verdict is, since
    something spoke against it; `freezes` counts how often. `due` is when its next `step` is taken: the last probe, the
    last words, the verdict.
    """

    subject: str
    started: float
    patience: float
    accusers: int = 0
    deadline: float = 0.0
    step: int = 0
    due: float = math.inf
    heard: float | None = None
    waiting: bool = False
    answered: float = -math.inf
    frozen: float = -math.inf
    freezes: int = 0


class Suspicions:
    """All suspicions of one node."""

    def __init__(self, context: Context, verdict: Callable[[str], None], doubt: Doubt) -> None:
        """Suspect nobody. `verdict` declares a member dead; `doubt` probes one at once."""
        self._context = context
        self._verdict = verdict
        self._doubt = doubt
        self._open: dict[str, Suspicion] = {}
        self.unheard: dict[str, Suspicion] = {}
        """Suspicions since which no third member was heard."""
        self._returning: set[str] = set()
        self._healing = -math.inf
        self._spoke: str | None = None
        # One timer for all, as where many are suspected one for each is most of what that takes.
        self._steps: list[tuple[float, str]] = []
        self._timer = 0
        self._armed = math.inf
        # Made once, for the same reason.
        self._later = JUDGED_LATER * context.settings.probe_interval

    def __len__(self) -> int:
        """Count the suspects."""
        return len(self._open)

    def update(self, record: Record) -> None:
        """Begin a suspicion, or count the accusers of one that is open."""
        suspicion = self._open.get(record.id)
        if suspicion is None:
            suspicion = self._open[record.id] = Suspicion(record.id, self._context.now, self._patience())
            self.unheard[record.id] = suspicion
        if self._context.me.id in record.accusers:
            suspicion.patience = 0.0
        # Names that nobody knows are no independent witnesses.
        is_live, suspicion.accusers = self._context.members.is_live, 0
        for accuser in record.accusers:
            if accuser != record.id and is_live(accuser):
                suspicion.accusers += 1
        if not suspicion.waiting:
            self._schedule(suspicion)

    def is_witness(self) -> bool:
        """Whether this is one of the few members whom chance chooses to look into a suspicion."""
        # Where most have crashed, few of those who are asked still live.
        context = self._context
        sound = context.members.live - len(self._open)
        return context.settings.lifeguard and context.rng.random() * sound < WITNESSES

    def _patience(self) -> float:
        context = self._context
        first = not context.settings.lifeguard or context.rng.random() * context.members.live < WITNESSES
        return 0.0 if first else self._later

    def close(self, subject: str) -> None:
        """End a suspicion: it was refuted, or overtaken."""
        self._returning.discard(subject)
        suspicion = self._open.pop(subject, None)
        if suspicion is not None:
            self.unheard.pop(subject, None)
            if not self._open:
                self._disarm()

    def heard_from(self, sender: str) -> None:
        """Note word from a live member: this node can hear, so silence begins to mean something."""
        unheard = self.unheard
        # Another dictionary, as one from which all is taken keeps its room.
        self.unheard = {} if sender not in unheard else {sender: unheard[sender]}
        for suspicion in [one for one in unheard.values() if one.subject != sender]:
            suspicion.heard = self._context.now
            if suspicion.waiting:
                suspicion.waiting = False
                suspicion.started = self._context.now
                self._schedule(suspicion)
                self._doubt(suspicion.subject)

    def lost_one_speaks(self, record: Record) -> bool:
        """Note word from a suspect or a member held dead; say whether a network split seems to end just now."""
        if not self._context.settings.lifeguard:
            return False
        suspicion = self._open.get(record.id)
        if suspicion is not None:
            if self._freeze(suspicion):
                self._spoke = record.id
            split = len(self._open) > 1 and len(self._open) >= SPLIT_SHARE * self._context.members.live
        else:
            # One that speaks and cannot hear is a sign only the first time.
            split = record.id not in self._returning
            self._returning.add(record.id)
        return split and not self.healing

    def look_into(self, sender: str) -> None:
        """Probe a suspect that has just spoken, unless it has refuted in the same breath."""
        spoke, self._spoke = self._spoke, None
        if spoke == sender and sender in self._open and self.is_witness():
            self._doubt(sender)

    def freeze(self) -> None:
        """Pass no verdict for a while, and tell the suspects: the network is coming back."""
        self._healing = self._context.now + HEALING_GRACE * self._context.settings.probe_interval
        for suspicion in self._open.values():
            if self._freeze(suspicion) and self.is_witness():
                self._doubt(suspicion.subject)

    @property
    def healing(self) -> bool:
        """Whether the network seems to be just coming back."""
        return self._context.now < self._healing

    def is_frozen(self, subject: str) -> bool:
        """Whether something has just spoken against a verdict on a member."""
        suspicion = self._open.get(subject)
        return self.healing or (suspicion is not None and self._context.now < suspicion.frozen)

    def _freeze(self, suspicion: Suspicion) -> bool:
        """Put a verdict off for a while, unless it already is or was too often; say so."""
        context = self._context
        if suspicion.freezes == FREEZES_LIMIT or context.now < suspicion.frozen:
            return False
        suspicion.freezes += 1
        suspicion.frozen = context.now + HEALING_GRACE * context.settings.probe_interval
        if not suspicion.waiting and suspicion.deadline < suspicion.frozen:
            self._await(suspicion, suspicion.frozen)
        return True

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
        # A confirmation may bring the deadline forward to now, but the suspect is heard first.
        soonest = context.now + CONFIRMED_GRACE * context.settings.probe_interval
        if context.now < suspicion.deadline < soonest:
            soonest = suspicion.deadline
        deadline = max(soonest, suspicion.started + span + suspicion.patience, suspicion.frozen)
        if deadline != suspicion.deadline:
            self._await(suspicion, deadline)

    def _await(self, suspicion: Suspicion, deadline: float) -> None:
        """Arrange the last probe, so that it has just failed at the deadline, or not."""
        settings = self._context.settings
        suspicion.deadline, suspicion.step = deadline, 0
        self._arrange(suspicion, deadline - settings.probe_interval if settings.lifeguard else deadline)

    # The steps to a verdict.

    def _arrange(self, suspicion: Suspicion, due: float) -> None:
        """Take the next step at a time, in place of any that was arranged."""
        suspicion.due = due
        heappush(self._steps, (due, suspicion.subject))
        if len(self._steps) > 2 * len(self._open) + OVERTAKEN:
            self._steps = [(one.due, one.subject) for one in self._open.values() if one.due < math.inf]
            heapify(self._steps)
        self._arm(due)

    def _arm(self, at: float) -> None:
        if at < self._armed:
            context = self._context
            context.cancel(self._timer)
            self._armed, self._timer = at, context.timer(at - context.now, self._go_on)

    def _disarm(self) -> None:
        self._context.cancel(self._timer)
        self._steps.clear()
        self._armed = math.inf

    def _go_on(self) -> None:
        """Take all steps that are due."""
        now, self._armed = max(self._armed, self._context.now), -math.inf
        steps = self._steps
        while steps and (steps[0][0] <= now or self._is_overtaken(*steps[0])):
            due, subject = heappop(steps)
            if not self._is_overtaken(due, subject):
                self._step(self._open[subject])
                steps = self._steps
        self._armed = math.inf
        if steps:
            self._arm(steps[0][0])

    def _is_overtaken(self, due: float, subject: str) -> bool:
        suspicion = self._open.get(subject)
        return suspicion is None or suspicion.due != due

    def _step(self, suspicion: Suspicion) -> None:
        """Probe the suspect a last time; then tell it a few times, and then pass the verdict."""
        context, step = self._context, suspicion.step
        suspicion.step, suspicion.due = step + 1, math.inf
        if step > len(LAST_WORDS) or not context.settings.lifeguard:
            self._expired(suspicion)
            return
        if step:
            record = context.members.get(suspicion.subject)
            assert record is not None
            context.send_to(record)
        elif not self._last_probe(suspicion):
            return
        left = LAST_WORDS[step] if step < len(LAST_WORDS) else 0.0
        self._arrange(suspicion, suspicion.deadline - left * context.settings.probe_interval)

    def _last_probe(self, suspicion: Suspicion) -> bool:
        """Probe a suspect, unless this node hears nobody; say so."""
        context = self._context
        deaf_since = context.now - DEAF * context.settings.probe_interval
        if context.members.live > 2 and context.health.last_word < deaf_since and suspicion.started < deaf_since:
            # It heard somebody at first, and nobody lately: it begins anew where it hears again.
            suspicion.waiting = True
            self.unheard[suspicion.subject] = suspicion
            return False
        self._doubt(suspicion.subject, helpers=0)  # all who know of the suspicion probe now
        return True

    def _expired(self, suspicion: Suspicion) -> None:
        context = self._context
        if context.settings.lifeguard:
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
