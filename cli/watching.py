"""What somebody who watches knows: the whole state once, and each event folded into it. It draws nothing."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from p2pml.errors import RemoteError
from p2pml.peer.answers import Missing, PeerRow, Peers
from p2pml.peer.pulse import Pulse

from .show import plain

KEPT = 200
"""Answers, scores and lines that are remembered: more than a screen shows."""


class Answer(msgspec.Struct):
    """An answer of any peer, as an event has it: `took` in seconds, `at` in seconds since 1970."""

    at: float
    peer: str
    rows: int
    cast: int
    expected: int
    took: float
    name: str = ""
    missing: list[Missing] = []


class Score(msgspec.Struct):
    """A score of the ensemble that some peer was asked for."""

    at: float
    peer: str
    epoch: int
    metric: str
    value: float
    rows: int


class Alert(msgspec.Struct):
    """The rows that a peer is asked about have moved, in these columns and so many more."""

    since: float
    peer: str
    name: str
    columns: list[str]
    more: int
    rows: int
    novel: bool = False


class Training(msgspec.Struct):
    """A training under way; `expected` is how long it took last time (s), where that is known."""

    peer: str
    name: str
    model: str
    began: float
    expected: float | None = None


class Gossip(msgspec.Struct):
    """Bytes of the protocol since the peer started."""

    bytes_in: int
    bytes_out: int


class State(msgspec.Struct):
    """The first event."""

    peers: Peers
    pulses: dict[str, Pulse]
    trainings: list[Training]
    answers: list[Answer]
    scores: list[Score]
    gossip: Gossip
    alerts: list[Alert] = []


class Happening(msgspec.Struct):
    """One line of what happened; `kind` is the event's."""

    at: float
    kind: str
    words: str


WORDS = {
    "joined": "joined",
    "suspected": "does not answer and is suspected",
    "refuted": "answers after all",
    "died": "is dead; its vote is missing",
    "healed": "is back: the network is whole again",
    "returned": "is back, started anew",
    "left": "left",
}
"""What is said of a peer whose status changed, by the event's kind."""


class View:
    """The cluster as the watched peer sees it. `fold` raises `RemoteError` on an event that cannot be read."""

    def __init__(self) -> None:
        self.address = ""
        self.cluster = ""
        self.asked = ""
        self.trouble = ""
        """Why no peer is heard at the moment."""
        self.rows: dict[str, PeerRow] = {}
        self.pulses: dict[str, Pulse] = {}
        self.trainings: dict[str, Training] = {}
        self.alerts: dict[str, Alert] = {}
        self.answers: deque[Answer] = deque(maxlen=KEPT)
        self.scores: deque[Score] = deque(maxlen=KEPT)
        self.happened: deque[Happening] = deque(maxlen=KEPT)
        self.traffic: deque[tuple[float, Gossip]] = deque(maxlen=8)
        self.now = 0.0
        """The peer's clock at its last event."""
        self._said: dict[str, set[str]] = {}

    def fold(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        try:
            self.now = msgspec.convert(event.get("at"), float)
            self._fold(str(event["kind"]), event)
        except (msgspec.ValidationError, KeyError) as error:
            raise RemoteError(f"an event of {self.address} cannot be read: {error}") from error

    def say(self, kind: str, words: str) -> None:
        """Add a line of what happened."""
        self.happened.append(Happening(self.now, kind, plain(words)))

    def _fold(self, kind: str, event: dict[str, Any]) -> None:
        if "row" in event:
            row = msgspec.convert(event["row"], PeerRow)
            self.rows[row["id"]] = row
            if row["status"] in ("dead", "left"):
                self.trainings.pop(row["id"], None)
                self.alerts.pop(row["id"], None)
        match kind:
            case "state":
                self._begin(msgspec.convert(event, State))
            case "pulse":
                self.pulses[str(event["peer"])] = msgspec.convert(event["pulse"], Pulse)
            case "gossip":
                self.traffic.append((self.now, msgspec.convert(event, Gossip)))
            case "training":
                training = msgspec.convert(event["training"], Training)
                self.trainings[training.peer] = training
                self.say(kind, f"{training.name} trains {training.model}")
            case "trained" | "training-failed":
                self.trainings.pop(str(event["peer"]), None)
                self.say(kind, self._trained(event))
            case "answer":
                self._answered(msgspec.convert(event, Answer))
            case "score":
                score = msgspec.convert(event, Score)
                self.scores.append(score)
                of = f"{score.rows:,} rows in epoch {score.epoch}"
                self.say(kind, f"the ensemble scores {score.metric} {score.value:.4f} on {of}")
            case "drift":
                alert = msgspec.convert(event, Alert)
                self.alerts[alert.peer] = alert
                self.say(kind, f"{alert.name}: {moved(alert)}; p2pml drift shows how far")
            case "drift-over":
                self.alerts.pop(str(event["peer"]), None)
                self.say(kind, f"{event['name']} is asked about rows like the known ones again")
            case "lost":
                self.say(kind, f"{event['count']} events were lost on the way")
            case "model" if reason := (self.rows[str(event["peer"])].get("model") or {}).get("reason"):
                self.say(kind, f"{event['name']}: {reason}")
            case _ if kind in WORDS:
                self.say(kind, f"{event['name']} {WORDS[kind]}")

    def _begin(self, state: State) -> None:
        self.cluster, self.asked = state.peers["cluster"], state.peers["asked"]
        self.rows = {row["id"]: row for row in state.peers["peers"]}
        self.pulses = state.pulses
        self.trainings = {training.peer: training for training in state.trainings}
        self.alerts = {alert.peer: alert for alert in state.alerts}
        # Another peer heard of answers and scores a little earlier or later; what is known already stays.
        self.answers = deque([*state.answers] if len(state.answers) >= len(self.answers) else self.answers, KEPT)
        self.scores = deque([*state.scores] if len(state.scores) >= len(self.scores) else self.scores, KEPT)
        self.traffic.clear()
        self.traffic.append((self.now, state.gossip))
        self.trouble = ""

    def _trained(self, event: dict[str, Any]) -> str:
        if event["kind"] == "training-failed":
            return f"{event['name']} could not train: {event.get('reason')}"
        model = self.rows[str(event["peer"])].get("model") or {}
        took = event.get("took")
        seconds = f" in {took:.1f} s" if isinstance(took, int | float) else ""
        return f"{event['name']} trained {model.get('name')} on {model.get('rows')} rows{seconds}"

    def _answered(self, answer: Answer) -> None:
        self.answers.append(answer)
        # Who is missing is said once, not with each answer.
        missing = {entry["name"] for entry in answer.missing}
        if missing - self._said.get(answer.peer, set()):
            why = "; ".join(f"{entry['name']} ({entry['reason']})" for entry in answer.missing)
            self.say("answer", f"{answer.name} answered with {answer.cast} of {answer.expected} votes; missing: {why}")
        self._said[answer.peer] = missing


def moved(alert: Alert) -> str:
    """What an alert says."""
    said = "the rows that it is asked about have moved"
    if alert.columns:
        said += f", in {', '.join(alert.columns)}" + (f" and {alert.more} more" if alert.more else "")
    return said + (", and are new to all peers" if alert.novel else "")
