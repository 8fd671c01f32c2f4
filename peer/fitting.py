"""Fit: the highest epoch that anybody asked for is what every peer trains, once.

A command spreads like every other entry of the catalogue. Each peer repeats the highest one it has seen as an
entry of its own, so a fit outlives the peer that was asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from p2pml.ensemble.summary import Epoch, FitCommand, ModelState
from p2pml.errors import BadInput

from .training import Trained, Trainer
from .voting import Voting

log = structlog.get_logger()


class Fitting:
    """Trains for the highest command; the last good model serves until the next one is whole."""

    def __init__(self, trainer: Trainer, voting: Voting, changed: Callable[[], None]) -> None:
        self._trainer = trainer
        self._voting = voting
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._keeping = asyncio.Lock()
        self._done = Epoch()
        self.wanted = FitCommand(Epoch())
        self.state = ModelState.LOADING
        self.reason: str | None = None
        self.took: float | None = None
        self.refused: BadInput | None = None
        """Why the last training failed, as it was raised."""

    def serve(self, trained: Trained) -> None:
        """Serve a model from disk as the outcome of its command.

        A training for a later one, of which was heard while the model was read, goes on; any other is given up.
        """
        self._voting.trained = trained
        self._done = trained.command.epoch
        if self._task is None or trained.command.epoch >= self.wanted.epoch:
            if self._task is not None:
                self._task.cancel()
            self.wanted, self.state = trained.command, ModelState.READY
            self._settled.set()
        self._changed()

    def begin(self, command: FitCommand) -> None:
        """Train for `command`; a training for an older one is given up."""
        self.wanted = command
        if self._task is not None:
            self._task.cancel()
        self._settled.clear()
        self.state = ModelState.TRAINING
        self._task = asyncio.create_task(self._train(command, self._task))
        self._changed()

    def adopt(self, command: FitCommand) -> None:
        """Train for `command` if it is newer than what is trained or being trained."""
        if command.epoch > self.wanted.epoch:
            log.info("training anew", epoch=command.epoch.counter, model=command.model or "as before")
            self.begin(command)

    async def promise(self, command: FitCommand) -> None:
        """Adopt a command that is to be acknowledged: it is on disk first, so that no crash loses it.

        Raises `BadInput`, with nothing adopted, where the disk refuses.
        """
        # One at a time: of two at once the older must not be the last that is written.
        async with self._keeping:
            if command.epoch > self.wanted.epoch:
                try:
                    await asyncio.to_thread(self._trainer.keep_wish, command)
                except BadInput as error:
                    # Whoever asked is on another machine, and has no use for the place of this one's folder.
                    log.error("a fit could not be kept, and was not begun", why=str(error))
                    raise BadInput(
                        "the disk of this peer refuses to keep the fit; see its log, or ask another"
                    ) from error
            self.adopt(command)

    async def settled(self) -> None:
        """Wait until no training is under way."""
        await self._settled.wait()

    def failed(self, epoch: Epoch) -> str | None:
        """Why the training for `epoch`, or for a later one that took its place, failed; None where it did not."""
        return self.reason if self.state is ModelState.FAILED and self._done >= epoch else None

    async def close(self) -> None:
        """Give up a training that is under way and end its process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._trainer.close()

    async def _train(self, command: FitCommand, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.refused = None
        try:
            self._voting.trained = trained = await self._trainer.train(command)
        except BadInput as error:
            self.state, self.reason, self.refused = ModelState.FAILED, str(error), error
            if self._voting.trained is not None:
                log.error("the training failed; the last model goes on voting", why=str(error))
        else:
            self.state, self.reason = ModelState.READY, None
            log.info(
                "trained",
                model=trained.name,
                rows=trained.rows,
                held_out=trained.held_out,
                took=round(loop.time() - began, 2),
                **{name: round(score, 4) for name, score in trained.metrics.items() if score is not None},
            )
            for note in trained.notes:
                log.warning(note)
        self.took = loop.time() - began
        self._done = command.epoch
        self._settled.set()
        self._changed()
