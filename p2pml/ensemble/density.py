"""How likely a row is among a peer's own: a Gaussian mixture over the shared space, as plain arrays.

It is fitted by expectation and maximisation with a prior that pulls each component's covariance towards that of
all peers' rows, which is the identity in the shared space (Fraley and Raftery 2007). So a part of a few dozen rows
has a density too, and components that are not needed do no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgpack
import numpy as np

from p2pml.errors import RemoteError

from .values import Floats, blocks

COMPONENTS, ROWS_EACH = 10, 20
"""Components of a mixture at most, and how many rows there are for each."""
STEPS = 60
"""Steps of a fit at most; later ones move the density by less than its error."""
ENOUGH = 1e-4
"""Gain of log-density a row below which a fit ends."""

MAX_BYTES = 2**20
"""Bytes of a density from another peer: ten components in 24 dimensions are 50 kB."""
LARGEST = 1e100
"""Numbers in it, at most: squares of their sums stay finite, and no density that was fitted comes near."""


@dataclass(frozen=True, eq=False)
class Density:
    """A mixture of Gaussians: `means` has shape (components, width), `factors` (components, width, width), the
    inverse Cholesky factors of the covariances, transposed, and `offsets` (components,) all that is constant."""

    means: Floats
    factors: Floats
    offsets: Floats

    @classmethod
    def fit(cls, points: Floats, seed: int = 0) -> Density:
        """The density of points of shape (rows, width), at least one row; the same seed gives the same density."""
        count = max(1, min(COMPONENTS, len(points) // ROWS_EACH))
        return _fitted(points, count, np.random.default_rng(seed))

    @classmethod
    def gaussian(cls, rows: float, mean: Floats, covariance: Floats) -> Density:
        """One component with this mean, shape (width,), and the covariance of so many rows, pulled as in a fit."""
        width = len(mean)
        prior = float(width + 2)
        pull = np.eye(width) * max(float(covariance.diagonal().mean()) if width else 1.0, 1e-3) * prior
        try:
            lower = np.linalg.cholesky((rows * covariance + pull) / (rows + prior))
        except np.linalg.LinAlgError as error:
            raise RemoteError("the moments of some peer are of no rows: no density comes of them") from error
        offset = -0.5 * width * math.log(2 * math.pi) - np.log(lower.diagonal()).sum()
        return cls(mean[None], np.linalg.inv(lower).T[None], np.array([offset]))

    def packed(self, space: str) -> bytes:
        """The bytes of this density in the space of that digest; equal ones give equal bytes."""
        shape = list(self.means.shape)
        arrays = {name: getattr(self, name).astype("<f8").tobytes() for name in _ARRAYS}
        packed: bytes = msgpack.packb({"space": space, "shape": shape, **arrays})
        return packed

    @classmethod
    def read(cls, packed: bytes) -> tuple[str, Density]:
        """The space and the density in these bytes, from anybody; RemoteError if they are none."""
        try:
            return _read(packed)
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise RemoteError(f"the density cannot be read: {error}") from error

    def log_density(self, points: Floats) -> Floats:
        """The natural logarithm of the density at each point, shape (rows,)."""
        logs = np.empty(len(points))
        for block in blocks(len(points), self.means.size):
            logs[block] = _log_sum(self._each(points[block]))
        return logs

    def _each(self, points: Floats) -> Floats:
        """Shape (components, rows): the logarithm of each component's weighted density."""
        turn, shift, halves = self._turned
        turned = points @ turn
        turned -= shift
        np.square(turned, out=turned)
        # A product of matrices adds up several times faster than a sum over a short axis.
        each: Floats = halves @ turned.T
        each += self.offsets[:, None]
        return each

    @cached_property
    def _turned(self) -> tuple[Floats, Floats, Floats]:
        """All factors side by side, shape (width, components * width), the means so turned, and what adds up minus half
        of each component's squares, shape (components, components * width)."""
        count, width = self.means.shape
        flat = self.factors.transpose(1, 0, 2).reshape(width, count * width)
        shift = np.einsum("kd,kde->ke", self.means, self.factors).reshape(count * width)
        return flat, shift, np.repeat(np.eye(count) * -0.5, width, axis=1)


