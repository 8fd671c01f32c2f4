"""Laws of votes that are asked for through others: the answer of asking everybody, for far fewer questions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from running import soon
from town import Town, plan

from p2pml.ensemble.combine import Answer, blended
from p2pml.ensemble.vote import Vote
from p2pml.errors import NoVotes
from p2pml.gossip import Member
from p2pml.peer import relaying
from p2pml.peer.adding import Partial
from p2pml.peer.ballots import Adding, Ballot, SumQuestion, Wanted
from p2pml.peer.ballots import Cast as Said
from p2pml.peer.combining import Asked, Plan
from p2pml.peer.covering import firsts
from p2pml.peer.round import Round

ME = f"{7:032x}"
LONG, SHORT = 60.0, 0.4
COUNTS = ("cast", "expected", "missing")


@pytest.fixture(autouse=True)
def _three_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "WIDE", 3)


def same(one: Asked, other: Asked) -> bool:
    """Whether two answers say the same, to 1e-9, of the same votes; a vote may have been cast by another holder."""
    assert {name: one.votes[name] for name in COUNTS} == {name: other.votes[name] for name in COUNTS}  # type: ignore[literal-required]
    assert (one.combined, one.because, one.ground) == (other.combined, other.because, other.ground)
    pairs = [(one.unlikely, other.unlikely), (one.answer.probabilities, other.answer.probabilities)]
    if one.answer.classes is None:
        pairs.append((np.asarray(one.answer.predictions), np.asarray(other.answer.predictions)))
    return all(a is None is b or np.allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9) for a, b in pairs)


def sums(town: Town) -> int:
    return sum(count for (_, what), count in town.asked.items() if what == "sum")


async def both(town: Town, how: Plan, seconds: float = LONG) -> Asked:
    """The answer through others, after it was held against that of asking everybody."""
    through = await town.answer(ME, how, seconds)
    town.unreachable.clear()
    assert same(through, await town.answer(ME, how, seconds, add=False))
    return through


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize(
    "how",
    [
        plan("auto"),
        plan("auto", None),
        plan("mean"),
        plan("weighted"),
        plan("density"),
        plan("local", favour=(ME, 30.0)),
        plan("local", None, favour=(ME, 30.0)),
    ],
    ids=lambda how: f"{how.rule} {how.decision.temperature}",
)
async def test_the_answer_is_that_of_asking_everybody(how: Plan, classes: int | None) -> None:
    """To 1e-9, by every rule that weighs votes; no other peer is asked by the asker more than the root of them."""
    town = Town(25, classes=classes, replicas=0)
    answer = await town.answer(ME, how)
    assert (town.by[ME], sums(town), max(town.by.values())) == (5, 5, 5)
    assert answer.votes["cast"] == 25
    assert same(answer, await town.answer(ME, how, add=False))


@pytest.mark.parametrize("classes", [3, None])
async def test_the_common_vote_has_its_share_whichever_way_votes_come(classes: int | None) -> None:
    """In the answer of sums too; and none where a vote lacks its density, for which it was not chosen."""
    town = Town(25, classes=classes, replicas=0)
    vote = next(iter(town.ballots.values())).vote
    common = cast(Any, "a common vote")
    how = plan("auto", common=common)
    how = replace(how, decision=replace(how.decision, share=0.4))
    through, directly = [await town.answer(ME, how, add=add, common=vote) for add in (True, False)]
    alone = await town.answer(ME, plan("auto"))
    assert same(through, directly)
    assert (through.answer.common, through.common) == (0.4, common)
    said = blended(alone.answer, vote, 0.4)
    assert np.allclose(values(through.answer), values(said), atol=1e-9)
    town.ballots[ME] = replace(town.ballots[ME], density=None)
    assert (await town.answer(ME, how, common=vote)).answer.common == 0
    unpooled = await town.answer(ME, replace(plan("auto"), decision=how.decision))
    assert (unpooled.answer.common, unpooled.because) == (0, "the shared space changed while the votes came")


def values(answer: Answer) -> Any:
    return np.asarray(answer.predictions) if answer.probabilities is None else answer.probabilities


async def test_a_vote_without_a_density_makes_it_the_mean_of_all() -> None:
    """As where everybody is asked: two spaces are never mixed."""
    town = Town(25)
    lacking = town.ballots[f"{3:032x}"]
    town.ballots[lacking.owner] = Ballot(lacking.owner, lacking.model, lacking.rows, lacking.vote)
    answer = await both(town, plan("auto"))
    assert (answer.combined, answer.unlikely) == ("mean", None)
    assert sums(town) > 0


async def test_few_peers_other_rules_and_slow_votes_are_asked_one_by_one() -> None:
    """A sum would cost time that is not worth it or not there, or there is none."""
    few, many, slow = Town(4, replicas=0), Town(25), Town(25)
    slow.usual = LONG / 5
    await few.answer(ME[:-1] + "1", plan("auto"))
    await many.answer(ME, plan("median"))
    await slow.answer(ME, plan("auto"), LONG)
    assert sums(few) == sums(many) == sums(slow) == 0


async def test_each_asker_goes_through_others_and_through_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody is everybody's, and few connections stay open; unless one of them is slow."""
    monkeypatch.setattr(relaying, "FLOOR", LONG)
    town = Town(64, replicas=0)
    chosen = []
    for me in (ME, ME, f"{9:032x}"):
        town.asked.clear()
        await town.answer(me, plan("mean"))
        chosen.append({id for id, what in town.asked if what == "sum"})
    assert chosen[0] == chosen[1]
    assert len(chosen[0] & chosen[2]) < 6


