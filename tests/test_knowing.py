"""Laws of what peers know of each other: one space, one temperature, and an honest answer while there is none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from running import peer_here, soon

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.combine import blended, combine
from p2pml.ensemble.common import Common
from p2pml.ensemble.equations import Equations
from p2pml.ensemble.features import Features
from p2pml.ensemble.home import Site
from p2pml.ensemble.knowledge import NO_ROWS, NO_SPACE, NOT_COMPARED, Knowledge
from p2pml.ensemble.moments import Moments
from p2pml.errors import BadInput, NoVotes, RemoteError
from p2pml.gossip import SetEntry
from p2pml.peer.colleagues import KNOWLEDGE
from p2pml.peer.daemon import Peer
from p2pml.peer.knowing import AGAIN, Answered

ROWS: dict[str, list[object]] = {"x": [-8.0, -2.0, 2.0, 8.0]}


def write_half(path: Path, sign: int, rows: int = 300) -> Path:
    """One half of the line: what is learned on it says nothing of the other."""
    rng = np.random.default_rng(2 + sign)
    x = sign * rng.uniform(0, 10, rows)
    y = np.abs(x) * (1 + (sign > 0)) + rng.normal(0, 0.01, rows)
    path.write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(x, y, strict=True)))
    return path


def decided(peer: Peer) -> Any:
    return peer.knowing.decide(peer.colleagues.roll().voters)


async def two_halves(stack: AsyncExitStack, folder: Path, **options: Any) -> tuple[Peer, Peer]:
    """Two peers that each know one half, once they have looked at each other."""
    left = await stack.enter_async_context(peer_here(write_half(folder / "left.csv", -1), folder / "l", **options))
    there = {"join": (left.address,), **options}
    right = await stack.enter_async_context(peer_here(write_half(folder / "right.csv", 1), folder / "r", **there))
    for peer in (left, right):
        await soon(lambda peer=peer: len(peer.colleagues.roll().voters) == 2, "both vote")  # type: ignore[misc]
    return left, right


async def once(peer: Peer, rows: dict[str, list[object]], rule: str, combined: str) -> Any:
    """The answer by a rule, once the peers have agreed on what it needs."""
    for _ in range(50):
        asked = await peer.asker.ask(rows, len(rows["x"]), rule=rule, seconds=20)
        if asked.combined == combined:
            return asked
    raise AssertionError(f"combined by {asked.combined}, since {asked.because}")


async def stacked_of_all(peers: tuple[Peer, Peer]) -> None:
    """Both peers fit one stack from the sums of both, and its answer is as good."""
    answers = [await once(peer, ROWS, "stacked", "stacked") for peer in peers]
    one, two = (np.asarray(answer.answer.predictions) for answer in answers)
    assert one == pytest.approx(two, abs=1e-9)
    assert one == pytest.approx([8, 2, 4, 16], abs=0.6)


async def at_home(peers: tuple[Peer, Peer]) -> None:
    """Whose own rows gain nothing by its own vote answers as for everybody; where they do, its vote weighs more."""
    asked = await once(peers[0], ROWS, "local", "local")
    assert asked.because is None
    with pytest.MonkeyPatch.context() as patch:
        # So much more that it decides however small its density there is: which rows were held out is by chance.
        patch.setattr(peers[0].knowing, "favour", lambda decision: (peers[0].id, 1e200))
        alone = await once(peers[0], {"x": [0.01]}, "local", "local")
    own, share = await peers[0].voting.vote({"x": [0.01]}), alone.answer.common
    beside = alone.common.vote({"x": [0.01]}).values if share else 0.0
    assert np.asarray(alone.answer.predictions) == pytest.approx(
        (1 - share) * own.vote.values + share * beside, abs=1e-3
    )


def sites_of(peer: Peer) -> dict[str, Site]:
    return peer.knowing.sites(peer.colleagues.roll().voters, decided(peer))


async def recognised_together(peers: tuple[Peer, Peer]) -> None:
    """Many rows from where one peer is are answered with its vote favoured, whoever is asked; questions that merely
    came at the same time are not."""
    rows: dict[str, list[object]] = {"x": [-at / 3 for at in range(1, 30)]}
    for peer in peers:
        await soon(lambda peer=peer: len(sites_of(peer)) == 2, "both told how their rows look")  # type: ignore[misc]
        sites = sites_of(peer)
        assert {site.name for site in sites.values()} == {"left", "right"}
        sure = {id: replace(site, favour=1e9) for id, site in sites.items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer.knowing, "sites", lambda voters, decision, sure=sure: sure)
            peer.colleagues.renew()
            asked = await peer.asker.ask(rows, 29, rule="auto", seconds=20)
            assert asked.like == "left"
            at = sorted(each.id for each in peers).index(peers[0].id)
            assert asked.answer.weights[at] == pytest.approx(1 - asked.answer.common)
            several = [peer.asker.ask({"x": [x]}, 1, rule="auto", seconds=20) for x in rows["x"]]
            assert {each.like for each in await asyncio.gather(*several)} == {None}
        peer.colleagues.renew()


async def as_one_machine_would(peers: tuple[Peer, Peer]) -> None:
    """The common vote is that of a ridge on both parts' rows in one process, and has the share that was decided."""
    share, told = decided(peers[0]).share, []
    assert share > 0
    ground = peers[0].voting.ground
    assert ground is not None
    features = Features.of(ground.space)
    for peer in peers:
        trained = peer.voting.serving()
        equations = Equations.of(features, *peer.trainer.sample(trained), trained.rows, 5)
        assert equations is not None
        told.append(equations)
    common = Common.fit(features, Equations.total(told), 2)
    votes = await peers[1].asker.all_votes(ROWS, 4, ground.space.digest)
    alone = combine(votes.votes, "density", votes.densities, decided(peers[1]).temperature or 1.0)
    expected = np.asarray(blended(alone, common.vote(ROWS), share).predictions)
    for peer in peers:
        asked = await peer.asker.ask(ROWS, 4, rule="auto", seconds=20)
        assert asked.common is not None
        assert (asked.answer.common, asked.common.peers, asked.common.rows) == (share, 2, 480)
        assert np.asarray(asked.answer.predictions) == pytest.approx(expected, abs=1e-4)


