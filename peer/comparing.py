"""All rules and every peer alone, on the same held-out rows: one round of votes serves them all.

Each peer compares on its own held-out rows and tells sums (see `p2pml.ensemble.comparing`); they add up over the parts.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

import msgspec
import numpy as np

from p2pml.ensemble.comparing import Comparison, Estimate
from p2pml.ensemble.sketch import Sketch
from p2pml.errors import BadInput, NoVotes, RemoteError

from .answers import Compared, ComparedPart, ComparedScore
from .asking import Asker
from .colleagues import Colleague, Colleagues
from .combining import ALONE
from .holdouts import Holdouts
from .reach import Reach
from .wire import PeerWire

COMPARE_PATH = "/v1/peer/compare"
QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
"""Of residuals, as they are shown."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one peer's held-out rows say; `residuals` sketches those of the rule auto, in regression."""

    comparison: Comparison
    residuals: Sketch | None

    def to_data(self) -> dict[str, object]:
        """As plain data for msgpack."""
        residuals = None if self.residuals is None else self.residuals.to_data()
        return {"comparison": self.comparison.to_data(), "residuals": residuals}


def read_part(data: object) -> Part:
    """The part that another peer sent; RemoteError if it is none."""
    match data:
        case {"comparison": comparison, "residuals": residuals}:
            sketch = None if residuals is None else Sketch.from_data(residuals)
            return Part(Comparison.from_data(comparison), sketch)
    raise RemoteError("its comparison cannot be read")


class Comparer:
    """Compares on this peer's held-out rows, and on those of all."""

    def __init__(
        self,
        me: str,
        least: int,
        colleagues: Colleagues,
        asker: Asker,
        holdouts: Holdouts,
        wire: PeerWire,
        reach: Reach,
    ) -> None:
        """`least` is how many rows a residual that is told must stand for."""
        self._me = me
        self._least = least
        self._colleagues = colleagues
        self._asker = asker
        self._holdouts = holdouts
        self._wire = wire
        self._reach = reach

    async def everyone(self, seconds: float) -> Compared:
        """All parts, and all together; raises `NoVotes` where there is nothing to compare on."""
        await self._colleagues.fetch_schemas()
        voters = [voter for voter in self._colleagues.roll().voters if not voter.words]
        found = await asyncio.gather(*(self._of(voter, seconds) for voter in voters))
        parts = [(voter, part) for voter, part in zip(voters, found, strict=True) if isinstance(part, Part)]
        parts = [(voter, part) for voter, part in parts if part.comparison.names]
        if not parts:
            raise NoVotes("no peer has held-out rows to compare on: " + ("; ".join(map(str, found)) or "nobody votes"))
        tasks = {part.comparison.task for _, part in parts}
        if len(tasks) > 1:
            raise RemoteError("comparisons of a regression and of a classification do not add up")
        pooled = parts[0][1].comparison
        for _, part in parts[1:]:
            pooled = pooled.merge(part.comparison)
        names = {colleague.id: colleague.member.name for colleague in self._colleagues.all()}
        return Compared(
            pooled=_shown(pooled, names),
            parts=[
                ComparedPart(
                    peer=voter.id,
                    name=voter.member.name,
                    scores=_shown(part.comparison, names),
                    residuals=_quantiles(part.residuals),
                )
                for voter, part in parts
            ],
        )

    async def own(self, seconds: float) -> Part:
        """On this peer's held-out rows, within `seconds`."""
        trained = self._holdouts.trained()
        task = trained.schema.task
        total, residuals = Comparison(task, (), np.zeros((0, 1, 5))), []
        async for block in self._holdouts.blocks(trained, seconds):
            named = await self._asker.compare(block.columns, block.rows, block.seconds)
            truth = await asyncio.to_thread(trained.schema.truth, block.columns)
            # Whoever knew the weights could solve so many sums for the errors of single rows.
            seed = (secrets.randbits(128),)
            piece = await asyncio.to_thread(Comparison.of, task, truth, named, seed)
            total = piece if not total.names else total.merge(piece)
            if task == "regression":
                residuals.append(truth - np.asarray(named["auto"].predictions, np.float64))
        known = np.concatenate(residuals) if residuals else np.zeros(0)
        return Part(total, Sketch.of(known[~np.isnan(known)], self._least))

    async def _of(self, voter: Colleague, seconds: float) -> Part | str:
        """One peer's part, or why it is missing."""
        try:
            if voter.id == self._me:
                return await self.own(seconds)
            body = msgspec.msgpack.encode({"seconds": seconds * 0.95})
            with self._reach.asking(voter.member):
                data = await self._wire.post(voter.member, COMPARE_PATH, body, seconds)
            return await asyncio.to_thread(read_part, data)
        except (RemoteError, BadInput, NoVotes) as error:
            return f"{voter.member.name}: {error}"


def _shown(comparison: Comparison, names: dict[str, str]) -> list[ComparedScore]:
    """Rules first, and then peers alone."""
    return [
        ComparedScore(
            rule=None if name.startswith(ALONE) else name,
            peer=name.removeprefix(ALONE) if name.startswith(ALONE) else None,
            name=names.get(id := name.removeprefix(ALONE), id[:8]) if name.startswith(ALONE) else name,
            rows=comparison.rows(name),
            scores={metric: _interval(estimate) for metric, estimate in comparison.scores(name).items()},
        )
        for name in sorted(comparison.names, key=lambda name: (name.startswith(ALONE), name))
    ]


def _interval(estimate: Estimate) -> list[float | None]:
    return [estimate.value, estimate.low, estimate.high]


def _quantiles(sketch: Sketch | None) -> list[float] | None:
    if sketch is None:
        return None
    found: list[float] = np.interp(QUANTILES, np.linspace(0, 1, len(sketch.values)), sketch.values).tolist()
    return found
