"""Faults as data: an operation says what happens to which hosts and when, so a schedule prints, stores and shrinks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from p2pml.errors import BadInput

MEANINGS: Mapping[str, str] = {
    "partition": "cut all links between the hosts and everybody else",
    "cut": "cut the links from the hosts to the others, in that direction alone",
    "loss": "lose this share of the packets from and to the hosts; of all, where none is named",
    "duplicate": "let this share of those packets arrive twice",
    "reorder": "let this share of those packets come late, after others that were sent later",
    "heal": "mend all links; where hosts are named, what was done to these very hosts",
    "crash": "end the hosts' processes as SIGKILL does; the state folders stay",
    "restart": "start the hosts anew with their state, ending them first if they run",
    "leave": "ask the hosts to go politely, as SIGTERM does",
    "pause": "let the hosts' processes stand still for this many seconds, as SIGSTOP does",
    "black-hole": "let the hosts vanish for this many seconds: nothing reaches them and nothing comes from them",
    "slow": "let threads of the hosts take this many times as long; 1 is as usual",
    "skew": "let the hosts' clocks run this many times as fast",
    "jump": "set the hosts' wall clocks this many seconds ahead",
    "swap": "start the two hosts anew, each at the other's address",
    "move": "start the hosts anew at addresses that nobody had",
    "reset": "reset each connection of the hosts in the middle of its next data",
    "mute": "let the hosts accept connections and say nothing on them, for this many seconds",
    "drip": "let the hosts say this many bytes a second on their connections",
    "torn": "crash the hosts, and leave half of one of the files of each state folder",
    "flip": "crash the hosts, and flip one bit of one of the files of each state folder",
    "copy": "keep a copy of the hosts' state folders",
    "stale": "crash the hosts, and put back the copies of their state folders, or nothing where there are none",
    "power": "crash the hosts, and lose what they wrote and did not sync",
    "die-writing": "let the hosts' processes end in the middle of their next write to disk",
    "disk-full": "let the hosts' disks be full for this many seconds",
    "boast": "have the hosts claim perfect scores and a billion rows",
    "bad-votes": "have the hosts cast votes that are none: not numbers, negative, of the wrong shape",
    "forge": "have the hosts declare everybody dead, with incarnations that nobody had",
    "noise": "have the hosts send everybody packets that are none",
    "replay": "send everybody what the hosts sent last once more",
    "fit": "have the first host retrain the ensemble",
}
"""What each operation does."""


@dataclass(frozen=True, slots=True, order=True)
class Operation:
    """One operation, at a time in s. `hosts` and `others` are indices; `amount` is as `MEANINGS` says."""

    at: float
    what: str
    hosts: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    amount: float = 0.0

    def to_data(self) -> dict[str, Any]:
        """Write it as plain data, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in ((), 0.0) or name == "at"}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Operation:
        """Read it back; raises `BadInput` for what no operation can be."""
        try:
            operation = cls(
                float(data["at"]),
                str(data["what"]),
                tuple(int(host) for host in data.get("hosts", ())),
                tuple(int(host) for host in data.get("others", ())),
                float(data.get("amount", 0.0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"this is no operation of a schedule: {data}") from error
        if operation.what not in MEANINGS:
            raise BadInput(f"there is no operation {operation.what!r}: choose one of {', '.join(MEANINGS)}")
        return operation

    def __str__(self) -> str:
        """Say it in one line."""
        words = [f"{self.at:8.3f} s", self.what]
        words += [",".join(map(str, self.hosts))] if self.hosts else []
        words += ["to", ",".join(map(str, self.others))] if self.others else []
        words += [f"{self.amount:g}"] if self.amount else []
        return " ".join(words)


def in_order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Sort a schedule by time; what is at one time stays in its order."""
    return tuple(sorted(operations, key=lambda operation: operation.at))