async def sure_of_what_it_says(peers: tuple[Peer, Peer]) -> None:
    """An answer says on request how far votes are apart, who decides, how new a row is, and bounds for the truth."""
    for peer in peers:
        ready = lambda peer=peer: len(peer.knowing.errors(peer.colleagues.roll().voters, decided(peer))) == 2  # noqa: E731
        await soon(ready, "all sketches of errors are there")
    rows: dict[str, list[object]] = {"x": [-8.0, 8.0, 1e6]}
    asked = [await peer.asker.ask(rows, 3, rule="auto", seconds=20, sure=True, level=0.9) for peer in peers]
    one, two = asked[0].certainty, asked[1].certainty
    assert one is not None
    assert two is not None
    assert one.novelty is not None
    assert one.novelty[2] == 1.0 > one.novelty[:2].max()
    assert one.strongest[:2].min() > 0.99 * (1 - asked[0].answer.common)
    assert asked[0].wrong == pytest.approx(asked[1].wrong)
    assert one.spread == pytest.approx(two.spread)
    plain = await peers[0].asker.ask(rows, 3, rule="median", seconds=20, sure=True)
    assert plain.certainty is not None
    assert plain.certainty.strongest.tolist() == [0.5] * 3
    with pytest.raises(BadInput, match="calibrated for the rule auto, not for median"):
        await peers[0].asker.ask(rows, 3, rule="median", seconds=20, level=0.9)


async def test_each_row_is_answered_by_who_knows_it_whoever_is_asked(tmp_path: Path) -> None:
    """The two agree on a space and a temperature, and give one answer, far better than the mean."""
    async with AsyncExitStack() as stack:
        peers = await two_halves(stack, tmp_path)
        for peer in peers:
            await soon(lambda peer=peer: decided(peer).temperature, "a temperature is chosen")  # type: ignore[misc]
        assert decided(peers[0]) == decided(peers[1])
        answers = [await peer.asker.ask(ROWS, 4, rule="auto", seconds=20) for peer in peers]
        assert {answer.combined for answer in answers} == {"density"}
        one, two = (np.asarray(answer.answer.predictions) for answer in answers)
        assert one == pytest.approx(two, abs=1e-12)
        assert one == pytest.approx([8, 2, 4, 16], abs=0.6)
        mean = await peers[0].asker.ask(ROWS, 4, rule="mean", seconds=20)
        assert np.abs(np.asarray(mean.answer.predictions) - [8, 2, 4, 16]).max() > 2
        report = await peers[0].evaluator.everyone(rule="auto", seconds=20)
        assert (report["combined"], report.get("because")) == ("density", None)
        for check in (stacked_of_all, at_home, recognised_together, as_one_machine_would, sure_of_what_it_says):
            await check(peers)

        # The death of one costs its vote, and not the space.
        space = decided(peers[0]).space
        peers[1].stop()
        assert peers[0].knowing.space_of(peers[0].colleagues.roll().voters[:1]) == space


