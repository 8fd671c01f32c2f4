"""Scenarios: what can go wrong, each expanded from a seed into an explicit plan.

Nothing is drawn while a plan runs but what the network and the peers themselves draw, so that any part of a plan
can be taken away and the rest still means the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2pml.errors import BadInput

from .network import Conditions
from .operations import Operation, in_order
from .plans import Plan

QUIET = 5.0
"""Seconds in which the peers may find each other before anything breaks."""

CROWD = 50
"""Peers above which those that come and go know one another from the start: how they meet is the join burst's."""

LATEST = 0.999
"""The share of the first phase after which no more is begun than what stays broken."""


@dataclass
class Draft:
    """A plan in the making."""

    rng: random.Random
    peers: int
    seconds: float
    churn: float
    """Percent of the peers that go in a minute."""
    operations: list[Operation] = field(default_factory=list)
    first: int | None = None
    formed: bool = False
    weather: Conditions = field(default_factory=Conditions)

    def moment(self, after: float = QUIET) -> float:
        """Draw a time in the first phase."""
        return round(self.rng.uniform(min(after, self.seconds * LATEST), self.seconds * LATEST), 3)

    def some(self, share: float) -> tuple[int, ...]:
        """Draw that share of the hosts, at least one and never all."""
        count = min(max(1, round(share * self.peers)), max(1, self.peers - 1))
        return tuple(sorted(self.rng.sample(range(self.peers), count)))

    def one(self) -> tuple[int, ...]:
        """Draw one host."""
        return (self.rng.randrange(self.peers),)

    def add(self, at: float, what: str, hosts: tuple[int, ...] = (), *others: int, amount: float = 0.0) -> None:
        """Let something happen, if it is before the end."""
        if at < self.seconds:
            self.operations.append(Operation(round(at, 3), what, hosts, others, round(amount, 3)))

    def times(self, a_minute: float) -> range:
        """How often something happens that happens so often a minute, at least once."""
        return range(max(1, round(a_minute * self.seconds / 60)))


def churn(draft: Draft) -> None:
    """Peers come and go all the while: most crash, some leave, and nearly all come back."""
    draft.formed = draft.peers > CROWD
    for _ in draft.times(draft.churn / 100 * draft.peers):
        at, host = draft.moment(), draft.one()
        draft.add(at, draft.rng.choices(("crash", "leave"), (4, 1))[0], host)
        if draft.rng.random() < 0.9:
            draft.add(at + draft.rng.uniform(0.1, 30), "restart", host)


def partition(draft: Draft) -> None:
    """The network splits in two or more, for seconds or minutes, and heals."""
    for _ in draft.times(1):
        at = draft.moment()
        for _ in range(draft.rng.choice((1, 1, 2))):
            draft.add(at, "partition", draft.some(draft.rng.uniform(0.1, 0.6)))
        draft.add(at + draft.rng.uniform(2, 60), "heal")


def flap(draft: Draft) -> None:
    """Some hosts vanish and come back, again and again."""
    hosts = draft.some(draft.rng.uniform(0.05, 0.4))
    at = draft.moment() / 2
    for _ in draft.times(8):
        lasts = draft.rng.uniform(0.2, 8)
        draft.add(at, "black-hole", hosts, amount=lasts)
        at += lasts + draft.rng.uniform(0.1, 5)


def asymmetric(draft: Draft) -> None:
    """Links that work in one direction only: some are not heard, some hear nobody."""
    for _ in draft.times(2):
        at, hosts = draft.moment(), draft.some(draft.rng.uniform(0.05, 0.4))
        others = tuple(host for host in draft.some(draft.rng.uniform(0.2, 0.9)) if host not in hosts)
        if not others:
            continue
        if draft.rng.random() < 0.5:
            hosts, others = others, hosts
        draft.add(at, "cut", hosts, *others)
        if draft.rng.random() < 0.5:
            draft.add(at + draft.rng.uniform(2, 40), "heal")


def crash_restart(draft: Draft) -> None:
    """Hosts crash and come straight back, one after the other or many at once, some with a disk that is lost."""
    for _ in draft.times(3):
        at = draft.moment()
        hosts = draft.one() if draft.rng.random() < 0.7 else draft.some(draft.rng.uniform(0.2, 0.9))
        draft.add(at, draft.rng.choices(("crash", "torn"), (5, 1))[0], hosts)
        draft.add(at + draft.rng.choice((0.05, 0.5, 5, 20)) * draft.rng.uniform(0.5, 1.5), "restart", hosts)


