"""Laws of what is held for others: where it goes, how it travels, and that nothing of it is trusted."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from p2pml.ensemble.density import Density
from p2pml.ensemble.knowledge import Knowledge
from p2pml.ensemble.models import train
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.portable import Portable, digest
from p2pml.ensemble.schema import infer
from p2pml.ensemble.space import Space
from p2pml.ensemble.summary import Epoch, ModelState, Summary
from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Member, Status
from p2pml.peer.held import LastWords
from p2pml.peer.pieces import BLOCK, Fetcher, Pieces
from p2pml.peer.placing import keepers
from p2pml.peer.shelf import Parcel, Shelf
from p2pml.peer.store import Store

ANN = "a" * 32
PEERS = [f"{at:032x}" for at in range(20)]
COLUMNS: dict[str, list[object]] = {"x": [float(i % 7) for i in range(60)], "y": [float(i % 7 > 3) for i in range(60)]}


@cache
def parcel() -> tuple[LastWords, Parcel, Space]:
    """A model of Ann's, and what she said of it."""
    schema = infer(COLUMNS, "y", "classification")
    model = train(schema, COLUMNS, range(60), "decision-tree", 0)
    moments = Moments.of(schema, {"x": COLUMNS["x"]})
    space = Space.of([moments])
    density = Density.fit(space.project(COLUMNS)).packed(space.digest)
    packed = Portable.of(model).packed()
    summary = Summary(
        ModelState.READY,
        "decision-tree",
        Epoch(1, ANN),
        voting=True,
        schema=schema.fingerprint,
        rows=60,
        digest=digest(packed),
        portable=True,
    )
    knowledge = Knowledge(moments.digest, space.digest, density=digest(density))
    pieces = Parcel(packed, msgpack.packb(moments.to_data()), density)
    return LastWords(ANN, "ann", summary, knowledge), pieces, space


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    store = Store(tmp_path / "state")
    yield Shelf(store)
    store.close()


# Where replicas go.


def test_only_the_share_of_who_comes_or_goes_moves() -> None:
    """Rendezvous hashing: the others' places stay as they are."""
    for owner in PEERS:
        before = keepers(owner, PEERS, 3)
        assert owner not in before
        assert keepers(owner, PEERS[::-1], 3) == before
        after = keepers(owner, [peer for peer in PEERS if peer != before[0]], 3)
        assert after[:2] == before[1:]
        joined = keepers(owner, [*PEERS, "f" * 32], 3)
        assert set(joined) - set(before) <= {"f" * 32}


def test_replicas_are_spread_evenly() -> None:
    """No peer of twenty holds many times its share."""
    held = [keeper for owner in PEERS for keeper in keepers(owner, PEERS, 3)]
    assert len(held) == 60
    assert max(held.count(peer) for peer in PEERS) <= 10


def test_votes_are_lost_as_often_as_the_hashing_predicts() -> None:
    """Of ten peers, three of which hold each model, five die: a dead one's model is lost where all its three do too."""
    rng = random.Random(3)
    lost = 0
    for _ in range(400):
        ids = [f"{rng.getrandbits(128):032x}" for _ in range(10)]
        dead = set(ids[:5])
        lost += sum(set(keepers(owner, ids, 3)) <= dead for owner in dead)
    predicted = math.comb(4, 3) / math.comb(9, 3)
    assert lost / 2000 == pytest.approx(predicted, abs=4 * math.sqrt(predicted / 2000))


# What is said of them.


def test_last_words_survive_the_journey() -> None:
    """In an entry of the catalogue, where they fit."""
    words = dataclasses.replace(parcel()[0], gone=1_700_000_000)
    assert LastWords.read(words.packed()) == words
    assert words.fits
    assert words.same(parcel()[0])


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb([1, 2, 3, 4, 5]),
        msgpack.packb([ANN, "x" * 100, {}, {}, 0]),
        msgpack.packb([ANN, "ann", {}, {}, 0]),
    ],
)
def test_what_are_no_last_words_is_refused(entry: bytes) -> None:
    """With a RemoteError."""
    with pytest.raises(RemoteError):
        LastWords.read(entry)


@pytest.mark.parametrize("change", [{"voting": False}, {"digest": "short"}, {"digest": None}])
def test_last_words_are_of_a_model(change: dict[str, Any]) -> None:
    """Else there is nothing to hold."""
    words = parcel()[0]
    odd = dataclasses.replace(words, summary=dataclasses.replace(words.summary, **change))
    with pytest.raises(RemoteError, match="no model"):
        LastWords.read(odd.packed())


# On the shelf.


def test_a_replica_votes_with_its_density_and_survives_a_restart(shelf: Shelf) -> None:
    """What was put on the shelf is on disk, and votes as it did."""
    words, pieces, space = parcel()
    vote, density = shelf.put(words, pieces).cast({"x": [1.0, 5.0]}, 1, space)
    assert vote.values.argmax(axis=1).tolist() == [0, 1]
    again = Shelf(shelf._store)
    again.open()
    replica = again.replica(ANN, words.model)
    assert replica is not None
    vote_again, density_again = replica.cast({"x": [1.0, 5.0]}, 1, space)
    assert density is not None
    assert density_again is not None
    assert vote_again.values.tobytes() == vote.values.tobytes()
    assert density_again.tobytes() == density.tobytes()
    assert again.replica(ANN, "0" * 64) is None
    assert replica.cast({"x": [1.0]}, 1, None)[1] is None


