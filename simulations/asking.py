"""Clients of the layer core: they ask random live hosts for predictions all along, and hold each answer to the truth.

The host that is asked does what a peer does: by its own view it decides who votes, asks them all at once over the same
network, leaves out who did not answer last time, and combines what came by the deadline. Requests go over connections
that repeat what is lost, so that only a link that loses everything stops them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgpack
import numpy as np

from p2pml.ensemble.combine import Answer, combine
from p2pml.ensemble.electorate import Decided, Electorate
from p2pml.ensemble.summary import Summary
from p2pml.gossip import Member, Node, Status, Unreachable

from .cluster import Cluster, Host
from .invariants import Broken
from .learners import AGAIN, SUMMARY, Learners
from .lessons import Lesson, Lessons
from .network import Conditions
from .reports import LATE, UNTRUE, VOTES

EVERY = 2.0
"""Virtual seconds between two questions, at least."""
VOTES_A_SECOND = 50
"""Votes that are asked of all hosts together, at most: in a large cluster questions are fewer."""
DEADLINE = 2.0
"""Seconds that an answer may take."""
VOTING = 0.002
"""Seconds that a vote takes whoever casts it."""
REPEATED = 0.2
"""Seconds after which a connection first repeats what was lost; each time more it waits twice as long."""
VOUCHING = 3
"""Hosts of a healed core whose answers must hold all votes of the core."""
SAME = 1e-9
"""How far probabilities may be from those of the votes that are said to stand behind them."""


@dataclass(eq=False)
class Question:
    """A question, as the host that was asked goes about it."""

    at: float
    host: Host
    node: Node
    possible: int
    live: tuple[Member, ...]
    """Whom the host holds alive: who is expected to vote."""
    staleness: float
    """How long what it sees of the others' models has not been true, in s, on the mean."""
    waiting: set[str] = field(default_factory=set)
    ballots: dict[str, Lesson] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    voted: dict[str, Lesson] = field(default_factory=dict)
    """Who really cast a vote, as those who did saw it."""
    over: bool = False
    counts: bool = True
    """Whether the host ran all the while."""
    answered: bool = False
    cast: int = 0
    took: float = 0.0
    score: float = 0.0

    def forget(self) -> None:
        """Keep what it came to alone: among thousands of hosts all else is large."""
        self.cast, self.live, self.waiting, self.ballots, self.voted = len(self.ballots), (), set(), {}, {}


