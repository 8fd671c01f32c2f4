"""What whole daemons keep to at every moment, beside what their answers must be: an onlooker that looks again.

It also notes what it has seen happen, since a promise that nothing ever put to the test says little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from p2pml.ensemble.summary import Summary
from p2pml.peer.daemon import Peer

from .invariants import QUEUES
from .machines import Machine

READABLE = "the disk can be read after any crash"
FORWARD = "model versions never go back"
BOUNDED = "every queue is bounded"
BOOTED = "views hold only identities that ever booted"
LAWS = (READABLE, FORWARD, BOUNDED, BOOTED)

Complaint = tuple[str, str]
"""The law that does not hold, and where that shows."""
Fit = tuple[int, str]
"""The fit that a model answers, as it is ordered."""


class Onlooker:
    """Looks at all machines, and remembers."""

    def __init__(self, machines: Sequence[Machine], honest: bool) -> None:
        """Have seen nothing yet; where not all are `honest`, some members are invented."""
        self._machines, self._honest = machines, honest
        self._fits: dict[object, Fit] = {}
        self._summaries: dict[tuple[Peer, str], tuple[object, Summary]] = {}
        """What each peer saw of each model at the last look, and of which run: mostly the very same."""
        self._peers: dict[Peer, None] = {}

    def look(self) -> Complaint | None:
        """What does not hold now."""
        ids = {machine.id for machine in self._machines}
        for machine in self._machines:
            if machine.unreadable is not None:
                return READABLE, f"{machine.name} cannot verify its file {machine.unreadable} after a crash"
            peer = machine.peer
            if peer is None or not hasattr(peer, "crew"):
                continue
            self._peers[peer] = None
            queues = peer.node.queues()
            for name, limit in QUEUES.items():
                if queues[name] > limit:
                    return BOUNDED, f"{machine.name} has {queues[name]} {name}"
            if queues["news"] > 2 * peer.node.remembered():
                return BOUNDED, f"{machine.name} has {queues['news']} news of {peer.node.remembered()} members"
            strangers = sorted(record.name for record in peer.node.records() if record.id not in ids)
            if strangers and self._honest:
                return BOOTED, f"{machine.name} knows {', '.join(strangers)}"
            if (wrong := self._backwards(machine, peer)) is not None:
                return FORWARD, wrong
        return None

    def seen(self) -> Counter[str]:
        """How often each thing was seen by anybody."""
        counts = Counter[str]()
        for peer in self._peers:
            counts.update({f"member {kind}": count for kind, count in peer.observer.counts.items()})
            counts.update({f"packet {kind}": count for kind, count in peer.node.counters.items()})
        return counts

    def _backwards(self, machine: Machine, peer: Peer) -> str | None:
        """Whose model is an older one than it was."""
        trained = peer.voting.trained
        if trained is not None and not machine.damaged and self._fell(machine.index, trained.command.epoch):
            return f"{machine.name} votes with the model of an earlier fit than before"
        for record in peer.node.records():
            summary = peer.colleagues.summary(record.id)
            run, summary_before = self._summaries.get((peer, record.id), (None, None))
            if summary is None or (summary is summary_before and record.epoch == run):
                continue
            self._summaries[peer, record.id] = record.epoch, summary
            # A new run may begin with what an older disk has.
            if self._fell((peer, record.id, record.epoch), summary.epoch):
                return f"{machine.name} sees {record.name} go back to an earlier fit"
        return None

    def _fell(self, whose: object, epoch: object) -> bool:
        fit: Fit = (epoch.counter, epoch.peer)  # type: ignore[attr-defined]
        before = self._fits.get(whose, fit)
        self._fits[whose] = max(before, fit)
        return fit < before
