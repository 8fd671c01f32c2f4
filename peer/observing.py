"""What this peer notices becomes events: members come and go, models are trained, questions are answered.

Everything here is told from this peer's own view. What other peers did is known by their entries in the catalogue,
a few seconds later than to themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import structlog

from p2pml.ensemble.summary import ModelState, Summary
from p2pml.errors import RemoteError
from p2pml.gossip import Member, Node, SetEntry, Status

from .alerts import Alert
from .alerts import read as read_alert
from .answers import DriftAlert, Evaluated, PeerRow, Peers, Votes
from .colleagues import Colleague, Colleagues
from .events import LISTENERS, Event, Events, Listener
from .fitting import Fitting
from .presenting import peer_row
from .problems import Busy
from .pulse import PULSE, Answered, EnsembleScore, LastTraining, Pulse, read, write
from .voting import Voting

HISTORY = 120
"""Answers and scores that a listener is shown of the time before it came: as many as a wide terminal has columns."""
ANSWERS_APART = 0.25
"""Seconds between two events of own answers; those between are counted in the next one."""
LOOKS = 6
"""Looks at the load, one every few seconds, over which it is told: half a minute."""
MAIN_METRICS = ("r2", "accuracy")
"""The score that people ask for first, of regression and of classification."""
MEANINGS = {
    "joined": "a peer joined",
    "suspected": "a peer does not answer; it is asked again for some seconds before it is taken for dead",
    "refuted": "a false alarm: the suspected peer answers; nothing has to be done",
    "died": "a peer is dead; replicas of its model vote, if others hold any, until it is back",
    "healed": "a peer that was taken for dead was only out of reach; it votes again, and nothing has to be done",
    "returned": "a peer was started again",
    "left": "a peer left; replicas of its model vote for a day, if others hold any",
}
"""What happened to a member, and what to do about it."""

log = structlog.get_logger()


class Observer:
    """Tells the events of one peer, and keeps the pulse that it shows to the others."""

    def __init__(
        self,
        node: Node,
        colleagues: Colleagues,
        fitting: Fitting,
        voting: Voting,
        peers: Callable[[], Peers],
        publish: Callable[[SetEntry], None],
    ) -> None:
        self._node = node
        self._colleagues = colleagues
        self._fitting = fitting
        self._voting = voting
        self._peers = peers
        self._publish = publish
        self.events = Events(f"{node.me.id[:12]}.{node.me.generation}")
        self.pulse = Pulse(started=round(time.time()))
        self.counts: Counter[str] = Counter()
        """Changes of members, by the kind of their event."""
        self.trainings: Counter[str] = Counter()
        """This peer's trainings that came to an end, by outcome: trained or failed."""
        self._told = b""
        self._generations: dict[str, int] = {}
        self._summaries: dict[str, Summary | None] = {}
        self._misfits: dict[str, str] = {}
        self._pulses: dict[str, Pulse] = {}
        self._trainings: dict[str, Event] = {}
        self._answers: deque[Event] = deque(maxlen=HISTORY)
        self._scores: deque[Event] = deque(maxlen=HISTORY)
        self._alerts: dict[str, Alert] = {}
        self._pending: list[tuple[float, int, Votes, float]] = []
        self._looks: deque[tuple[float, int]] = deque([(asyncio.get_running_loop().time(), 0)], maxlen=LOOKS)
        """When the load was looked at (s), and how many rows had been voted on by then."""

    def listen(self) -> Listener:
        """Somebody who listens from now on; raises `Busy` where there are too many."""
        if len(self.events.listeners) >= LISTENERS:
            raise Busy(f"{LISTENERS} programs listen to this peer, as many as it takes; listen to another one")
        return Listener(self.events, self.state, self.load)

    def state(self) -> Event:
        """All that a listener has to know to understand what comes next."""
        return {
            "at": round(time.time(), 3),
            "kind": "state",
            "peers": self._peers(),
            "pulses": self._pulses | {self._node.me.id: self.pulse},
            "trainings": list(self._trainings.values()),
            "answers": list(self._answers),
            "scores": list(self._scores),
            "alerts": self.alerts(),
            "gossip": self._gossip(),
        }

    def load(self) -> Event:
        """What changes all the time."""
        return {"at": round(time.time(), 3), "kind": "gossip", **self._gossip()}

    def member(self, member: Member, before: Status | None) -> str | None:
        """Another member's status, address, name or generation changed; say what that means, if it means anything."""
        generation = self._generations.get(member.id, member.generation)
        self._generations[member.id] = member.generation
        kind = _kind(member, before, generation)
        meaning = MEANINGS.get(kind)
        says = {} if meaning is None else {"says": meaning}
        self._tell(kind, Colleague(member, self._colleagues.summary(member.id)), **says)
        return meaning

    def model(self, id: str) -> None:
        """A member, or this peer itself, says something new of its model."""
        member = self._node.member(id)
        if member is None:
            return
        before, now = self._summaries.get(id), self._colleagues.summary(id)
        self._summaries[id] = now
        colleague = Colleague(member, now)
        state = now.state if now else None
        if now is not None and state is ModelState.TRAINING:
            if before is None or before.state is not state or before.model != now.model:
                self._begin(colleague, now)
        elif (training := self._trainings.pop(id, None)) is not None:
            took = round(time.time() - training["began"], 1)
            failed = state is ModelState.FAILED
            if id == self._node.me.id:
                self.trainings["failed" if failed else "trained"] += 1
            why = {"reason": now.reason} if now and failed else {"took": took}
            self._tell("training-failed" if failed else "trained", colleague, **why)
        elif before != now:
            self._tell("model", colleague)

    def fits(self) -> None:
        """Schemas were compared: tell of each model whose state follows from another one's."""
        misfits = dict(self._colleagues.roll().misfits)
        changed = {id for id in misfits.keys() | self._misfits.keys() if misfits.get(id) != self._misfits.get(id)}
        self._misfits = misfits
        for id in sorted(changed):
            if (member := self._node.member(id)) is not None:
                self._tell("model", Colleague(member, self._colleagues.summary(id)))

    def heard_pulse(self, id: str, raw: bytes | None) -> None:
        """A member tells of its work."""
        try:
            pulse = read(raw) if raw is not None else None
        except RemoteError as error:
            log.debug("a pulse cannot be read", peer=id, why=str(error))
            return
        before = self._pulses.pop(id, None)
        if pulse is None:
            return
        self._pulses[id] = pulse
        self.events.pass_on("pulse", peer=id, pulse=pulse)
        # Of a peer that is heard for the first time, what it last did is no news.
        if before is not None and pulse.answer is not None and pulse.answer != before.answer:
            self._answered(id, pulse.answer)
        if before is not None and pulse.score is not None and pulse.score != before.score:
            self._scored(id, pulse.score)

    def heard_alert(self, id: str, raw: bytes | None) -> None:
        """A member, or this peer itself, says that the rows it is asked about have moved, or that they no longer do."""
        try:
            alert = read_alert(raw) if raw is not None else None
        except RemoteError as error:
            log.debug("an alert cannot be read", peer=id, why=str(error))
            return
        before = self._alerts.pop(id, None)
        if alert is not None:
            self._alerts[id] = alert
            if before is None or (before.columns, before.novel) != (alert.columns, alert.novel):
                self.counts["drift"] += 1
                self.events.tell("drift", **self._shown(id, alert))
        elif before is not None:
            self.events.tell("drift-over", peer=id, name=self._name(id))

    def alerts(self) -> list[DriftAlert]:
        """The alerts that stand, of members that live."""
        live = {c.id for c in self._colleagues.all() if c.live}
        return [self._shown(id, alert) for id, alert in sorted(self._alerts.items()) if id in live]

    def answered(self, rows: int, votes: Votes, took: float) -> None:
        """This peer answered a question on `rows` rows in `took` seconds."""
        if not self._pending:
            asyncio.get_running_loop().call_later(ANSWERS_APART, self._tell_answers)
        self._pending.append((time.time(), rows, votes, took))

    def evaluated(self, report: Evaluated) -> None:
        """This peer was asked for the ensemble's score on all held-out rows."""
        metric = next((name for name in MAIN_METRICS if report["metrics"].get(name) is not None), None)
        if metric is None:
            return
        epochs = [c.summary.epoch.counter for c in self._colleagues.all() if c.live and c.summary]
        value = report["metrics"][metric] or 0.0
        score = EnsembleScore(round(time.time(), 3), max(epochs, default=0), metric, value, report["rows"])
        self.pulse = _with(self.pulse, score=score)
        self._scored(self._node.me.id, score)

    def beat(self) -> None:
        """Show the others this peer's pulse, if it changed; called every few seconds."""
        now = asyncio.get_running_loop().time()
        (since, before), rows = self._looks[0], self._voting.rows_voted
        load = (rows - before) / max(now - since, 0.1)
        self._looks.append((now, rows))
        trained, took = self._voting.trained, self._fitting.took
        training = LastTraining(trained.name, round(took, 2)) if trained is not None and took is not None else None
        # A load that moves by less than half is no news: each entry costs every peer some packets. Nor is what chance
        # makes of a few questions: over some seconds a peer votes on all of them, or on none.
        if abs(load - self.pulse.load) <= max(load, self.pulse.load) / 2:
            load = self.pulse.load
        self.pulse = _with(self.pulse, load=float(f"{load:.2g}"), training=training)
        entry = write(self.pulse)
        if entry != self._told:
            self._told = entry
            self._publish(SetEntry(PULSE, entry))
            self.events.pass_on("pulse", peer=self._node.me.id, pulse=self.pulse)

    def _begin(self, colleague: Colleague, summary: Summary) -> None:
        pulse = self.pulse if colleague.id == self._node.me.id else self._pulses.get(colleague.id)
        last = pulse.training if pulse else None
        training = {
            "peer": colleague.id,
            "name": colleague.member.name,
            "model": summary.model,
            "began": round(time.time(), 3),
            # Only the same model on the same peer took about as long as it will take now.
            "expected": last.took if last and last.model == summary.model else None,
        }
        self._trainings[colleague.id] = training
        self._tell("training", colleague, training=training)

    def _tell_answers(self) -> None:
        """Tell of the answers since the last time; of several, the one with the fewest votes."""
        pending, self._pending = self._pending, []
        at, rows, votes, took = max(pending, key=lambda one: one[2]["expected"] - one[2]["cast"])
        answer = Answered(round(at, 3), rows, votes["cast"], votes["expected"], round(took, 4))
        self.pulse = _with(self.pulse, answer=answer)
        self._answered(self._node.me.id, answer, questions=len(pending), missing=votes["missing"])

    def _answered(self, id: str, answer: Answered, **more: Any) -> None:
        fields = {name: getattr(answer, name) for name in ("rows", "cast", "expected", "took")}
        self._answers.append({"at": answer.at, "peer": id, **fields})
        self.events.tell("answer", peer=id, name=self._name(id), **fields, **more)

    def _scored(self, id: str, score: EnsembleScore) -> None:
        fields = {name: getattr(score, name) for name in ("epoch", "metric", "value", "rows")}
        self._scores.append({"at": score.at, "peer": id, **fields})
        self.events.tell("score", peer=id, name=self._name(id), **fields)

    def _tell(self, kind: str, colleague: Colleague, **more: Any) -> None:
        member = colleague.member
        self.counts[kind] += 1
        row: PeerRow = peer_row(colleague, self._misfits.get(member.id), self._colleagues.held_by(colleague))
        if member.status in (Status.DEAD, Status.LEFT):
            self._trainings.pop(member.id, None)
        self.events.tell(kind, peer=member.id, name=member.name, row=row, **more)

    def _shown(self, id: str, alert: Alert) -> DriftAlert:
        return DriftAlert(
            peer=id,
            name=self._name(id),
            since=alert.since,
            columns=alert.columns,
            more=alert.more,
            rows=alert.rows,
            novel=alert.novel,
        )

    def _name(self, id: str) -> str:
        member = self._node.me if id == self._node.me.id else self._node.member(id)
        return member.name if member else id[:8]

    def _gossip(self) -> dict[str, int]:
        counters = self._node.counters
        return {"bytes_in": counters.get("bytes_received", 0), "bytes_out": counters.get("bytes_sent", 0)}


def _kind(member: Member, before: Status | None, generation: int) -> str:
    match member.status:
        case Status.SUSPECT if before is not Status.SUSPECT:
            return "suspected"
        # One that was gone before this peer came is no news.
        case Status.DEAD if before not in (Status.DEAD, None):
            return "died"
        case Status.LEFT if before not in (Status.LEFT, None):
            return "left"
        case Status.ALIVE if before is None:
            return "joined"
        case Status.ALIVE if member.generation > generation or before is Status.LEFT:
            return "returned"
        case Status.ALIVE if before is Status.DEAD:
            return "healed"
        case Status.ALIVE if before is Status.SUSPECT:
            return "refuted"
    return "changed"


def _with(pulse: Pulse, **changes: Any) -> Pulse:
    fields = {name: getattr(pulse, name) for name in pulse.__struct_fields__}
    return Pulse(**(fields | changes))
