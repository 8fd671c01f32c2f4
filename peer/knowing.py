"""What this peer knows, beside what the others know: moments, the shared space, its density, and its calibration.

All of it follows the voters. Where they change, the peer fetches the moments that it lacks, computes the space that
they make together, fits the density of its own training rows in it, gathers what all rows say for the common vote, and
then has its held-out rows answered by all, to see at which temperature densities serve best, and beside which share of
the common vote. What it has is told in one entry of the catalogue.

The space changes only where it must. While all voters stand in one space that holds the moments of each, nobody
moves, and a peer that starts again stands where it stood, so a death or a restart costs nothing. Else everyone moves
to the space of exactly the live voters, which is the same for all who see the same voters. A temperature outlives a
move: it is looked for anew where enough of the voters are others.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import msgpack
import numpy as np
import structlog

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.combine import Cast
from p2pml.ensemble.common import Common
from p2pml.ensemble.density import Density
from p2pml.ensemble.drift import ground_of, novelty
from p2pml.ensemble.home import Site
from p2pml.ensemble.knowledge import (
    NOT_COMPARED,
    Decision,
    Knowledge,
    agreed_space,
    decide,
    errors_known,
    looks_told,
    sites_known,
)
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.portable import digest
from p2pml.ensemble.sketch import Sketch
from p2pml.ensemble.space import Space, digest_of
from p2pml.ensemble.stack import Gram
from p2pml.ensemble.trials import Trial
from p2pml.ensemble.values import Columns, Floats
from p2pml.errors import BadInput, NoVotes, RemoteError

from .colleagues import Colleague, Colleagues
from .pieces import Fetcher
from .pooling import Pooling, Told
from .replicas import PIECE_BYTES
from .shelf import read_moments
from .training import Trained, Trainer
from .voting import Ground, Voting
from .wire import PeerWire

MOMENTS_PATH = "/v1/peer/moments"
STACK_PATH = "/v1/peer/stack"
CALIBRATION_ROWS = 1_000
"""Held-out rows of one peer that choose the temperature, at most: a thousand cost little."""
CALIBRATION_VOTES = 20_000
"""Those rows times the voters that answer them, at most; but FEWEST_ROWS however many voters there are."""
FEWEST_ROWS = 50
CHANGED = 0.1
"""The share of voters that must be others, or have other models, before the temperature is looked for anew."""
SETTLING, SETTLING_EACH = 0.3, 0.02
"""Seconds after news before anything is computed, and how many more for each voter: peers that start together are one
change."""
AGAIN, LATEST = 5.0, 60.0
"""Seconds after which what failed is tried again; twice as many each time, up to the latter, where all are asked."""
WITNESSES = 3
"""Peers that are asked for the equations of one that is gone: everybody has them."""
FETCH_SECONDS = 30.0
"""Seconds for the moments of one peer, at most 32 MiB."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answered:
    """All voters' votes on some rows, with their log-densities by peer id in one space."""

    votes: list[Cast]
    densities: dict[str, Floats]
    complete: bool


class Findings(NamedTuple):
    """What held-out rows say of the answers under one decision, as `Knowledge` has it."""

    errors: Sketch | None = None
    favour: float = 1.0
    looks: tuple[tuple[str, float], ...] = ()


NOTHING_FOUND = Findings()

AskAll = Callable[[Columns, int, str], Awaitable[Answered]]
"""(columns, rows, space) -> what all voters say of the rows, with their densities in that space."""


