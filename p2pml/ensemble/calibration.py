"""How much densities should decide: a temperature, chosen on held-out rows of all peers from sums that add up.

Each peer keeps, of the ensemble's answers on its own held-out rows, the sum of losses at each temperature and for
the plain mean. No row travels with them, and who holds the same sums chooses the same temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .combine import Cast, density_weights, mixture, stacked
from .values import Floats

TEMPERATURES = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
"""From densities that decide alone to nearly the mean."""

SURE = 2.0
"""Standard errors by which densities must gain on the mean: on parts that are alike, chance seldom gets so far."""

_ONE = 1 + TEMPERATURES.index(1.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Sums over `rows` held-out rows: `losses` and `errors` at the mean and then at each temperature, `apart` and
    `aside` the squares of how a row's loss differs from that of the mean and from that at temperature 1.

    The loss is the squared error, or Brier's score over all classes; an error is a wrong class, and in regression
    the loss again.
    """

    rows: int = 0
    losses: tuple[float, ...] = (0.0,) * (len(TEMPERATURES) + 1)
    errors: tuple[float, ...] = (0.0,) * (len(TEMPERATURES) + 1)
    apart: tuple[float, ...] = (0.0,) * (len(TEMPERATURES) + 1)
    aside: tuple[float, ...] = (0.0,) * (len(TEMPERATURES) + 1)

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64] | NDArray[np.object_],
        votes: Sequence[Cast],
        densities: Mapping[str, Floats],
    ) -> Calibration:
        """Of votes (peer id, vote, training rows) on rows whose truth, shape (rows,), is as `Schema.truth` gives it;
        rows without it are left out."""
        ordered = sorted(votes, key=lambda cast: cast[0])
        known = np.array([value is not None and value == value for value in truth], bool)
        classes, stack = stacked(ordered)
        stack, true = stack[:, known], truth[known]
        found = [losses(mixture(stack, weights), true, classes) for weights in candidates(ordered, densities, known)]
        return cls(
            rows=int(known.sum()),
            losses=tuple(float(loss.sum()) for loss, _ in found),
            errors=tuple(float(error.sum()) for _, error in found),
            apart=tuple(float(np.square(loss - found[0][0]).sum()) for loss, _ in found),
            aside=tuple(float(np.square(loss - found[_ONE][0]).sum()) for loss, _ in found),
        )

    def merge(self, other: Calibration) -> Calibration:
        """The sums over both sets of rows."""

        def add(one: tuple[float, ...], two: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(a + b for a, b in zip(one, two, strict=True))

        return Calibration(
            self.rows + other.rows,
            add(self.losses, other.losses),
            add(self.errors, other.errors),
            add(self.apart, other.apart),
            add(self.aside, other.aside),
        )

    def temperature(self) -> float | None:
        """The temperature to take; None where the mean is the best that is known.

        One comes into question if it makes no more errors than the mean, and its loss gains on that of the mean by
        more than SURE standard errors of the gain. Of these it is 1, as the theory has it, unless the one with the
        least loss gains on 1 by more than the standard error in turn: few rows move it little.
        """
        sound = [
            at
            for at in range(1, len(self.losses))
            if self.errors[at] <= self.errors[0] and self._gains(0, at, self.apart[at], SURE)
        ]
        if not sound:
            return None
        best = min(sound, key=lambda at: self.losses[at])
        if _ONE in sound and not self._gains(_ONE, best, self.aside[best], 1.0):
            best = _ONE
        return TEMPERATURES[best - 1]

    def _gains(self, one: int, two: int, squares: float, errors: float) -> bool:
        """Whether the second loss is less than the first by more than so many standard errors of the difference."""
        gain = self.losses[one] - self.losses[two]
        return gain > errors * math.sqrt(max(squares - gain * gain / max(self.rows, 1), 0.0))

    def to_data(self) -> list[Any]:
        """As plain data for JSON or msgpack."""
        return [self.rows, list(self.losses), list(self.errors), list(self.apart), list(self.aside)]

    @classmethod
    def from_data(cls, data: object) -> Calibration:
        """The sums that another peer sent; RemoteError if they cannot be of any rows."""
        match data:
            case [int(rows), [*losses], [*errors], [*apart], [*aside]] if (
                not isinstance(rows, bool) and 0 <= rows < 2**53
            ):
                return cls(rows, _sums(losses), _sums(errors), _sums(apart), _sums(aside))
        raise RemoteError("the calibration that a peer sent cannot be read")


def candidates(ordered: Sequence[Cast], densities: Mapping[str, Floats], known: NDArray[np.bool_]) -> Iterator[Floats]:
    """The weights, (peers,) or (peers, rows), among which there is a choice: the mean's, and those at each temperature.
    `ordered` is by peer id, and of the rows those that are `known`."""
    yield np.full(len(ordered), 1 / len(ordered))
    logs = [densities[peer][known] for peer, _, _ in ordered]
    rows = [rows for _, _, rows in ordered]
    for heat in TEMPERATURES:
        yield density_weights(rows, logs, heat)


def place_of(temperature: float | None) -> int:
    """Which of the candidates has this temperature; None is the mean."""
    return 0 if temperature is None else 1 + TEMPERATURES.index(temperature)


def losses(mixed: Floats, truth: NDArray[Any], classes: tuple[str, ...] | None) -> tuple[Floats, Floats]:
    """The loss of each row, and whether it is an error."""
    if classes is None:
        squares = np.square(mixed - truth.astype(np.float64))
        return squares, squares
    hits = truth[:, None] == np.array(classes, object)
    # A class that nobody knows is missed in full.
    return np.square(mixed - hits).sum(axis=1) + ~hits.any(axis=1), 1.0 - hits[
        np.arange(len(hits)), mixed.argmax(axis=1)
    ]


def _sums(data: list[object]) -> tuple[float, ...]:
    if len(data) != len(TEMPERATURES) + 1:
        raise RemoteError("the calibration that a peer sent is of other temperatures")
    sums = tuple(value for value in data if type(value) is float and math.isfinite(value) and value >= 0)
    if len(sums) != len(data):
        raise RemoteError("the calibration that a peer sent holds a sum that cannot be")
    return sums
