"""The schema of a part: its columns, the target and the task, which rows are checked against."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput, RemoteError

from .values import (
    MAX_TEXT,
    Columns,
    Kind,
    canonical_number,
    dates,
    number_matrix,
    numbers,
    row_count,
    texts,
)

TASKS = ("classification", "regression")

MAX_CLASSES = 1_000
"""A vote holds a probability for every class on every row; text with more distinct values is no class."""

MAX_COLUMNS = 65_536
"""Columns that a schema from another peer may name: far above any table, far below what fills memory."""

MAX_NAME = 1_024
"""Characters in a column's name, for the same reason."""

_TARGET_KINDS = frozenset((Kind.NUMBER, Kind.CATEGORY, Kind.BOOLEAN))


@dataclass(frozen=True, slots=True)
class Field:
    """One column that models see."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a part, without the target, in the order of the file; and the task."""

    target: str
    task: str
    target_kind: Kind
    fields: tuple[Field, ...]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name this schema; the order of the columns does not matter."""
        data = self.to_data()
        data["fields"] = sorted([field.name, field.kind.value] for field in self.fields)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]

    def check(self, columns: Columns, first_row: int = 1) -> None:
        """Raise BadInput unless every column is there, none too many, and each cell can be read.

        The target may be there and is not looked at, nor are the cells of a column that was empty in
        training. No columns at all are no rows, which is fine.
        """
        if not columns:
            return
        self.check_names(columns)
        row_count(columns)
        number_matrix(columns, [field.name for field in self.fields if field.kind is Kind.NUMBER], first_row)
        for field in self.fields:
            if field.kind is Kind.DATE:
                dates(columns[field.name], field.name, first_row)
            elif field.kind in (Kind.CATEGORY, Kind.BOOLEAN):
                texts(columns[field.name], field.name, first_row)

    def check_names(self, columns: Columns) -> None:
        """Raise BadInput unless every column is there, and none too many; the target may be there."""
        wanted = {field.name for field in self.fields}
        missing = [field.name for field in self.fields if field.name not in columns]
        extra = [name for name in columns if name not in wanted and name != self.target]
        if missing:
            near = _near(missing[0], extra)
            raise BadInput(f"{columns_are(missing)} missing from the rows: add {it_or_them(missing)}{near}")
        if extra:
            raise BadInput(f"{columns_are(extra)} unknown to the models: take {it_or_them(extra)} out of the rows")

    def truth(self, columns: Columns, first_row: int = 1) -> NDArray[np.float64] | NDArray[np.object_]:
        """The target of each row, shape (rows,): float64, NaN where missing, for regression; canonical labels
        (str), None where missing, for classification. BadInput where the target is absent or not readable."""
        if self.target not in columns:
            raise BadInput(f"the target {self.target!r} is missing from the rows: add it, to compare with")
        cells = columns[self.target]
        if self.task == "regression":
            return numbers(cells, self.target, first_row)
        if self.target_kind is not Kind.NUMBER:
            return np.array(texts(cells, self.target, first_row), dtype=object)
        found = numbers(cells, self.target, first_row)
        names = {value: canonical_number(value) for value in np.unique(found[~np.isnan(found)]).tolist()}
        return np.array([names.get(value) for value in found.tolist()], dtype=object)

    def label(self, text: str) -> int | float | bool | str:
        """The value to show for a canonical label of this target: 3, 0.5, true or "setosa"."""
        if self.target_kind is Kind.BOOLEAN and text in ("true", "false"):
            return text == "true"
        if self.target_kind is Kind.NUMBER:
            number = float(text)
            return int(number) if number.is_integer() else number
        return text

    def to_data(self) -> dict[str, Any]:
        """As plain data for JSON or msgpack."""
        return {
            "target": self.target,
            "task": self.task,
            "target_kind": self.target_kind.value,
            "fields": [[field.name, field.kind.value] for field in self.fields],
        }

    @classmethod
    def from_data(cls, data: object) -> Schema:
        """The schema that another peer sent; RemoteError if it is none."""
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the schema that a peer sent cannot be read: {error}") from error


def _read(data: Any) -> Schema:
    fields = data["fields"]
    if len(data) != 4 or not 0 < len(fields) <= MAX_COLUMNS:
        raise ValueError(f"{len(data)} entries and {len(fields)} columns")
    schema = Schema(
        _name(data["target"]),
        data["task"],
        Kind(data["target_kind"]),
        tuple(Field(_name(name), Kind(kind)) for name, kind in fields),
    )
    names = Counter(field.name for field in schema.fields)
    if schema.task not in TASKS or schema.target_kind not in _TARGET_KINDS:
        raise ValueError(f"task {schema.task!r:.40} of {schema.target_kind.value}")
    if schema.task == "regression" and schema.target_kind is not Kind.NUMBER:
        raise ValueError("a regression whose target is not a number")
    if schema.target in names or len(names) != len(schema.fields):
        raise ValueError("a column occurs twice")
    return schema


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise ValueError(f"{value!r:.40} is no name of a column")
    return value


def check_classes(data: object) -> tuple[str, ...]:
    """The classes that another peer names: distinct texts in ascending order; ValueError if they are none."""
    if not isinstance(data, list | tuple) or not 0 < len(data) <= MAX_CLASSES:
        raise ValueError("no list of classes")
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_TEXT for name in data):
        raise ValueError("a class that is no text")
    if sorted(set(data)) != list(data):
        raise ValueError("classes out of order")
    return tuple(data)


def some_of(names: list[str], limit: int = 3) -> str:
    """The first names of a list, in quotes, and how many more there are."""
    shown = ", ".join(repr(name if len(name) <= 60 else name[:57] + "...") for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def columns_are(names: list[str]) -> str:
    """The beginning of a sentence about columns."""
    return f"column {some_of(names)} is" if len(names) == 1 else f"columns {some_of(names)} are"


def it_or_them(names: list[str]) -> str:
    """The pronoun for some columns."""
    return "it" if len(names) == 1 else "them"


def _near(name: str, candidates: list[str]) -> str:
    near = get_close_matches(name, candidates, 1, 0.6)
    return f" (is {near[0]!r} meant to be {name!r}?)" if near else ""
