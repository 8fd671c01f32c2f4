"""Laws of reading tables: what is read, and the one sentence for each thing that can be wrong."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.errors import BadInput
from p2pml.peer.table import MAX_CELL, MAX_LINE, Table, read_blocks, read_table

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file whose name says nothing about what it is."""

    def written(content: bytes) -> Path:
        path = tmp_path / "part"
        path.write_bytes(content)
        return path

    return written


def packed(columns: dict[str, list[object]], types: dict[str, arrow.DataType] | None = None) -> bytes:
    """A table as Parquet."""
    arrays = {name: arrow.array(cells, (types or {}).get(name)) for name, cells in columns.items()}
    sink = io.BytesIO()
    parquet.write_table(arrow.table(arrays), sink)
    return sink.getvalue()


CSV = b'a,b\n1,"x,\ny"\n2,\n'
CELLS = {"a": ["1", "2"], "b": ["x,\ny", ""]}


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\r\n").replace(b",\r\ny", b",\ny"),
        b"\n\n" + CSV.replace(b"2,", b"\n2,") + b"\n\n",
        CSV.rstrip(),
        b' a , b \n1,"x,\ny"\n2,\n',
        gzip.compress(CSV, mtime=0),
        gzip.compress(CSV[:9], mtime=0) + gzip.compress(CSV[9:], mtime=0),
    ],
)
def test_a_table_is_read_however_it_is_written(write: Write, content: bytes) -> None:
    """Marks, line ends, blank lines, spaces around names and gzip do not matter."""
    assert read_table(write(content)) == Table(CELLS, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(write: Write, delimiter: str) -> None:
    """The one that gives most columns is meant."""
    text = "\n".join(delimiter.join(row) for row in (["a", "b c", "d"], ["1", "2.5", "x"], ["3", "4", "y"]))
    assert read_table(write(text.encode())).columns == {"a": ["1", "3"], "b c": ["2.5", "4"], "d": ["x", "y"]}


def test_one_column_needs_no_delimiter(write: Write) -> None:
    """Every line is a cell."""
    assert read_table(write(b"a\n1\n2\n")).columns == {"a": ["1", "2"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: give a table with a header line"),
        (b"\n \n", "is empty: give a table with a header line"),
        (b"a,b\n", "has a header and no rows: training needs at least two rows"),
        (b"a,b\n1,2\n", "has one row: training needs at least two rows"),
        (b"a,b\n1,2\n3\n", "line 3 (row 2) has 1 cells and the header has 2: mend the row"),
        (b"a,b\n1,2\n\n3,4,5\n", "line 4 (row 2) has 3 cells and the header has 2: mend the row"),
        (b"a,b,a\n1,2,3\n4,5,6\n", "columns 1 and 3 are both 'a': rename one of them"),
        (b"a,,c\n1,2,3\n4,5,6\n", "column 2 of 3 has no name: name it, or take it out"),
        (b"a,b\n1,2\n\xff,4\n", "line 3 is not UTF-8 (invalid start byte): save it as UTF-8"),
        (b"a,b\n\x00\x01\x02", "is a binary file: give CSV, gzipped CSV or Parquet"),
        (b"PK\x03\x04rest", "is a zip file or a spreadsheet: save the sheet as CSV"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (b"BZh9", "is compressed with bzip2: unpack it, or use gzip"),
        (b'a,b\n1,"2\n3,4\n', "is not CSV (unexpected end of data): a quote may be open"),
        (b"a,b\n1,2\n3," + b"x" * (MAX_CELL + 1), f"line 3 is not CSV (field larger than field limit ({MAX_CELL}))"),
        (b'a,b\n1,"2"x\n', "line 2 is not CSV (',' expected after '\"'): mend it"),
        (b"a,b\n" + b"x" * MAX_LINE, f"line 2 is longer than {MAX_LINE} bytes"),
        (gzip.compress(CSV, mtime=0)[:-9], "is a gzip file that is cut off or damaged"),
        (gzip.compress(CSV, mtime=0)[:12] + b"\xff" * 9, "is a gzip file that is cut off or damaged"),
        (gzip.compress(CSV, mtime=0) + b"more", "is a gzip file that is cut off or damaged"),
        (gzip.compress(b"\x00" * 99, mtime=0), "is a binary file"),
        (b"PAR1 and no more", "is a Parquet file that cannot be read: "),
        (packed({"a": [1, 2], " a": [1, 2]}), "columns 1 and 2 are both 'a'"),
        (packed({"a": [[1], [2]]}), "column 'a' holds list<element: int64>: give it single values"),
        (packed({"a": [b"1", b"2"]}), "column 'a' holds binary: give it single values"),
        (packed({"a": [1]}), "has one row"),
    ],
)
def test_each_fault_of_a_file_is_one_sentence(write: Write, content: bytes, sentence: str) -> None:
    """It names the file, the line where there is one, and the way out."""
    path = write(content)
    with pytest.raises(BadInput) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    """The sentence says which of the two it is."""
    with pytest.raises(BadInput, match=r"gone\.csv does not exist: check the path"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(BadInput, match="is a directory: name a file in it"):
        read_table(tmp_path)
    with pytest.raises(BadInput, match="cannot be read: File name too long"):
        read_table(tmp_path / ("x" * 300))


def test_blocks_hold_all_rows_in_order(write: Write) -> None:
    """No row is lost or repeated where a block ends, also if the last is full."""
    path = write(b"a,b\n" + b"".join(b"%d,x\n" % index for index in range(6)))
    for size, lengths in ((4, [4, 2]), (3, [3, 3]), (6, [6]), (9, [6])):
        blocks = list(read_blocks(path, size))
        assert [block.rows for block in blocks] == lengths
        assert [cell for block in blocks for cell in block.columns["a"]] == list("012345")


SIGNS = ["x", "1", ",", ",", ",", '"', "\n", "\n", "\r\n", "\r", "é", "1,x\n", "2,y\r\n", '"a\nb",3\n']


@settings(max_examples=300)
@given(st.lists(st.sampled_from(SIGNS), max_size=30), st.integers(1, 4))
def test_text_is_read_as_by_pythons_own_reader(signs: list[str], size: int) -> None:
    """Quotes, line ends and blank lines anywhere, in blocks of any size; or both refuse it."""
    text = "a,b\n" + "".join(signs)
    try:
        records = [cells for cells in csv.reader(io.StringIO(text, newline="\n"), strict=True) if cells]
    except csv.Error:
        records = [[]]
    blocks = read_blocks(io.BytesIO(text.encode()), size)
    if any(len(cells) != 2 for cells in records):
        with pytest.raises(BadInput, match="standard input, line"):
            list(blocks)
        return
    found = [row for block in blocks for row in zip(block.columns["a"], block.columns["b"], strict=True)]
    assert found == [tuple(cells) for cells in records[1:]]


@pytest.mark.parametrize("content", [b"a,b\n", packed({"a": [], "b": []})])
def test_a_table_without_rows_is_one_empty_block(write: Write, content: bytes) -> None:
    """Its columns are known all the same."""
    assert list(read_blocks(write(content))) == [Table({"a": [], "b": []}, 0)]


class Pipe(io.RawIOBase):
    """What standard input is in a pipe: it cannot go back, and gives a few bytes at a time."""

    @classmethod
    def buffered(cls, content: bytes) -> BinaryIO:
        reader: Any = cls(content)
        return io.BufferedReader(reader)

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        return self._rest.readinto(memoryview(buffer)[:7])


@pytest.mark.parametrize("content", [b"a,b\n1,x\n2,y\n", gzip.compress(b"a,b\n1,x\n2,y\n", mtime=0)])
def test_a_stream_is_read_like_a_file(content: bytes) -> None:
    """A pipe, plain or buffered, and bytes in memory give the same table, and stay open."""
    for stream in (Pipe(content), Pipe.buffered(content), io.BytesIO(content)):
        assert list(read_blocks(stream)) == [Table({"a": ["1", "2"], "b": ["x", "y"]}, 2)]  # type: ignore[arg-type]
        assert not stream.closed


def test_parquet_comes_through_a_pipe_too() -> None:
    """It is read from its end, so it is set down in a temporary file first."""
    stream = Pipe.buffered(packed({"a": [1, 2]}))
    assert list(read_blocks(stream)) == [Table({"a": [1, 2]}, 2)]


def test_a_fault_in_a_stream_speaks_of_standard_input() -> None:
    """There is no path to name."""
    with pytest.raises(BadInput, match=r"^standard input is empty"):
        list(read_blocks(io.BytesIO(b"")))


def test_parquet_cells_are_plain_values(write: Write) -> None:
    """Numbers, texts, booleans, dates and nulls arrive as Python has them."""
    columns: dict[str, list[object]] = {
        "number": [1.5, None],
        "text": ["a", None],
        "truth": [True, None],
        "day": [date(2024, 1, 31), None],
        "exact": [Decimal("1.50"), None],
        "moment": [1_706_702_400_000_000_001, None],
        "level": ["x", "y"],
    }
    types = {"moment": arrow.timestamp("ns", "UTC"), "level": arrow.dictionary(arrow.int8(), arrow.string())}
    read = read_table(write(packed(columns, types)))
    assert read.columns == {**columns, "exact": [1.5, None], "moment": [datetime(2024, 1, 31, 12, tzinfo=UTC), None]}


def test_parquet_comes_in_blocks(write: Write) -> None:
    """Memory is bounded by the block."""
    blocks = list(read_blocks(write(packed({"a": list(range(5))})), 2))
    assert [block.columns["a"] for block in blocks] == [[0, 1], [2, 3], [4]]


def test_parquet_without_pyarrow_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named as pip takes it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"needs pyarrow: pip install 'p2pml\[parquet\]'"):
        read_table(write(b"PAR1"))