def join_burst(draft: Draft) -> None:
    """A few are there, and a crowd joins at once."""
    draft.first = max(1, draft.peers // 10)
    waiting = range(draft.first, draft.peers)
    at, within = draft.moment() / 2, draft.rng.choice((0.0, 0.2, 2.0))
    for host in waiting:
        draft.add(at + draft.rng.uniform(0, within), "restart", (host,))


def slow_peers(draft: Draft) -> None:
    """Some are slow by a hundred or a thousand times, or stand still for a while."""
    for _ in draft.times(2):
        at, hosts = draft.moment(), draft.some(draft.rng.uniform(0.05, 0.3))
        draft.add(at, "slow", hosts, amount=10 ** draft.rng.uniform(1, 3))
        draft.add(at + draft.rng.uniform(2, 30), "slow", hosts, amount=1)
    for _ in draft.times(2):
        draft.add(draft.moment(), "pause", draft.some(draft.rng.uniform(0.05, 0.2)), amount=draft.rng.uniform(0.5, 25))


def bad_links(draft: Draft) -> None:
    """Packets are lost, doubled, late and out of order."""
    rng = draft.rng
    most = 10 ** rng.uniform(-3, -1)
    draft.weather = Conditions((most / 10, most), rng.uniform(0, 0.1), rng.uniform(0, 0.1), rng.uniform(0, 0.3))
    for _ in draft.times(1):
        at = draft.moment()
        draft.add(at, "loss", draft.some(draft.rng.uniform(0.1, 0.5)), amount=draft.rng.uniform(0.05, 0.6))
        draft.add(at + draft.rng.uniform(5, 30), "heal")


def disk_faults(draft: Draft) -> None:
    """Disks fill up, lose what was not synced, flip bits, tear writes, and come back from old copies."""
    for _ in draft.times(15):
        at = draft.moment()
        hosts = draft.one() if draft.rng.random() < 0.7 else draft.some(draft.rng.uniform(0.1, 0.6))
        what = draft.rng.choice(("torn", "flip", "power", "stale", "die-writing", "disk-full"))
        if what == "stale":
            draft.add(at * draft.rng.random(), "copy", hosts)
        draft.add(at, what, hosts, amount=draft.rng.uniform(1, 20) if what == "disk-full" else 0.0)
        if what in ("disk-full", "die-writing"):
            draft.add(at + 0.1, "fit", hosts[:1])
        draft.add(at + draft.rng.uniform(0.5, 15), "restart", hosts)


def byzantine(draft: Draft) -> None:
    """Some lie: bad votes, boasts, forged deaths, noise, replays; and some say little on a connection, or nothing."""
    liars = draft.some(draft.rng.uniform(0.1, 0.4))
    for _ in draft.times(24):
        at, host = draft.moment(), (draft.rng.choice(liars),)
        what = draft.rng.choice(("boast", "bad-votes", "forge", "noise", "replay", "mute", "drip", "reset"))
        lasts = draft.rng.uniform(1, 20)
        draft.add(at, what, host, amount={"mute": lasts, "drip": 10 ** draft.rng.uniform(0, 4)}.get(what, 0.0))
        if draft.rng.random() < 0.3:
            draft.add(at + lasts, "restart", host)


def clocks(draft: Draft) -> None:
    """Clocks run fast or slow, and wall clocks jump."""
    for _ in draft.times(4):
        draft.add(draft.moment(), "skew", draft.some(draft.rng.uniform(0.1, 0.5)), amount=2 ** draft.rng.uniform(-1, 1))
        draft.add(draft.moment(), "jump", draft.some(draft.rng.uniform(0.1, 0.5)), amount=draft.rng.uniform(-1e5, 1e8))


def moves(draft: Draft) -> None:
    """Peers come back at other addresses, or at each other's, and those that all were told to join are gone."""
    at = draft.moment()
    draft.add(at, "crash", tuple(range(min(3, draft.peers - 1))))
    for _ in draft.times(4):
        if draft.rng.random() < 0.5 or draft.peers < 3:
            draft.add(draft.moment(), "move", draft.one())
        else:
            draft.add(draft.moment(), "swap", tuple(draft.rng.sample(range(draft.peers), 2)))
    draft.add(at + draft.rng.uniform(1, 10), "restart", draft.some(0.5))


def bridge(draft: Draft) -> None:
    """The network splits in two, but for one host that both sides reach."""
    side, link = draft.some(0.5), draft.one()
    one = tuple(host for host in side if host not in link)
    other = tuple(host for host in range(draft.peers) if host not in one + link)
    at = draft.moment() / 2
    if one and other:
        draft.add(at, "cut", one, *other)
        draft.add(at, "cut", other, *one)
    if draft.rng.random() < 0.5:
        draft.add(at + draft.rng.uniform(5, 60), "heal")


def swizzle(draft: Draft) -> None:
    """The links of some are cut one after the other, and mended in another order."""
    for _ in draft.times(2):
        at, hosts = draft.moment(), draft.some(draft.rng.uniform(0.2, 0.8))
        for order, what in ((hosts, "partition"), (draft.rng.sample(hosts, len(hosts)), "heal")):
            for host in order:
                draft.add(at, what, (host,))
                at += draft.rng.uniform(0.1, 3)
            at += draft.rng.uniform(0, 10)


def weather(draft: Draft) -> None:
    """Packets are lost, doubled, late and out of order, now and then more than usual."""
    bad_links(draft)
    for what in ("duplicate", "reorder"):
        at = draft.moment()
        draft.add(at, what, draft.some(draft.rng.uniform(0.1, 0.8)), amount=draft.rng.uniform(0.1, 0.9))
        draft.add(at + draft.rng.uniform(5, 30), "heal")


def swarm(draft: Draft) -> None:
    """Everything drawn from the seed: which of the others happen, together, and on what links."""
    kinds = [churn, partition, flap, asymmetric, crash_restart, slow_peers, weather, moves, bridge, swizzle]
    for kind in [kind for kind in kinds if draft.rng.random() < 0.4]:
        kind(draft)


SCENARIOS: Mapping[str, Callable[[Draft], None]] = {
    "churn": churn,
    "partition": partition,
    "flap": flap,
    "asymmetric": asymmetric,
    "crash-restart": crash_restart,
    "join-burst": join_burst,
    "slow-peers": slow_peers,
    "disk-faults": disk_faults,
    "byzantine": byzantine,
    "clocks": clocks,
    "moves": moves,
    "bridge": bridge,
    "swizzle": swizzle,
    "weather": weather,
    "swarm": swarm,
}
"""Each with a function that draws its faults, and says in its first line what they are."""


WHOLE = ("byzantine", "clocks")
"""Those that only whole daemons can live through: the layer core has no connections, no clocks and no liars."""


def draw(scenario: str, seed: int, peers: int, seconds: float, churn: float = 20.0) -> Plan:
    """Expand a scenario. Raises `BadInput` for one that does not exist, or too few peers or seconds for any."""
    if scenario not in SCENARIOS:
        raise BadInput(f"there is no scenario {scenario!r}: choose one of {', '.join(SCENARIOS)}")
    if peers < 2 or seconds <= QUIET:
        raise BadInput(f"a simulation takes at least 2 peers and more than {QUIET:g} s")
    rng = random.Random(f"{seed}/{scenario}/{peers}/{seconds:g}/{churn:g}")  # noqa: S311 - a simulation
    draft = Draft(rng, peers, seconds, churn)
    SCENARIOS[scenario](draft)
    for _ in draft.times(6):
        draft.add(draft.moment(1.0), "fit", draft.one())
    # Host 0, whom all others join, is in the core: otherwise nobody may know anybody there.
    core = tuple(sorted({0, *draft.some(rng.uniform(0.5, 1.0))}))
    if rng.random() < 0.25:
        core = tuple(range(peers))
    stay_broken(draft, tuple(sorted({*range(peers)}.difference(core))), core)
    return Plan(
        scenario,
        seed,
        peers,
        seconds,
        in_order(draft.operations),
        core,
        draft.first,
        draft.weather,
        formed=draft.formed,
    )


def stay_broken(draft: Draft, rest: tuple[int, ...], core: tuple[int, ...]) -> None:
    """Break the rest for ever, right before the core is healed."""
    if not rest:
        return
    at = draft.seconds - 0.001
    match draft.rng.choice(("as it is", "down", "cut off", "mute", "deaf")):
        case "down":
            draft.add(at, "crash", rest)
        case "cut off":
            draft.add(at, "partition", rest)
        case "mute":
            draft.add(at, "cut", rest, *core)
        case "deaf":
            draft.add(at, "cut", core, *rest)
