"""One peer: its parts, put together, from its start to its leave."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import aiohttp
import msgpack
import structlog
from aiohttp import web

from p2pml.ensemble.portable import MAX_BYTES as MODEL_BYTES
from p2pml.ensemble.summary import Summary
from p2pml.errors import BadInput, P2pmlError, RemoteError
from p2pml.gossip import (
    Address,
    Change,
    EntryChanged,
    GenerationRaised,
    IdentityConflict,
    Join,
    Leave,
    Me,
    Member,
    MemberChanged,
    Moved,
    Node,
    SecretRefused,
    SetEntry,
    Settings,
    Start,
    Status,
    Unreachable,
)
from p2pml.gossip.wire import Wire

from .alerts import DRIFT, Alert, write
from .answers import Peers
from .api import LAST_ANSWERS, Api
from .asking import Asker
from .colleagues import FIT, KNOWLEDGE, SUMMARY, Colleagues
from .comparing import Comparer
from .crew import Crew
from .discovery import Discovery
from .drifting import Drifting
from .evaluating import Evaluator
from .finder import primary_address, resolve
from .fitting import Fitting
from .held import HELD
from .holdouts import Holdouts
from .identity import keep_generation, load_identity, next_generation
from .knowing import Knowing
from .metrics import Metrics
from .observing import Observer
from .options import PeerOptions
from .pieces import Fetcher, Pieces
from .polling import Polling
from .pooling import Pooling
from .presenting import peer_row
from .pulse import PULSE
from .pump import Pump
from .reach import Reach
from .replicas import Replicas
from .secrets import read_secrets
from .shelf import Shelf
from .sockets import bind
from .store import Store
from .training import Trained, Trainer
from .voting import Voting
from .wire import CONNECT, PeerWire
from .workshop import WorkerProcess, Workshop

PROFILES = {
    name: replace(profile(), critical=frozenset({FIT, DRIFT}))
    for name, profile in (("local", Settings.local), ("lan", Settings.lan), ("wan", Settings.wan))
}
"""How the protocol is set, by `--profile`: a wish that all retrain, and an alert, go before everything else."""
HANDING_OVER = 5.0
"""Seconds that a leaving peer waits for others to take over its replicas: half of what a container is given to stop."""
FAREWELL = 0.3
"""Seconds that a leaving peer stays to let its farewell go out: a few packets on any network."""
LOOK_AGAIN = 3.0
"""Seconds between two looks at which address this machine has."""
MENDING, GLANCE = 3.0, 0.05
"""Seconds in which somebody who holds this peer's own model must be found, and between two looks."""
JOIN_AGAIN = 5.0
"""Seconds after which a peer that is still alone asks the addresses it was given once more."""

log = structlog.get_logger()


