"""Laws of the news queue: bounded, fair, and about each subject only the latest."""

from __future__ import annotations

from collections import Counter

from p2pml.gossip.broadcast import ENOUGH, LONG, Broadcasts, transmit_limit
from p2pml.gossip.limits import PACKET_LIMIT

ROOMY = 10**6


def queue(*parts: bytes) -> Broadcasts[bytes]:
    """Make a queue with news about different subjects."""
    broadcasts = Broadcasts[bytes]()
    for part in parts:
        broadcasts.put(part.decode(), part, len(part))
    return broadcasts


def test_news_is_sent_a_logarithmic_number_of_times() -> None:
    """The limit is λ·ceil(log10(n + 1)), and then the news is gone."""
    assert [transmit_limit(4, live) for live in (1, 9, 10, 99, 100)] == [4, 4, 8, 8, 12]
    broadcasts = queue(b"news")
    assert [broadcasts.take(ROOMY, 3) for _ in range(4)] == [[b"news"]] * 3 + [[]]
    assert len(broadcasts) == 0


def test_the_least_sent_goes_first_and_of_these_the_newest() -> None:
    """What others have heard more often waits."""
    broadcasts = queue(b"a", b"b")
    assert broadcasts.take(1, 9) == [b"b"]
    assert broadcasts.take(1, 9) == [b"a"]
    broadcasts.put("c", b"c", 1)
    assert broadcasts.take(1, 9) == [b"c"]
    assert broadcasts.take(3, 9) == [b"c", b"a", b"b"]


def test_newer_news_replaces_older_about_the_same_subject() -> None:
    """One record a subject is queued, and it begins anew."""
    broadcasts = queue(b"a", b"b")
    broadcasts.take(ROOMY, 9)
    broadcasts.put("a", b"A", 1)
    assert len(broadcasts) == 2
    assert broadcasts.take(ROOMY, 9) == [b"A", b"b"]


def test_what_does_not_fit_waits() -> None:
    """A packet takes what fits into its room; the rest keeps its place."""
    broadcasts = queue(b"long", b"s")
    assert broadcasts.take(3, 9) == [b"s"]
    assert broadcasts.take(4, 9) == [b"long"]


def test_dropped_news_is_not_sent() -> None:
    """News about a forgotten member goes with it."""
    broadcasts = queue(b"a")
    broadcasts.drop("a")
    broadcasts.drop("a")
    assert broadcasts.take(ROOMY, 9) == []


def test_what_others_tell_counts_as_told() -> None:
    """News that was sent a few times goes as soon as it was sent or heard often enough, and not before."""
    broadcasts = queue(b"a")
    broadcasts.echo("b", 1, 9)
    for _ in range(9):
        broadcasts.echo("a", 1, 9)
    assert broadcasts.take(ROOMY, 9) == [b"a"]
    broadcasts.echo("a", 1, 9)
    assert broadcasts.take(ROOMY, 9) == []


def test_news_that_waited_keeps_its_count() -> None:
    """Packets that take a part of the news count for that part alone."""
    broadcasts = queue(b"long", b"s")
    assert [broadcasts.take(1, 3) for _ in range(4)] == [[b"s"]] * 3 + [[]]
    assert [broadcasts.take(ROOMY, 3) for _ in range(4)] == [[b"long"]] * 3 + [[]]


def test_packets_alike_count_each() -> None:
    """News is taken for several packets at once while each may have it, and never beyond the limit."""
    broadcasts = queue(b"a")
    assert broadcasts.suits(3, 4)
    assert broadcasts.take(ROOMY, 4, 3) == [b"a"]
    assert not broadcasts.suits(3, 4)
    assert [broadcasts.take(ROOMY, 4) for _ in range(2)] == [[b"a"], []]


def test_what_was_told_most_goes_where_far_too_much_waits() -> None:
    """But nothing before it was told a few times: the queue is bounded by what is new."""
    broadcasts = Broadcasts[int]()
    for number in range(1000):
        broadcasts.put(str(number), number, 100)
    told = Counter(number for _ in range(600) for number in broadcasts.take(1000, 20))
    assert min(told.values()) == ENOUGH
    assert len(told) == 1000
    assert broadcasts.size <= LONG * PACKET_LIMIT
