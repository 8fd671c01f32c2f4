"""Laws of replicas among real daemons: who is gone still votes, from plain arrays that others hold."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import HereWorkshop, call, peer_here, soon, write_part

from p2pml.ensemble.summary import Summary
from p2pml.ensemble.values import Columns
from p2pml.errors import RemoteError
from p2pml.gossip import Member, Status
from p2pml.peer import replicas, voting
from p2pml.peer.ballots import Ballot, Wanted
from p2pml.peer.colleagues import Colleague, why_lost
from p2pml.peer.daemon import Peer
from p2pml.peer.held import HELD, Holding, LastWords
from p2pml.peer.placing import keepers

here = partial(peer_here, workshop=HereWorkshop())
ROWS: dict[str, list[object]] = {"height": [1, 9, 5], "width": [2, 9, 4], "colour": ["red", "blue", None]}


async def cluster(stack: AsyncExitStack, folder: Path, count: int, **options: Any) -> list[Peer]:
    """So many peers, once every model is held by as many others as it should be."""
    peers: list[Peer] = []
    for at in range(count):
        join = (peers[0].address,) if peers else ()
        part = write_part(folder / f"part-{at}.csv", seed=at)
        peers.append(await stack.enter_async_context(here(part, folder / f"s{at}", join=join, **options)))
    await soon(lambda: all(in_place(peer, count) for peer in peers), "every replica is in its place")
    return peers


def in_place(peer: Peer, count: int) -> bool:
    """Whether a peer sees all vote, and everyone held as often as there are peers to hold it."""
    voters = peer.colleagues.roll().voters
    each = min(peer.options.replicas, count - 1)
    held = [len(peer.colleagues.held.holders(v.id, v.summary.digest or "")) for v in voters if v.summary]
    return len(held) == count and all(some >= each for some in held)


async def gone(peer: Peer, of: Peer) -> None:
    await soon(
        lambda: member.status in (Status.LEFT, Status.DEAD) if (member := of.node.member(peer.id)) else False, "gone"
    )


def told(*peers: Peer) -> list[Holding | LastWords]:
    """What these say that they hold."""
    entries = [peer.node.entries(peer.id) for peer in peers]
    raw = [each[key] for each in entries for key in each if key.startswith(HELD)]
    return [one for one in map(peers[0].colleagues.held.read, raw) if one is not None]


async def ask(peer: Peer, rule: str = "mean") -> Any:
    return await peer.asker.ask(ROWS, 3, rule=rule, seconds=20)


async def test_who_is_gone_still_votes(tmp_path: Path) -> None:
    """The answer is the same, the votes are all there, and it says who cast that of whom."""
    async with AsyncExitStack() as stack:
        peers = await cluster(stack, tmp_path, 2)
        async with AsyncExitStack() as late:
            last = await late.enter_async_context(
                here(write_part(tmp_path / "l.csv", seed=9), tmp_path / "l", join=(peers[0].address,))
            )
            await soon(lambda: all(in_place(peer, 3) for peer in (*peers, last)), "all is in place")
            await soon(lambda: all(isinstance(one, Holding) for one in told(*peers)), "owners speak for themselves")
            before = await ask(peers[0])
        await gone(last, peers[0])
        after = await ask(peers[0])
        assert np.abs(after.answer.probabilities - before.answer.probabilities).max() < 1e-9
        assert (after.votes["cast"], after.votes["expected"], after.votes["missing"]) == (3, 3, [])
        await soon(
            lambda: {one.owner for one in told(*peers) if isinstance(one, LastWords)} == {last.id},
            "holders repeat the words of who is gone",
        )
        assert last.id in [entry["peer"] for entry in after.votes["replicas"]]


async def test_who_leaves_hands_over_what_it_alone_holds(tmp_path: Path) -> None:
    """Of three peers with one replica each the last one left votes for all."""
    async with AsyncExitStack() as stack:
        lives: list[AsyncExitStack] = []
        peers: list[Peer] = []
        for at in range(3):
            lives.append(await stack.enter_async_context(AsyncExitStack()))
            part = write_part(tmp_path / f"part-{at}.csv", seed=at)
            join = (peers[0].address,) if peers else ()
            options: dict[str, Any] = {"join": join, "replicas": 1, "model": "linear"}
            peers.append(await lives[at].enter_async_context(here(part, tmp_path / f"s{at}", **options)))
        await soon(lambda: all(in_place(peer, 3) for peer in peers), "every replica is in its place")
        before = await ask(peers[0])
        for at in (2, 1):
            await lives[at].aclose()
            await gone(peers[at], peers[0])
        after = await ask(peers[0])
        assert np.abs(after.answer.probabilities - before.answer.probabilities).max() < 1e-9
        assert (after.votes["cast"], after.votes["missing"]) == (3, [])


async def test_a_leaving_peer_is_asked_nothing_new(tmp_path: Path) -> None:
    """Whoever asks is told to ask another; it is not ready either."""
    async with here(write_part(tmp_path / "p.csv"), tmp_path / "s") as peer:
        await soon(lambda: peer.why_not_ready() is None, "it is ready")
        peer.leaving = True
        where = f"127.0.0.1:{peer.address[1]}"
        asked = {"columns": list(ROWS), "data": [[1, 2, "red"]]}
        for path, body in (("/v1/predict", asked), ("/v1/evaluate", {}), ("/v1/fit", {}), ("/readyz", None)):
            answer = await asyncio.to_thread(call, where, path, body)
            assert answer.status == 503
            assert "about to leave" in answer.data["detail"]


async def test_a_model_that_holds_rows_stays_at_home(tmp_path: Path) -> None:
    """Nobody gets a copy; when its peer is dead, its vote is missing, and the answer says why."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(here(write_part(tmp_path / "a.csv"), tmp_path / "a"))
        knn = await stack.enter_async_context(
            here(write_part(tmp_path / "b.csv", seed=1), tmp_path / "b", join=(first.address,), model="knn")
        )
        await soon(lambda: len(first.colleagues.roll().voters) == 2 and first.id in knn.shelf.words, "both vote")
        trained = knn.voting.trained
        assert trained is not None
        assert knn.trainer.packed_model(trained) is None
        assert knn.id not in first.shelf.words
        dead = dataclasses.replace(first.node.member(knn.id), status=Status.DEAD)  # type: ignore[type-var]
        lost = Colleague(dead, first.colleagues.summary(knn.id))  # type: ignore[arg-type]
        assert why_lost(lost) == "it is dead, and its model cannot leave it"


