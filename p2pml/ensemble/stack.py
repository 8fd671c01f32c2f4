"""A linear stack of votes, fitted from sums over all peers' held-out rows, which add up exactly.

Each voter has two coefficients, neither below 0 (Breiman 1996, "Stacked regressions"): one for its vote as it is, and
one for its vote times its share by density. So the mean and the densities' answer are both within reach, and so is
trusting one voter more than another. Classes share the coefficients; their probabilities are fitted by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from p2pml.errors import RemoteError

from . import triangle
from .combine import Answer, Cast, answer_of, density_weights, stacked
from .values import Floats

RIDGE = 1e-4
"""Share of the mean square that is added to each coefficient's: votes that are alike share their weight."""
MAX_VOTERS = 1_000
"""Voters of another peer's sums: beyond it they would be more than 16 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """Sums over `rows` rows of the products of every two of: the votes of `voters` (peer ids, ascending), these votes
    times their shares by density, and the truth; float64 of shape (2 voters + 1, 2 voters + 1)."""

    rows: int
    voters: tuple[str, ...]
    products: Floats

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64] | NDArray[np.object_],
        votes: Sequence[Cast],
        densities: Mapping[str, Floats],
    ) -> Gram:
        """Of votes on rows whose truth is as `Schema.truth` gives it; rows without it are left out."""
        ordered = sorted(votes, key=lambda cast: cast[0])
        known = np.array([value is not None and value == value for value in truth], bool)
        classes, stack = stacked(ordered)
        stack, true = stack[:, known], truth[known]
        target = true.astype(np.float64) if classes is None else true[:, None] == np.array(classes, object)
        shares = density_weights([rows for *_, rows in ordered], [densities[peer][known] for peer, *_ in ordered], 1.0)
        table = np.concatenate([stack, stack * (shares if classes is None else shares[:, :, None]), target[None]])
        flat = table.reshape(len(table), -1).astype(np.float64)
        return cls(int(known.sum()), tuple(peer for peer, *_ in ordered), flat @ flat.T)

    def merge(self, other: Gram) -> Gram:
        """The sums over both sets of rows, of the voters that both have."""
        voters = tuple(peer for peer in self.voters if peer in set(other.voters))
        one, two = self.among(voters), other.among(voters)
        return Gram(self.rows + other.rows, voters, one.products + two.products)

    def among(self, voters: Sequence[str]) -> Gram:
        """The same rows' sums of some of the voters alone."""
        at = {peer: place for place, peer in enumerate(self.voters)}
        places = [at[peer] for peer in voters]
        chosen = [*places, *(place + len(self.voters) for place in places), 2 * len(self.voters)]
        return Gram(self.rows, tuple(voters), self.products[np.ix_(chosen, chosen)])

    def coefficients(self) -> Floats:
        """What fits best, shape (2, voters): for the votes as they are, and for their shares by density."""
        inner, towards = self.products[:-1, :-1], self.products[:-1, -1]
        inner = inner + np.eye(len(inner)) * max(RIDGE * np.trace(inner) / len(inner), 1e-300)
        lower = np.linalg.cholesky(inner)
        found: Floats = nnls(lower.T, np.linalg.solve(lower, towards))[0]
        return found.reshape(2, -1)

    def answer(self, votes: Sequence[Cast], densities: Mapping[str, Floats]) -> Answer:
        """The stack's answer of votes, whose peers are all among `voters`."""
        ordered = sorted(votes, key=lambda cast: cast[0])
        shares = density_weights([rows for *_, rows in ordered], [densities[peer] for peer, *_ in ordered], 1.0)
        plain, dense = self.among([peer for peer, *_ in ordered]).coefficients()
        return answer_of(ordered, plain[:, None] + dense[:, None] * shares)

    def to_data(self) -> dict[str, Any]:
        """As plain data for msgpack."""
        return {"rows": self.rows, "voters": list(self.voters), "products": triangle.packed(self.products)}

    @classmethod
    def from_data(cls, data: object) -> Gram:
        """The sums that another peer sent; RemoteError if they cannot be of any rows."""
        match data:
            case {"rows": int(rows), "voters": list(voters), "products": bytes(raw)} if (
                0 <= rows < 2**53 and len(voters) <= MAX_VOTERS and all(isinstance(peer, str) for peer in voters)
            ):
                size = 2 * len(voters) + 1
                if voters == sorted(set(voters)) and len(raw) == 4 * size * (size + 1):
                    products = triangle.unpacked(np.frombuffer(raw, "<f8"), size)
                    lengths = np.sqrt(np.maximum(products.diagonal(), 0.0))
                    # Cauchy and Schwarz, of what is finite.
                    if (np.abs(products) <= np.outer(lengths, lengths) * (1 + 1e-6)).all() and lengths.max() < 1e150:
                        return cls(rows, tuple(voters), products)
        raise RemoteError("the sums for a stack that a peer sent cannot be read")
