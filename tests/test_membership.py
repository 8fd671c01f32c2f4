"""Laws of claims that are heard: what changes, who is told, and who has the right to an identity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gossip_support import Jar, claim, identity, later, packet

from p2pml.errors import BadInput
from p2pml.gossip import (
    GenerationRaised,
    IdentityConflict,
    Leave,
    Me,
    MemberChanged,
    Moved,
    Notify,
    SetEntry,
    Settings,
    Start,
    Status,
    StreamReceived,
    limits,
)
from p2pml.gossip.membership import OUTDONE_LIMIT
from p2pml.gossip.messages import Ack, Claim, Digest, Nack, Ping, Wants

ME = identity(0, generation=3)
A, B, C = (identity(index) for index in range(1, 4))
ELSEWHERE = ("10.9.9.9", 7946)


def jar(*peers: Any) -> Jar:
    """Make a node in its third generation that knows some peers."""
    one = Jar(ME)
    one.meet(*peers)
    return one


def own(one: Jar) -> Any:
    """Look at what the node claims of itself."""
    return one.node.record(ME.id)


def test_news_of_a_member_is_told_once() -> None:
    """A change is notified with the status before it; the same claim again is not."""
    one = Jar(ME)
    for _ in range(2):
        one.hear(A, Claim(claim(A)), Claim(claim(B)))
    first, second = one.changes()
    assert isinstance(first, MemberChanged)
    assert isinstance(second, MemberChanged)
    assert (first.member.id, first.member.status, first.before) == (A.id, Status.ALIVE, None)
    one.clear()
    one.hear(A, Claim(claim(B, Status.LEFT)))
    (gone,) = one.changes()
    assert isinstance(gone, MemberChanged)
    assert (gone.member.status, gone.before) == (Status.LEFT, Status.ALIVE)


def test_a_raised_incarnation_alone_is_not_told() -> None:
    """The daemon hears of names, addresses, statuses and generations."""
    one = jar(A)
    one.hear(A, Claim(claim(A, Status.ALIVE, 5)))
    assert one.changes() == []
    one.hear(A, Claim(claim(replace(A, name="new"), Status.ALIVE, 6)))
    one.hear(A, Claim(claim(later(A, 2))))
    assert [change.member.name for change in one.changes()] == ["new", A.name]  # type: ignore[union-attr]


def test_older_claims_change_nothing() -> None:
    """A claim of lower rank is neither stored nor spread."""
    one = jar(A, B)
    one.hear(B, Claim(claim(B, Status.ALIVE, 5)))
    queued = one.node.queues()["news"]
    for older in (claim(B, Status.DEAD, 4), claim(B), claim(replace(B, generation=1, nonce=1), Status.LEFT, 9)):
        one.hear(A, Claim(older))
    assert one.status(B) is Status.ALIVE
    assert one.node.queues()["news"] == queued


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DEAD, Status.LEFT])
def test_a_false_claim_about_this_node_is_refuted(status: Status) -> None:
    """Its incarnation rises above the claim, whoever said so hears it at once, and trusts its own ears less."""
    one = jar(A)
    one.hear(A, Claim(claim(ME, status, 4)))
    assert (own(one).status, own(one).incarnation) == (Status.ALIVE, 5)
    assert one.said(Claim, A.address)[0].record == own(one)
    assert one.node._context.health.multiplier == 2


def test_a_refuted_claim_is_answered_and_not_refuted_again() -> None:
    """Who repeats an old accusation is told the last word, and the incarnation stays."""
    one = jar(A, B)
    one.hear(A, Claim(claim(ME, Status.SUSPECT)))
    one.clear()
    one.hear(B, Claim(claim(ME, Status.SUSPECT)))
    assert own(one).incarnation == 1
    assert own(one) in [message.record for message in one.said(Claim, B.address)]


def test_a_refutation_and_an_answer_go_in_one_datagram() -> None:
    """Who probes and accuses at once is answered once."""
    one = jar(A)
    one.hear(A, Claim(claim(ME, Status.SUSPECT)), Ping(7, ME.id))
    [answer] = one.sent(A.address)
    assert answer.all(Ack)
    assert answer.all(Claim)[0].record == own(one)


def test_a_forged_incarnation_is_outdone() -> None:
    """Only this node raises its incarnation: a claim ahead of it, though alive, is overtaken."""
    one = jar(A)
    one.hear(A, Claim(claim(ME, Status.ALIVE, 8)))
    assert own(one).incarnation == 9
    one.hear(A, Claim(claim(ME, Status.ALIVE, 3)))
    assert own(one).incarnation == 9


def test_an_incarnation_at_its_maximum_raises_the_generation() -> None:
    """There is always a way to refute; the daemon is told before anybody else, to persist it."""
    one = jar(A)
    one.take(SetEntry("key", b"value"))
    one.clear()
    one.hear(A, Claim(claim(ME, Status.DEAD, limits.INCARNATION_LIMIT - 1)))
    assert one.changes() == [GenerationRaised(4)]
    assert one.effects[0] == Notify(GenerationRaised(4))
    assert (own(one).generation, own(one).incarnation, one.node.me.generation) == (4, 0, 4)
    assert one.node.entries(ME.id) == {"key": b"value"}


def test_a_new_address_is_claimed_above_the_old_one() -> None:
    """Who moved says so under a raised incarnation, as news; the same address again changes nothing."""
    one = jar(A)
    one.take(Moved(ELSEWHERE))
    one.run(1)
    assert (own(one).address, own(one).incarnation, one.node.me.address) == (ELSEWHERE, 1, ELSEWHERE)
    assert own(one) in [message.record for message in one.said(Claim, A.address)]
    one.hush()
    one.take(Moved(ELSEWHERE))
    assert own(one).incarnation == 1
    assert one.node.queues()["news"] == 0


def test_a_new_address_before_the_start_is_what_the_start_claims() -> None:
    """The network may change while a peer is being put together."""
    one = Jar(ME, start=False)
    one.take(Moved(ELSEWHERE))
    assert one.effects == []
    one.take(Start((A.address,)))
    assert one.said(Claim, A.address)[0].record.address == ELSEWHERE


def test_a_move_at_the_last_incarnation_raises_the_generation() -> None:
    """There is always a way to say where one lives."""
    one = jar(A)
    one.hear(A, Claim(claim(ME, Status.ALIVE, limits.INCARNATION_LIMIT - 2)))
    one.take(Moved(ELSEWHERE))
    assert (own(one).address, own(one).generation, own(one).incarnation) == (ELSEWHERE, 4, 0)


@pytest.mark.parametrize("address", [("nowhere", 1), ("10.0.0.1", 0), ("", 7946)])
def test_a_move_to_no_address_is_refused(address: Any) -> None:
    """Host names and impossible ports never reach the wire, and nothing is changed by them."""
    one = jar(A)
    with pytest.raises(BadInput):
        one.take(Moved(address))
    assert own(one).address == ME.address


def test_an_own_claim_that_is_current_is_not_answered() -> None:
    """Hearing the truth about oneself costs nothing."""
    one = jar(A)
    one.hear(A, Claim(claim(ME)))
    assert not one.said(Claim)


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT, Status.ALIVE])
def test_an_old_disk_takes_a_later_generation(status: Status) -> None:
    """Who was restored from a backup learns that it ran later, and begins a run after that."""
    one = jar(A)
    one.hear(A, Claim(claim(later(ME, 9), status, 5)))
    assert one.changes() == [GenerationRaised(10)]
    assert one.node.me.generation == 10
    assert one.node.highest_generation_heard_of_me() == 10
    assert own(one).status is Status.ALIVE


def test_an_old_disk_is_told_by_who_knows_better() -> None:
    """A packet of an earlier run is not heard, but answered with what is known."""
    one = jar(later(A, 5))
    one.hear(A, Ping(1, ME.id))
    assert [message.record.generation for message in one.said(Claim, A.address)] == [5]
    assert not one.said(Ack)
    assert one.status(A) is Status.ALIVE


def test_of_two_with_one_identity_the_lower_nonce_stops() -> None:
    """A copied state folder: the one with the lower nonce says so and is silent from then on."""
    one = jar(A)
    other = replace(ME, nonce=ME.nonce + 1, address=("10.0.0.99", 1))
    one.hear(other, Ping(1, A.id))
    assert one.changes() == [IdentityConflict(ME.id, ("10.0.0.99", 1))]
    one.clear()
    one.hear(A, Ping(1, ME.id))
    one.run(60)
    assert one.effects == []
    assert one.take(StreamReceived(A.address, packet(A), 5))[0].data == b""  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("status", "address"),
    [(Status.DEAD, ("10.0.0.99", 1)), (Status.LEFT, ("10.0.0.99", 1)), (Status.ALIVE, ME.address)],
)
@pytest.mark.parametrize("nonce", [ME.nonce + 1, ME.nonce - 1])
def test_an_earlier_run_of_the_same_generation_is_no_conflict(status: Status, address: Any, nonce: int) -> None:
    """A disk that lost its count: what is gone, or was at this very address, is no other process."""
    one = jar(A)
    one.hear(A, Claim(claim(replace(ME, nonce=nonce, address=address), status)))
    assert one.changes() == ([GenerationRaised(4)] if nonce > ME.nonce else [])
    assert own(one) in [message.record for message in one.said(Claim, A.address)]
    assert own(one).status is Status.ALIVE


def test_of_two_with_one_identity_the_higher_nonce_stays_and_tells_the_other() -> None:
    """It answers the other's packets, and claims of the other by third parties, with its own claim."""
    one = jar(A)
    other = replace(ME, nonce=ME.nonce - 1, address=("10.0.0.99", 1))
    one.hear(other, Ping(1, A.id))
    assert [message.record for message in one.said(Claim, other.address)] == [own(one)]
    one.hear(A, Claim(claim(other)))
    assert own(one) in [message.record for message in one.said(Claim, A.address)]
    assert one.changes() == []


