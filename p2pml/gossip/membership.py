"""What a claim does when it is heard: the table, suspicion, refutation, and this node's right to its identity.

    heard of another member          stronger than the table → stored, told, spread; else nothing
        … suspect                    a deadline runs, and this node probes it at once
        … dead, while held alive     the member is told and probed, and nothing is believed yet;
                                     so too a suspect's death and a suspicion while the network comes back
        … alive, dead, left          ends the suspicion
    heard of this node, this run     suspect, dead, left, or a later incarnation → a still later one of our own
    … of a later run                 said by itself, elsewhere: another process has the identity, and this node stops;
                                     what is gone, or was at this address, is a memory: we take a later generation;
                                     so too what others say lives elsewhere, if it is silent when it is greeted there
    … of an earlier run              whoever says so is told of this one

Only this node raises its own incarnation and generation, and it never says of itself that it is dead.
"""

from __future__ import annotations

from dataclasses import replace

from . import limits
from .context import Context
from .effects import GenerationRaised, IdentityConflict, MemberChanged
from .messages import Claim
from .records import Address, Record, Status, believed, check_address, is_unspecified, merge
from .said import Said
from .suspicion import WITNESS_HELPERS, Doubt, Suspicions

OUTDONE_LIMIT = 4
"""Later runs that are outdone while others say that they live: then one does, where its word does not reach this node,
and the two would outdo each other for ever."""