async def test_a_peer_that_starts_again_stands_where_it_stood(tmp_path: Path) -> None:
    """Nobody moves, so that a restart costs no density of the others."""
    async with AsyncExitStack() as stack:
        left = await stack.enter_async_context(peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l"))
        write_half(tmp_path / "right.csv", 1)
        spaces = []
        for _ in range(2):
            async with peer_here(tmp_path / "right.csv", tmp_path / "r", join=(left.address,)) as right:
                await soon(lambda right=right: decided(right).temperature, "a temperature is chosen")  # type: ignore[misc]
                spaces.append((left.voting.ground, decided(right).space))
        assert spaces[0] == spaces[1]


def counted(peer: Peer) -> int:
    """Of how many peers the rows are that its common vote is of."""
    return 0 if peer.knowing.pooling.common is None else peer.knowing.pooling.common.peers


async def test_the_rows_of_who_is_gone_count_as_long_as_its_vote_does(tmp_path: Path) -> None:
    """Also for a peer that starts again meanwhile, which has them from the others."""
    async with AsyncExitStack() as stack:
        left = await stack.enter_async_context(peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l"))
        there: dict[str, Any] = {"join": (left.address,)}
        file = write_half(tmp_path / "more.csv", 1, rows=200)
        async with peer_here(write_half(tmp_path / "right.csv", 1), tmp_path / "r", **there) as right:
            async with peer_here(file, tmp_path / "m", **there) as gone:
                for peer in (left, right, gone):
                    await soon(lambda peer=peer: counted(peer) == 3, "all rows count")  # type: ignore[misc]
                await gone.replicas.hand_over(60)
            space = left.voting.ground
        async with peer_here(tmp_path / "right.csv", tmp_path / "r", **there) as again:
            await soon(lambda: counted(again) == 3, "it has what the others hold")
            await soon(lambda: decided(again).share > 0, "and has tried it")
            assert (counted(left), left.voting.ground) == (3, space)


async def test_a_temperature_that_could_not_be_found_is_not_looked_for_at_once(tmp_path: Path) -> None:
    """Each search asks every voter, so that those who wait for one that does not answer do so ever more seldom."""
    async with peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l") as peer:
        knowing, asked = peer.knowing, list[int]()
        await soon(lambda: decided(peer).because not in (NO_SPACE, NOT_COMPARED), "it has looked at itself")
        trained = peer.voting.trained
        assert trained is not None

        async def ask(columns: Any, rows: int, space: str) -> Answered:
            asked.append(rows)
            return Answered([], {}, complete=False)

        knowing._calibrated = None
        for _ in range(3):
            await knowing._calibrate(trained, ask)
        assert len(asked) == 1
        knowing._not_before = 0.0
        await knowing._calibrate(trained, ask)
        assert (len(asked), knowing._pause) == (2, 4 * AGAIN)


async def test_until_the_peers_agree_the_mean_stands_in_and_says_so(tmp_path: Path) -> None:
    """Votes from two spaces are never mixed."""
    async with peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l") as peer:
        await soon(lambda: decided(peer).because not in (NO_SPACE, NOT_COMPARED), "it has looked at itself")
        voters = peer.colleagues.roll().voters
        space = peer.knowing.space_of(voters)
        assert space is not None
        whole = await peer.asker.ask(ROWS, 4, rule="density", seconds=20)
        assert (whole.combined, whole.because) == ("density", None)
        # What it tells is of another space than the one its votes are in.
        said = Knowledge("c" * 32, "d" * 32, Calibration())
        peer.pump.handle(SetEntry(KNOWLEDGE, msgpack.packb(said.to_data())))
        mixed = await peer.asker.ask(ROWS, 4, rule="density", seconds=20)
        assert (mixed.combined, mixed.because) == ("mean", "the shared space changed while the votes came")
        peer.pump.handle(SetEntry(KNOWLEDGE, b"\xc1"))
        lost = await peer.asker.ask(ROWS, 4, rule="auto", seconds=20)
        assert (lost.combined, lost.because) == ("mean", NO_SPACE)


async def test_what_a_part_tells_of_its_rows_is_what_it_shows(tmp_path: Path) -> None:
    """The moments are of the training rows, and named by their digest; without held-out rows there is no choice."""
    async with peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l", holdout=0.0) as peer:
        await soon(lambda: "no peer has held-out rows" in (decided(peer).because or ""), "it has looked at itself")
        for rule in ("auto", "local", "stacked"):
            asked = await peer.asker.ask(ROWS, 4, rule=rule, seconds=20)
            assert (asked.combined, asked.because is None) == ("mean", False)
        with pytest.raises(RemoteError, match="has not tried all votes"):
            await peer.wire.get(peer.node.members()[0], "/v1/peer/stack")
        with pytest.raises(NoVotes, match="no interval is known: no peer has held-out rows"):
            await peer.asker.ask(ROWS, 4, rule="auto", seconds=20, level=0.9)
        moments = peer.knowing.moments
        assert moments is not None
        shown = Moments.from_data(await peer.wire.get(peer.node.members()[0], "/v1/peer/moments"))
        assert shown.digest == moments.digest
        assert shown.rows == 300


async def test_damaged_files_of_what_is_known_are_a_clear_error(tmp_path: Path) -> None:
    """And a fit makes them anew."""
    async with peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l") as peer:
        await soon(lambda: peer.voting.trained, "it is trained")
        trained = peer.voting.trained
        assert trained is not None
        (peer.store.folder / trained.sample_file).unlink()
        with pytest.raises(BadInput, match="sample of training rows on disk are damaged or gone"):
            peer.trainer.sample(trained)


async def test_a_peer_without_its_held_out_rows_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It has no say in the temperature, and the others have."""
    async with peer_here(write_half(tmp_path / "left.csv", -1), tmp_path / "l") as peer:
        await soon(lambda: peer.voting.trained, "it is trained")
        trained = peer.voting.trained
        assert trained is not None
        (peer.store.folder / trained.holdout_file).unlink()
        await soon(lambda: decided(peer).because == NO_ROWS, "it says that it has none")