def test_a_third_party_settles_on_the_same_one() -> None:
    """Of two claims with one generation, every observer keeps the higher nonce, in whatever order they come."""
    other = replace(A, nonce=A.nonce + 1)
    for order in ((A, other), (other, A)):
        one = jar()
        for peer in order:
            one.hear(B, Claim(claim(peer)))
        record = one.node.record(A.id)
        assert record is not None
        assert record.nonce == other.nonce


@pytest.mark.parametrize("other", [replace(ME, nonce=ME.nonce + 1), later(ME, 9)], ids=["nonce", "generation"])
def test_what_others_say_of_another_process_stops_nobody(other: Me) -> None:
    """It is told of this run where it is said to live; where nobody answers, a later generation goes above it."""
    one = jar(A)
    for _ in range(3):
        one.hear(A, Claim(claim(replace(other, address=ELSEWHERE))))
    assert [message.record for message in one.said(Claim, ELSEWHERE)] == [own(one)]
    assert one.changes() == []
    one.run(1.5)
    assert one.changes() == [GenerationRaised(other.generation + 1)]


def test_another_process_that_answers_keeps_the_identity() -> None:
    """Its own word settles it, and no generation is taken."""
    one = jar(A)
    other = replace(later(ME, 9), address=ELSEWHERE)
    one.hear(A, Claim(claim(other)))
    one.hear(other, Claim(claim(other)))
    one.run(3.0)
    assert one.changes() == [IdentityConflict(ME.id, ELSEWHERE)]