async def test_a_newcomer_counts_who_went_before_it_came(tmp_path: Path) -> None:
    """It learns of the model from those who hold it, and all move to a space that has the moments of that one too."""
    async with AsyncExitStack() as stack:
        peers = await cluster(stack, tmp_path, 1)
        async with here(write_part(tmp_path / "l.csv", seed=9), tmp_path / "l", join=(peers[0].address,)) as last:
            await soon(lambda: all(in_place(peer, 2) for peer in (*peers, last)), "all is in place")
        await gone(last, peers[0])
        part = write_part(tmp_path / "n.csv", seed=12)
        new = await stack.enter_async_context(here(part, tmp_path / "n", join=(peers[0].address,)))
        await soon(lambda: len(new.colleagues.roll().voters) == 3, "it counts three")
        for peer in (new, peers[0]):
            await soon(lambda peer=peer: peer.knowing.space_of(peer.colleagues.roll().voters), "a space")  # type: ignore[misc]
            assert (await ask(peer)).votes["cast"] == 3
        moments = {words.knowledge.moments for words in new.shelf.words.values()}
        await soon(lambda: new.voting.ground and moments <= set(new.voting.ground.space.members), "all are in it")


async def test_what_cannot_be_held_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is refused is not fetched again; one beyond the bytes or the slots not at all; the others stay."""
    async with AsyncExitStack() as stack:
        (one,) = await cluster(stack, tmp_path, 1)
        part = write_part(tmp_path / "b.csv", seed=1)
        async with here(part, tmp_path / "b", join=(one.address,)) as two:
            await soon(lambda: two.id in one.shelf.words, "it is held")
            colleague = next(c for c in one.colleagues.all() if c.id == two.id)
            words = one.shelf.words[two.id]
            one.shelf.drop(two.id)
            await one.replicas._take(colleague, dataclasses.replace(words, summary=forged(words.summary, rows=7)))
            assert words.model in one.replicas._refused
            await one.replicas._take(colleague, words)
            assert two.id not in one.shelf.words
            one.replicas._refused.clear()
            monkeypatch.setattr(replicas, "HELD_BYTES", 10)
            await one.replicas._take(colleague, words)
            assert two.id not in one.shelf.words
            monkeypatch.setattr(replicas, "SLOTS", 0)
            await one.replicas._take(colleague, words)
            assert two.id not in one.shelf.words
            long_gone = dataclasses.replace(words, gone=1)
            monkeypatch.setattr(one.replicas, "_words", lambda colleague: long_gone)
            one.shelf.words = {two.id: long_gone}
            await one.replicas._look_at(colleague)
            assert not one.shelf.words


async def test_a_model_is_held_also_while_its_density_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It votes by its moments until the density has come."""
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, tmp_path, 2)
        colleague = next(c for c in one.colleagues.all() if c.id == two.id)
        await soon(lambda: one.shelf.words[two.id].knowledge.density, "the density is held")
        whole, fetch = one.shelf.words[two.id], one.replicas._fetcher.fetch

        async def poor(digest: str, *how: Any) -> bytes:
            if digest == whole.knowledge.density:
                raise RemoteError("nobody has it")
            return await fetch(digest, *how)

        async def idle() -> None:
            """Let nobody else look meanwhile."""

        monkeypatch.setattr(one.replicas, "_look", idle)
        one.shelf.drop(two.id)
        with monkeypatch.context() as patched:
            patched.setattr(one.replicas._fetcher, "fetch", poor)
            await one.replicas._take(colleague, whole)
            assert one.shelf.words[two.id].model == whole.model
            assert one.shelf.words[two.id].knowledge.density is None
        await one.replicas._take(colleague, whole)
        assert one.shelf.words[two.id].same(whole)