@pytest.mark.parametrize("fault", ["gone", "old"])
async def test_who_cannot_ask_others_costs_questions_and_no_vote(fault: str) -> None:
    """A peer that died, or is of an older version: what it was to ask is asked directly, and it rests for a while."""
    town = Town(36)
    await town.answer(ME, plan("auto"))
    relay = next(id for id, what in town.asked if what == "sum")
    getattr(town, fault).add(relay)
    assert (await both(town, plan("auto"))).votes["cast"] == 36
    town.asked.clear()
    await town.answer(ME, plan("auto"))
    assert town.asked[relay, "sum"] == 0


async def test_where_all_are_older_everybody_is_asked_as_before() -> None:
    """Each is tried once."""
    town = Town(25, replicas=0)
    town.old = set(town.members)
    for _ in range(6):
        assert (await town.answer(ME, plan("auto"))).votes["cast"] == 25
    town.asked.clear()
    await town.answer(ME, plan("auto"))
    assert (sums(town), town.by[ME]) == (0, town.by[ME])


async def test_a_sum_that_is_late_and_whole_is_no_fault() -> None:
    """Some votes had been asked for meanwhile; they count in the sum alone, and whoever sent it does not rest."""
    town = Town(25, replicas=0)
    ids = [f"{at:032x}" for at in (1, 2)]
    whole = Partial.of([(town.ballots[id], id) for id in ids], Adding())
    first, both_came = asyncio.Event(), asyncio.Event()

    async def late() -> Partial:
        await first.wait()
        return whole

    async def ask(holder: Member, voters: list[str]) -> dict[str, Said]:
        if holder.id == ids[1]:
            await both_came.wait()
        first.set()
        return {id: town.ballots[id] for id in voters}

    def directly(left: Collection[str]) -> Round:
        return Round({id: [town.members[id]] for id in left}, firsts, ask, lambda *_: None, lambda *_: None)

    group = relaying.Group(town.members[ids[0]], ids, late, 0.0, directly, lambda *_: None)
    await group.run(asyncio.get_running_loop().time() + LONG)
    assert (group.partial, group.cast, group.rest) == (whole, {}, 0.0)
    assert group.round is not None
    assert list(group.round.cast) == ids[:1]


async def test_a_mistake_within_is_not_taken_for_a_fault_of_others() -> None:
    """It is raised, after the votes were asked for."""

    async def broken() -> Partial:
        raise ZeroDivisionError

    never: Any = None
    town = Town(2)
    group = relaying.Group(
        town.members[f"{1:032x}"],
        [f"{1:032x}"],
        broken,
        None,
        lambda left: Round({}, firsts, never, lambda *_: None, lambda *_: None),
        lambda *_: None,
    )
    with pytest.raises(ZeroDivisionError):
        await group.run(asyncio.get_running_loop().time() + LONG)


async def test_a_silent_peer_between_leaves_time_to_ask_without_it() -> None:
    """Its own vote is cast by a replica, all within the deadline; who waits no more cancels it."""
    town = Town(25)
    await town.answer(ME, plan("mean"))
    silent = next(id for id, what in town.asked if what == "sum")
    town.silent.add(silent)
    assert (await town.answer(ME, plan("mean"), SHORT)).votes["cast"] == 25


