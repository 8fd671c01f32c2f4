"""Watching for drift: the rows that this peer is asked about, and the profiles of all peers' training rows.

A row counts once in the whole cluster: at the peer that was asked to predict it, not at those that only vote. What
peers ask each other, to calibrate and to evaluate, does not count. Every few seconds, if enough rows came, this peer
looks whether to raise an alarm; one that stands is an entry of the catalogue, so that everyone hears of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from p2pml.ensemble.drift import LOOK, Alarm, Compared, compare
from p2pml.ensemble.fields import Schema
from p2pml.ensemble.profile import Profile, watched
from p2pml.ensemble.values import Columns, Floats
from p2pml.ensemble.window import Window
from p2pml.errors import BadInput, NoVotes, RemoteError

from .alerts import Alert
from .answers import DriftAlert, DriftColumn, DriftPeer, DriftReport, DriftSide, Missing
from .colleagues import KNOWLEDGE, Colleague, Colleagues
from .combining import Asked
from .knowing import Knowing
from .reach import Reach
from .training import Trained, Trainer
from .voting import Voting
from .wire import PeerWire

PROFILE_PATH = "/v1/peer/profile"
ASKED_PATH = "/v1/peer/asked"
LOOK_AGAIN = 5.0
"""Seconds between two looks, however fast rows come: each costs some ten milliseconds."""
FETCH_SECONDS = 10.0
"""Seconds for one peer's profile, some hundred kB at most."""

log = structlog.get_logger()


