"""What a peer tells of what it knows: the entry by which the others find its moments and trust its densities.

It lives in the shared catalogue under the key `knowledge`; the moments themselves are named by digest.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from p2pml.errors import RemoteError

from .calibration import TEMPERATURES, Calibration
from .home import FAVOURS, Site, Told, sites_of
from .sketch import Sketch

MOST_LOOKS, NAMED = 32, 8
"""Voters of which a peer tells how much its rows look like theirs, at most, and digits that name one: an entry of the
catalogue has 4 KiB, and of more voters votes may come as sums."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """`moments` and `space` are digests; None where there is no density yet. `calibration` is of the held-out rows
    of this peer in that space; None where it has not been made yet. `usual` sketches the peer's log-densities at these
    rows, and `errors` how wrong the ensemble is there at `temperature` (None: by the mean). `density` is the SHA-256 of
    this peer's density in that space, packed, by which replicas of it are fetched, and `equations` that of what its
    rows say for the common vote there; `share` is what that vote has in the answers that `errors` are of,
    `favour` the factor for this peer's vote on rows like its own, and `looks` how much like each voter's its held-out
    rows look, by the first NAMED digits of the voter's id; float32, of at most MOST_LOOKS."""

    moments: str
    space: str | None = None
    calibration: Calibration | None = None
    usual: Sketch | None = None
    errors: Sketch | None = None
    temperature: float | None = None
    density: str | None = None
    equations: str | None = None
    share: float = 0.0
    favour: float = 1.0
    looks: tuple[tuple[str, float], ...] = ()

    def to_data(self) -> dict[str, Any]:
        return {
            "moments": self.moments,
            "space": self.space,
            "calibration": None if self.calibration is None else self.calibration.to_data(),
            "usual": None if self.usual is None else self.usual.to_data(),
            "errors": None if self.errors is None else self.errors.to_data(),
            "temperature": self.temperature,
            "density": self.density,
            "equations": self.equations,
            "share": self.share,
            "favour": self.favour,
            "looks": b"".join(bytes.fromhex(named) + struct.pack("<f", look) for named, look in self.looks),
            "crossed": None if self.calibration is None else self.calibration.crossed_data(),
        }

    @classmethod
    def from_data(cls, data: object) -> Knowledge:
        """Raises `RemoteError` on anything but what `to_data` gives; what 0.1 does not know may be absent."""
        match data:
            case {"moments": str(moments), "space": str() | None as space, "calibration": raw, **more} if _is_digest(
                moments
            ) and (space is None or _is_digest(space)):
                usual, errors = (
                    None if more.get(name) is None else Sketch.from_data(more[name]) for name in ("usual", "errors")
                )
                heat, density = more.get("temperature"), more.get("density")
                equations, share, favour = more.get("equations"), more.get("share", 0.0), more.get("favour", 1.0)
                if (
                    (heat is None or heat in TEMPERATURES)
                    and _is_sha256(density)
                    and _is_sha256(equations)
                    and isinstance(share, float)
                    and favour in FAVOURS
                ):
                    calibration = None if raw is None else Calibration.from_data(raw, more.get("crossed"))
                    looks = _looks(more.get("looks", b""))
                    return cls(
                        moments, space, calibration, usual, errors, heat, density, equations, share, favour, looks
                    )
        raise RemoteError("not what a peer says of what it knows")


@dataclass(frozen=True, slots=True)
class Decision:
    """How votes are weighed under the rule `auto`: by the densities of `space` at `temperature`, or evenly, where
    that is None, because of `because`; and `share`, that of the common vote of that space beside them."""

    space: str | None = None
    temperature: float | None = None
    because: str | None = None
    share: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether the peers' held-out rows have had their say."""
        return self.temperature is not None or self.because == NO_GAIN


AUTO, LOCAL, STACKED = "auto", "local", "stacked"
"""The rules that rest on the peers' held-out rows: densities where they gain and else the mean; the same for rows like
those of the asked peer, whose own vote weighs as much more as its held-out rows say; and a linear stack."""