_ARRAYS = ("means", "factors", "offsets")


def _read(packed: bytes) -> tuple[str, Density]:
    if len(packed) > MAX_BYTES:
        raise ValueError(f"{len(packed)} bytes are too many")
    data: Any = msgpack.unpackb(packed)
    space, (count, width) = data["space"], data["shape"]
    if len(data) != 5 or type(count) is not int or type(width) is not int or not 0 < count <= COMPONENTS or width < 0:
        raise ValueError("it has no shape")
    if not isinstance(space, str) or len(space) > 64:
        raise ValueError("it names no space")
    shapes = {"means": (count, width), "factors": (count, width, width), "offsets": (count,)}
    arrays = {name: _floats(data[name], shape) for name, shape in shapes.items()}
    return space, Density(**arrays)


def _floats(raw: object, shape: tuple[int, ...]) -> Floats:
    if not isinstance(raw, bytes) or len(raw) != 8 * math.prod(shape):
        raise ValueError(f"not {shape} float64")
    values = np.frombuffer(raw, "<f8").reshape(shape).astype(np.float64)
    if not (np.abs(values) <= LARGEST).all():
        raise ValueError("a number that is not finite, or too large")
    return values


def _fitted(points: Floats, count: int, generator: np.random.Generator) -> Density:
    """A mixture of `count` components."""
    rows, width = points.shape
    shares = _first_shares(points, count, generator)
    # The prior counts as width + 2 rows, spread as each of `count` equal pieces of the whole would be.
    prior = float(width + 2)
    pull = (
        np.eye(width) * max(points.var(axis=0).mean() if width else 1.0, 1e-3) * count ** (-2 / max(width, 1)) * prior
    )
    last = -math.inf
    left = STEPS
    while True:
        density = _maximised(points, shares, prior, pull)
        each = density._each(points)
        logs = _log_sum(each)
        total = float(logs.sum())
        left -= 1
        if left == 0 or total - last < ENOUGH * rows or count == 1:
            return density
        last = total
        shares = np.exp(each - logs).T


def _maximised(points: Floats, shares: Floats, prior: float, pull: Floats) -> Density:
    width = points.shape[1]
    weights = shares.sum(axis=0) + 1e-9
    means = (shares.T @ points) / weights[:, None]
    factors = np.empty((len(weights), width, width))
    offsets = np.log(weights / weights.sum()) - 0.5 * width * math.log(2 * math.pi)
    for at, (weight, mean) in enumerate(zip(weights, means, strict=True)):
        apart = points - mean
        covariance = ((apart * shares[:, at : at + 1]).T @ apart + pull) / (weight + prior)
        lower = np.linalg.cholesky(covariance)
        factors[at] = np.linalg.inv(lower).T
        offsets[at] -= np.log(lower.diagonal()).sum()
    return Density(means, factors, offsets)


def _first_shares(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Each row wholly in the nearest of `count` rows that lie apart (k-means++, Arthur and Vassilvitskii 2007)."""
    rows = len(points)
    chosen = [int(generator.integers(rows))]
    nearest = np.square(points - points[chosen[0]]).sum(axis=1)
    place = np.zeros(rows, np.int64)
    for at in range(1, count):
        total = float(nearest.sum())
        odds = nearest / total if total > 0 else np.full(rows, 1 / rows)
        chosen.append(int(generator.choice(rows, p=odds)))
        distances = np.square(points - points[chosen[-1]]).sum(axis=1)
        place[distances < nearest] = at
        nearest = np.minimum(nearest, distances)
    return np.eye(count)[place]


def _log_sum(each: Floats) -> Floats:
    """The logarithm of the sum of exponentials over the first axis."""
    top = each.max(axis=0)
    total: Floats = top + np.log(np.exp(each - top).sum(axis=0))
    return total
