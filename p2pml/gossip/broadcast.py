"""News waiting to ride on packets: the least sent first, a bounded number of times each, one per subject."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Generic, TypeVar

from .limits import PACKET_LIMIT

T = TypeVar("T")

MISFITS_LIMIT = 8
"""News too large for the room that is left after which a packet is sent as it is: a queue may be long."""


LONG = 4
"""Packets that what waits may fill: beyond it what was told most goes, once it was sent `ENOUGH` times."""

ENOUGH = 4
"""Times that news is sent at least: so much reaches nearly all where each tells others, and comparisons the rest."""


@lru_cache(maxsize=64)
def transmit_limit(retransmit: int, live: int) -> int:
    """How often one member sends one piece of news: λ·ceil(log10(n + 1)) (SWIM §4.1)."""
    return retransmit * math.ceil(math.log10(live + 1))


class News(Generic[T]):
    """Something to tell: `since` is how far the queue's count stood when it was first sent, or would have been."""

    __slots__ = ("echoes", "item", "since", "size")

    def __init__(self, item: T, size: int, since: int) -> None:
        """Be new."""
        self.item, self.size, self.since, self.echoes = item, size, since, 0


class Broadcasts(Generic[T]):
    """A queue. Its length is bounded by its subjects: one for each member that can be remembered.

    A subject is what the news is about, such as a member's id: newer news about it replaces older. The queue counts
    the packets that took all of it, so that these do not have to count at each piece of news.
    """

    def __init__(self) -> None:
        """Have no news."""
        self.subjects: dict[str, News[T]] = {}
        """All that waits, by what it is about."""
        self._by_since: dict[int, dict[str, News[T]]] = {}
        self._taken = 0
        self.size = 0
        """Bytes of all that waits."""

    def __len__(self) -> int:
        """Count the news that wait."""
        return len(self.subjects)

    def put(self, subject: str, item: T, size: int) -> None:
        """Queue news of so many bytes in place of older news about the same."""
        self.drop(subject)
        news = self.subjects[subject] = News(item, size, self._taken)
        self.size += size
        self._file(subject, news)

    def drop(self, subject: str) -> None:
        """Forget the news about a subject."""
        news = self.subjects.pop(subject, None)
        if news is not None:
            self.size -= news.size
            self._unfile(subject, news)

    def clear(self) -> None:
        """Have no news any more."""
        self.subjects.clear()
        self._by_since.clear()
        self.size = 0

    def echo(self, subject: str, least: int, limit: int) -> None:
        """Note that somebody told the same: what was sent `least` times and sent or heard `limit` times goes."""
        news = self.subjects.get(subject)
        if news is not None:
            news.echoes += 1
            sent = self._taken - news.since
            if sent >= least and sent + news.echoes >= limit:
                self.drop(subject)

    def suits(self, copies: int, limit: int) -> bool:
        """Whether so many packets may carry all that waits, each of them."""
        return not any(self._taken - since + copies > limit for since in self._by_since)

    def take(self, room: int, limit: int, copies: int = 1) -> list[T]:
        """Choose news that fits into `room` bytes, and count it as sent; what was sent `limit` times goes.

        For several packets alike all of it has to fit.
        """
        if self.size > room:
            return self._take_some(room, limit)
        taken = []
        for since in sorted(self._by_since, reverse=True):
            taken += [news.item for news in reversed(self._by_since[since].values())]
        self._taken += copies
        self._expire(limit)
        return taken

    def _take_some(self, room: int, limit: int) -> list[T]:
        taken: list[tuple[str, News[T]]] = []
        misfits = 0
        for since in sorted(self._by_since, reverse=True):
            for subject, news in reversed(self._by_since[since].items()):
                if news.size <= room:
                    room -= news.size
                    taken.append((subject, news))
                else:
                    misfits += 1
                    if misfits == MISFITS_LIMIT:
                        break
            if misfits == MISFITS_LIMIT:
                break
        for subject, news in taken:
            self._unfile(subject, news)
            news.since -= 1
            self._file(subject, news)
        self._expire(limit)
        self._shorten()
        return [news.item for _, news in taken]

    def _file(self, subject: str, news: News[T]) -> None:
        waiting = self._by_since.get(news.since)
        if waiting is None:
            waiting = self._by_since[news.since] = {}
        waiting[subject] = news

    def _unfile(self, subject: str, news: News[T]) -> None:
        waiting = self._by_since[news.since]
        del waiting[subject]
        if not waiting:
            del self._by_since[news.since]

    def _expire(self, limit: int) -> None:
        """Drop what was sent often enough."""
        for since in [since for since in self._by_since if self._taken - since >= limit]:
            for subject, news in self._by_since.pop(since).items():
                del self.subjects[subject]
                self.size -= news.size

    def _shorten(self) -> None:
        """Drop what was told most where far more waits than a packet takes."""
        while self.size > LONG * PACKET_LIMIT:
            since, waiting = min(self._by_since.items())
            if self._taken - since < ENOUGH:
                return
            self.drop(next(iter(waiting)))