async def test_who_holds_a_model_is_asked_before_it_could_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the owner does not answer; and what nobody holds is sought once, not with every question."""
    monkeypatch.setattr(replicas.Replicas, "_announce", lambda self: None)
    async with AsyncExitStack() as stack:
        peers: list[Peer] = []
        for at in range(3):
            part, join = write_part(tmp_path / f"part-{at}.csv", seed=at), (peers[0].address,) if peers else ()
            peers.append(await stack.enter_async_context(here(part, tmp_path / f"s{at}", join=join, replicas=1)))
        owner, *others = peers
        holder, asker = sorted(
            others, key=lambda peer: peer.id != keepers(owner.id, [each.id for each in others], 1)[0]
        )
        await soon(lambda: len(asker.colleagues.roll().voters) == 3 and owner.id in holder.shelf.words, "it is held")
        asked, vote = [], asker.polling._wire.vote

        async def cut_off(member: Member, *how: Any) -> object:
            asked.append(member.id)
            if member.id == owner.id:
                raise RemoteError("cut off")
            return await vote(member, *how)

        monkeypatch.setattr(asker.polling._wire, "vote", cut_off)
        answer = await ask(asker)
        assert (answer.votes["cast"], answer.votes["missing"]) == (3, [])
        assert [entry["by"] for entry in answer.votes["replicas"] if entry["peer"] == owner.id] == [holder.node.me.name]
        holder.shelf.drop(owner.id)
        for questions in (3, 2):
            asked.clear()
            (missing,) = (await ask(asker)).votes["missing"]
            assert (missing["peer"], missing["reason"], len(asked)) == (owner.id, "cut off", questions)


async def test_votes_that_take_long_are_cast_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a peer's own model and of a replica, by two processors."""
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, tmp_path, 2)
        both, say = threading.Barrier(2, timeout=20), voting._Voter.say

        def slow(self: voting._Voter, columns: Columns, first_row: int) -> Any:
            if len(columns["height"]) == len(ROWS["height"]):
                both.wait()
            return say(self, columns, first_row)

        monkeypatch.setattr(voting._Voter, "say", slow)
        monkeypatch.setattr(voting, "AT_ONCE", -1.0)
        wanted = [Wanted(two.id, one.shelf.words[two.id].model), Wanted(one.id, one.voting.serving().digest)]
        cast = await one.voting.cast(wanted, ROWS)
        assert [each.owner for each in cast if isinstance(each, Ballot)] == [two.id, one.id]


def forged(summary: Summary, **changes: Any) -> Summary:
    return dataclasses.replace(summary, **changes)
