"""A plan is a run as data: which peers, what happens to them and when, and who must recover from it.

    plan = draw("partition", seed=7, peers=10, seconds=60.0)
    print(plan); Plan.from_data(json.loads(json.dumps(plan.to_data()))) == plan

A plan has two phases. In the first, things break as its operations say. When it ends the core is healed (its hosts
run, its links work) while the rest stays as it is for ever, and the core must come together: faults that all heal
hide what only heals when everything does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from p2pml.errors import BadInput

from .network import Conditions
from .operations import Operation, in_order

FORMAT = 1
"""The version of a stored plan. It changes where older plans would come to mean something else."""

LAYERS = ("core", "daemon")


@dataclass(frozen=True)
class Plan:
    """What is run. Times are in s; hosts are numbers from 0."""

    scenario: str
    seed: int
    peers: int
    seconds: float
    """How long the first phase lasts."""
    operations: tuple[Operation, ...] = ()
    core: tuple[int, ...] = ()
    """Who is healed when the first phase ends; the others stay as they are."""
    first: int | None = None
    """How many boot at the start; the others are down until an operation restarts them. `None` means all."""
    weather: Conditions = field(default_factory=Conditions)
    """How packets fare on links that nothing was done to."""
    layer: str = "core"
    """What runs: "core" is the protocol alone, "daemon" whole daemons."""
    data: str | None = None
    """The file whose rows the peers of the layer core have learnt, in skewed parts; None where it is digits."""
    target: str | None = None
    """The column of that file that they predict; None is the last."""
    formed: bool = False
    """Whether the peers of the layer core know one another from the start. Whole daemons always meet by themselves."""

    def to_data(self) -> dict[str, Any]:
        """Write it as plain data."""
        plain = {
            name: getattr(self, name)
            for name in ("scenario", "seed", "peers", "seconds", "first", "layer", "data", "target", "formed")
        }
        return plain | {
            "format": FORMAT,
            "core": list(self.core),
            "weather": asdict(self.weather) | {"delay": list(self.weather.delay)},
            "operations": [operation.to_data() for operation in self.operations],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Read it back; raises `BadInput` for what no plan can be."""
        try:
            if data["format"] != FORMAT:
                raise BadInput(f"this schedule is of format {data['format']}; this version reads {FORMAT}")
            plan = cls(
                str(data["scenario"]),
                int(data["seed"]),
                int(data["peers"]),
                float(data["seconds"]),
                in_order(Operation.from_data(one) for one in data["operations"]),
                tuple(int(host) for host in data["core"]),
                None if data["first"] is None else int(data["first"]),
                _weather(data["weather"]),
                str(data.get("layer", "core")),
                None if data.get("data") is None else str(data["data"]),
                None if data.get("target") is None else str(data["target"]),
                bool(data.get("formed", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"this is no schedule of a simulation: {type(error).__name__}: {error}") from error
        if plan.layer not in LAYERS:
            raise BadInput(f"there is no layer {plan.layer!r}: choose one of {', '.join(LAYERS)}")
        named = {host for one in plan.operations for host in (*one.hosts, *one.others)} | set(plan.core)
        if not plan.core or not all(0 <= host < plan.peers for host in named):
            raise BadInput(f"this schedule names hosts that its {plan.peers} peers do not have, or heals none of them")
        return plan

    def without(self, host: int) -> Plan:
        """The same with one host fewer; those after it move up. An operation whose only host it was goes too."""

        def renumber(hosts: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(other - (other > host) for other in hosts if other != host)

        operations = [
            replace(one, hosts=renumber(one.hosts), others=renumber(one.others))
            for one in self.operations
            if (not one.hosts or renumber(one.hosts)) and (not one.others or renumber(one.others))
        ]
        first = self.first if self.first is None or host >= self.first else self.first - 1
        return replace(self, peers=self.peers - 1, operations=tuple(operations), core=renumber(self.core), first=first)

    def __str__(self) -> str:
        """Say it in lines: what happens, and who is healed."""
        lines = [f"{self.scenario}, seed {self.seed}: {self.peers} peers for {self.seconds:g} s"]
        lines += [str(operation) for operation in self.operations]
        healed = "everybody" if len(self.core) == self.peers else ",".join(map(str, self.core))
        return "\n".join([*lines, f"{self.seconds:8.3f} s heal {healed}"])


def _weather(data: Mapping[str, Any]) -> Conditions:
    least, most = (float(value) for value in data["delay"])
    names = [one.name for one in fields(Conditions) if one.name != "delay"]
    return Conditions((least, most), **{name: float(data[name]) for name in names})
