"""News waiting to ride on packets: the least sent first, a bounded number of times each, one per subject."""

from __future__ import annotations

import math
from typing import TypeAlias

Subject: TypeAlias = tuple[str, str]
"""What the news is about (a kind and a member): newer news replaces older."""


def transmit_limit(retransmit: int, live: int) -> int:
    """How often one member sends one piece of news: λ·ceil(log10(n + 1)) (SWIM §4.1)."""
    return retransmit * math.ceil(math.log10(live + 1))


class Broadcasts:
    """The queue. Its length is bounded by its subjects: two for each member that can be remembered."""

    def __init__(self) -> None:
        """Have no news."""
        self._by_sent: list[dict[Subject, bytes]] = []
        self._sent: dict[Subject, int] = {}

    def __len__(self) -> int:
        """Count the news that wait."""
        return len(self._sent)

    def put(self, subject: Subject, part: bytes) -> None:
        """Queue news in place of older news about the same."""
        self.drop(subject)
        self._file(subject, part, 0)

    def drop(self, subject: Subject) -> None:
        """Forget the news about a subject."""
        sent = self._sent.pop(subject, None)
        if sent is not None:
            del self._by_sent[sent][subject]

    def clear(self) -> None:
        """Have no news any more."""
        self._by_sent.clear()
        self._sent.clear()

    def take(self, room: int, limit: int) -> list[bytes]:
        """Choose news that fits into `room` bytes, and count it as sent; what was sent `limit` times goes."""
        taken: list[tuple[Subject, bytes, int]] = []
        for sent, waiting in enumerate(self._by_sent):
            for subject, part in reversed(waiting.items()):
                if len(part) <= room:
                    room -= len(part)
                    taken.append((subject, part, sent))
        for subject, part, sent in taken:
            self.drop(subject)
            if sent + 1 < limit:
                self._file(subject, part, sent + 1)
        return [part for _, part, _ in taken]

    def _file(self, subject: Subject, part: bytes, sent: int) -> None:
        while len(self._by_sent) <= sent:
            self._by_sent.append({})
        self._by_sent[sent][subject] = part
        self._sent[subject] = sent
