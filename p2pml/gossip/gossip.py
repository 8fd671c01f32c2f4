"""Rounds of gossip: while there is news, a few random members are told at every interval."""

from __future__ import annotations

from .context import Context
from .records import Status


class Gossip:
    """When to tell the news. The first round comes at once, the next ones at the interval."""

    def __init__(self, context: Context) -> None:
        """Have nothing to tell."""
        self._context = context
        self.armed = False
        """Whether a round is arranged."""
        self._last = -context.settings.gossip_interval

    def wake(self) -> None:
        """Arrange a round if there is news and somebody to tell."""
        context = self._context
        if self.armed or not context.has_news or context.members.live < 2:
            return
        self.armed = True
        context.timer(self._last + context.settings.gossip_interval - context.now, self._round)

    def _round(self) -> None:
        context = self._context
        self.armed = False
        self._last = context.now
        fanout = context.settings.gossip_fanout
        chosen = context.members.sample(fanout, context.me.id)
        if context.settings.lifeguard and any(record.status is Status.SUSPECT for record in chosen):
            # Suspects last: those who probe them tell them, and where most have crashed the news must not die out.
            chosen += context.members.sample(fanout, context.me.id, *(record.id for record in chosen))
            chosen.sort(key=lambda record: record.status is Status.SUSPECT)
        chosen = chosen[:fanout]
        # Where most of those chosen at random may be gone, whoever spoke lately is not.
        speaker = context.speaker()
        if speaker is not None and speaker not in chosen:
            chosen[-1:] = [speaker]
        context.send_news(chosen)