@pytest.mark.parametrize("address", [ME.address, ELSEWHERE, ("0.0.0.0", 1)])
def test_two_living_runs_do_not_outdo_each_other_for_ever(address: Any) -> None:
    """Where neither's word reaches the other, the one that was outdone too often stops."""
    one = jar(A)
    for generation in range(9, 9 + 2 * OUTDONE_LIMIT + 2, 2):
        one.hear(A, Claim(claim(replace(later(ME, generation), address=address))))
        one.run(1.5)
    settled = [type(change) for change in one.changes() if not isinstance(change, MemberChanged)]
    assert settled == [GenerationRaised] * OUTDONE_LIMIT + [IdentityConflict]


def test_a_generation_at_its_maximum_is_a_conflict() -> None:
    """There is no later generation to take, so that this node cannot speak for itself any more."""
    one = jar(A)
    one.hear(A, Claim(claim(later(ME, limits.GENERATION_LIMIT - 1), Status.DEAD)))
    assert [type(change) for change in one.changes()] == [IdentityConflict]


def test_what_follows_a_conflict_in_a_packet_is_not_heard() -> None:
    """A node that stopped does nothing more, not even with the rest of the packet."""
    one = jar(A)
    last = claim(later(ME, limits.GENERATION_LIMIT - 1), Status.DEAD)
    one.hear(A, Claim(last), Claim(claim(B)), Ping(1, ME.id))
    assert one.status(B) is None
    assert not one.said(Ack)


def test_a_forged_leave_is_refuted() -> None:
    """The dead and the left come back by a later incarnation."""
    one = jar(A, B)
    one.hear(A, Claim(claim(B, Status.LEFT)))
    one.hear(B, Claim(claim(B, Status.ALIVE, 1)))
    assert one.statuses(B) == [Status.LEFT, Status.ALIVE]


def test_the_death_of_who_is_held_alive_is_questioned() -> None:
    """When a network partition ends each side buried the other: the member is told and probed, and not buried."""
    one = jar(A, B)
    one.hear(A, Claim(claim(B, Status.DEAD)))
    assert one.status(B) is Status.ALIVE
    assert Status.DEAD in {message.record.status for message in one.said(Claim, B.address)}
    assert one.said(Ping, B.address)


def test_who_suspects_the_dead_is_told_that_they_are_dead() -> None:
    """A suspicion that comes late is answered with the verdict, and believed then."""
    one, two = jar(A, B), Jar(A)
    one.bury(A, B)
    two.meet(B)
    suspected = claim(B, Status.SUSPECT, 0, A)
    one.hear(A, Claim(suspected))
    (verdict,) = one.said(Claim, A.address)
    two.hear(ME, Claim(suspected), verdict)
    assert two.status(B) is Status.DEAD


