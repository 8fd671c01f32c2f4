"""How much densities should decide, and the common vote beside them: from sums over held-out rows, which add up.

Two things say it. Densities weigh a vote by the probability that a row comes from its peer; of its own held-out rows a
peer knows that they do, so the temperature at which these probabilities are the most likely ones is known from rows
alone (Guo, Pleiss, Sun and Weinberger 2017 calibrate classifiers so), and on parts that are alike it makes all shares
nearly even. And of the ensemble's answers on these rows there are the sums of losses at each temperature and for the
plain mean, which speak where they speak clearly. Of the common vote it is the latter alone, a parabola in its share. No
row travels with the sums, and who holds the same ones chooses the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .combine import Cast, density_weights, mixture, placed, stacked
from .values import Floats
from .vote import Vote

TEMPERATURES = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
"""From densities that decide alone to nearly the mean."""

SURE = 2.0
"""Standard errors by which a gain must differ from none: on parts that are alike, chance seldom gets so far."""

SHARES = 10
"""The share of the common vote is a number of tenths, and less than all: who votes is never left out."""
DOUBTS = 10.0
"""Rows that are added to the held-out ones on which the common vote is wrong where the others are right: what some
hundred rows say of it is not all of the truth."""

_HEATS, _ALL = len(TEMPERATURES), len(TEMPERATURES) + 1
TINY = 1e-300
"""The least share of which there is a logarithm."""
_UPPER = np.triu_indices(_ALL)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Sums over `rows` held-out rows: `losses` and `errors` at the mean and then at each temperature, `products` of
    every two losses (the upper triangle, row by row), and, at each temperature, `told` and `squares`, of how much more
    likely the row's own peer is by densities than by the numbers of training rows, as a logarithm, and its square.

    The loss is the squared error, or Brier's score over all classes; an error is a wrong class, and in regression
    the loss again. `crossed` has the loss of the common vote; the products of what it is off with what each candidate
    is, whose own squares the losses are; and, of classes, the errors of each candidate with each share of the common
    vote but none, candidate by candidate. It is None where there was no common vote.
    """

    rows: int = 0
    losses: tuple[float, ...] = (0.0,) * _ALL
    errors: tuple[float, ...] = (0.0,) * _ALL
    products: tuple[float, ...] = (0.0,) * (_ALL * (_ALL + 1) // 2)
    told: tuple[float, ...] = (0.0,) * _HEATS
    squares: tuple[float, ...] = (0.0,) * _HEATS
    crossed: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64] | NDArray[np.object_],
        votes: Sequence[Cast],
        densities: Mapping[str, Floats],
        me: str,
        common: Vote | None = None,
    ) -> Calibration:
        """Of votes (peer id, vote, training rows) on rows of the peer `me`, which is among them; their truth, shape
        (rows,), is as `Schema.truth` gives it, and rows without it are left out. `common` is the common vote there."""
        ordered, known, classes, stack, true = with_truth(truth, votes)
        weights = list(candidates(ordered, densities, known))
        mixed = [mixture(stack, each) for each in weights]
        found = [losses(each, true, classes) for each in mixed]
        table = np.stack([loss for loss, _ in found])
        at = [peer for peer, *_ in ordered].index(me)
        numbers = np.maximum([rows for *_, rows in ordered], 1)
        own = np.stack([each[at] for each in weights[1:]])
        told = np.log(np.maximum(own, TINY)) - math.log(numbers[at] / numbers.sum())
        return cls(
            rows=int(known.sum()),
            losses=tuple(table.sum(axis=1).tolist()),
            errors=tuple(float(error.sum()) for _, error in found),
            products=tuple((table @ table.T)[_UPPER].tolist()),
            told=tuple(told.sum(axis=1).tolist()),
            squares=tuple(np.square(told).sum(axis=1).tolist()),
            crossed=None if common is None else _crossed(mixed, common, known, true, classes),
        )

    @classmethod
    def total(cls, parts: Iterable[Calibration]) -> Calibration:
        """The sums over the rows of all parts; of the common vote only if all that have rows have tried it."""
        all_parts = [cls(), *parts]
        sums = {
            each.name: tuple(map(sum, zip(*(getattr(part, each.name) for part in all_parts), strict=True)))
            for each in fields(cls)
            if each.name not in ("rows", "crossed")
        }
        crossed = [part.crossed for part in all_parts if part.rows]
        told = [each for each in crossed if each is not None]
        whole = tuple(map(sum, zip(*told, strict=True))) if told and len(told) == len(crossed) else None
        return cls(sum(part.rows for part in all_parts), **sums, crossed=whole)

    def temperature(self) -> float | None:
        """The temperature to take; None where the mean is the best that is known.

        At none that comes into question are there more errors than by the mean, nor is the loss greater. Of these it is
        the one at which densities tell best whose the rows are, if they tell it at all, and else the mean's; unless the
        one of least loss gains on that. Whatever is said to be so is so by more than SURE standard errors.
        """
        sound = [at for at in range(_ALL) if self.errors[at] <= self.errors[0] and self.losses[at] <= self.losses[0]]
        told, squares = (0.0, *self.told), (0.0, *self.squares)
        telling = max(sound, key=lambda at: told[at])
        chosen = telling if told[telling] > SURE * self._deviation(squares[telling], told[telling]) else 0
        best = min(sound, key=lambda at: self.losses[at])
        gain = self.losses[chosen] - self.losses[best]
        if gain > SURE * self._deviation(self._apart(chosen, best), gain):
            chosen = best
        return TEMPERATURES[chosen - 1] if chosen else None

    def share(self, temperature: float | None) -> float:
        """The share of the common vote beside votes that are weighed at that temperature (None: evenly): of those with
        which there are no more errors than without, that of least loss over these rows and DOUBTS more; 0 where it was
        not tried."""
        if self.crossed is None:
            return 0.0
        at = place_of(temperature)
        own, product, loss = self.crossed[0], self.crossed[1 + at], self.losses[at]
        first = 1 + _ALL + at * (SHARES - 1)
        errors = (self.errors[at], *self.crossed[first : first + SHARES - 1])
        # In regression, where errors are losses, it is as wrong there as the votes are on average.
        doubt = DOUBTS * (loss / max(self.rows, 1) if self.errors == self.losses else 1.0)

        def total(tenths: int) -> float:
            share = tenths / SHARES
            return (1 - share) ** 2 * loss + share**2 * (own + doubt) + 2 * share * (1 - share) * product

        return min((tenths for tenths in range(SHARES) if errors[tenths] <= errors[0]), key=total) / SHARES

    def likeness(self, temperature: float) -> tuple[float, float]:
        """How much more likely a row's own peer is by densities than by the numbers of training rows, as a logarithm:
        the mean over these rows, of which there are some, and the deviation of one."""
        at = TEMPERATURES.index(temperature)
        return self.told[at] / self.rows, self._deviation(self.squares[at], self.told[at]) / math.sqrt(self.rows)

    def _deviation(self, squares: float, total: float) -> float:
        """The standard error of a sum over the rows."""
        return math.sqrt(max(squares - total * total / max(self.rows, 1), 0.0))

    def _apart(self, one: int, two: int) -> float:
        """The sum of the squares of how two losses of a row differ."""
        products = np.zeros((_ALL, _ALL))
        products[_UPPER] = self.products
        low, high = sorted((one, two))
        return float(products[one, one] + products[two, two] - 2 * products[low, high])

    def to_data(self) -> list[Any]:
        """As plain data for JSON or msgpack, but for `crossed`, which older versions do not read here."""
        return [self.rows, *(list(getattr(self, name)) for name in _SUMS)]

    def crossed_data(self) -> bytes | None:
        """What `to_data` leaves out."""
        if self.crossed is None:
            return None
        errors = np.minimum(self.crossed[_ALL + 1 :], 2**16 - 1)
        return np.array(self.crossed[: _ALL + 1], "<f8").tobytes() + errors.astype("<u2").tobytes()

    @classmethod
    def from_data(cls, data: object, crossed: object = None) -> Calibration:
        """The sums that another peer sent; RemoteError if they cannot be of any rows."""
        match data:
            case [int(rows), [*sums], [*errors], [*products], [*told], [*squares]] if (
                not isinstance(rows, bool) and 0 <= rows < 2**53
            ):
                empty = cls()
                found = cls(
                    rows,
                    _sums(sums, empty.losses),
                    _sums(errors, empty.errors),
                    _sums(products, empty.products),
                    _sums(told, empty.told, least=-math.inf),
                    _sums(squares, empty.squares),
                )
                return found if crossed is None else replace(found, crossed=_read_crossed(crossed, found.losses))
        raise RemoteError("the calibration that a peer sent cannot be read")