class Peer:
    """A running peer. `start` brings it up, `stopped` waits for its end, `close` leaves and frees everything."""

    def __init__(
        self,
        options: PeerOptions,
        store: Store,
        workshop: Workshop | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Trainings run in `workshop`, by default a process; `chance` is by default the system's."""
        self.options = options
        self._chance = chance or random.SystemRandom()
        self.store = store
        self.name = options.name or default_name(options)
        self.identity = load_identity(store)
        self.id = self.identity.id
        self.shelf = Shelf(store)
        self.voting = Voting(self.id, self.shelf)
        self.trainer = Trainer(store, options, workshop or WorkerProcess())
        self.leaving = False
        """Whether it hands over what it holds, and answers no new questions."""
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unseen: set[str] = set()
        """Whose new summaries are still to be looked at."""
        self._place: dict[str, Any] = {}

    async def start(self) -> None:
        """Bind, join, serve, and begin to train; raises `BadInput` where the options do not allow it."""
        options = self.options
        seeds = tuple([await resolve(place) for place in options.join])
        remembered = self.store.read_document("place", _read_place) or (None, [])
        tcp, udp, port = bind(options.host, options.port, remembered[0])
        self.address: Address = (primary_address(options.host), port)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, local_addr=(options.host, 0) if options.host else None),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT),
            trust_env=False,
        )
        try:
            self._assemble()
        except BadInput:
            await self._session.close()
            raise
        await self.pump.open(udp)
        self._runner = web.AppRunner(
            Api(self).application(), access_log=None, handle_signals=False, shutdown_timeout=LAST_ANSWERS
        )
        await self._runner.setup()
        await web.SockSite(self._runner, tcp).start()
        self._publish()
        self.observer.beat()
        self.pump.handle(Start(seeds))
        self.pump.handle(Join(tuple(remembered[1])))
        self._discovery = Discovery(self.id, options.cluster, port, options.host, self._on_address)
        if options.mdns:
            self._discovery.start()
        self._spawn(self._stay_joined(seeds))
        if options.host is None:
            self._spawn(self._follow_address())
        self._spawn(self._first_model())
        self._spawn(self.knowing.keep_up(self.asker.all_votes))
        self._spawn(self.replicas.keep_up())
        self._spawn(self.drifting.keep_up())
        log.info(
            "peer started",
            name=self.name,
            id=self.id[:8],
            cluster=options.cluster,
            address=_shown(self.address),
            process=os.getpid(),
        )

    def _assemble(self) -> None:
        me = Me(
            id=self.id,
            name=self.name,
            cluster=self.options.cluster,
            address=self.address,
            generation=next_generation(self.store),
            nonce=self._chance.getrandbits(63),
        )
        rng = random.Random(self._chance.getrandbits(64))  # noqa: S311 (no secret)
        packets = Wire(me.cluster, read_secrets(self.options.secret_file))
        node = self.node = Node(me, PROFILES[self.options.profile], rng, packets)
        self.metrics = Metrics(self)
        wire = self.wire = PeerWire(self._session, self.metrics.heard)
        self.pump = Pump(node, self._session, self._on_change)
        self.colleagues = Colleagues(node, wire)
        self.reach = Reach(node, wire, lambda id: self._tell(Unreachable(id)))
        self.fitting = Fitting(self.trainer, self.voting, self._publish)
        self.fetcher = Fetcher(wire)
        self.knowing = Knowing(
            self.id,
            self.colleagues,
            self.trainer,
            self.voting,
            wire,
            self.fetcher,
            Pooling(self.fetcher, self.store, self.options.min_count, tells=self.options.replicas > 0),
            lambda said: self._tell(SetEntry(KNOWLEDGE, said)),
        )
        self.replicas = Replicas(
            self.id,
            self.options.replicas,
            self.colleagues,
            self.shelf,
            self.fetcher,
            self.reach,
            lambda key, said: self._tell(SetEntry(key, said)),
        )
        self.pieces = Pieces(self._piece)
        self.polling = Polling(self.id, self.colleagues, self.voting, wire, self.reach)
        self.asker = Asker(self.colleagues, self.knowing, self.polling)
        least, holdouts = self.options.min_count, Holdouts(self.voting, self.trainer)
        self.comparer = Comparer(self.id, least, self.colleagues, self.asker, holdouts, wire, self.reach)
        self.evaluator = Evaluator(self.id, self.colleagues, self.asker, holdouts, wire, self.reach, self.comparer)
        self.observer = Observer(node, self.colleagues, self.fitting, self.voting, self.peers, self._tell)
        self.drifting = Drifting(
            self.id, least, self.colleagues, self.knowing, self.trainer, self.voting, wire, self.reach, self._alert
        )
        self.crew = Crew(self.id, node, self.colleagues, self.fitting, self.voting, wire, self.reach)

    async def stopped(self) -> None:
        """Wait until the peer is asked to stop; raises what made it stop by itself."""
        await self._stop

    def stop(self, error: P2pmlError | None = None) -> None:
        """Ask the peer to stop, because of `error` if there is one."""
        if not self._stop.done():
            if error is None:
                self._stop.set_result(None)
            else:
                self._stop.set_exception(error)

    async def close(self) -> None:
        """Say goodbye and free everything: processes, ports, connections and the state folder's lock.

        Before that, who is left takes over what this peer alone holds; nobody may ask it anything new meanwhile.
        """
        self.leaving = True
        self._publish()
        if thin := await self.replicas.hand_over(HANDING_OVER):
            log.warning("leaving before others hold these models", owners=", ".join(thin))
        self._remember_place()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._discovery.close()
        self.observer.events.close()
        self.pump.handle(Leave())
        await self.fitting.close()
        await asyncio.sleep(FAREWELL)
        # Before what the last answers need: each may still find a peer that does not answer, and check on it.
        await self._runner.cleanup()
        await self.pump.close()
        await self.reach.close()
        await self.colleagues.close()
        await self.wire.close()
        await self._session.close()
        self.voting.close()

    def peers(self) -> Peers:
        """Every member as this peer sees it."""
        misfits = self.colleagues.roll().misfits
        rows = [peer_row(c, misfits.get(c.id), self.colleagues.held_by(c)) for c in self.colleagues.all()]
        return Peers(cluster=self.options.cluster, asked=self.id, peers=rows)

    def why_not_ready(self) -> str | None:
        """Why this peer cannot vote; None where it can."""
        if self.leaving:
            return "it is about to leave"
        if self.voting.trained is None:
            return self.fitting.reason or "the first training is not done yet"
        return self.colleagues.roll().misfits.get(self.id)

    async def _first_model(self) -> None:
        """Serve the model of the last run, or train one; a part that cannot be trained on ends the peer."""
        trained = await self.trainer.load() or await self._mended()
        if trained is not None:
            log.info("model loaded from disk", model=trained.name, rows=trained.rows)
            self.fitting.serve(trained)
            if not await asyncio.to_thread(self.trainer.whole, trained):
                log.warning("what belongs to the model on disk is damaged; the model votes while it is trained anew")
                self.fitting.begin(trained.command)
        else:
            self.fitting.begin(self.fitting.wanted)
        if (wish := await asyncio.to_thread(self.trainer.wish)) is not None:
            self.fitting.adopt(wish)
        self.fitting.adopt(self.colleagues.highest_fit())
        await self.fitting.settled()
        if self.voting.trained is None and self.fitting.refused is not None:
            self.stop(self.fitting.refused)

    async def _mended(self) -> Trained | None:
        """The model of the last run from a replica of it, where its file is damaged or gone; None where nobody holds
        one, or nobody is found in time."""
        if (digest := await self.trainer.lost_model()) is None:
            return None
        loop = asyncio.get_running_loop()
        end = loop.time() + MENDING
        while not (holders := self.colleagues.held.holders(self.id, digest)):
            if loop.time() > end:
                return None
            await asyncio.sleep(GLANCE)
        try:
            packed = await self.fetcher.fetch(digest, holders, MODEL_BYTES)
            await asyncio.to_thread(self.trainer.mend, digest, packed)
        except (RemoteError, BadInput) as error:
            log.warning("the model could not be mended; training anew", why=str(error))
            return None
        log.info("the model was mended from a replica", by=holders[0].name)
        return await self.trainer.load()

    async def _stay_joined(self, seeds: tuple[Address, ...]) -> None:
        while True:
            await asyncio.sleep(JOIN_AGAIN)
            others = [m for m in self.node.members() if m.id != self.id and m.status is Status.ALIVE]
            if seeds and not others:
                self.pump.handle(Join(seeds))
            await self.colleagues.fetch_schemas()
            self.observer.beat()
            self._remember_place()

    async def _follow_address(self) -> None:
        """Say where this machine is reached once that changes; without a network it stays where it was."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            address = (await asyncio.to_thread(primary_address, None), self.address[1])
            if address != self.address and not ip_address(address[0]).is_loopback:
                log.info("this machine has another address", address=_shown(address), before=_shown(self.address))
                self.address = address
                self.pump.handle(Moved(address))

    def _publish(self) -> None:
        """Tell the cluster what this peer's model is, and which fit it has heard of."""
        trained, fitting = self.voting.trained, self.fitting
        summary = Summary(state=fitting.state, model=fitting.wanted.model or self.options.model, reason=fitting.reason)
        summary = replace(summary, leaving=self.leaving)
        if trained is not None:
            self.colleagues.learn_schema(trained.schema)
            summary = replace(
                summary,
                model=trained.name,
                epoch=trained.command.epoch,
                voting=True,
                reason=fitting.reason or "; ".join(trained.notes) or None,
                schema=trained.schema.fingerprint,
                task=trained.schema.task,
                target=trained.schema.target,
                rows=trained.rows,
                held_out=trained.held_out,
                digest=trained.digest,
                metrics=trained.metrics,
                portable=trained.portable,
            )
        self._tell(SetEntry(SUMMARY, msgpack.packb(summary.to_data())))
        self._nudge(self.id)
        self._tell(SetEntry(FIT, msgpack.packb(fitting.wanted.to_data())))
        self.observer.model(self.id)

    def _nudge(self, owner: str | None = None) -> None:
        self.knowing.nudge()
        self.replicas.nudge(owner)

    def _piece(self, digest: str) -> bytes | None:
        """What this peer has under a digest: of its own, or of a replica; blocks."""
        trained = self.voting.trained
        if trained is not None and digest == trained.digest:
            return self.trainer.packed_model(trained)
        return self.knowing.piece(digest) or self.shelf.piece(digest)

    def _alert(self, alert: Alert | None) -> None:
        raw = None if alert is None else write(alert)
        self._tell(SetEntry(DRIFT, raw))
        self.observer.heard_alert(self.id, raw)

    def _tell(self, event: SetEntry | Unreachable) -> None:
        self.pump.handle(event)

    def _on_address(self, address: Address) -> None:
        self.pump.handle(Join((address,)))

    def _on_change(self, change: Change) -> None:
        self.colleagues.heard(change)
        match change:
            case MemberChanged(member, before):
                self._on_member(member, before, self.observer.member(member, before))
            case EntryChanged(owner, key, value) if owner != self.id:
                if key == FIT:
                    self.fitting.adopt(self.colleagues.fit(owner))
                elif key == KNOWLEDGE:
                    self._nudge(owner)
                elif key.startswith(HELD):
                    self.knowing.nudge()
                    if (words := self.colleagues.held.read(value)) is not None:
                        self.replicas.nudge(words.owner)
                        self.observer.model(words.owner)
                elif key == SUMMARY:
                    self.observer.model(owner)
                    if not self._unseen:
                        self._spawn(self._look_at_new())
                    self._unseen.add(owner)
                elif key == PULSE:
                    self.observer.heard_pulse(owner, value)
                elif key == DRIFT:
                    self.observer.heard_alert(owner, value)
            case GenerationRaised(generation):
                try:
                    keep_generation(self.store, generation)
                except BadInput as error:
                    # A generation that is not on disk must not be used: the next run would take it again.
                    self.stop(error)
                log.warning("the cluster remembers a later run of this peer; an old state folder was restored")
            case SecretRefused(address):
                log.warning(
                    "somebody speaks without this cluster's secret and is not heard: give that peer this one's "
                    "--secret-file if it belongs here",
                    address=_shown(address),
                )
            case IdentityConflict(_, address):
                self.stop(
                    BadInput(
                        f"another peer at {_shown(address)} runs with a copy of this state folder; "
                        "give one of the two a folder of its own with --state DIR"
                    )
                )

    def _on_member(self, member: Member, before: Status | None, meaning: str | None) -> None:
        if meaning is not None:
            said = {"name": member.name, "id": member.id[:8], "address": _shown(member.address)}
            (log.warning if member.status is Status.DEAD else log.info)(meaning, **said)
        if member.status is before:
            return
        self._nudge()
        if member.status is Status.ALIVE and before is None:
            twins = [m for m in self.node.members() if m.name == member.name and m.id != member.id]
            if twins:
                log.warning("two peers have one name; give one another with --name", name=member.name, id=member.id[:8])

    async def _look_at_new(self) -> None:
        """Learn the schemas behind new summaries, and say so where one does not fit."""
        await self.colleagues.fetch_schemas()
        owners, self._unseen = self._unseen, set()
        for owner in owners:
            self._nudge(owner)
        self.observer.fits()
        for id, why in self.colleagues.roll().misfits.items():
            member = self.node.member(id)
            if member is not None and (id in owners or id == self.id):
                log.warning("a peer's schema does not fit; it takes no part", name=member.name, why=why)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error if isinstance(error, P2pmlError) else RemoteError(f"{type(error).__name__}: {error}"))

    def _remember_place(self) -> None:
        """Keep the port and the addresses of the others, so that a restart needs no discovery."""
        others = [list(m.address) for m in self.node.members() if m.id != self.id and m.status is not Status.LEFT]
        place = {"port": self.address[1], "peers": others[:64]}
        if place == self._place:
            return
        self._place = place
        try:
            self.store.write_document("place", place)
        except BadInput as error:
            # A restart then needs discovery; a full disk is no reason to stop answering.
            log.warning("the others' addresses were not kept", why=str(error))


def _read_place(data: Any) -> tuple[int, list[Address]]:
    return int(data["port"]), [(str(host), int(port)) for host, port in data["peers"]]


def default_name(options: PeerOptions) -> str:
    """What a peer is called that was given no name: as its file."""
    return options.data.name.split(".")[0] or options.data.name


def _shown(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
