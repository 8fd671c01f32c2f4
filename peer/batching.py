"""Small questions that come while others are under way go out together: one question to each voter for all of them.

Alone, a question is asked at once. While a batch of its kind is out, the next ones gather, until that batch is back or
for DELAY, whichever comes first. So batches grow with the load and nothing waits without one (adaptive batching, as
in Clipper, NSDI 2017, §4.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")

DELAY = 0.002
"""Seconds that a question waits for a batch to come back, at most."""
MOST = 256
"""Questions in one batch."""


@dataclass(eq=False)
class _Gathering(Generic[Q, A]):
    """The questions of one kind that wait, and how many batches of it are out."""

    waiting: list[tuple[Q, asyncio.Future[A]]] = field(default_factory=list)
    out: int = 0
    due: asyncio.Handle | None = None


class Batches(Generic[K, Q, A]):
    """Gathers questions by kind and hands them on in batches."""

    def __init__(self, run: Callable[[K, list[Q]], Awaitable[list[A | Exception]]]) -> None:
        """`run` gives each question's own answer, or error, in their order."""
        self._run = run
        self._gathering: dict[K, _Gathering[Q, A]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, kind: K, question: Q) -> A:
        """The answer to one question of a kind."""
        loop = asyncio.get_running_loop()
        gathering = self._gathering.setdefault(kind, _Gathering())
        answer: asyncio.Future[A] = loop.create_future()
        gathering.waiting.append((question, answer))
        if len(gathering.waiting) == MOST:
            self._send(kind, gathering)
        elif gathering.due is None:
            # Not at once: what one read of a connection brought goes out together.
            later = loop.call_later(DELAY, self._send, kind, gathering) if gathering.out else None
            gathering.due = later or loop.call_soon(self._send, kind, gathering)
        return await answer

    def _send(self, kind: K, gathering: _Gathering[Q, A]) -> None:
        if gathering.due is not None:
            gathering.due.cancel()
            gathering.due = None
        batch = [(question, answer) for question, answer in gathering.waiting if not answer.done()]
        gathering.waiting = []
        if not batch:
            self._forget(kind, gathering)
            return
        gathering.out += 1
        task = asyncio.get_running_loop().create_task(self._answer(kind, gathering, batch))
        self._tasks.add(task)
        for _, answer in batch:
            answer.add_done_callback(lambda _: self._cancel(task, batch))
        task.add_done_callback(self._tasks.discard)

    def _cancel(self, task: asyncio.Task[None], batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        """Nobody waits any more: the losers are cancelled too."""
        if all(answer.cancelled() for _, answer in batch):
            task.cancel()

    async def _answer(self, kind: K, gathering: _Gathering[Q, A], batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._run(kind, [question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 (whoever asked is told, as if it had been alone)
            answers = [error] * len(batch)
        finally:
            gathering.out -= 1
            if gathering.waiting:
                self._send(kind, gathering)
            else:
                self._forget(kind, gathering)
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    def _forget(self, kind: K, gathering: _Gathering[Q, A]) -> None:
        if not gathering.out and not gathering.waiting:
            self._gathering.pop(kind, None)
