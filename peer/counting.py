"""Counting the votes of one answer: each model's once, whoever cast it, and who is missing, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pml.errors import NoVotes
from p2pml.gossip import Member

from .adding import Partial
from .answers import Missing, StoodIn, Votes
from .ballots import Ballot
from .colleagues import Colleague, Roll
from .round import Round


@dataclass(frozen=True, slots=True)
class Heard:
    """The votes that came: ballots by the id of the peer whose model cast each, sums of others, and their count."""

    ballots: Mapping[str, Ballot]
    partials: tuple[Partial, ...]
    votes: Votes


class Count:
    """What has come of the votes of a roll."""

    def __init__(self, roll: Roll) -> None:
        self.by: dict[str, Member] = {}
        """Who cast which vote."""
        self._roll = roll
        self._members = {holder.id: holder for holders in roll.holders.values() for holder in holders}
        self._ballots: dict[str, Ballot] = {}
        self._partials: list[Partial] = []
        self._why: dict[str, list[str]] = {}
        self._late: set[str] = set()

    def add(self, cast: Mapping[str, tuple[Ballot, Member]]) -> None:
        """Count ballots, each with who cast it."""
        self.by |= {voter: member for voter, (_, member) in cast.items()}
        self._ballots |= {voter: ballot for voter, (ballot, _) in cast.items()}

    def add_sum(self, partial: Partial) -> None:
        """Count the votes of a sum, none of which came otherwise."""
        self.by |= {each.owner: self._members[each.by] for each in partial.counted}
        self._partials.append(partial)

    def lacks(self, round: Round) -> None:
        """Remember what stood in the way of votes that a round asked for."""
        self._why |= round.why
        self._late |= round.late

    @property
    def lost(self) -> list[Colleague]:
        """The voters whose votes have not come."""
        return [voter for voter in self._roll.voters if voter.id not in self.by]

    def heard(self, seconds: float) -> Heard:
        """All that came within so many seconds; raises `NoVotes` where nothing did."""
        roll, by = self._roll, self.by
        missing = [_missing(member.id, member.name, why) for member, why in roll.absent]
        missing += [_missing(voter.id, voter.member.name, self._reason(voter.id, seconds)) for voter in self.lost]
        missing.sort(key=lambda entry: entry["peer"])
        if not by:
            reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in missing)
            raise NoVotes(f"none of the {roll.expected} peers cast a vote ({reasons})")
        votes = Votes(cast=len(by), expected=roll.expected, missing=missing)
        stood_in = [
            StoodIn(peer=voter.id, name=voter.member.name, by=by[voter.id].name)
            for voter in roll.voters
            if voter.id in by and by[voter.id].id != voter.id
        ]
        if stood_in:
            votes["replicas"] = sorted(stood_in, key=lambda entry: entry["peer"])
        ballots = {voter.id: self._ballots[voter.id] for voter in roll.voters if voter.id in self._ballots}
        return Heard(ballots, tuple(self._partials), votes)

    def _reason(self, voter: str, seconds: float) -> str:
        if voter in self._late:
            return f"no answer within {seconds:.3g} s"
        return "; ".join(self._why.get(voter, ())) or "nobody holds its model"


def _missing(id: str, name: str, reason: str) -> Missing:
    return Missing(peer=id, name=name, reason=reason)