_SUMS = ("losses", "errors", "products", "told", "squares")


def with_truth(
    truth: NDArray[Any], votes: Sequence[Cast]
) -> tuple[list[Cast], NDArray[np.bool_], tuple[str, ...] | None, Floats, NDArray[Any]]:
    """The votes by peer, which rows have a truth, shape (rows,), the classes, and of these rows the votes, shape
    (voters, rows with a truth, classes if there are any), and the truth."""
    ordered = sorted(votes, key=lambda cast: cast[0])
    known = np.array([value is not None and value == value for value in truth], bool)
    classes, stack = stacked(ordered)
    return ordered, known, classes, stack[:, known], truth[known]


def candidates(ordered: Sequence[Cast], densities: Mapping[str, Floats], known: NDArray[np.bool_]) -> Iterator[Floats]:
    """The weights, (peers,) or (peers, rows), among which there is a choice: the mean's, and those at each temperature.
    `ordered` is by peer id, and of the rows those that are `known`."""
    yield np.full(len(ordered), 1 / len(ordered))
    logs = [densities[peer][known] for peer, _, _ in ordered]
    rows = [rows for _, _, rows in ordered]
    for heat in TEMPERATURES:
        yield density_weights(rows, logs, heat)


def weights_at(
    temperature: float | None, ordered: Sequence[Cast], densities: Mapping[str, Floats], known: NDArray[np.bool_]
) -> Floats:
    """The weights of the candidate with this temperature."""
    return next(itertools.islice(candidates(ordered, densities, known), place_of(temperature), None))


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


