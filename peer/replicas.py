"""Replicas: each model is copied to a few other peers, so that its vote is cast when its owner is gone.

Every peer looks by itself at whom it should hold (rendezvous hashing over the live peers), fetches what it lacks from
the owner or from another holder, and says in the catalogue what it holds. It lets go of a replica only when all who
should hold it do, so that no move loses one. A model goes a day after its owner: as long as the protocol remembers it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from p2pml.ensemble.portable import MAX_BYTES as MODEL_BYTES
from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Member

from .colleagues import Colleague, Colleagues
from .held import SLOTS, Holding, LastWords, entry
from .pieces import Fetcher
from .placing import keepers
from .reach import Reach
from .shelf import Shelf

HELD_BYTES = 2**31
"""Bytes of models that one peer holds for others, at most; a forest has some eight million."""
PIECE_BYTES = 64 * 2**20
"""Bytes of moments and of a density, at most: above what either lets through."""
KEPT = 24 * 3600
"""Seconds that the model of a peer that is gone still votes."""
SETTLING = 0.05
"""Seconds after news before anything is looked at: several entries come at once."""
GLANCE = 0.5
"""Seconds, at most, between two looks at whether this peer may leave."""
AGAIN = 5.0
"""Seconds after which what failed is tried again."""
REFUSED = 256
"""Models remembered as refused, so that none is fetched over and over."""

log = structlog.get_logger()


class Replicas:
    """Keeps what this peer holds in step with who lives and what they say of their models."""

    def __init__(
        self,
        me: str,
        count: int,
        colleagues: Colleagues,
        shelf: Shelf,
        fetcher: Fetcher,
        reach: Reach,
        tell: Callable[[str, bytes], None],
    ) -> None:
        """`count` peers hold each model beside its owner; `tell` writes an entry of this peer's catalogue."""
        self._me = me
        self._count = count
        self._colleagues = colleagues
        self._shelf = shelf
        self._fetcher = fetcher
        self._reach = reach
        self._tell = tell
        self._news = asyncio.Event()
        self._slots: dict[str, int] = {}
        self._said: dict[int, Holding | LastWords] = {}
        """In which slot each owner's replica is told, and what is told in each."""
        self._refused: dict[str, None] = {}
        self._changed: set[str] = set()
        """Of whom something changed since the last look."""
        self._all_at = 0.0
        """When all must be looked at again."""
        self._able: set[str] = set()
        """Who could hold replicas at the last look, and for each owner who should."""
        self._keepers: dict[str, list[str]] = {}

    def nudge(self, owner: str | None = None) -> None:
        """Something changed of one peer, or of nobody knows whom: look at it soon."""
        if owner is None:
            self._all_at = 0.0
        else:
            self._changed.add(owner)
        self._news.set()

    async def keep_up(self) -> None:
        """Follow the others until cancelled."""
        await asyncio.to_thread(self._shelf.open)
        self._announce()
        while True:
            try:
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(SETTLING)
            self._news.clear()
            try:
                await self._look()
            except BadInput as error:
                # The state folder refuses; what was held before still votes.
                log.warning("no replica could be kept", why=str(error))

    def whole(self, words: LastWords) -> bool:
        """Whether everyone who should hold this model says that it does."""
        holders = {member.id for member in self._colleagues.held.holders(words.owner, words.model)}
        return holders.issuperset(self._keepers_of(words.owner))

    async def hand_over(self, seconds: float) -> list[str]:
        """Wait until this peer may leave without a loss, for so many seconds at most; whose models then still lack a
        holder. What is missing the others fetch, since they know that this peer is about to leave."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (thin := self._thin()) and (left := end - loop.time()) > 0:
            try:
                # Every word of the others is news to this peer too.
                async with asyncio.timeout(min(GLANCE, left)):
                    await self._news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(SETTLING)
        return thin

    def _thin(self) -> list[str]:
        """Of this peer itself, and of those that it holds for and that cannot vote themselves, the names of those whose
        models are not with everyone who should hold them once this peer is gone."""
        self._find_able()
        names = []
        for colleague in self._colleagues.all():
            if colleague.id == self._me or (colleague.id in self._shelf.words and not colleague.votes):
                words = self._words(colleague)
                if words is not None and not self.whole(words):
                    names.append(colleague.member.name)
        return names

    async def _look(self) -> None:
        """Look at those of whom something changed; at all where others can hold replicas, or it was long ago."""
        changed, self._changed = self._changed, set()
        self._find_able()
        everyone, now = self._colleagues.all(), asyncio.get_running_loop().time()
        if thorough := now >= self._all_at:
            self._all_at = now + AGAIN
            changed = {colleague.id for colleague in everyone} | self._shelf.words.keys()
        for colleague in everyone:
            if colleague.id in changed and colleague.id != self._me:
                await self._look_at(colleague, thorough)
        known = {colleague.id for colleague in self._colleagues.all()}
        for owner in [owner for owner in self._shelf.words if owner not in known]:
            await self._let_go(owner)
        self._announce()

    async def _look_at(self, colleague: Colleague, thorough: bool = True) -> None:
        """Hold what is to be held of a peer. What else its owner tells of what it knows changes often at first, and
        weighs its vote once it is gone: a replica is brought up to that when a look is `thorough`, or it leaves."""
        held = self._shelf.words.get(colleague.id)
        if held is None and self._me not in self._keepers_of(colleague.id):
            return  # as it is with nearly all
        thorough |= colleague.summary is not None and colleague.summary.leaving
        words = self._words(colleague)
        if words is None or (words.gone and time.time() - words.gone > KEPT):
            await self._let_go(colleague.id)
        elif self._me in self._keepers_of(colleague.id):
            if held is None or not held.votes_as(words) or (thorough and not held.same(words)):
                await self._take(colleague, words)
        elif held is not None and self.whole(words):
            await self._let_go(colleague.id)

    def _words(self, colleague: Colleague) -> LastWords | None:
        """What there is to hold of a peer; None where its model cannot leave it, or is not known."""
        held = self._shelf.words.get(colleague.id)
        summary, knowledge = colleague.summary, self._colleagues.knowledge(colleague.id)
        if colleague.votes and summary is not None:
            if not summary.portable:
                return None
            if knowledge is None:
                return held
            return LastWords(colleague.id, colleague.member.name, summary.last_words(), knowledge)
        told = self._colleagues.last_words(colleague) or held
        if told is None:
            return None
        since = told.gone or (held.gone if held else 0) or int(time.time())
        return replace(told, gone=0 if colleague.live else since)

    def _find_able(self) -> None:
        """Find out who can hold replicas: the live peers that do not leave. Others than before may have to hold any."""
        able = {c.id for c in self._colleagues.all() if c.live and not (c.summary and c.summary.leaving)}
        if able != self._able:
            gone, came = self._able - able, able - self._able
            # Who came may take a place; all others change only where somebody who had one is gone.
            self._keepers = {
                owner: keepers(owner, [*held, *came], self._count)
                for owner, held in self._keepers.items()
                if gone.isdisjoint(held)
            }
            self._able, self._all_at = able, 0.0

    def _keepers_of(self, owner: str) -> list[str]:
        """Who should hold a peer's model, of those who could at the last look."""
        if owner not in self._keepers:
            self._keepers[owner] = keepers(owner, self._able, self._count)
        return self._keepers[owner]

    async def _take(self, colleague: Colleague, words: LastWords) -> None:
        """Hold the model that `words` name."""
        held, model = self._shelf.words.get(words.owner), words.model
        if model in self._refused or not words.fits:
            return
        if held is None and len(self._shelf.words) >= SLOTS:
            log.debug("no slot is left for a replica", owner=words.name)
            return
        try:
            fetched: dict[str, bytes] = {}
            for digest in await asyncio.to_thread(self._shelf.lacks, words):
                limit = self._room(words.owner) if digest == model else PIECE_BYTES
                try:
                    fetched[digest] = await self._fetcher.fetch(digest, self._sources(colleague, words), limit)
                except RemoteError as error:
                    if digest != words.knowledge.density or (held is not None and held.model == model):
                        raise
                    # The model votes without it meanwhile; the next look finds that something lacks.
                    log.debug("a density could not be fetched yet", owner=words.name, why=str(error))
                    words = replace(words, knowledge=replace(words.knowledge, density=None))
            parcel = await asyncio.to_thread(self._shelf.parcel, words, fetched)
            if parcel is None:
                return
            try:
                replica = await asyncio.to_thread(self._shelf.put, words, parcel)
            except RemoteError as error:
                self._refused[model] = None
                while len(self._refused) > REFUSED:
                    del self._refused[next(iter(self._refused))]
                log.warning("a replica was refused", owner=words.name, why=str(error))
                return
        except RemoteError as error:
            log.debug("a replica could not be fetched", owner=words.name, why=str(error))
            return
        self._colleagues.learn_schema(replica.model.schema)
        if held is None or held.model != model:
            log.info("holding a replica", owner=words.name, model=model[:8], bytes=replica.size)
        self._announce()

    def _room(self, owner: str) -> int:
        taken = sum(size for id, size in self._shelf.sizes.items() if id != owner)
        return min(MODEL_BYTES, max(0, HELD_BYTES - taken))

    def _sources(self, colleague: Colleague, words: LastWords) -> list[Member]:
        """Whom to fetch from: the owner if it lives, then those who hold the model."""
        sources = [colleague.member] if colleague.live else []
        sources += [m for m in self._colleagues.held.holders(words.owner, words.model) if m.id != self._me]
        return [member for member in sources if self._reach.why_not(member.id) is None]

    async def _let_go(self, owner: str) -> None:
        if owner in self._shelf.words:
            log.info("letting go of a replica", owner=self._shelf.words[owner].name)
            await asyncio.to_thread(self._shelf.drop, owner)
            self._announce()

    def _announce(self) -> None:
        """Say what is held, each replica in a slot of its own, with the last words of those who do not vote."""
        words = self._shelf.words
        voting = {colleague.id for colleague in self._colleagues.all() if colleague.votes}
        before = self._slots
        free = [slot for slot in range(SLOTS) if slot not in before.values()]
        kept = {owner: slot for owner, slot in before.items() if owner in words}
        self._slots = kept | dict(zip([owner for owner in sorted(words) if owner not in kept], free, strict=False))
        for slot in set(before.values()) - set(self._slots.values()):
            del self._said[slot]
            self._tell(entry(slot), b"")
        for owner, slot in self._slots.items():
            said = words[owner].holding if owner in voting else words[owner]
            if self._said.get(slot) != said:
                self._said[slot] = said
                self._tell(entry(slot), said.packed())
