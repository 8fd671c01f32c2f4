"""Small numbers for ids, so that what is known of members is a flat list: a third of a dictionary's memory.

A node has a directory of its own, whose numbers are used again. Nodes that a simulation runs in one process share
one, which knows everybody and forgets nobody.
"""

from __future__ import annotations


class Directory:
    """The number of each id."""

    def __init__(self, *, shared: bool = False) -> None:
        """Know no id."""
        self.numbers: dict[str, int] = {}
        """To be looked up in, as that is done for each message."""
        self._shared = shared
        self._free: list[int] = []

    def number(self, peer: str) -> int:
        """Look an id's number up, or give it one."""
        number = self.numbers.get(peer)
        if number is None:
            number = self.numbers[peer] = self._free.pop() if self._free else len(self.numbers)
        return number

    def free(self, peer: str) -> None:
        """Let the number of an id be used for another."""
        if not self._shared:
            self._free.append(self.numbers.pop(peer))