def test_who_is_dead_here_and_alive_there_is_told_once_an_interval() -> None:
    """A packet of the dead brings it a notice, not more than one for each incarnation and interval."""
    one = jar(A, B)
    one.bury(A, B)
    for _ in range(5):
        one.hear(B, Nack(0))
    assert [message.record.status for message in one.said(Claim, B.address)] == [Status.DEAD]
    one.run(1.1)
    one.clear()
    one.hear(B, Nack(0))
    assert [message.record.status for message in one.said(Claim, B.address)] == [Status.DEAD]


def test_the_dead_who_refute_as_they_speak_need_no_notice() -> None:
    """Who only speaks is told."""
    for said, told in ((Claim(claim(B, Status.ALIVE, 1)), False), (Nack(0), True)):
        one = jar(A, B)
        one.bury(A, B)
        one.hear(B, said)
        notices = [message.record.status for message in one.said(Claim, B.address)]
        assert (Status.DEAD in notices) == told


def test_the_memory_of_notices_is_bounded() -> None:
    """A flood of the dead does not fill it."""
    one = Jar(ME, settings=replace(Settings.lan(), max_members=5000))
    for index in range(limits.NOTICES_LIMIT + 5):
        dead = replace(identity(1), id=f"{index:032x}")
        one.hear(A, Claim(claim(dead, Status.DEAD)), source=("10.1.0.2", 1 + index))
        one.hear(dead, Nack(0), source=("10.1.0.1", 1 + index))
    assert len(one.node._membership._noticed) == limits.NOTICES_LIMIT


def test_leaving_tells_the_others_and_then_is_silent() -> None:
    """Every member hears of it at once, in a small cluster; nothing follows."""
    one = jar(A, B, C)
    one.take(Leave())
    for peer in (A, B, C):
        assert own(one) in [message.record for message in one.said(Claim, peer.address)]
    assert own(one).status is Status.LEFT
    one.clear()
    one.hear(A, Ping(1, ME.id))
    one.hear(A, Claim(claim(ME, Status.DEAD)))
    one.run(60)
    assert one.effects == []


def test_leaving_a_large_cluster_tells_a_bounded_number() -> None:
    """The others hear of it from those."""
    one = jar(*(identity(index) for index in range(1, 201)))
    one.take(Leave())
    assert len(one.sent()) == limits.LEAVE_BURST


def test_a_claim_from_every_interface_is_completed_by_its_source() -> None:
    """A peer that does not know its address is reached where it was heard from, and passed on so."""
    one = Jar(ME)
    vague = replace(A, address=("0.0.0.0", 7946))
    one.hear(A, Claim(claim(vague)), source=("10.7.7.7", 7946))
    record = one.node.record(A.id)
    assert record is not None
    assert record.address == ("10.7.7.7", 7946)
    assert one.changes()[0].member.address == ("10.7.7.7", 7946)  # type: ignore[union-attr]


def test_a_member_is_seen_where_it_was_heard_from() -> None:
    """A packet from elsewhere moves the member, and the daemon hears of it."""
    one = jar(A)
    one.hear(A, Nack(0), source=("10.7.7.7", 1))
    (change,) = one.changes()
    assert isinstance(change, MemberChanged)
    assert (change.member.address, change.before) == (("10.7.7.7", 1), Status.ALIVE)


def test_a_full_table_forgets_the_gone_first() -> None:
    """A new member takes the place of who is longest gone; where all live, it is refused and counted."""
    one = Jar(ME, settings=replace(Settings.lan(), max_members=3))
    one.meet(A, B)
    one.bury(A, B)
    one.hear(A, Claim(claim(C)))
    assert [one.status(peer) for peer in (A, B, C)] == [Status.ALIVE, None, Status.ALIVE]
    one.hear(A, Claim(claim(B)))
    assert one.status(B) is None
    assert one.node.counters["members_refused"] == 1
    assert one.node.state() == claim(A).mark ^ claim(C).mark ^ one.node._context.own.mark


def test_a_stranger_is_asked_who_it_is() -> None:
    """A packet of an unknown peer, or of an unknown run, brings the question for its claim."""
    one = jar(A)
    for sender in (B, later(A, 2)):
        one.clear()
        one.hear(sender, Nack(0))
        (wants,) = one.said(Wants, sender.address)
        assert [line.id for line in wants.lines] == [sender.id]


def test_the_start_is_taken_once() -> None:
    """A second start does nothing; nothing but entries is taken before the first."""
    one = Jar(ME, start=False)
    one.hear(A, Ping(1, ME.id))
    assert one.take(StreamReceived(A.address, packet(A), 5))[0].data == b""  # type: ignore[union-attr]
    one.take(SetEntry("key", b"value"))
    assert one.node.entries(ME.id) == {"key": b"value"}
    assert not one.sent()
    one.take(Start((A.address,)))
    assert one.said(Digest, A.address)
    one.clear()
    one.take(Start((B.address,)))
    assert one.effects == []