class Clients:
    """Whoever asks; nothing of a fault is between them and whom they ask."""

    def __init__(self, cluster: Cluster, learners: Learners, lessons: Lessons) -> None:
        """Have asked nothing yet."""
        self._cluster, self._learners, self._lessons = cluster, learners, lessons
        self._rng = random.Random(f"{cluster.seed}/clients")  # noqa: S311 - a simulation
        self._every = max(EVERY, cluster.size / VOTES_A_SECOND)
        self._electorate = Electorate()
        self._electorate.learn(lessons.schema)
        self._by_id = {host.id: host for host in cluster.hosts}
        self._read: dict[bytes, Summary] = {}
        self._over: list[Question] = []
        self._shown = 0
        cluster.clock.after(self._every, self._ask_somebody)

    # Asking.

    def ask(self, host: Host) -> Question:
        """Ask a host that is ready."""
        node, clock = host.running, self._cluster.clock
        live = tuple(one for one in node.members() if one.status in (Status.ALIVE, Status.SUSPECT))
        seen = {member.id: node.entries(member.id).get(SUMMARY) for member in live}
        ready = sum(map(self._learners.ready, self._cluster.hosts))
        question = Question(clock.now, host, node, ready, live, self._staleness(seen))
        decided = self._electorate.decide({id: self._summary(raw) for id, raw in seen.items()})
        question.waiting = {member.id for member in live}
        for member in live:
            self._begin(question, member, decided)
        clock.after(DEADLINE, self._end, question)
        return question

    def vouch(self, core: Sequence[int]) -> tuple[str, str] | None:
        """Ask some of a healed core, and say whose vote of the core is missing from an answer."""
        hosts = [self._cluster[index] for index in core]
        named = {host.id: host.name for host in hosts}
        if dull := [host.name for host in hosts if not self._learners.ready(host)]:
            return VOTES, f"{dull[0]} has no model yet"
        asked = [self.ask(host) for host in self._rng.sample(hosts, min(VOUCHING, len(hosts)))]
        while not all(question.over for question in asked):
            self._cluster.run(0.1)
        for question in asked:
            for id in sorted(named.keys() & question.missing, key=named.__getitem__):
                return VOTES, f"{question.host.name} misses that of {named[id]}: {question.missing[id]}"
        return None

    def _ask_somebody(self) -> None:
        if ready := [host for host in self._cluster.hosts if self._learners.ready(host)]:
            self.ask(self._rng.choice(ready))
        self._cluster.clock.after(self._every, self._ask_somebody)

    def _begin(self, question: Question, member: Member, decided: Decided) -> None:
        """Ask one member for its vote, or note why not."""
        host, unreachable = self._by_id[member.id], self._learners[question.host].unreachable
        if why := decided.absent.get(member.id):
            self._miss(question, member.id, why)
        elif host is question.host:
            question.voted[host.id] = self._learners.lesson(host)
            self._cluster.clock.after(VOTING, self._hear, question, host)
        elif member.id in unreachable and not self._passes(question.host, host):
            self._miss(question, member.id, unreachable[member.id])
        else:
            unreachable.pop(member.id, None)
            self._send(question, host)

    def _passes(self, here: Host, there: Host) -> bool:
        """Whether a check of somebody's health would be answered: a peer makes one every half a second."""
        network = self._cluster.network
        links = network.on_link(here.address, there.address), network.on_link(there.address, here.address)
        return there.node is not None and not there.paused and all(link.loss < 1 for link in links)

    def _send(self, question: Question, voter: Host) -> None:
        network, asker = self._cluster.network, question.host
        there, back = network.on_link(asker.address, voter.address), network.on_link(voter.address, asker.address)
        if there.loss < 1 and back.loss < 1:
            self._cluster.clock.after(self._delay(there), self._arrive, question, voter, back)

    def _arrive(self, question: Question, voter: Host, back: Conditions) -> None:
        clock, learners = self._cluster.clock, self._learners
        if question.over:
            return
        if voter.paused:
            clock.after(AGAIN, self._arrive, question, voter, back)
        elif voter.node is None:
            clock.after(self._delay(back), self._fail, question, voter, "connection refused")
        elif not learners.ready(voter):
            clock.after(self._delay(back), self._miss, question, voter.id, "this peer has no model yet")
        else:
            question.voted[voter.id] = learners.lesson(voter)
            clock.after(VOTING + self._delay(back), self._hear, question, voter)

    def _hear(self, question: Question, voter: Host) -> None:
        if not question.over:
            question.ballots[voter.id] = question.voted[voter.id]
            self._done(question, voter.id)

    def _fail(self, question: Question, voter: Host, why: str) -> None:
        self._mistrust(question, voter.id, why)
        self._miss(question, voter.id, why)

    def _mistrust(self, question: Question, id: str, why: str) -> None:
        """A member did not answer: the protocol is told, so that it is probed next."""
        asker = question.host
        if asker.node is question.node and not asker.paused:
            self._learners[asker].unreachable[id] = why
            asker.take(Unreachable(id))

    def _miss(self, question: Question, id: str, why: str) -> None:
        if not question.over:
            question.missing[id] = why
            self._done(question, id)

    def _done(self, question: Question, id: str) -> None:
        question.waiting.discard(id)
        if not question.waiting:
            self._end(question)

    def _delay(self, link: Conditions) -> float:
        delay, repeated = self._rng.uniform(*link.delay), REPEATED
        while link.loss > 0 and self._rng.random() < link.loss:
            delay, repeated = delay + repeated, 2 * repeated
        return delay

    # Answering.

    def _end(self, question: Question) -> None:
        """Answer with the votes that came, unless whoever was asked is gone or stands still."""
        if question.over:
            return
        host, now = question.host, self._cluster.clock.now
        question.over, question.took = True, now - question.at
        question.counts = host.node is question.node and not host.paused
        self._over.append(question)
        late = f"no answer within {DEADLINE:g} s"
        for id in sorted(question.waiting):
            self._mistrust(question, id, late)
            question.missing[id] = late
        if question.counts:
            ballots = [(id, lesson.vote, lesson.rows) for id, lesson in question.ballots.items()]
            if not ballots or question.took > DEADLINE + 1e-6:
                raise Broken(
                    f"{LATE}: {host.name}, asked at {question.at:.3f} s, had {len(ballots)} votes at {now:.3f} s"
                )
            answer = combine(ballots, "mean")
            question.answered, question.score = True, self._lessons.score(answer)
            if why := self._untrue(question, answer):
                raise Broken(f"{UNTRUE}: {host.name}, asked at {question.at:.3f} s: {why}")
        question.forget()

    def _untrue(self, question: Question, answer: Answer) -> str | None:
        """Why an answer's count of votes is not what it was made of; None where it is."""
        live = sorted(member.id for member in question.live)
        if sorted([*question.ballots, *question.missing]) != live:
            return f"{len(question.ballots)} cast and {len(question.missing)} missing are not the {len(live)} expected"
        if unasked := question.ballots.keys() - question.voted.keys():
            return f"{len(unasked)} votes were counted that nobody cast"
        said = np.asarray(answer.predictions) if answer.probabilities is None else answer.probabilities
        mean = sum(question.voted[id].dense(answer.classes) for id in sorted(question.ballots)) / len(question.ballots)
        if np.abs(said - mean).max() > SAME * max(1.0, np.abs(mean).max()):
            return "its values are not those of the votes that are said to be cast"
        return None

    def _summary(self, raw: bytes | None) -> Summary | None:
        if raw is not None and raw not in self._read:
            self._read[raw] = Summary.from_data(msgpack.unpackb(raw))
        return None if raw is None else self._read[raw]

    def _staleness(self, seen: dict[str, bytes | None]) -> float:
        ready = [host for id in seen if self._learners.ready(host := self._by_id[id])]
        return sum(self._learners.outdated_for(host, seen[host.id]) for host in ready) / max(1, len(ready))

    # What it all came to.

    def measures(self) -> dict[str, float]:
        """Sum up over the run; `availability` is the share of what counts that was answered in time."""
        counted = [question for question in self._over if question.counts]
        answered = [question for question in counted if question.answered]
        return {
            "asked": float(len(counted)),
            "availability": len(answered) / max(1, len(counted)),
            "votes": sum(q.cast for q in answered) / max(1, sum(q.possible for q in answered)),
            "score": sum(q.score for q in answered) / max(1, len(answered)),
            "staleness": sum(q.staleness for q in answered) / max(1, len(answered)),
            "longest_answer": max((q.took for q in answered), default=0.0),
        }

    def since_last_time(self) -> dict[str, float]:
        """The mean votes, score and staleness of the answers since this was asked last, if there are any."""
        new = [question for question in self._over[self._shown :] if question.answered]
        self._shown = len(self._over)
        if not new:
            return {}
        sums = {
            "votes": sum(q.cast for q in new),
            "expected": sum(q.cast + len(q.missing) for q in new),
            "possible": sum(q.possible for q in new),
            "score": sum(q.score for q in new),
            "staleness": sum(q.staleness for q in new),
        }
        return {name: value / len(new) for name, value in sums.items()}