NO_SPACE = "the peers have not agreed on a shared space yet"
NOT_COMPARED = "the peers have not tried densities on their held-out rows yet"
NO_ROWS = "no peer has held-out rows on which to try densities"
NO_GAIN = "densities do not gain on the mean on the peers' held-out rows"


def agreed_space(known: Iterable[Knowledge | None]) -> str | None:
    """The space in which every one of these live peers has its density; None where there is none."""
    spaces = {each.space if each else None for each in known}
    return spaces.pop() if len(spaces) == 1 else None


def decide(known: Iterable[tuple[str, Knowledge | None]], gone: Collection[str] = ()) -> Decision:
    """How to weigh the votes of these peers, (peer id, knowledge): the same for all who know the same of them.

    `gone` are those whose models vote from replicas. They cannot move to another space, and what their held-out rows
    said outlives it.
    """
    ordered = sorted(known, key=lambda pair: pair[0])
    space = agreed_space(each for id, each in ordered if id not in gone)
    if space is None:
        return Decision(because=NO_SPACE)
    parts = []
    for id, each in ordered:
        if each is not None and each.calibration is not None:
            parts.append(each.calibration)
        elif id not in gone:
            return Decision(because=NOT_COMPARED)
    total = Calibration.total(parts)
    if total.rows == 0:
        return Decision(because=NO_ROWS)
    heat = total.temperature()
    share = total.share(heat)
    if heat is None:
        return Decision(space if share else None, because=NO_GAIN, share=share)
    return Decision(space, heat, share=share)


def errors_known(known: Iterable[tuple[str, Knowledge | None]], decision: Decision) -> dict[str, Sketch]:
    """By peer id how wrong the ensemble is on that peer's held-out rows under this very decision, where it says so."""
    if not decision.settled:
        return {}
    return {
        id: each.errors
        for id, each in known
        if each is not None
        and each.errors is not None
        and (each.temperature, each.share) == (decision.temperature, decision.share)
    }


def sites_known(known: Iterable[tuple[str, str, Knowledge | None]], decision: Decision) -> dict[str, Site]:
    """By peer id, of peers (id, name, knowledge), how their own rows are recognised: of those of whose rows all others
    have told how they look at the temperature of this decision, in its space."""
    if decision.temperature is None:
        return {}
    ordered = list(known)
    told = {}
    for id, name, each in ordered:
        if each is not None and each.calibration is not None:
            same = (each.space, each.temperature) == (decision.space, decision.temperature)
            looks = dict(each.looks) if same else {}
            by_id = {other: looks[other[:NAMED]] for other, *_ in ordered if other[:NAMED] in looks}
            told[id] = Told(name, each.calibration, each.favour, by_id)
    return sites_of(told, decision.temperature)


def looks_told(looks: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """How rows look, by peer id, as `Knowledge` has it: nothing where it is of too many."""
    if len(looks) > MOST_LOOKS:
        return ()
    return tuple((id[:NAMED], float(np.float32(look))) for id, look in sorted(looks.items()))


def _looks(raw: object) -> tuple[tuple[str, float], ...]:
    if isinstance(raw, bytes) and len(raw) % 8 == 0 and len(raw) <= 8 * MOST_LOOKS:
        looks = tuple(
            (raw[at : at + 4].hex(), struct.unpack("<f", raw[at + 4 : at + 8])[0]) for at in range(0, len(raw), 8)
        )
        if all(math.isfinite(look) for _, look in looks):
            return looks
    raise RemoteError("not what a peer says of how its rows look")


def _is_sha256(text: object) -> TypeGuard[str | None]:
    return text is None or (isinstance(text, str) and len(text) == 64)


def _is_digest(text: str) -> bool:
    return len(text) == 32 and all(sign in "0123456789abcdef" for sign in text)
