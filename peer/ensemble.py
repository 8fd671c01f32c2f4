"""The cluster's ensemble as a user of scikit-learn calls it, for programs that run an event loop."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import date
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from p2pml.ensemble.frames import Cells, array_columns, column_cells, named_columns
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.values import Floats
from p2pml.errors import BadInput, NoVotes

from .answers import Evaluated, Fitted, PeerRow, Predicted
from .blocks import Block, cut, put
from .client import PeerClient
from .contact import Address, Contact, Where
from .outcomes import Collected, Evaluation, Prediction, VotesMissing, evaluation_of, probabilities_of
from .totals import Total


class AsyncEnsemble:
    """A cluster's ensemble, asked through any of its peers; when that one dies, through another.

    Its methods are those of `Ensemble`, to be awaited. `async with` closes its connections, and so does `close`.
    """

    def __init__(self, contact: Contact, opened: AsyncExitStack) -> None:
        self._contact = contact
        self._opened = opened
        self._schema: Schema | None = None

    @classmethod
    async def connect(cls, *addresses: str, cluster: str | None = None, host: str | None = None) -> Self:
        """As `Ensemble.connect`."""
        join = tuple(address_of(address) for address in addresses)
        named = cluster if addresses or cluster is not None else "default"
        async with AsyncExitStack() as stack:
            where = Where(cluster=named, join=join, host=host, mdns=not addresses)
            contact = await stack.enter_async_context(Contact(where))
            await contact.ask(lambda peer: peer.peers())
            return cls(contact, stack.pop_all())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._opened.aclose()

    async def ask(
        self,
        X: Any,  # noqa: N803
        *,
        columns: Sequence[str] | None = None,
        combine: str | None = None,
        deadline: float | None = None,
        sure: bool = False,
        interval: float | None = None,
    ) -> Prediction:
        """As `Ensemble.ask`."""
        collected = Collected()

        async def ask(block: Block) -> Predicted:
            return await self._contact.ask(
                lambda peer: peer.predict(
                    block.columns,
                    combine=combine,
                    deadline=deadline,
                    proba=True,
                    sure=sure,
                    interval=interval,
                    first_row=block.first_row,
                )
            )

        await put(cut(await self._columns(X, columns)), ask, lambda block, answer: collected.add(answer))
        return collected.prediction()

    async def predict(self, X: Any, **settings: Any) -> NDArray[Any]:  # noqa: N803
        """As `Ensemble.predict`."""
        prediction = await self.ask(X, **settings)
        warn_of_missing(prediction)
        return prediction.values

    async def predict_proba(self, X: Any, **settings: Any) -> Floats:  # noqa: N803
        """As `Ensemble.predict_proba`."""
        prediction = await self.ask(X, **settings)
        warn_of_missing(prediction)
        return probabilities_of(prediction)

    async def evaluate(
        self,
        X: Any = None,  # noqa: N803
        y: Any = None,
        *,
        columns: Sequence[str] | None = None,
        combine: str | None = None,
        deadline: float | None = None,
    ) -> Evaluation:
        """As `Ensemble.evaluate`."""
        if X is None:
            if y is not None:
                raise BadInput("there is y and no X: give the rows too, or neither")
            answer = await self._contact.ask(lambda peer: peer.evaluate(combine=combine, deadline=deadline))
            return evaluation_of(answer)
        table = await self._columns(X, columns)
        if y is not None:
            target = (await self._known()).target
            table[target] = _sendable(column_cells(y, target))
            if any(len(cells) != len(table[target]) for cells in table.values()):
                raise BadInput(f"y has {len(table[target])} values, and X another number of rows: give one for each")
        total = Total()

        async def ask(block: Block) -> Evaluated:
            return await self._contact.ask(
                lambda peer: peer.evaluate(
                    block.columns,
                    combine=combine,
                    deadline=deadline,
                    statistics=True,
                    first_row=block.first_row,
                )
            )

        await put(cut(table), ask, lambda block, answer: total.add(answer))
        return evaluation_of(total.answer())

    async def fit(self, model: str | None = None, *, wait: bool = True) -> Fitted:
        """As `Ensemble.fit`."""
        # A peer's file may have other columns by now.
        self._schema = None
        answer = await self._contact.fit(model, wait=wait)
        if not any(peer["status"] in ("trained", "started") for peer in answer["peers"]):
            raise NoVotes("No peer trained; their logs say why.")
        return answer

    async def peers(self) -> list[PeerRow]:
        """As `Ensemble.peers`."""
        return (await self._contact.ask(lambda peer: peer.peers()))["peers"]

    async def _columns(self, X: Any, names: Sequence[str] | None) -> dict[str, Cells]:  # noqa: N803
        table = await asyncio.to_thread(named_columns, X) if names is None else None
        if table is None:
            if names is None:
                names = [field.name for field in (await self._known()).fields]
            table = await asyncio.to_thread(array_columns, X, names)
        return {name: _sendable(cells) for name, cells in table.items()}

    async def _known(self) -> Schema:
        """The schema of the peer that is asked, kept: columns must not change their places between two questions."""
        if self._schema is None:
            self._schema = await self._contact.ask(_schema_of)
        return self._schema


async def _schema_of(peer: PeerClient) -> Schema:
    try:
        return await peer.schema()
    except BadInput as error:
        # It has not trained yet; another may have.
        raise NoVotes(str(error)) from error


def _sendable(cells: Cells) -> Cells:
    """The cells as they travel, with dates as texts."""
    return [cell.isoformat() if isinstance(cell, date) else cell for cell in cells]


def address_of(text: str) -> Address:
    """The address that "HOST:PORT" means."""
    match = re.fullmatch(r"([^\s:/]+):(\d{1,5})", text.strip())
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise BadInput(f"{text!r} is not HOST:PORT, such as 192.168.1.20:7733")
    return match[1], int(match[2])


def warn_of_missing(prediction: Prediction, stacklevel: int = 3) -> None:
    """Say it where a program takes the values alone, which do not show that a vote is missing."""
    if prediction.votes.missing:
        warnings.warn(f"This answer has {prediction.votes}.", VotesMissing, stacklevel)
