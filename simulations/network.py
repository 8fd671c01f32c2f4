"""A network in memory: seeded delay, loss, duplication and reordering, and rules that cut or worsen links.

Rules are data. For each packet the first rule that matches its source and target decides, and where none does,
the network's own conditions do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from p2pml.gossip import Address

from .clock import Clock, Happening

STREAM_TIMEOUT = 5.0
"""Seconds after which a stream to nowhere is given up."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How packets fare. `delay` is drawn evenly between two times in s; the others are probabilities."""

    delay: tuple[float, float] = (0.0002, 0.002)
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """A reordered packet takes up to `late` seconds longer."""
    late: float = 0.1


CUT = Conditions(loss=1.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions for the packets from some hosts to some others; `None` means all."""

    name: str
    sources: frozenset[Address] | None
    targets: frozenset[Address] | None
    conditions: Conditions = CUT

    def matches(self, source: Address, target: Address) -> bool:
        """Whether the rule is about this link, in this direction."""
        return (self.sources is None or source in self.sources) and (self.targets is None or target in self.targets)


class Endpoint(Protocol):
    """What is bound to an address."""

    def datagram(self, source: Address, data: bytes) -> None:
        """Receive a datagram."""

    def stream(self, source: Address, data: bytes, answer: Callable[[bytes], None]) -> None:
        """Receive a request, and call `answer` with the answer to it."""


class Network:
    """All links between all hosts."""

    def __init__(self, clock: Clock, rng: random.Random, conditions: Conditions) -> None:
        """Connect nobody yet."""
        self._clock = clock
        self._rng = rng
        self.conditions = conditions
        self.rules: list[Rule] = []
        self.delivered = 0
        self.lost = 0
        self.bytes = 0
        self._endpoints: dict[Address, Endpoint] = {}
        self._held: dict[Address, list[Happening]] = {}

    def bind(self, address: Address, endpoint: Endpoint) -> None:
        """Put a host at an address; whoever was there is no longer reached."""
        self._endpoints[address] = endpoint

    def unbind(self, address: Address) -> None:
        """Take the host at an address away."""
        self._endpoints.pop(address, None)

    # Faults.

    def partition(self, *groups: Iterable[Address], name: str = "partition") -> None:
        """Cut all links between hosts of different groups."""
        sets = [frozenset(group) for group in groups]
        for one in sets:
            others = frozenset[Address]().union(*(other for other in sets if other is not one))
            self.rules.insert(0, Rule(name, one, others))

    def cut(self, sources: Iterable[Address] | None, targets: Iterable[Address] | None, name: str = "cut") -> None:
        """Cut links in one direction; `None` means all hosts."""
        self.rules.insert(
            0,
            Rule(
                name,
                None if sources is None else frozenset(sources),
                None if targets is None else frozenset(targets),
            ),
        )

    def heal(self, name: str | None = None) -> None:
        """Take away the rules of a name, or all."""
        self.rules = [rule for rule in self.rules if name is not None and rule.name != name]

    def hold(self, address: Address) -> None:
        """Keep what a host sends and what reaches it until it is released: its IO is blocked, its timers are not."""
        self._held.setdefault(address, [])

    def release(self, address: Address) -> None:
        """Let what was kept go its way, in its order."""
        for happening in self._held.pop(address, ()):
            happening()

    def mend(self, hosts: frozenset[Address]) -> None:
        """Take away the rules that are about exactly these hosts."""
        self.rules = [rule for rule in self.rules if hosts not in (rule.sources, rule.targets)]

    # Packets.

    def send(self, source: Address, target: Address, data: bytes) -> None:
        """Send a datagram: it arrives once, twice, late or never."""
        if source in self._held:
            self._held[source].append(lambda: self.send(source, target, data))
            return
        self.bytes += len(data)
        conditions = self.on_link(source, target) if self.rules else self.conditions
        copies = 2 if conditions.duplication > 0 and self._rng.random() < conditions.duplication else 1
        for _ in range(copies):
            if conditions.loss > 0 and self._rng.random() < conditions.loss:
                self.lost += 1
            else:
                self._clock.after(self._delay(conditions), self._deliver, source, target, data)

    def request(self, source: Address, target: Address, data: bytes, answered: Callable[[bytes | None], None]) -> None:
        """Send a request by stream; `answered` gets the answer, or `None` where there is none.

        Streams repeat what is lost, so that only a link that loses everything stops them.
        """
        there, back = self.on_link(source, target), self.on_link(target, source)
        if there.loss >= 1 or back.loss >= 1 or source in self._held or target in self._held:
            self._clock.after(STREAM_TIMEOUT, answered, None)
            return

        def answer(reply: bytes) -> None:
            self._clock.after(self._delay(back), answered, reply)

        def arrive() -> None:
            endpoint = self._endpoints.get(target)
            if endpoint is None:
                answered(None)
            else:
                endpoint.stream((source[0], 40_000), data, answer)

        self._clock.after(self._delay(there), arrive)

    def _deliver(self, source: Address, target: Address, data: bytes) -> None:
        if target in self._held:
            self._held[target].append(lambda: self._deliver(source, target, data))
            return
        endpoint = self._endpoints.get(target)
        if endpoint is None:
            self.lost += 1
        else:
            self.delivered += 1
            endpoint.datagram(source, data)

    def on_link(self, source: Address, target: Address) -> Conditions:
        """Say how packets from one host to another fare."""
        for rule in self.rules:
            if rule.matches(source, target):
                return rule.conditions
        return self.conditions

    def _delay(self, conditions: Conditions) -> float:
        least, most = conditions.delay
        delay = least + (most - least) * self._rng.random()
        if conditions.reordering > 0 and self._rng.random() < conditions.reordering:
            delay += conditions.late * self._rng.random()
        return delay
