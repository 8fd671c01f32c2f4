"""A trained model as bytes that are safe to read: schema, encoder and arrays, on disk and between peers.

Read, audit, construct: a header in msgpack that says what follows, then the arrays as they lie in memory, little
end first. Every size is checked against the bytes at hand before anything is allocated, and every array by the
audit of its kind before anything is built from it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from p2pml.errors import RemoteError

from .arrays import BODIES, MAX_NUMBERS, Arrays, Layers
from .encoder import Encoder
from .extraction import NotCompiled, extract
from .fields import Schema, check_classes
from .models import Model
from .values import Floats

FORMAT = 1
"""Raised by a change that an older p2pml cannot read; the older number's reader is then kept, with a test that reads
what it wrote."""

MAX_BYTES = 160 * 1024 * 1024
"""Bytes of one model: the largest arrays of its leaves and the most nodes together."""

MAX_HEADER = 4 * 1024 * 1024
"""Bytes of schema, encoder and shapes: what msgpack makes of so many stays below 300 MB however they are crafted."""

MAX_ROWS = 2**53
MAX_NAME = 1_024

_ALIGNED = 8
"""Every array begins at a multiple of this, so that it can be used where it lies."""
_DTYPES = ("<i4", "<f8")


@dataclass(frozen=True, slots=True, eq=False)
class Portable:
    """A model in plain data. `name` is what --model named, `rows` were trained on."""

    name: str
    schema: Schema
    encoder: Encoder
    classes: tuple[str, ...] | None
    rows: int
    arrays: Arrays

    @classmethod
    def of(cls, model: Model) -> Portable:
        """What `model` has learnt; raises NotCompiled, which says why, where it has no form as arrays."""
        count = None if model.classes is None else len(model.classes)
        arrays = extract(model.estimator, model.encoder.width, count)
        return cls(model.name, model.schema, model.encoder, model.classes, model.rows, arrays)

    def packed(self) -> bytes:
        """The bytes of this model: equal models give equal bytes. NotCompiled where they are too many to be read."""
        body = self.arrays.body
        named = body.named()
        header = msgpack.packb(
            {
                "format": FORMAT,
                "name": self.name,
                "schema": self.schema.to_data(),
                "encoder": self.encoder.to_data(),
                "classes": None if self.classes is None else list(self.classes),
                "rows": self.rows,
                "kind": body.kind,
                "activation": body.activation if isinstance(body, Layers) else "",
                "link": self.arrays.link,
                "factor": self.arrays.factor,
                "offset": self.arrays.offset.tolist(),
                "arrays": [[name, _code(array), list(array.shape)] for name, array in named.items()],
            }
        )
        packed = b"".join(_pieces(header, list(named.values())))
        if len(packed) > MAX_BYTES or len(header) > MAX_HEADER:
            raise NotCompiled(
                f"its arrays take {len(packed) >> 20} MiB, above {MAX_BYTES >> 20}, or its columns too many"
            )
        return packed

    @classmethod
    def read(cls, packed: bytes) -> Portable:
        """The model in these bytes, from anybody; RemoteError if they are none, with nothing built from them."""
        try:
            return _read(packed)
        except (KeyError, TypeError, ValueError, OverflowError, msgpack.UnpackException) as error:
            raise RemoteError(f"the model cannot be read: {error}") from error


def digest(packed: bytes) -> str:
    """SHA-256 of a packed model, hexadecimal: its name wherever it is kept."""
    return hashlib.sha256(packed).hexdigest()


def _code(array: NDArray[Any]) -> str:
    return "<i4" if array.dtype == np.int32 else "<f8"


def _pieces(header: bytes, arrays: list[NDArray[Any]]) -> Iterator[bytes]:
    yield len(header).to_bytes(4, "little") + header + bytes(-(4 + len(header)) % _ALIGNED)
    for array in arrays:
        raw = np.ascontiguousarray(array, _code(array)).tobytes()
        yield raw + bytes(-len(raw) % _ALIGNED)


def _read(packed: bytes) -> Portable:
    size = int.from_bytes(packed[:4], "little")
    if len(packed) > MAX_BYTES or size > min(MAX_HEADER, len(packed) - 4):
        raise ValueError(f"{len(packed)} bytes with a header of {size} are too many, or cut off")
    header = msgpack.unpackb(packed[4 : 4 + size])
    if not isinstance(header, dict) or header.get("format") != FORMAT or len(header) != 12:
        found = header.get("format") if isinstance(header, dict) else None
        raise ValueError(f"its format is {found!r:.40}, and this p2pml reads {FORMAT}; bring both to one version")
    classes = None if header["classes"] is None else check_classes(header["classes"])
    rows, name = header["rows"], header["name"]
    if type(rows) is not int or not 0 < rows <= MAX_ROWS or not isinstance(name, str) or len(name) > MAX_NAME:
        raise ValueError("its name or its number of rows is none")
    encoder = Encoder.from_data(header["encoder"])
    arrays = _arrays(header, encoder.width, packed, 4 + size + -(4 + size) % _ALIGNED)
    arrays.check(None if classes is None else len(classes))
    schema = Schema.from_data(header["schema"])
    if (schema.task == "classification") != (classes is not None):
        raise ValueError("its task and its classes disagree")
    if lacking := set(encoder.columns) - {field.name for field in schema.fields}:
        raise ValueError(f"its encoder reads {min(lacking)!r:.80}, which its schema does not name")
    return Portable(name, schema, encoder, classes, rows, arrays)


def _arrays(header: dict[str, Any], width: int, packed: bytes, start: int) -> Arrays:
    named: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in header["arrays"]:
        if dtype not in _DTYPES or not isinstance(shape, list) or not 0 < len(shape) <= 2 or name in named:
            raise ValueError("an array that is named twice, or of no known dtype or shape")
        if any(type(axis) is not int or not 0 <= axis <= MAX_NUMBERS for axis in shape):
            raise ValueError(f"an array of shape {shape!r:.80}")
        count = math.prod(shape)
        raw = memoryview(packed)[start : start + count * np.dtype(dtype).itemsize]
        if count > MAX_NUMBERS or len(raw) != count * np.dtype(dtype).itemsize:
            raise ValueError(f"an array of {count} numbers, of which {len(raw)} bytes are here")
        named[name] = np.frombuffer(raw, dtype).reshape(shape)
        start += len(raw) + -len(raw) % _ALIGNED
    if start != len(packed):
        raise ValueError("bytes follow the last array, or are missing")
    if header["kind"] not in BODIES or not isinstance(header["link"], str) or type(header["factor"]) is not float:
        raise ValueError(f"the kind of model is none of {', '.join(BODIES)}")
    body = BODIES[header["kind"]].of(named, header["activation"])
    return Arrays(body, width, header["link"], _offset(header["offset"]), header["factor"])


def _offset(data: Any) -> Floats:
    if not isinstance(data, list) or not all(type(value) is float for value in data):
        raise ValueError("the offset is no list of floats")
    return np.array(data, np.float64)
