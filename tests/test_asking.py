"""Laws of asking, held against a real peer: over a link, in batches, and over HTTP where there is no link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from running import ROWS, HereWorkshop, peer_here, soon, write_part

from p2pml.ensemble.typed import Typed
from p2pml.errors import BadInput, RemoteError
from p2pml.gossip import Member
from p2pml.peer import api as api_module
from p2pml.peer import relaying
from p2pml.peer.adding import Partial
from p2pml.peer.ballots import SumQuestion
from p2pml.peer.client import PeerClient
from p2pml.peer.colleagues import Roll
from p2pml.peer.counting import Heard
from p2pml.peer.daemon import Peer
from p2pml.peer.links import Links
from p2pml.peer.polling import Polling

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Peer]]:
    """Two peers that hold no replicas of each other, so that each vote travels."""
    folder = tmp_path_factory.mktemp("asking")
    options: dict[str, Any] = {"model": "decision-tree", "replicas": 0, "workshop": HereWorkshop()}
    async with peer_here(write_part(folder / "one.csv", seed=1), folder / "one", **options) as one:
        options["join"] = (one.address,)
        async with peer_here(write_part(folder / "two.csv", seed=2), folder / "two", **options) as two:
            both = [one, two]
            await soon(lambda: all(len(peer.colleagues.roll().voters) == 2 for peer in both), "both see both vote")
            yield both


def client(peer: Peer) -> PeerClient:
    return PeerClient(("127.0.0.1", peer.address[1]))


async def none(self: Links, member: Member, seconds: float) -> None:
    """No link to anybody."""


async def ask(asked: PeerClient, data: list[list[object]], **how: Any) -> Any:
    columns = dict(zip(ROWS["columns"], zip(*data, strict=True), strict=True))
    return await asked.predict(columns, combine="mean", proba=True, **how)


async def test_small_questions_at_once_are_answered_each_by_its_own_rows(peers: list[Peer]) -> None:
    """However they share their way; the answers are those that each gets alone."""
    async with client(peers[0]) as asked:
        rows: list[list[object]] = [[at % 11, at % 7, ("red", "blue", None)[at % 3]] for at in range(60)]
        alone = [await ask(asked, [row]) for row in rows[:10]]
        together = await asyncio.gather(*(ask(asked, [row, rows[0]]) for row in rows))
        for one, two in zip(alone, together, strict=False):
            assert two["probabilities"] == one["probabilities"] + alone[0]["probabilities"]
            assert two["votes"] == {"cast": 2, "expected": 2, "missing": []}


async def test_a_fault_in_one_question_is_told_to_that_one_alone(peers: list[Peer]) -> None:
    """With its own row; those that went with it are answered."""
    async with client(peers[0]) as asked:
        good: list[object] = [1, 2, "red"]
        questions = [ask(asked, [good, ["much", 2, "red"]] if at == 3 else [good], first_row=9) for at in range(8)]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        (fault,) = [answer for answer in answers if isinstance(answer, BaseException)]
        assert isinstance(fault, BadInput)
        assert "row 10, column 'height'" in str(fault)


async def test_many_rows_and_few_are_one_way_to_an_answer(peers: list[Peer]) -> None:
    """A large body goes in chunks, is read in a thread, and comes back whole."""
    rows: list[list[object]] = [[at % 11, at % 7, "red"] for at in range(9_000)]
    async with client(peers[1]) as asked:
        large = await ask(asked, rows)
        small = await ask(asked, rows[:5])
    assert large["probabilities"][:5] == small["probabilities"]
    assert large["votes"]["cast"] == 2


async def test_densities_are_asked_for_only_where_the_answer_weighs_by_them(
    peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean costs nothing for those who watch for drift."""
    spaces: list[str | None] = []
    hear = Polling.hear

    async def noted(
        self: Polling, roll: Roll, asked: Typed, first: int, left: float, space: str | None, **how: Any
    ) -> Heard:
        spaces.append(space)
        return await hear(self, roll, asked, first, left, space, **how)

    one = peers[0]
    await soon(lambda: one.knowing.space_of(one.colleagues.roll().voters), "both stand in one space")
    monkeypatch.setattr(Polling, "hear", noted)
    columns = dict(zip(ROWS["columns"], zip(*ROWS["data"], strict=True), strict=True))
    async with client(one) as asked:
        for rule in ("mean", "median", "density"):
            await asked.predict(columns, combine=rule)
    assert spaces == [None, None, one.knowing.space_of(one.colleagues.roll().voters)]


async def test_a_peer_without_links_is_asked_over_http(peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the answer is the same."""
    async with client(peers[0]) as asked:
        linked = await ask(asked, ROWS["data"])
        monkeypatch.setattr(Links, "to", none)
        plain = await ask(asked, ROWS["data"])
    assert plain["votes"] == linked["votes"]
    assert plain["probabilities"] == linked["probabilities"]


async def test_votes_may_come_as_sums_and_without_links_one_by_one(
    peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so from an older version, which has no such question."""
    sums: list[int] = []
    add_up = Polling.add_up

    async def counted(self: Polling, asked: SumQuestion, rows: Typed, seconds: float) -> Partial:
        sums.append(len(asked.models))
        return await add_up(self, asked, rows, seconds)

    async def older(self: Polling, asked: SumQuestion, rows: Typed, seconds: float) -> Partial:
        raise BadInput("there is no question 3 on a link")

    async with client(peers[0]) as asked:
        plain = await ask(asked, ROWS["data"])
        monkeypatch.setattr(relaying, "WIDE", 0)
        for answer_of in (counted, older):
            monkeypatch.setattr(Polling, "add_up", answer_of)
            summed = await ask(asked, ROWS["data"])
            assert summed["votes"] == plain["votes"]
            assert np.allclose(summed["probabilities"], plain["probabilities"], rtol=0, atol=1e-9)
        peers[0].polling._rests.clear()
        monkeypatch.setattr(Links, "to", none)
        assert (await ask(asked, ROWS["data"]))["votes"] == plain["votes"]
    assert sums == [1]


async def test_a_link_is_opened_once_and_again_when_it_broke(peers: list[Peer]) -> None:
    """Whoever asks does not notice; a stranger's address refuses it."""
    one, two = peers
    async with client(one) as asked:
        await ask(asked, ROWS["data"])
        link, _ = one.wire._links._open[two.id]
        await ask(asked, ROWS["data"])
        assert one.wire._links._open[two.id][0] is link
        await link.close()
        assert (await ask(asked, ROWS["data"]))["votes"]["cast"] == 2
        stranger = Member("f" * 32, "nobody", two.address, two.node.members()[0].status, 1, 0)
        with pytest.raises(RemoteError, match="another peer lives"):
            await one.wire.vote(stranger, b"", lambda: b"", 5.0)


async def test_a_peer_that_is_full_says_when_to_ask_again(peers: list[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a link as over HTTP; what is too large or no question is refused too."""
    async with client(peers[0]) as asked:
        monkeypatch.setattr(api_module, "MAX_AT_ONCE", 0)
        with pytest.raises(RemoteError, match="ask again shortly"):
            await ask(asked, ROWS["data"])
        monkeypatch.undo()
        monkeypatch.setattr(api_module, "MAX_BODY", 10)
        with pytest.raises(BadInput, match="several blocks"):
            await ask(asked, ROWS["data"])
    with pytest.raises(RemoteError, match="is not what is asked for"):
        await peers[0].wire.vote(peers[1].node.members()[0], b"\xc0", lambda: b"", 5.0)
