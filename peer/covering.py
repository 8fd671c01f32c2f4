"""Whom to ask for which vote: where a question costs more than a vote, few peers are asked for many; where votes take
long, each of another peer, so that they are cast at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

QUESTION = 0.0003
"""Seconds of processors that a question costs, whatever is asked: to frame, send, wake and read, at both ends."""

Choose = Callable[[Mapping[str, Sequence[str]]], dict[str, list[str]]]
"""Says which votes to ask of which peer, from who holds each, the best first."""


def firsts(holders: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each vote of the first who holds it."""
    asked: dict[str, list[str]] = {}
    for voter, each in holders.items():
        asked.setdefault(each[0], []).append(voter)
    return asked


def cover(
    holders: Mapping[str, Sequence[str]], vote: Callable[[str], float], ahead: Callable[[str], float], me: str
) -> dict[str, list[str]]:
    """Which votes to ask of which peer, from who holds each, the best first. `vote` is the seconds that a vote takes,
    `ahead` those before a peer begins. `me` is asked without a question.

    Votes with the least choice go first, each to where it is the cheapest: to a peer that is asked already it has to
    wait for the votes before it (list scheduling, Graham 1966), and the question to another is shared by the votes
    that go with it (greedy set cover, Chvátal 1979), as many as take no longer than the question does.
    """
    busy = {me: 0.0}
    asked: dict[str, list[str]] = {}
    open_votes = Counter(holder for each in holders.values() for holder in each)
    for voter in sorted(holders, key=lambda voter: len(holders[voter])):
        if not holders[voter]:
            continue
        took = vote(voter)
        company = max(1.0, QUESTION / took) if took else float("inf")

        def price(holder: str, company: float = company) -> float:
            if holder in busy:
                return busy[holder]
            return (QUESTION + ahead(holder)) / min(open_votes[holder], company)

        chosen = min(holders[voter], key=price)
        busy[chosen] = busy.get(chosen, 0.0) + took
        asked.setdefault(chosen, []).append(voter)
        open_votes.subtract(holders[voter])
    return asked
