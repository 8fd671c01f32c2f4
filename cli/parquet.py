"""Predictions as Parquet. A Parquet file is readable only with its end, so rows wait in an Arrow stream until all are
there: that can be cut off after any batch, and gone on with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from p2pml.errors import BadInput
from p2pml.peer.answers import Predicted
from p2pml.peer.blocks import Block

from .predictions import Added

GROUP = 100_000
"""Rows in a row group, whatever blocks they came in."""


class ParquetPredictions:
    """Writes blocks to `stream`, which `finish` makes a Parquet file of. BadInput where pyarrow is not installed."""

    def __init__(self, stream: IO[bytes], proba: bool, state: dict[str, Any] | None = None) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
        except ImportError as error:
            raise BadInput("--output is Parquet, which needs pyarrow: pip install 'p2pml[parquet]'") from error
        self._stream = stream
        self._added = Added(proba, state)
        self._schema: Any = None
        if state:
            with self._arrow.OSFile(stream.name) as written:
                self._schema = self._arrow.ipc.read_schema(written)

    def state(self) -> dict[str, Any]:
        """What a run that goes on has to know."""
        return self._added.state()

    def write(self, block: Block, answer: Predicted) -> None:
        """Write one block; the first decides the types of the columns."""
        columns: dict[str, Sequence[object]] = {**block.columns, **self._added.columns(block, answer)}
        if self._schema is None:
            self._schema = self._arrow.schema([(name, self._type(cells)) for name, cells in columns.items()])
            self._stream.write(self._schema.serialize())
        arrays = [self._array(field.type, cells) for field, cells in zip(self._schema, columns.values(), strict=True)]
        batch = self._arrow.record_batch(arrays, schema=self._schema)
        self._stream.write(batch.serialize())

    def finish(self, path: Path) -> Path:
        """The Parquet file of all that was written, beside `path`."""
        parquet: Any = importlib.import_module("pyarrow.parquet")
        whole = path.with_name(f".{path.name}.whole")
        self._stream.flush()
        with (
            self._arrow.OSFile(self._stream.name) as written,
            parquet.ParquetWriter(whole, self._arrow.ipc.read_schema(written)) as writer,
        ):
            waiting = self._schema.empty_table()
            while (message := self._next(written)) is not None:
                batch = self._arrow.ipc.read_record_batch(message, self._schema)
                waiting = self._arrow.concat_tables([waiting, self._arrow.Table.from_batches([batch])])
                while len(waiting) >= GROUP:
                    writer.write_table(waiting.slice(0, GROUP).combine_chunks())
                    waiting = waiting.slice(GROUP)
            if len(waiting):
                writer.write_table(waiting.combine_chunks())
        return whole

    def _next(self, written: Any) -> Any:
        """The next batch's message; None at the end."""
        return self._arrow.ipc.read_message(written) if written.tell() < written.size() else None

    def _type(self, cells: Sequence[object]) -> Any:
        kinds = set(map(type, cells)) - {type(None)}
        if kinds and kinds <= {bool}:
            return self._arrow.bool_()
        if kinds and kinds <= {int}:
            return self._arrow.int64()
        return self._arrow.float64() if kinds and kinds <= {int, float} else self._arrow.string()

    def _array(self, kind: Any, cells: Sequence[object]) -> Any:
        if kind == self._arrow.string() and (texts := self._texts(cells)) is not None:
            return texts
        try:
            return self._arrow.array(cells, type=kind)
        except self._arrow.ArrowTypeError:
            if kind != self._arrow.string():
                raise
            # Of a column that was empty in the first block nobody knew that it holds numbers.
            return self._arrow.array([cell if cell is None else str(cell) for cell in cells], type=kind)

    def _texts(self, cells: Sequence[Any]) -> Any:
        """Texts joined by Python and cut by Arrow, which takes half as long as one by one; None where some cells are
        other than ASCII."""
        try:
            joined = "".join(cells)
            raw = joined.encode("ascii")
        except (TypeError, UnicodeEncodeError):
            return None
        # Not at the top: who asks for help does not wait for it.
        import numpy as np

        ends = np.zeros(len(cells) + 1, np.int32)
        np.cumsum(np.fromiter(map(len, cells), np.int32, len(cells)), out=ends[1:])
        return self._arrow.StringArray.from_buffers(len(cells), self._arrow.py_buffer(ends), self._arrow.py_buffer(raw))
