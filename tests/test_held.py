"""Laws of what peers say of the replicas that they hold, and of the words by which a model votes without its owner."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from test_shelf import parcel

from p2pml.ensemble.summary import ModelState, Summary
from p2pml.gossip import Change, Status
from p2pml.peer.colleagues import KNOWLEDGE, SUMMARY, Colleague, Colleagues
from p2pml.peer.held import Held, Holding, LastWords, entry
from p2pml.simulations.cluster import Cluster, Host

OWNER, HOLDER, ONLOOKER = range(3)


class Village:
    """An owner, who has told of its model; a holder, who says that it holds that; and what an onlooker makes of it."""

    def __init__(self) -> None:
        self.cluster = Cluster(3)
        self.cluster.form()
        self.words = replace(parcel()[0], owner=self.cluster[OWNER].id, name=self.cluster[OWNER].name)
        self.colleagues = Colleagues(self.cluster[ONLOOKER].running, wire=None)  # type: ignore[arg-type]
        self.cluster.change_observers.append(self._heard)
        self.tell(self.words)
        self.hold(self.words.holding)

    def _heard(self, host: Host, change: Change) -> None:
        if host.index == ONLOOKER:
            self.colleagues.heard(change)

    def tell(self, words: LastWords) -> None:
        self.cluster.write(OWNER, SUMMARY, msgpack.packb(words.summary.to_data()))
        self.cluster.write(OWNER, KNOWLEDGE, msgpack.packb(words.knowledge.to_data()))
        self.cluster.run(5.0)

    def hold(self, said: Holding | LastWords) -> None:
        self.cluster.write(HOLDER, entry(0), said.packed())
        self.cluster.run(5.0)

    def owner(self) -> Colleague:
        """As the onlooker sees it, who looks at everybody's knowledge all the while."""
        (found,) = [colleague for colleague in self.colleagues.all() if colleague.id == self.words.owner]
        self.colleagues.knowledge(found.id)
        return found

    def last(self) -> LastWords | None:
        return self.colleagues.last_words(self.owner())


@pytest.fixture
def village() -> Village:
    village = Village()
    assert village.owner().votes
    return village


def test_a_replica_is_told_by_its_owner_and_its_digest_alone(village: Village) -> None:
    """In a tenth of what the owner says itself."""
    assert len(village.words.holding.packed()) < 110
    held = village.colleagues.held
    assert [member.name for member in held.holders(village.words.owner, village.words.model)] == ["host-1"]
    assert held.holders(village.words.owner, "0" * 64) == []
    assert held.words(village.words.owner) is None


@pytest.mark.parametrize(
    "said", [[], ["a"], ["a" * 32, "b"], ["A" * 32, "b" * 64], ["a" * 32, 7], [7, "b" * 64], {"a" * 32: "b" * 64}]
)
def test_what_is_held_of_nobody_is_not_counted(said: object) -> None:
    """What cannot be read is as if nothing was said."""
    held = Held(Cluster(1).hosts[0].node)  # type: ignore[arg-type]
    assert held.read(msgpack.packb(said)) is None
    assert held.read(b"") is None
    assert held.read(b"\xc1") is None


def test_who_is_gone_votes_by_its_own_words_until_holders_repeat_them(village: Village) -> None:
    """So no vote is missing in between; what holders say counts from then on, as newcomers hear nothing else."""
    village.cluster[OWNER].crash()
    village.cluster.run(60.0)
    assert village.owner().member.status is Status.DEAD
    own = village.last()
    assert own is not None
    assert own.same(village.words)
    village.hold(replace(village.words, gone=1_700_000_000))
    assert village.last() == replace(village.words, gone=1_700_000_000)


def test_who_starts_again_votes_by_what_it_said_before(village: Village) -> None:
    """Its new run has said nothing yet, and its holder has not noticed."""
    village.cluster[OWNER].crash()
    village.cluster[OWNER].boot([village.cluster[HOLDER].address])
    village.cluster.write(OWNER, "pulse", b"1")
    village.cluster.run(5.0)
    assert village.owner().live
    assert village.owner().summary is None
    last = village.last()
    assert last is not None
    assert last.same(village.words)


def test_a_model_that_nobody_holds_yet_leaves_the_vote_to_the_one_before(village: Village) -> None:
    """Whose words are those that were said with it."""
    later = replace(village.words.summary, epoch=replace(village.words.summary.epoch, counter=9), digest="9" * 64)
    village.owner()
    village.tell(replace(village.words, summary=later))
    village.owner()
    village.cluster[OWNER].crash()
    village.cluster.run(60.0)
    last = village.last()
    assert last is not None
    assert last.same(village.words)
    village.hold(Holding(village.words.owner, "9" * 64))
    newest = village.last()
    assert newest is not None
    assert newest.model == "9" * 64


def test_who_has_no_model_and_no_holder_has_no_last_words(village: Village) -> None:
    """As there is nothing to vote with."""
    village.cluster.write(HOLDER, entry(0), b"")
    village.cluster.write(OWNER, SUMMARY, msgpack.packb(Summary(ModelState.TRAINING, "linear").to_data()))
    village.cluster.run(5.0)
    assert not village.owner().votes
    assert village.last() is None
