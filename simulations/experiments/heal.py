"""Splits in two, in three and in as many groups as there are members: when are all views equal again, by themselves?

Splits last from seconds to longer than the dead are remembered, when only the seeds can bring the groups together. A
verdict of death once the network is back is a false one, as everybody runs; news of one from before may still be
believed for a moment. memberlist forgets the dead after 30 s and never heals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from p2pml.gossip import Effect, Event, MemberChanged, Notify, Settings, Status, TimerFired

from ..cluster import Cluster, Host
from .harness import MODES, Figure, Measures, Result, deaths, no_collector, settings

HOUR = 3600.0
SEEDS = 3
GLANCE = 0.25
PATIENCE = 150.0
"""Virtual seconds after which a split counts as not healing: what has not healed by then is shown as this."""
BLINK = 0.01
"""Seconds after the network's return within which a verdict counts as one before it: the suspect was told once more
5 ms ago, into the split, and a packet takes up to 2 ms a way. `last_verdict` is not excused."""

WHOLE = ((10.0, 32), (40.0, 32), (2 * HOUR, 12), (25 * HOUR, 6))
"""How long splits last (s), and of how many members."""
QUICK = ((10.0, 32), (40.0, 32), (2 * HOUR, 6), (25 * HOUR, 4))
REPEATS, QUICK_REPEATS, LONG = 20, 5, HOUR
"""Seeds of a split, and from which duration (s) on there is only one."""


MEASURES: Mapping[str, tuple[Callable[[Sequence[float]], float], float | None, str]] = {
    "healed": (max, 2 * Settings.lan().reconnect_interval, "never (memberlist)"),
    "verdicts": (sum, 0.0, ""),
    "last_verdict": (max, None, ""),
    "believed": (sum, None, ""),
    "last_believed": (max, None, ""),
}
"""What is measured (s, or how many): how seeds are added up, what that may be, and what is known of others."""


class Case(NamedTuple):
    """One split. Times are in s."""

    mode: str
    duration: float
    members: int
    groups: int
    seed: int

    @property
    def name(self) -> str:
        """How its measures are called."""
        span = f"{self.duration:g}s" if self.duration < HOUR else f"{self.duration / HOUR:g}h"
        return f"{span}_{'n' if self.groups == self.members else self.groups}"


def cases(*, quick: bool) -> list[Case]:
    """List all splits, the longest first."""
    found = []
    for duration, members in reversed(QUICK if quick else WHOLE):
        repeats = 1 if duration >= LONG else QUICK_REPEATS if quick else REPEATS
        found += [
            Case(mode, duration, members, groups, seed)
            for groups in (2, 3, members)
            for mode in MODES
            for seed in range(repeats)
        ]
    return found


def measure(case: Case) -> Measures:
    """Do one split."""
    with no_collector():
        cluster = Cluster(case.members, case.seed, settings(case.mode), direct=True)
        for host in cluster.hosts:
            others = [other.address for other in cluster.hosts[:SEEDS] if other is not host]
            cluster.clock.after(host.index / case.members, host.boot, others)
        cluster.run(20.0)
        cluster.partition(*(range(group, case.members, case.groups) for group in range(case.groups)))
        cluster.run(case.duration)
        cluster.heal()
        verdicts: list[float] = []
        back = cluster.clock.now

        def note(host: Host, event: Event, effects: list[Effect]) -> None:
            verdicts.extend(cluster.clock.now - back for _ in _verdicts(event, effects))

        cluster.observers.append(note)
        while not cluster.agreed() and cluster.clock.now < back + PATIENCE:
            cluster.run(GLANCE)
        healed = cluster.clock.now - back
        cluster.run(2 * cluster.settings.reconnect_interval)
    late = [time - back for host in cluster.hosts for time, _ in deaths(host, back)]
    return {
        "healed": healed,
        "verdicts": sum(after > BLINK for after in verdicts),
        "last_verdict": max(verdicts, default=0.0),
        "believed": len(late),
        "last_believed": max(late, default=0.0),
    }


def _verdicts(event: Event, effects: list[Effect]) -> Iterator[str]:
    """Find verdicts of a host's own: they come of a timer, while news of others' comes with a packet."""
    for effect in effects if isinstance(event, TimerFired) else ():
        if not isinstance(effect, Notify) or not isinstance(effect.change, MemberChanged):
            continue
        if effect.change.member.status is Status.DEAD:
            yield effect.change.member.id


def result(runs: Sequence[tuple[Case, Measures]], *, quick: bool) -> Result:
    """Say for each kind of split the longest time to heal, and the deaths that were declared afterwards."""
    figures = []
    for name in dict.fromkeys(case.name for case, _ in runs):
        ours, swim = ([found for case, found in runs if (case.name, case.mode) == (name, mode)] for mode in MODES)
        for what, (total, at_most, words) in MEASURES.items():
            values = [total([found[what] for found in mode]) for mode in (ours, swim)]
            figures.append(Figure(f"{what}_{name}", values[0], at_most, values[0], values[1], words))
    seeds = max(case.seed for case, _ in runs) + 1
    members = ", ".join(f"{size} members for {duration:g} s" for duration, size in (QUICK if quick else WHOLE))
    subset = f"splits of {members}; {seeds} seeds, one from {LONG:g} s on; {PATIENCE:g} s means not healed"
    return Result("heal", subset, tuple(figures), "split (s)", {"healed after (s)": _lines(runs)})


def _lines(runs: Sequence[tuple[Case, Measures]]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for case, found in sorted(runs):
        groups = "n" if case.groups == case.members else case.groups
        lines.setdefault(f"{case.mode}, {groups} groups", []).append((case.duration, found["healed"]))
    return lines
