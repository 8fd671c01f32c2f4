"""News waiting to ride on packets: the least sent first, a bounded number of times each, one per subject."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Generic, TypeVar

T = TypeVar("T")

MISFITS_LIMIT = 8
"""News too large for the room that is left after which a packet is sent as it is: a queue may be long."""


@lru_cache(maxsize=64)
def transmit_limit(retransmit: int, live: int) -> int:
    """How often one member sends one piece of news: λ·ceil(log10(n + 1)) (SWIM §4.1)."""
    return retransmit * math.ceil(math.log10(live + 1))


class Broadcasts(Generic[T]):
    """The queue. Its length is bounded by its subjects: two for each member that can be remembered.

    A subject is what the news is about, such as a member's id: newer news about it replaces older.
    """

    def __init__(self) -> None:
        """Have no news."""
        self._by_sent: list[dict[str, tuple[T, int]]] = []
        self._sent: dict[str, int] = {}

    def __len__(self) -> int:
        """Count the news that wait."""
        return len(self._sent)

    def put(self, subject: str, item: T, size: int) -> None:
        """Queue news of so many bytes in place of older news about the same."""
        self.drop(subject)
        self._file(subject, (item, size), 0)

    def drop(self, subject: str) -> None:
        """Forget the news about a subject."""
        sent = self._sent.pop(subject, None)
        if sent is not None:
            del self._by_sent[sent][subject]

    def clear(self) -> None:
        """Have no news any more."""
        self._by_sent.clear()
        self._sent.clear()

    def take(self, room: int, limit: int) -> list[T]:
        """Choose news that fits into `room` bytes, and count it as sent; what was sent `limit` times goes."""
        taken: list[tuple[str, tuple[T, int], int]] = []
        misfits = 0
        for sent, waiting in enumerate(self._by_sent):
            for subject, news in reversed(waiting.items()):
                if news[1] <= room:
                    room -= news[1]
                    taken.append((subject, news, sent))
                else:
                    misfits += 1
                    if misfits == MISFITS_LIMIT:
                        break
            if misfits == MISFITS_LIMIT:
                break
        for subject, news, sent in taken:
            del self._by_sent[sent][subject]
            if sent + 1 < limit:
                self._file(subject, news, sent + 1)
            else:
                del self._sent[subject]
        return [item for _, (item, _), _ in taken]

    def _file(self, subject: str, news: tuple[T, int], sent: int) -> None:
        while len(self._by_sent) <= sent:
            self._by_sent.append({})
        self._by_sent[sent][subject] = news
        self._sent[subject] = sent
