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
    "heal": "mend all links",
    "crash": "end the hosts' processes as SIGKILL does; the state folders stay",
    "restart": "start the hosts anew with their state, ending them first if they run",
    "leave": "ask the hosts to go politely, as SIGTERM does",
    "pause": "let the hosts' processes stand still for this many seconds, as SIGSTOP does",
    "black-hole": "let the hosts vanish for this many seconds: nothing reaches them and nothing comes from them",
    "slow": "let threads of the hosts take this many times as long; 1 is as usual",
    "reset": "reset each connection of the hosts in the middle of its next data",
    "torn": "crash the hosts, and leave half of one of the files of each state folder",
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