async def test_a_sum_that_takes_longer_than_usual_is_overtaken() -> None:
    """By the votes themselves, long before the deadline; and after some answers others take its place."""
    town = Town(25)
    for _ in range(9):
        await town.answer(ME, plan("mean"))
    slow = next(id for id, what in town.asked if what == "sum")
    town.slow.add(slow)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await town.answer(ME, plan("mean"), LONG)).votes["cast"] == 25
    assert loop.time() - began < LONG / 4
    for _ in range(30):
        town.asked.clear()
        await town.answer(ME, plan("mean"))
        if not town.asked[slow, "sum"]:
            break
    assert town.asked[slow, "sum"] == 0


async def test_what_a_peer_between_cannot_reach_is_asked_directly() -> None:
    """Every vote counts once, whoever brought it."""
    town = Town(25, replicas=0)
    await town.answer(ME, plan("auto"))
    relay = next(id for id, what in town.asked if what == "sum")
    town.mute = {(relay, id) for id in town.members}
    answer = await both(town, plan("auto"))
    assert answer.votes["cast"] == 25


async def test_who_is_missing_is_named_with_the_reason() -> None:
    """As where everybody is asked."""
    town = Town(25, replicas=0)
    town.gone = {f"{at:032x}" for at in (3, 11)}
    answer = await both(town, plan("auto"))
    assert [each["peer"] for each in answer.votes["missing"]] == sorted(town.gone)
    assert {each["reason"] for each in answer.votes["missing"]} == {"connection refused"}
    town.gone = set(town.members)
    town.holders[ME] = (f"{3:032x}",)
    with pytest.raises(NoVotes, match="none of the 25 peers"):
        await town.answer(ME, plan("auto"))
    town.gone -= {f"{at:032x}" for at in (2, 5)}
    unknown = SumQuestion(adding=Adding(), rows={}, models=[Wanted(f"{2:032x}", "never seen")])
    with pytest.raises(NoVotes, match="none of the votes"):
        await town.pollings[ME].add_up(unknown, town.rows, LONG)


async def test_another_model_than_the_one_that_was_named_is_in_no_sum() -> None:
    """A peer that has a newer one casts its vote itself: no answer mixes two models of one peer."""
    town = Town(25, replicas=0)
    roll = town.roll(ME)
    old = town.ballots[f"{3:032x}"]
    town.ballots[old.owner] = Ballot(old.owner, "newer", old.rows, old.vote, old.density)
    how = plan("mean")
    heard = await town.pollings[ME].hear(roll, town.rows, 1, LONG, None, adding=how.adding)
    assert heard.ballots[old.owner].model == "newer"
    assert heard.votes["cast"] == 25


def stuffed(data: Any) -> Any:
    return data | {"counted": data["counted"] * 2}


def boasting(data: Any) -> Any:
    return data | {"plain": data["plain"] | {"weight": np.full(3, 1e9).tobytes()}}


def elsewhere(data: Any) -> Any:
    values = Vote(None, np.ones(3)).to_data()["values"]
    even = {"classes": None, "top": bytes(24), "weight": values, "values": values}
    return data | {"plain": even, "dense": None, "known": None}


@pytest.mark.parametrize("twist", [stuffed, boasting, elsewhere, lambda data: None, lambda data: [1]])
async def test_nonsense_costs_questions_and_no_vote(twist: Any) -> None:
    """It is refused whole, what it should have been is asked directly, and its sender rests."""
    town = Town(25)
    liars = set(town.members) - {ME}
    town.twist = dict.fromkeys(liars, twist)
    assert (await both(town, plan("auto"))).votes["cast"] == 25
    liar = next(id for id, what in town.asked if what == "sum")
    town.asked.clear()
    await town.answer(ME, plan("auto"))
    assert town.asked[liar, "sum"] == 0


async def test_whoever_gives_up_the_answer_cancels_all() -> None:
    """Nobody is to work for nothing."""
    town = Town(25)
    town.silent = set(town.members) - {ME}
    running = asyncio.create_task(town.answer(ME, plan("auto"), LONG))
    await soon(lambda: sums(town) > 2, "all are asked")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