class Knowing:
    """Keeps what this peer knows in step with who votes."""

    def __init__(
        self,
        me: str,
        colleagues: Colleagues,
        trainer: Trainer,
        voting: Voting,
        wire: PeerWire,
        fetcher: Fetcher,
        pooling: Pooling,
        tell: Callable[[bytes], None],
    ) -> None:
        self._me = me
        self._colleagues = colleagues
        self._trainer = trainer
        self._voting = voting
        self._wire = wire
        self._fetcher = fetcher
        self.pooling = pooling
        self._tell = tell
        self._news = asyncio.Event()
        self._bodies: dict[str, Moments] = {}
        self._told: Knowledge | None = None
        self._calibrated: frozenset[tuple[str, str | None]] | None = None
        self._not_before, self._pause = 0.0, AGAIN
        self._of: Trained | None = None
        self.moments: Moments | None = None
        self._calibration: Calibration | None = None
        self._trial: Trial | None = None
        self._found: tuple[tuple[Trial, float | None, float], Findings] | None = None
        """What follows of a trial, a temperature and a share: it is asked for with every word of others."""
        self._tried_in: str | None = None
        self._stack: tuple[object, Gram] | None = None
        self._decided: tuple[object, Decision] | None = None
        self._packed = b""
        """The density of the ground, as it goes to those who hold replicas."""
        self.novelty: dict[str, Floats] = {}
        """How unlikely the held-out rows were to all who voted on them, by the digest of these and their space."""

    def nudge(self) -> None:
        """Something changed: look at it soon."""
        self._news.set()

    def decide(self, voters: tuple[Colleague, ...]) -> Decision:
        """How to weigh the votes of these peers."""
        gone = {voter.id for voter in voters if voter.words is not None}
        said = [(voter.id, self._knowledge(voter)) for voter in voters], gone
        if self._decided is None or self._decided[0] != said:
            # It adds the sums of all up, and seldom has others to add than the last time.
            self._decided = said, decide(*said)
        return self._decided[1]

    def errors(self, voters: tuple[Colleague, ...], decision: Decision) -> dict[str, Sketch]:
        """By peer id how wrong answers under this decision are on that peer's held-out rows."""
        return errors_known(((voter.id, self._knowledge(voter)) for voter in voters), decision)

    def usual(self, voters: tuple[Colleague, ...], space: str) -> dict[str, Sketch]:
        """By peer id how likely its own held-out rows are to a peer, in this space."""
        known = {voter.id: self._knowledge(voter) for voter in voters}
        return {id: each.usual for id, each in known.items() if each and each.usual and each.space == space}

    def favour(self, decision: Decision) -> tuple[str, float] | None:
        """How much more this peer's vote weighs on rows like its own; None before its held-out rows have said it."""
        if self._trial is None or not decision.settled:
            return None
        return self._me, self._find(self._trial, decision.temperature, decision.share).favour

    def _find(self, trial: Trial, temperature: float | None, share: float) -> Findings:
        key = (trial, temperature, share)
        if self._found is None or self._found[0] != key:
            home = trial.home
            looks = () if temperature is None else looks_told(home.looks(temperature))
            self._found = key, Findings(trial.errors_at(temperature, share), home.favour(temperature, share), looks)
        return self._found[1]

    def sites(self, voters: tuple[Colleague, ...], decision: Decision) -> dict[str, Site]:
        """By peer id how rows like its own are recognised, of those who have told it."""
        return sites_known(((voter.id, voter.member.name, self._knowledge(voter)) for voter in voters), decision)

    def common(self, decision: Decision) -> Common | None:
        """The common vote that has a share under this decision; None where it has none, or is not here yet."""
        common = self.pooling.common if decision.share else None
        return common if common is not None and common.features.space.digest == decision.space else None

    @property
    def gram(self) -> Gram | None:
        """What this peer's held-out rows say for a stack; None before all votes on them came."""
        return self._trial.gram if self._trial else None

    async def stack(self, voters: tuple[Colleague, ...], seconds: float) -> Gram:
        """The sums of all these voters, fetched anew only where one of them knows something new; RemoteError where one
        of them cannot be had within `seconds`, or is not of all."""
        said = tuple((voter.id, self._knowledge(voter)) for voter in voters)
        if self._stack is None or self._stack[0] != said:
            # What the held-out rows of those who are gone would say is gone with them.
            live = [voter for voter in voters if voter.words is None]
            found = await asyncio.gather(*(self._fetch_gram(voter, seconds) for voter in live))
            ids = sorted(voter.id for voter in voters)
            if not found or any(not set(ids) <= set(each.voters) for each in found):
                raise RemoteError(NOT_COMPARED)
            self._stack = (said, functools.reduce(Gram.merge, (each.among(ids) for each in found)))
        return self._stack[1]

    async def _fetch_gram(self, voter: Colleague, seconds: float) -> Gram:
        if voter.id != self._me:
            return await asyncio.to_thread(Gram.from_data, await self._wire.get(voter.member, STACK_PATH, seconds))
        if self.gram is None:
            raise RemoteError(NOT_COMPARED)
        return self.gram

    def space_of(self, voters: tuple[Colleague, ...]) -> str | None:
        """The space in which all of these peers that live have their density; None where there is none."""
        return agreed_space(self._knowledge(voter) for voter in voters if voter.words is None)

    async def keep_up(self, ask: AskAll) -> None:
        """Follow the voters until cancelled."""
        while True:
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes with the news.
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
            self._news.clear()
            if self._voting.trained is None:
                continue
            try:
                # At once: nobody holds a replica of a model before these moments are told.
                await self._look_at_own(self._voting.trained)
                await asyncio.sleep(SETTLING + SETTLING_EACH * len(self._colleagues.roll().voters))
                model = self._voting.trained
                await self._look_at_own(model)
                await self._move(model)
                await self._pool()
                await self._calibrate(model, ask)
                self._say()
            except (RemoteError, BadInput, NoVotes) as error:
                log.debug("what peers know is not settled yet", why=str(error))

    async def _look_at_own(self, trained: Trained) -> None:
        """After a training: the moments of the rows, which are new only where the rows are."""
        if trained is self._of:
            return
        moments = await asyncio.to_thread(self._trainer.moments, trained)
        if self.moments is None or moments.digest != self.moments.digest:
            self._voting.ground = None
            self._forget()
        if self.moments is None:
            self._voting.ground = await asyncio.to_thread(self._stand_again, trained, moments)
        self.moments, self._of = moments, trained
        self._say()

    def _stand_again(self, trained: Trained, moments: Moments) -> Ground | None:
        """Where this peer stood in its last run; None where it had other rows, or stood nowhere."""
        space = self._trainer.space()
        return self._on(space, trained) if space is not None and moments.digest in space.members else None

    async def _move(self, trained: Trained) -> None:
        """Into the space that all voters have in common."""
        voters = self._colleagues.roll().voters
        known = {voter.id: self._knowledge(voter) for voter in voters}
        gone = {voter.id for voter in voters if voter.words is not None}
        if self._me not in known or any(each is None for each in known.values()):
            return
        wanted = {each.moments for each in known.values() if each is not None}
        if self._voting.ground is not None:
            space = self._voting.ground.space
            here = all(each and each.space == space.digest for id, each in known.items() if id not in gone)
            if wanted <= set(space.members) and here:
                return
            if space.digest == digest_of(wanted):
                return
        lacking = [voter for voter in voters if (told := known[voter.id]) and told.moments not in self._bodies]
        await asyncio.gather(*(self._fetch(voter, known[voter.id]) for voter in lacking))
        self._bodies = {digest: self._bodies[digest] for digest in sorted(wanted)}
        self._voting.ground = ground = await asyncio.to_thread(self._fit, trained, list(self._bodies.values()))
        if self._others(voters):
            self._forget()
        self._say()
        log.info("fitted a density", peers=len(wanted), space=ground.space.digest[:8])
        await asyncio.to_thread(self._trainer.keep_space, ground.space)

    def _fit(self, trained: Trained, moments: list[Moments]) -> Ground:
        return self._on(Space.of(moments), trained)

    def _on(self, space: Space, trained: Trained) -> Ground:
        rows, truth = self._trainer.sample(trained)
        density = Density.fit(space.project(rows))
        self.pooling.stand(space, rows, truth, trained.rows)
        self._packed = density.packed(space.digest)
        return Ground(space, density, trained.sample_file)

    async def _fetch(self, voter: Colleague, told: Knowledge | None) -> None:
        """The moments that a voter names, from itself; RemoteError where they are others."""
        assert told is not None
        if voter.id == self._me:
            assert self.moments is not None
            self._bodies[self.moments.digest] = self.moments
            return
        if voter.words is None:
            data = await self._wire.get(voter.member, MOMENTS_PATH, FETCH_SECONDS)
            moments = await asyncio.to_thread(Moments.from_data, data)
        else:
            holders = self._colleagues.held.holders(voter.id, voter.words.model)
            packed = await self._fetcher.fetch(told.moments, holders, PIECE_BYTES)
            moments = await asyncio.to_thread(read_moments, packed)
        if moments.digest != told.moments:
            raise RemoteError(f"the moments of {voter.member.name} are not those that it names")
        self._bodies[moments.digest] = moments

    async def _pool(self) -> None:
        """Have the common vote of all who vote, once they stand in one space."""
        voters, ground = self._colleagues.roll().voters, self._voting.ground
        if ground is None or self.space_of(voters) != ground.space.digest:
            return
        told = {}
        live = [voter.member for voter in voters if voter.words is None and voter.id != self._me]
        for voter in voters:
            known, summary = self._knowledge(voter), voter.summary
            if known is None or known.equations is None or known.space != ground.space.digest or summary is None:
                continue
            sources = live[:WITNESSES] if voter.words is not None else [voter.member]
            told[known.equations] = Told(voter.member.name, summary.rows, summary.task, sources)
        if await self.pooling.gather(told):
            self._colleagues.renew()

    async def _calibrate(self, trained: Trained, ask: AskAll) -> None:
        """Try temperatures on this peer's held-out rows, whenever voters or their models have changed enough."""
        voters = self._colleagues.roll().voters
        if self._voting.ground is None or self.space_of(voters) != self._voting.ground.space.digest:
            return
        space = self._voting.ground.space.digest
        now = asyncio.get_running_loop().time()
        if not self._others(voters) or now < self._not_before:
            return
        # Somebody who does not answer may do so for long, and asking all costs each of them a vote.
        self._not_before, self._pause = now + self._pause, min(2 * self._pause, LATEST)
        try:
            found = await self._try(trained, space, len(voters), ask)
        except BadInput as error:
            # Without it the others would wait for ever, and they have rows of their own.
            log.warning("the held-out rows have no say in how votes are weighed", why=str(error))
            found = Calibration()
        if found is None:
            return
        self._trial, self._tried_in = (found, space) if isinstance(found, Trial) else (None, space)
        self._calibration = found.calibration if isinstance(found, Trial) else found
        self._calibrated = _models(voters)
        self._not_before, self._pause = 0.0, AGAIN

    def _others(self, voters: tuple[Colleague, ...]) -> bool:
        """Whether the voters are too different from those with which the temperature was looked for, if it was, or
        there is a common vote since."""
        tried = self._calibration
        if tried is not None and tried.rows and tried.crossed is None and self.pooling.common is not None:
            return True
        models = _models(voters)
        return self._calibrated is None or len(models ^ self._calibrated) > CHANGED * len(models)

    async def _try(self, trained: Trained, space: str, voters: int, ask: AskAll) -> Trial | Calibration | None:
        """What some held-out rows say, or nothing where there are none; None where somebody's vote is missing and all
        must be asked again."""
        held_out = await asyncio.to_thread(self._trainer.held_out, trained)
        if held_out.rows == 0:
            return Calibration()
        most = max(FEWEST_ROWS, min(CALIBRATION_ROWS, CALIBRATION_VOTES // voters))
        chosen = np.unique(np.linspace(0, held_out.rows - 1, most).round().astype(int)).tolist()
        rows = {name: [cells[at] for at in chosen] for name, cells in held_out.columns.items()}
        answered = await ask(rows, len(chosen), space)
        if not answered.complete:
            return None
        truth = await asyncio.to_thread(trained.schema.truth, rows)
        rows_of = {id: count for id, _, count in answered.votes}
        strange = novelty(list(answered.densities.values()), [rows_of[id] for id in answered.densities])
        self.novelty = {ground_of(space, answered.densities): strange}
        least, pooled = self._trainer.least, self.pooling.common
        common = None if pooled is None else await asyncio.to_thread(pooled.vote, rows)
        return await asyncio.to_thread(Trial.of, truth, answered.votes, answered.densities, self._me, least, common)

    def _forget(self) -> None:
        """What was tried was of another space."""
        self._trial, self._calibration, self._calibrated = None, None, None

    def _say(self) -> None:
        assert self.moments is not None
        ground = self._voting.ground
        space, density = (ground.space.digest, digest(self._packed)) if ground else (None, None)
        usual = heat = None
        share, found = 0.0, NOTHING_FOUND
        if self._trial is not None:
            # A temperature outlives a move, and log-densities do not.
            usual = self._trial.usual if self._tried_in == space else None
            decision = self.decide(self._colleagues.roll().voters)
            if decision.settled:
                heat, share = decision.temperature, decision.share if self._trial.calibration.crossed else 0.0
                found = self._find(self._trial, heat, share)
        knowledge = Knowledge(
            self.moments.digest,
            space,
            self._calibration,
            usual,
            found.errors,
            heat,
            density,
            self.pooling.own if ground else None,
            share,
            found.favour,
            found.looks,
        )
        if knowledge != self._told:
            self._told = knowledge
            self._tell(msgpack.packb(knowledge.to_data()))
            # What is told now may be what was lacking for the decision.
            self._say()

    def _knowledge(self, voter: Colleague) -> Knowledge | None:
        """What a voter says that it knows; None where there is nothing, or nothing that can be read."""
        return self._colleagues.knowledge(voter.id) if voter.words is None else voter.words.knowledge

    def piece(self, named: str) -> bytes | None:
        """This peer's moments or density, or anybody's equations, packed, if that is what a digest names; blocks."""
        if self._of is not None and self.moments is not None and named == self.moments.digest:
            return self._trainer.packed_moments(self._of)
        if self._packed and digest(self._packed) == named:
            return self._packed
        return self.pooling.piece(named)


def _models(voters: tuple[Colleague, ...]) -> frozenset[tuple[str, str | None]]:
    return frozenset((voter.id, voter.summary.digest if voter.summary else None) for voter in voters)
