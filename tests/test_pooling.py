"""Laws of how a peer gathers what all rows say: nobody's equations are trusted, and nobody is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_common import FEATURES, ROWS, taken, told, truth_of

from p2pml.ensemble.common import Common
from p2pml.ensemble.equations import Equations
from p2pml.ensemble.portable import digest
from p2pml.ensemble.schema import infer
from p2pml.ensemble.typed import Reader
from p2pml.errors import BadInput, RemoteError
from p2pml.peer.pooling import SUMS, Pooling, Told
from p2pml.peer.store import Store

NEW = {"x": [0.5, -0.5], "y": [1.0, 0.0]}


class Everybody:
    """What would be fetched, by digest; what is not there cannot be had."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = {digest(body): body for body in bodies}
        self.fetched: list[str] = []

    async def fetch(self, named: str, sources: Any, limit: int) -> bytes:
        self.fetched.append(named)
        if named not in self.bodies:
            raise RemoteError("nobody has it")
        return self.bodies[named]


def packed(rows: range, target: str = "target") -> bytes:
    body = told(FEATURES, ROWS, rows, target, least=5).packed(FEATURES)
    assert body is not None
    return body


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state")
    yield opened
    opened.close()


def standing(everybody: Any, store: Store, tells: bool = True) -> Pooling:
    """A peer with the first 60 rows."""
    pooling = Pooling(everybody, store, 5, tells)
    columns = taken(ROWS, range(60), "x", "y", "target")
    reader = Reader(infer(columns, "target"))
    pooling.stand(FEATURES.space, reader.read(columns), truth_of(ROWS, "target")[:60], 60)
    return pooling


def of(rows: int = 60, task: str = "regression") -> Told:
    return Told("ann", rows, task, ())


async def test_whoever_gathers_the_same_has_the_same_common_vote(store: Store) -> None:
    """It is that of the rows of both, and is made anew only where somebody's are new."""
    other = packed(range(60, 120))
    pooling = standing(Everybody(other), store)
    assert pooling.own == digest(packed(range(60)))
    assert not await pooling.gather({})
    everyone = {pooling.own: of(), digest(other): of()}
    assert await pooling.gather(everyone)
    assert not await pooling.gather(everyone)
    parts = [Equations.read(body, FEATURES) for body in (packed(range(60)), other)]
    expected = Common.fit(FEATURES, Equations.total(parts), 2)
    assert pooling.common is not None
    assert (pooling.common.peers, pooling.common.rows) == (2, 120)
    assert pooling.common.vote(NEW).values == pytest.approx(expected.vote(NEW).values, abs=1e-9)
    assert pooling.piece(digest(other)) == other
    assert pooling.piece("0" * 64) is None


async def test_what_was_gathered_outlives_a_restart_and_is_fetched_anew_only_where_it_is_damaged(store: Store) -> None:
    """It lies on disk, verified whenever it is read, and is deleted once nobody tells of it."""
    other = packed(range(60, 120))
    told, everybody = {digest(other): of()}, Everybody(other)
    assert await standing(everybody, store).gather(told)
    again = standing(everybody, store)
    assert await again.gather(told)
    assert everybody.fetched == [digest(other)]
    file = store.folder / (SUMS + digest(other))
    file.write_bytes(file.read_bytes()[:-1])
    assert again.piece(digest(other)) is None
    await again.gather(told)
    assert everybody.fetched == [digest(other)] * 2
    assert again.piece(digest(other)) == other
    assert again.own is not None
    assert await again.gather({again.own: of()})
    assert store.names(SUMS) == []


async def test_a_full_disk_costs_nobody_the_common_vote(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is kept in memory."""

    def full(*how: object) -> None:
        raise BadInput("no space left on device")

    other = packed(range(60, 120))
    pooling = standing(Everybody(other), store)
    monkeypatch.setattr(store, "write", full)
    assert await pooling.gather({digest(other): of()})
    assert pooling.common is not None
    assert pooling.piece(digest(other)) == other


async def test_equations_that_are_not_their_owners_are_left_out_and_not_fetched_again(store: Store) -> None:
    """Of other rows than it trained on, of another task, or none at all; what cannot be had is looked for again."""
    wrong, strange, noise = packed(range(60, 110)), packed(range(60, 120), "class"), b"\x80"
    everybody = Everybody(wrong, strange, noise)
    pooling = standing(everybody, store)
    assert pooling.own is not None
    everyone = {pooling.own: of(), **{digest(body): of() for body in (wrong, strange, noise, b"lost")}}
    for _ in range(2):
        await pooling.gather(everyone)
        assert pooling.common is not None
        assert pooling.common.peers == 1
    assert sorted(everybody.fetched) == sorted([*map(digest, (wrong, strange, noise)), *[digest(b"lost")] * 2])


async def test_who_tells_nothing_can_use_what_the_others_tell(store: Store) -> None:
    """And before it stands anywhere, or alone, there is nothing to gather."""
    other = packed(range(60, 120))
    pooling = standing(Everybody(other), store, tells=False)
    assert pooling.own is None
    assert await pooling.gather({digest(other): of()})
    assert pooling.common is not None
    assert not await Pooling(Everybody(), store, 5, True).gather({digest(other): of()})  # type: ignore[arg-type]
    assert np.isfinite(pooling.common.vote(NEW).values).all()


async def test_equations_that_nobody_can_solve_make_no_common_vote(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that pass for sums may still defeat an algorithm; the peer goes on without."""

    def fails(*how: object) -> None:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    pooling = standing(Everybody(), store)
    assert pooling.own is not None
    monkeypatch.setattr(np.linalg, "eigh", fails)
    assert await pooling.gather({pooling.own: of()})
    assert pooling.common is None
