"""Asking the daemons for predictions all along, and holding each answer to what really stands behind it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from p2pml.ensemble.combine import combine
from p2pml.ensemble.vote import TOLERANCE, Vote
from p2pml.errors import P2pmlError
from p2pml.gossip import Address
from p2pml.peer.answers import Predicted
from p2pml.peer.client import PeerClient
from p2pml.peer.training import Trained

from .machines import Machine
from .parts import NAMES, questions, truth
from .reports import LATE, UNTRUE

if TYPE_CHECKING:
    from .daemons import Run

DEADLINE = 2.0
"""Seconds that each answer may take."""
ABLE = 50.0
"""How many times slower than usual a machine may be and still be held to deadlines: each answer takes some threads."""
ROWS = 8
"""Rows of each question; always the same ones, so that each model's vote is computed once."""
SLACK = 0.25
"""Seconds beyond its deadline in which an answer counts as in time: the way there and back, on a slow machine."""
SAME = 1e-9
"""How far probabilities may be from those of the votes that are said to stand behind them."""


@dataclass
class Question:
    """What became of a question."""

    at: float
    took: float = 0.0
    counts: bool = True
    """Whether the peer that was asked ran all the while."""
    answered: bool = False
    cast: int = 0
    possible: int = 0
    score: float = 0.0
    missing: dict[str, str] = field(default_factory=dict)
    """Who did not vote, by name, and why."""
    error: str = ""


Views = dict[str, tuple[str | None, str | None]]
"""Whom a peer expects to vote, by id, with the digest of the model that each one has, and of the one that its replicas
are of as far as that peer knows."""