class Membership:
    """The rules by which claims change what is believed."""

    def __init__(self, context: Context, doubt: Doubt) -> None:
        """Believe in this node alone. `doubt` probes a member at once."""
        self._context = context
        self._doubt = doubt
        self.suspicions = Suspicions(context, self.declare_dead, doubt)
        self.highest_generation = context.me.generation
        self._greeted: Record | None = None
        """A later run of this identity that others say lives elsewhere, while it may still answer."""
        self._outdone = 0
        self._noticed = Said(context.settings.probe_interval)
        self._answered = Said(context.settings.probe_interval)

    def hear(self, claim: Record, source: Address | None, sender: str, *, spread: bool = True) -> None:
        """Take a claim that came from `sender`, who can be answered at `source` (`None`: it cannot)."""
        if claim.id == self._context.me.id:
            if claim is not self._context.own:
                self._hear_of_me(claim, source, sender)
            return
        if claim.id == sender and source is not None and is_unspecified(claim.address):
            claim = replace(claim, address=source)
        known = self._context.members.get(claim.id)
        if known is None:
            self._adopt(known, claim, spread=spread)
            return
        alike = claim.rank == known.rank and claim.address == known.address
        # Which four of many accusers are named changes nothing.
        settled = claim is known or (alike and len(known.accusers) == limits.ACCUSERS_LIMIT)
        merged = known if settled else merge(known, claim)
        if merged is known:  # as mostly
            if claim.rank == known.rank:
                self._context.echo(self._context.claims, claim.id)
            elif source and not known.live and claim.status is Status.SUSPECT and self.suspicions.is_witness():
                self.notice(known, source)
        elif self._is_doubtful(known, merged):
            self._question(known, claim)
        else:
            self._adopt(known, merged, spread=spread)

    def _is_doubtful(self, known: Record, merged: Record) -> bool:
        """Whether what others say of a member should be looked into before it is believed."""
        if not self._context.settings.lifeguard:
            return False
        if merged.status is Status.DEAD:
            return known.status is Status.ALIVE or self.suspicions.is_frozen(known.id)
        return merged.status is Status.SUSPECT and known.status is Status.ALIVE and self.suspicions.healing

    def _question(self, known: Record, claim: Record) -> None:
        """Tell a member what is said of it, and probe it; believe that it is dead only of a suspect.

        When a network partition ends, each side holds the other dead, and both are alive. Where the claim is true, the
        probe fails, the suspicion is heard by those who know better, and their answer is believed then.
        """
        self.notice(claim, self._context.members.address(known))
        self._doubt(known.id)

    def accuse(self, peer: str) -> None:
        """Add this node to the accusers of a member whose probe failed, and tell the member first."""
        context = self._context
        known = context.members.get(peer)
        if known is None or not known.live:
            return
        if context.members.unobserve(known):
            context.notify(MemberChanged(context.members.view(known), known.status))
        if len(known.accusers) == limits.ACCUSERS_LIMIT:
            return
        suspect = believed(known, Status.SUSPECT, *known.accusers, context.me.id)
        if suspect is not known:
            self._adopt(known, suspect)
        if context.settings.lifeguard and known.status is Status.ALIVE:
            context.send_to(suspect)  # the ping to a suspect has told it already

    def declare_dead(self, peer: str) -> None:
        """Pass the verdict on a suspect."""
        known = self._context.members.get(peer)
        assert known is not None
        assert known.status is Status.SUSPECT
        self._adopt(known, believed(known, Status.DEAD))

    def move(self, address: Address) -> None:
        """Claim another address for this node, above all that was claimed of it before."""
        check_address(address)
        own = self._context.own
        if address != own.address:
            self._outdo(own, address)

    def leave(self) -> None:
        """Tell the others that this node goes, and fall silent."""
        context = self._context
        context.claim(replace(context.own, status=Status.LEFT))
        for member in context.members.sample(limits.LEAVE_BURST, context.me.id):
            context.send_to(member, Claim(context.own))
        context.silent = True

    def forget(self, peer: str) -> None:
        """Drop a member that went long ago, or to make room."""
        self._context.forget_news(peer)
        self._noticed.forget(peer)
        self._context.forget_entries(peer)
        self._context.members.forget(peer)

    # Word straight from a member.

    def notice(self, record: Record, source: Address) -> None:
        """Tell who speaks that it is dead here, or has a later run; once per incarnation and probe interval."""
        context = self._context
        if not context.settings.lifeguard and record.status is Status.DEAD:
            return
        if self._noticed.is_due(record.id, record.incarnation, context.now):
            context.send(source, Claim(record))

    # Other members.

    def _adopt(self, known: Record | None, record: Record, *, spread: bool = True) -> None:
        """Replace a claim by a stronger one, and do what follows from it."""
        context = self._context
        before = None if known is None else _shown(known, context.members.address(known))
        if known is None:
            self._make_room()
        if not context.members.put(record, context.now):
            context.counters["members_refused"] += 1
            return
        if known is None or known.rank != record.rank:  # another accuser leaves the mark as it is
            context.state ^= (0 if known is None else context.mark(known)) ^ context.mark(record)
        if spread:
            context.spread(record)
        if before != _shown(record, context.members.address(record)):
            context.notify(MemberChanged(context.members.view(record), None if known is None else known.status))
        if record.status is not Status.SUSPECT:
            self.suspicions.close(record.id)
            same = known is not None and known.epoch == record.epoch
            context.health.settle(record.id, refuted=same and record.status is Status.ALIVE)
            return
        if known is not None and (known.epoch, known.incarnation) != (record.epoch, record.incarnation):
            self.suspicions.close(record.id)
        self.suspicions.update(record)
        if context.me.id not in record.accusers and len(record.accusers) < limits.ACCUSERS_LIMIT:
            self._witness(record.id)

    def _witness(self, suspect: str) -> None:
        """Look into an accusation at once, if this is one of the few members that chance chooses for it."""
        if self.suspicions.is_witness():
            self._doubt(suspect, helpers=WITNESS_HELPERS)

    def _make_room(self) -> None:
        """Forget who is longest gone, if the table is full."""
        members = self._context.members
        gone = members.longest_gone()
        if gone is not None and len(members) >= self._context.settings.max_members:
            self.forget(gone)

    # This node.

    def _hear_of_me(self, claim: Record, source: Address | None, sender: str) -> None:
        """Defend what this node says of itself."""
        context = self._context
        own = context.own
        self.highest_generation = max(self.highest_generation, claim.generation)
        if claim.epoch > own.epoch:
            self._hear_of_later_run(claim, itself=sender == own.id)
        elif claim.epoch == own.epoch and claim.rank > own.rank:
            self._refute(claim)
        elif claim.epoch == own.epoch and claim.status is Status.ALIVE:
            return
        # Whoever says so has not heard the last word, or is the other process under this identity.
        if source is None or context.silent:
            return
        if self._answered.is_due(sender, context.own.incarnation, context.now):
            context.owes = True

    def _refute(self, claim: Record) -> None:
        """Raise our incarnation above a claim."""
        self._context.health.worse()
        self._outdo(claim, self._context.own.address)

    def _outdo(self, claim: Record, address: Address) -> None:
        """Say of ourselves what goes before a claim of this run."""
        context = self._context
        if claim.incarnation + 1 < limits.INCARNATION_LIMIT:
            context.claim(replace(context.own, address=address, incarnation=claim.incarnation + 1))
        else:
            self._raise_generation(claim.generation, address)

    def _hear_of_later_run(self, claim: Record, *, itself: bool) -> None:
        """Take a later generation than one that is claimed of us, unless another process lives under it.

        What is remembered of the gone only says that an old disk was restored, or has lost its count, and two processes
        do not share an address. What others say lives elsewhere may be a run that has just crashed, or made up: it is
        told of us, and if it lives it answers with word of its own.
        """
        context = self._context
        elsewhere = claim.live and claim.address != context.own.address
        weary = claim.live and self._outdone == OUTDONE_LIMIT
        if claim.generation + 1 >= limits.GENERATION_LIMIT or (elsewhere and itself) or weary:
            self._stop(claim)
        elif not elsewhere:
            self._outdo_run(claim)
        elif self._greeted is None:
            self._greeted = claim
            if not is_unspecified(claim.address):
                context.send(claim.address, Claim(context.own))
            context.timer(context.settings.probe_interval, self._heard_nothing)

    def _heard_nothing(self) -> None:
        """Take a later generation than a run that did not answer, unless one was taken meanwhile."""
        claim, self._greeted = self._greeted, None
        assert claim is not None
        if claim.epoch > self._context.own.epoch:
            self._outdo_run(claim)

    def _outdo_run(self, claim: Record) -> None:
        self._outdone += claim.live
        self._raise_generation(claim.generation)

    def _raise_generation(self, above: int, address: Address | None = None) -> None:
        """Begin a later run: the daemon must persist it before anybody hears of it."""
        context = self._context
        generation = above + 1
        self.highest_generation = max(self.highest_generation, generation)
        context.notify(GenerationRaised(generation))
        own = replace(context.own, address=address or context.own.address, generation=generation, incarnation=0)
        before = context.mark(context.own)
        context.catalogue.restart(own.id, own.epoch)
        context.state ^= before ^ context.mark(context.own)
        context.claim(own)
        context.spread_head(context.own)

    def _stop(self, claim: Record) -> None:
        """Give the identity up to the other process that has it."""
        self._context.silent = True
        self._context.notify(IdentityConflict(claim.id, claim.address))


def _shown(record: Record, address: Address) -> tuple[str, Address, Status, int]:
    """What of a claim is told when it changes: all that is seen of a member but its incarnation."""
    return (record.name, address, record.status, record.generation)