class Drifting:
    """Keeps the rows that this peer is asked about, and compares them with what the peers know."""

    def __init__(
        self,
        me: str,
        least: int,
        colleagues: Colleagues,
        knowing: Knowing,
        trainer: Trainer,
        voting: Voting,
        wire: PeerWire,
        reach: Reach,
        tell: Callable[[Alert | None], None],
    ) -> None:
        """`least` is how many rows a group must have to be told; `tell` puts this peer's alert into the catalogue."""
        self._me = me
        self._least = least
        self._colleagues = colleagues
        self._knowing = knowing
        self._trainer = trainer
        self._voting = voting
        self._wire = wire
        self._reach = reach
        self._tell = tell
        self._window: Window | None = None
        self._schema: Schema | None = None
        self._alarm = Alarm()
        self._raised: Alert | None = None
        self._looked_at: object = None
        self._known: dict[str, tuple[object, Profile]] = {}
        self._own: tuple[Trained, object, Profile] | None = None
        self.rows_asked = 0
        """Rows that this peer was asked to predict since it started."""

    def asked(self, columns: Columns, rows: int, asked: Asked) -> None:
        """Some rows were predicted."""
        self.rows_asked += rows
        if self._schema is not asked.schema:
            self._schema, names = asked.schema, watched(asked.schema)
            if self._window is None or self._window.names != names:
                # The number need not be secret, only another one at each peer.
                self._window = Window(asked.schema, int(self._me[:12], 16))
        assert self._window is not None
        if set(self._window.names) <= columns.keys():
            self._window.add(columns, rows, asked.unlikely, asked.ground)

    async def keep_up(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            await self.look()

    async def look(self) -> None:
        """Look whether the rows have moved, if enough have come since the last time; or, where an alarm stands, whether
        the peers know such rows by now."""
        window = self._window
        if window is None or not (window.turn() or self._alarm.moved):
            return
        missing = await self._learn()
        if missing:
            log.debug("drift is not looked at, as profiles are missing", peers=[entry["name"] for entry in missing])
            return
        ids = sorted(self._known)
        rows = window.rows(filling=False)
        looked_at = (window.turns, [self._known[id][0] for id in ids])
        if looked_at == self._looked_at:
            return
        self._looked_at = looked_at
        profile = await asyncio.to_thread(window.profile, rows, 1)
        drift = await asyncio.to_thread(compare, [profile], *self._reference(ids))
        before = self._alarm.moved
        moved = self._alarm.look(drift, len(ids))
        if moved != before:
            self._say(moved, len(rows))

    async def profile(self) -> Profile:
        """Of this peer's training rows; raises `BadInput` before it has any."""
        trained = self._voting.trained
        if trained is None:
            raise BadInput("this peer has no profile before its first training is done")
        strange = self._knowing.novelty
        if self._own is None or self._own[0] is not trained or self._own[1] is not strange:
            self._own = (trained, strange, await asyncio.to_thread(self._profile_of, trained, strange))
        return self._own[2]

    async def lately(self) -> Profile:
        """Of the rows that this peer was lately asked about."""
        if self._window is None:
            return Profile(0)
        return await asyncio.to_thread(self._window.profile, self._window.rows(filling=True), self._least)

    async def report(self, alerts: list[DriftAlert]) -> DriftReport:
        """The rows that all peers were lately asked about, against all that the peers know."""
        began = asyncio.get_running_loop().time()
        missing = await self._learn()
        if not self._known:
            raise NoVotes("no peer has told what its training rows are like yet; ask again when one has trained")
        ids = sorted(self._known)
        live = [colleague for colleague in self._colleagues.all() if colleague.live]
        told = await asyncio.gather(*(self._lately_of(colleague) for colleague in live))
        windows = {c.id: each for c, each in zip(live, told, strict=True) if isinstance(each, Profile)}
        drift = await asyncio.to_thread(compare, list(windows.values()), *self._reference(ids))
        shares = dict(zip(ids, drift.shares, strict=False))
        return DriftReport(
            rows=drift.rows,
            different=drift.different,
            columns=[_column(each, each.column in drift.moved(LOOK)) for each in drift.columns],
            peers=[
                DriftPeer(
                    id=c.id,
                    name=c.member.name,
                    rows=windows[c.id].rows if c.id in windows else 0,
                    share=shares.get(c.id),
                )
                for c in self._colleagues.all()
                if c.live or c.id in shares
            ],
            alerts=alerts,
            missing=[*missing, *(each for each in told if not isinstance(each, Profile))],
            took=asyncio.get_running_loop().time() - began,
        )

    def _say(self, moved: tuple[tuple[str, str], ...], rows: int) -> None:
        if moved:
            since = self._raised.since if self._raised else round(time.time(), 3)
            self._raised = Alert.of(since, moved, rows)
            log.warning(
                "the rows that are asked about have moved", columns=", ".join(name for _, name in moved), rows=rows
            )
        else:
            self._raised = None
            log.info("the rows that are asked about are like the known ones again")
        self._tell(self._raised)

    def _reference(self, ids: list[str]) -> tuple[list[Profile], list[int]]:
        """The profiles of these peers, and how many rows each stands for."""
        summaries = [self._colleagues.summary(id) for id in ids]
        return [self._known[id][1] for id in ids], [max(1, each.rows) if each else 1 for each in summaries]

    async def _learn(self) -> list[Missing]:
        """Fetch the profiles of voters that have new ones; of the dead the last is kept. Who could not be asked."""
        roll = self._colleagues.roll()
        remembered = {colleague.id for colleague in self._colleagues.all()} - roll.misfits.keys()
        self._known = {id: entry for id, entry in self._known.items() if id in remembered}
        missing = await asyncio.gather(*(self._learn_of(voter) for voter in roll.voters))
        return [entry for entry in missing if entry is not None]

    async def _learn_of(self, voter: Colleague) -> Missing | None:
        # A profile is new where the model is, or where what the peer knows of the others is.
        digest = voter.summary.digest if voter.summary else None
        name = (digest, self._colleagues.node.entries(voter.id).get(KNOWLEDGE))
        if voter.id != self._me and voter.id in self._known and (self._known[voter.id][0] == name or not voter.live):
            return None
        found = await self._from(voter, PROFILE_PATH, self.profile)
        if isinstance(found, Profile):
            self._known[voter.id] = (name, found)
            return None
        return found

    async def _lately_of(self, colleague: Colleague) -> Profile | Missing:
        return await self._from(colleague, ASKED_PATH, self.lately)

    async def _from(self, colleague: Colleague, path: str, here: Callable[[], Awaitable[Profile]]) -> Profile | Missing:
        """A profile of another peer, or of this one; or why there is none."""
        member = colleague.member
        try:
            if colleague.id == self._me:
                return await here()
            with self._reach.asking(member):
                data = await self._wire.get(member, path, FETCH_SECONDS)
            return await asyncio.to_thread(Profile.from_data, data)
        except (RemoteError, BadInput) as error:
            return Missing(peer=member.id, name=member.name, reason=str(error))

    def _profile_of(self, trained: Trained, strange: dict[str, Floats]) -> Profile:
        return Profile.of(trained.schema, self._trainer.sample(trained)[0], self._least, strange)


def _column(found: Compared, moved: bool) -> DriftColumn:
    return DriftColumn(
        column=found.name,
        kind=found.kind,
        moved=moved,
        distance=found.distance,
        p=found.p,
        level=found.level,
        asked=DriftSide(median=found.asked.median, share=found.asked.share, missing=found.asked.missing),
        known=DriftSide(median=found.known.median, share=found.known.share, missing=found.known.missing),
    )