def _crossed(
    mixed: Sequence[Floats], common: Vote, known: NDArray[np.bool_], true: NDArray[Any], classes: tuple[str, ...] | None
) -> tuple[float, ...]:
    """What `Calibration.crossed` has, of the mixed votes of each candidate."""
    values = placed(common, classes)[known]
    errors = np.zeros((_ALL, SHARES - 1))
    if classes is None:
        target, missed = true.astype(np.float64), 0.0
    else:
        target = true[:, None] == np.array(classes, object)
        # As in `losses`: a class that nobody knows is missed in full, by all alike.
        missed = float((~target.any(axis=1)).sum())
        for at, each in enumerate(mixed):
            for tenths in range(1, SHARES):
                blend = (1 - tenths / SHARES) * each + tenths / SHARES * values
                errors[at, tenths - 1] = losses(blend, true, classes)[1].sum()
    off = values - target
    products = [float((off * (each - target)).sum()) + missed for each in mixed]
    return float(np.square(off).sum()) + missed, *products, *errors.ravel().tolist()


def _read_crossed(raw: object, losses: tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(raw, bytes) and len(raw) == 8 * (_ALL + 1) + 2 * _ALL * (SHARES - 1):
        values = np.frombuffer(raw[: 8 * (_ALL + 1)], "<f8")
        errors = np.frombuffer(raw[8 * (_ALL + 1) :], "<u2")
        own, room = values[0], 1 + 1e-6
        # Cauchy and Schwarz, of what is finite.
        if 0 <= own < math.inf and (np.square(values[1:]) <= own * np.array(losses) * room + 1e-30).all():
            return *values.tolist(), *errors.astype(np.float64).tolist()
    raise RemoteError("what a peer sent of the common vote on its held-out rows cannot be")


def _sums(data: list[object], like: tuple[float, ...], least: float = 0.0) -> tuple[float, ...]:
    if len(data) != len(like):
        raise RemoteError("the calibration that a peer sent is of other temperatures")
    sums = tuple(value for value in data if type(value) is float and math.isfinite(value) and value >= least)
    if len(sums) != len(data):
        raise RemoteError("the calibration that a peer sent holds a sum that cannot be")
    return sums
