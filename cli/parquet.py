"""Predictions as Parquet. A Parquet file is readable only with its end, so rows go to an Arrow stream, which can be cut
off after any batch and gone on with. The Parquet file is made of that in a thread, meanwhile."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from p2pml.ensemble.lines import Lines
from p2pml.errors import BadInput
from p2pml.peer.answers import Predicted
from p2pml.peer.blocks import Block

from .predictions import Added

GROUP = 100_000
"""Rows in a row group, whatever blocks they came in."""


class ParquetPredictions:
    """Writes blocks to `stream`, and makes the Parquet file `whole` of that; `close` it. BadInput where pyarrow is not
    installed."""

    def __init__(self, stream: IO[bytes], whole: Path, proba: bool, state: dict[str, Any] | None = None) -> None:
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
        self._groups = Groups(self._arrow, stream.name, whole)
        self._beside = ThreadPoolExecutor(1)
        self._gathering: Future[None] | None = None

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
        if self._gathering is None or self._gathering.done():
            self._gather()

    def finish(self) -> None:
        """Make the Parquet file of all that was written."""
        self._gather()
        self._beside.submit(self._groups.finish).result()

    def close(self) -> None:
        """Let go of the files."""
        self._beside.submit(self._groups.close)
        self._beside.shutdown()

    def _gather(self) -> None:
        """What is written by now becomes Parquet, beside the loop; what went wrong with it before is raised here."""
        if self._gathering is not None:
            self._gathering.result()
        self._stream.flush()
        self._gathering = self._beside.submit(self._groups.gather, self._stream.tell())

    def _type(self, cells: Sequence[object]) -> Any:
        kinds = {str} if isinstance(cells, Lines) else set(map(type, cells)) - {type(None)}
        if kinds and kinds <= {bool}:
            return self._arrow.bool_()
        if kinds and kinds <= {int}:
            return self._arrow.int64()
        return self._arrow.float64() if kinds and kinds <= {int, float} else self._arrow.string()

    def _array(self, kind: Any, cells: Sequence[object]) -> Any:
        if kind == self._arrow.string() and (lines := Lines.of(cells)) is not None:
            # Half the time of one text after another.
            raw, ends = lines.encoded()
            return self._arrow.StringArray.from_buffers(len(lines), *map(self._arrow.py_buffer, (ends, raw)))
        try:
            return self._arrow.array(cells, type=kind)
        except self._arrow.ArrowTypeError:
            if kind != self._arrow.string():
                raise
            # Of a column that was empty in the first block nobody knew that it holds numbers.
            return self._arrow.array([cell if cell is None else str(cell) for cell in cells], type=kind)


class Groups:
    """The row groups of a Parquet file, from an Arrow stream that grows."""

    def __init__(self, arrow: Any, stream: str, whole: Path) -> None:
        self._arrow, self._stream, self._path = arrow, stream, whole
        self._written: Any = None
        self._parquet: Any = None
        self._waiting: Any = None

    def gather(self, size: int) -> None:
        """Write all groups that are whole in the first so many bytes of the stream."""
        if self._parquet is None:
            parquet: Any = importlib.import_module("pyarrow.parquet")
            self._written = self._arrow.OSFile(self._stream)
            schema = self._arrow.ipc.read_schema(self._written)
            self._parquet = parquet.ParquetWriter(self._path, schema)
            self._waiting = schema.empty_table()
        while self._written.tell() < size:
            message = self._arrow.ipc.read_message(self._written)
            batch = self._arrow.ipc.read_record_batch(message, self._waiting.schema)
            self._waiting = self._arrow.concat_tables([self._waiting, self._arrow.Table.from_batches([batch])])
            while len(self._waiting) >= GROUP:
                self._parquet.write_table(self._waiting.slice(0, GROUP).combine_chunks())
                self._waiting = self._waiting.slice(GROUP)

    def finish(self) -> None:
        """Write the rest, and the end."""
        if len(self._waiting):
            self._parquet.write_table(self._waiting.combine_chunks())
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        if self._parquet is not None and self._parquet.is_open:
            self._parquet.close()
            self._written.close()
