"""The cluster's ensemble as a user of scikit-learn calls it, from programs, notebooks and threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from p2pml.ensemble.values import Floats
from p2pml.errors import BadInput

from .answers import Fitted, PeerRow
from .ensemble import AsyncEnsemble, warn_of_missing
from .outcomes import Evaluation, Prediction, probabilities_of

T = TypeVar("T")


class Ensemble:
    """A cluster's ensemble, asked through any of its peers; when that one dies, through another.

    X is a frame of pandas or polars, a mapping of columns, or a two-dimensional array or list. Columns of a frame or
    mapping go by name, in any order, and the target among them is not looked at. An array has the columns of the
    peers' models in the order of the file of the peer that was asked first, or those that `columns` names. Rows travel
    in blocks, so there may be any number of them.

    Of the settings, `combine` is the rule by which votes become one answer (see `p2pml predict --help`; the default is
    the cluster's) and `deadline` the seconds by which each block is answered with the votes that came.

    All methods raise `BadInput` where the input cannot be used, `NoVotes` where no peer was found or no vote was cast,
    and `RemoteError` where a peer's answer cannot be used; all are of `p2pml.errors`. They may be called from several
    threads at once, and where an event loop runs, as in Jupyter; in a coroutine, take `AsyncEnsemble`.
    """

    def __init__(self, background: Background, ensemble: AsyncEnsemble) -> None:
        self._background = background
        self._ensemble = ensemble
        # Notebooks seldom close what they open.
        self._end = weakref.finalize(self, background.end, ensemble.close)

    @classmethod
    def connect(cls, *addresses: str, cluster: str | None = None, host: str | None = None) -> Self:
        """Find a peer: at one of the addresses ("HOST:PORT"), or else by mDNS.

        An address is a door to its cluster: when that peer dies, others answer. `cluster` is the name of the cluster,
        "default" if neither it nor an address is given; with an address it only refuses peers of another. `host` is the
        address of the interface to use, all if None.
        """
        background = Background()
        try:
            return cls(background, background.run(AsyncEnsemble.connect(*addresses, cluster=cluster, host=host)))
        except BaseException:
            background.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what is forgotten is closed too."""
        self._end()

    def ask(
        self,
        X: Any,  # noqa: N803
        *,
        columns: Sequence[str] | None = None,
        combine: str | None = None,
        deadline: float | None = None,
        sure: bool = False,
        interval: float | None = None,
    ) -> Prediction:
        """Predictions, classes and probabilities of the rows of X, with the votes that stand behind them.

        `sure` adds how sure the answer is, and `interval`, such as 0.9, bounds or sets of classes that hold the truth
        in this share of rows that are like those of the peers.
        """
        return self._run(
            self._ensemble.ask(X, columns=columns, combine=combine, deadline=deadline, sure=sure, interval=interval)
        )

    def predict(self, X: Any, **settings: Any) -> NDArray[Any]:  # noqa: N803
        """The predicted numbers or classes, shape (rows,). Settings are those of `ask`.

        Warns with `VotesMissing` where not all votes came: `ask` gives the votes with the answer.
        """
        prediction = self.ask(X, **settings)
        warn_of_missing(prediction)
        return prediction.values

    def predict_proba(self, X: Any, **settings: Any) -> Floats:  # noqa: N803
        """Probabilities of shape (rows, classes), in ascending order of the classes, which `ask` gives too.

        Raises `BadInput` for regression. Settings and warnings are those of `predict`.
        """
        prediction = self.ask(X, **settings)
        warn_of_missing(prediction)
        return probabilities_of(prediction)

    def evaluate(
        self,
        X: Any = None,  # noqa: N803
        y: Any = None,
        *,
        columns: Sequence[str] | None = None,
        combine: str | None = None,
        deadline: float | None = None,
    ) -> Evaluation:
        """The ensemble's own scores: on rows that no peer trained on, or on X with the target y.

        Without y, the target is among the columns of X.
        """
        return self._run(self._ensemble.evaluate(X, y, columns=columns, combine=combine, deadline=deadline))

    def fit(self, model: str | None = None, *, wait: bool = True) -> Fitted:
        """Have every peer read its rows again and retrain, on `model` or on what each one has.

        The rows are those that the peers hold: no rows are given here. `wait` False returns as soon as it is announced.
        The answer says of each peer what became of it; `NoVotes` is raised where none trained.
        """
        return self._run(self._ensemble.fit(model, wait=wait))

    def peers(self) -> list[PeerRow]:
        """Every peer of the cluster with its status and its model: `pandas.DataFrame` makes a table of it."""
        return self._run(self._ensemble.peers())

    def _run(self, asking: Coroutine[Any, Any, T]) -> T:
        return self._background.run(asking)


class Background:
    """An event loop in a thread of its own, since the caller's thread may be running one already."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._ended = False
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="p2pml", daemon=True)
        self._thread.start()
        self._up.wait()

    def run(self, asking: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns; an interrupt of the caller's thread cancels it."""
        if self._ended:
            asking.close()
            raise BadInput("this ensemble is closed: connect again")
        future = asyncio.run_coroutine_threadsafe(asking, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def end(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Stop, after a last coroutine; what is still asked is cancelled."""

        async def stop() -> None:
            if last is not None:
                await last()
            self._stopping.set()

        self._ended = True
        asyncio.run_coroutine_threadsafe(stop(), self._loop)
        # What is forgotten is collected in whatever thread runs then, be it this one.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._up.set()
        await self._stopping.wait()