def test_in_another_space_a_gone_peer_has_the_gaussian_of_its_moments(shelf: Shelf) -> None:
    """Where only the owner could fit a density; rows like its own are likelier than others."""
    words, pieces, _ = parcel()
    schema = infer({"x": [0.0, 100.0], "y": [0, 1]}, "y", "classification")
    far = Moments.of(schema, {"x": [float(100 + i % 9) for i in range(60)]})
    space = Space.of([Moments.from_data(msgpack.unpackb(pieces.moments)), far])
    density = shelf.put(words, pieces).cast({"x": [3.0, 104.0]}, 1, space)[1]
    assert density is not None
    assert density[0] > density[1] + 10


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": b"x" * 100}, "digest"),
        ({"moments": b"\xc1"}, "moments"),
        ({"moments": msgpack.packb(Moments((), np.zeros(0), np.zeros((1, 1))).to_data())}, "not those"),
        ({"density": b"x"}, "density"),
        ({"density": Density.fit(np.zeros((3, 2))).packed("space")}, "not the one"),
    ],
)
def test_a_parcel_that_is_not_what_it_says_is_refused(shelf: Shelf, change: dict[str, bytes], why: str) -> None:
    """Before anything is built from it, and with nothing on disk."""
    words, pieces, _ = parcel()
    with pytest.raises(RemoteError, match=why):
        shelf.put(words, dataclasses.replace(pieces, **change))
    assert not shelf.words
    assert not shelf._store.names("replica-")


def test_a_model_of_other_rows_than_was_said_is_refused(shelf: Shelf) -> None:
    """Its weight would be another."""
    words, pieces, _ = parcel()
    odd = dataclasses.replace(words, summary=dataclasses.replace(words.summary, rows=61))
    with pytest.raises(RemoteError, match="other rows"):
        shelf.put(odd, pieces)


def test_what_is_dropped_leaves_no_file(shelf: Shelf) -> None:
    """Neither the record nor the pieces."""
    words, pieces, _ = parcel()
    shelf.put(words, pieces)
    shelf.drop(ANN)
    assert shelf.replica(ANN, words.model) is None
    assert not shelf._store.names("replica-")
    assert not shelf._store.names("held-")


def test_a_damaged_replica_is_set_aside_and_not_held(shelf: Shelf) -> None:
    """So that it is fetched anew; a vote with it would be anybody's."""
    words, pieces, _ = parcel()
    shelf.put(words, pieces)
    path = shelf._store.folder / f"replica-{words.model}"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    again = Shelf(shelf._store)
    again.open()
    assert not again.words
    assert path.with_name(path.name + ".corrupt").exists()
    assert again.lacks(words)[0] == words.model


def test_what_nobody_asks_of_is_loaded_only_then(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are ready to vote are bounded by their bytes; the others come from disk."""
    monkeypatch.setattr("p2pml.peer.shelf.LOADED_BYTES", 1)
    words, pieces, _ = parcel()
    other = dataclasses.replace(words, owner="b" * 32)
    shelf.put(words, pieces)
    shelf.put(other, pieces)
    assert len(shelf._loaded) == 1
    assert shelf.replica(ANN, words.model) is not None


# On the way.


class Wire:
    """Peers that give out pieces, and fail after so many blocks."""

    def __init__(self, content: bytes, fails_after: dict[str, int]) -> None:
        self._pieces = Pieces(lambda digest: content)
        self._left = fails_after
        self.asked: list[tuple[str, int]] = []

    async def get(self, member: Member, path: str, seconds: float = 5.0) -> Any:
        start = int(path.rpartition("=")[2])
        self.asked.append((member.name, start))
        if self._left.get(member.name, 99) == 0:
            raise RemoteError("it fell silent")
        self._left[member.name] = self._left.get(member.name, 99) - 1
        return self._pieces.block("d", start)


def member(name: str) -> Member:
    return Member(name * 32, name, ("127.0.0.1", 1), Status.ALIVE, 1, 0)


def fetch(wire: Any, content: bytes, *names: str, limit: int = 2**24) -> bytes:
    return asyncio.run(Fetcher(wire).fetch(digest(content), [member(name) for name in names], limit))


def test_a_fetch_goes_on_where_the_last_source_fell_silent() -> None:
    """What has come is not asked for again."""
    content = bytes(2 * BLOCK) + b"end"
    wire = Wire(content, {"a": 1})
    assert fetch(wire, content, "a", "b") == content
    assert wire.asked == [("a", 0), ("a", BLOCK), ("b", BLOCK), ("b", 2 * BLOCK)]


def test_content_of_another_digest_or_size_is_refused() -> None:
    """Whoever sent it."""
    with pytest.raises(RemoteError, match="another digest"):
        fetch(Wire(b"forged", {}), b"true", "a")
    with pytest.raises(RemoteError, match="too large"):
        fetch(Wire(bytes(100), {}), bytes(100), "a", limit=99)
    with pytest.raises(RemoteError, match="nobody"):
        fetch(Wire(b"", {}), b"x")


def test_a_piece_that_is_not_there_is_a_clear_error() -> None:
    """Another peer may have it."""
    with pytest.raises(BadInput, match="does not have"):
        Pieces(lambda digest: None).block("0" * 64, 0)


@pytest.mark.parametrize(
    "change",
    [{"shape": [1, -1]}, {"shape": [99, 1]}, {"space": 7}, {"means": b""}, {"offsets": np.array([np.inf]).tobytes()}],
)
def test_a_density_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """With a RemoteError."""
    packed = Density.fit(np.zeros((1, 1))).packed("space")
    with pytest.raises(RemoteError, match="cannot be read"):
        Density.read(msgpack.packb(msgpack.unpackb(packed) | change))
    with pytest.raises(RemoteError, match="too many"):
        Density.read(bytes(2**20 + 1))