class Client:
    """Whoever asks the peers: it sits beside each of them, so that no fault of the network is between."""

    def __init__(self, run: Run, every: float) -> None:
        """Have asked nothing yet; a question is asked every so many seconds."""
        self._run, self._every = run, every
        rows = questions(ROWS, run.plan.seed)
        self._columns = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}
        self._truth = [truth(row) for row in rows]
        self._clients: dict[Address, PeerClient] = {}
        self._votes: dict[str, Vote] = {}
        self._asked: list[Question] = []
        self._shown = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def ask_all_along(self) -> None:
        """Ask a ready peer every so often, whether or not the last answer has come."""
        while True:
            await asyncio.sleep(self._every)
            if ready := [machine for machine in self._run.machines if machine.ready]:
                self._begin(self._ask_and_keep(self._run.rng.choice(ready)))

    def fit(self, machine: Machine) -> None:
        """Have a peer tell all to train anew, if it is ready."""
        if machine.ready:
            self._begin(self._fit(machine))

    async def ask(self, machine: Machine) -> Question:
        """Ask one peer, and hold its answer to the truth."""
        loop, kernel = self._run.loop, self._run.kernel
        process, before = machine.process, self._view(machine)
        begun = 0.0 if process is None else process.clock(loop.now)
        question = Question(loop.now, possible=sum(one.ready for one in self._run.machines))
        answer: Predicted | None = None
        try:
            client = await self._client(machine)
            answer = await client.predict(self._columns, combine="mean", deadline=DEADLINE, proba=True)
        except P2pmlError as error:
            question.error = str(error)
        question.took = loop.now - question.at
        if process is not None:
            # A peer can keep a deadline by its own clock alone, which may be slow.
            question.took = min(question.took, process.clock(loop.now) - begun)
        question.counts = machine.process is process and machine.up and machine.since <= question.at
        question.counts &= process is not None and process.slowness <= ABLE and not machine.lying
        # Whoever ends by itself breaks another law, unless somebody took its identity.
        question.counts &= machine.peer is None or not machine.peer.leaving
        if answer is not None:
            question.answered, question.cast = True, answer["votes"]["cast"]
            question.possible = max(question.possible, answer["votes"]["expected"])
            question.missing = {one["name"]: one["reason"] for one in answer["votes"]["missing"]}
            hits = [said == known for said, known in zip(answer["predictions"], self._truth, strict=True)]
            question.score = sum(hits) / len(hits)
        kernel.note(f"answer {machine.name} {question}")
        self._run.seen[_kind(question)] += 1
        if not question.counts:
            return question
        if answer is None or question.took > DEADLINE + SLACK:
            self._run.breach(LATE, f"{machine.name} after {question.took:.3f} s: {question.error or question.missing}")
        elif why := self._untrue(answer, before, self._view(machine)):
            self._run.breach(UNTRUE, f"{machine.name}: {why}")
        return question

    async def close(self) -> None:
        """Give up what is not answered yet, and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    # What it all came to.

    def measures(self) -> dict[str, float]:
        """Sum up over the run; `availability` is the share of what counts that was answered in time."""
        counted = [question for question in self._asked if question.counts]
        answered = [question for question in counted if question.answered]
        in_time = [q for q in answered if q.took <= DEADLINE + SLACK]
        return {
            "asked": float(len(counted)),
            "availability": len(in_time) / max(1, len(counted)),
            "votes": sum(q.cast for q in answered) / max(1, sum(q.possible for q in answered)),
            "score": sum(q.score for q in answered) / max(1, len(answered)),
            "longest_answer": max((q.took for q in answered), default=0.0),
        }

    def since_last_time(self) -> dict[str, float]:
        """The mean votes and score of the answers since this was asked last."""
        new = [question for question in self._asked[self._shown :] if question.answered]
        self._shown = len(self._asked)
        count = max(1, len(new))
        return {"votes": sum(q.cast for q in new) / count, "score": sum(q.score for q in new) / count}

    # Inside.

    def _begin(self, work: object) -> None:
        task: asyncio.Task[object] = self._run.loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_and_keep(self, machine: Machine) -> None:
        self._asked.append(await self.ask(machine))

    async def _fit(self, machine: Machine) -> None:
        try:
            await (await self._client(machine)).fit(wait=False)
        except P2pmlError as error:
            self._run.kernel.note(f"fit {machine.name} {error}")

    async def _client(self, machine: Machine) -> PeerClient:
        if machine.address not in self._clients:
            self._clients[machine.address] = await PeerClient(machine.address).__aenter__()
        return self._clients[machine.address]

    def _view(self, machine: Machine) -> Views:
        """Whom a peer would ask now, and what they would vote with."""
        assert machine.peer is not None
        roll = machine.peer.colleagues.roll()
        own = {one.peer.id: trained.digest for one in self._run.machines if one.peer and (trained := _trained(one))}
        copied = {voter.id: voter.summary.digest for voter in roll.voters if voter.summary}
        expected = [*copied, *(member.id for member, _ in roll.absent)]
        return {id: (own.get(id), copied.get(id)) for id in expected}

    def _untrue(self, answer: Predicted, before: Views, after: Views) -> str | None:
        """Why the answer's count of votes is not what it was made of; None where it is."""
        votes = answer["votes"]
        missing = [entry["peer"] for entry in votes["missing"]]
        if votes["cast"] + len(missing) != votes["expected"] or len(set(missing)) != len(missing):
            return f"{votes['cast']} cast and {len(missing)} missing are not {votes['expected']} expected"
        said = np.array(answer.get("probabilities"), float)
        sums = said.sum(axis=-1)
        if said.shape[:-1] != (ROWS,) or not (said >= 0).all() or np.abs(sums - 1).max() > TOLERANCE:
            return "the probabilities of a row are not finite, negative or do not add up to 1"
        if before != after:
            # Who is alive changed meanwhile, and either view may have been taken.
            return None
        if votes["expected"] != len(before) or not set(missing) <= set(before):
            return f"{votes['expected']} were expected, but the peer knows of {len(before)}"
        copies = {entry["peer"] for entry in votes.get("replicas", [])}
        cast = {id: models[id in copies] for id, models in before.items() if id not in missing}
        ballots = [(id, self._vote(id, digest), 1) for id, digest in cast.items() if digest]
        if len(ballots) != votes["cast"]:
            return f"{votes['cast']} votes were cast, but only {len(ballots)} peers have a model"
        truth = combine(ballots, "mean").probabilities
        if truth is None or said.shape != truth.shape or np.abs(said - truth).max() > SAME:
            return "the probabilities are not those of the votes that are said to be cast"
        return None

    def _vote(self, id: str, digest: str) -> Vote:
        if digest not in self._votes:
            peers = [one.peer for one in self._run.machines if one.peer is not None]
            own = [t.model for peer in peers if (t := peer.voting.trained) is not None and t.digest == digest]
            copies = [copy.model for peer in peers if (copy := peer.shelf.replica(id, digest)) is not None]
            self._votes[digest] = (own + copies)[0].vote(self._columns)
        return self._votes[digest]


def _kind(question: Question) -> str:
    """What came of a question, in the words that suites look for."""
    if not question.answered:
        return "answer none"
    return "answer whole" if not question.missing else "answer partial"


def _trained(machine: Machine) -> Trained | None:
    return machine.peer.voting.trained if machine.peer is not None else None
