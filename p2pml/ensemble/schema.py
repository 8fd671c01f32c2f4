"""What the columns of a part are, which one is predicted, and how: found from the cells themselves."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput

from .consensus import consensus
from .fields import MAX_CLASSES, TASKS, Field, Schema, some_of
from .values import BadValue, Columns, Kind, is_number, kind_of, numbers, row_count, texts

__all__ = ["Field", "Kind", "Schema", "consensus", "infer"]

FEW_VALUES = 20
"""A target of at most so many distinct whole numbers, each seen three times on average, holds classes."""


def infer(columns: Columns, target: str | None, task: str = "auto") -> Schema:
    """The schema of a part of at least two rows; BadInput says what stands in the way.

    `target` None is the last column. Under task "auto" a target of text or booleans is for classification,
    and so is one of whole numbers with at most two distinct values, or with at most FEW_VALUES of which each
    is seen three times on average; any other is for regression.
    """
    if task != "auto" and task not in TASKS:
        raise BadInput(f"--task {task!r} is unknown: choose auto, {' or '.join(TASKS)}")
    if not columns:
        raise BadInput("there are no columns: give a table with a header line")
    target = list(columns)[-1] if target is None else target
    if target not in columns:
        near = get_close_matches(target, columns, 1, 0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"the columns are {some_of(list(columns), 12)}"
        raise BadInput(f"there is no column {target!r} for --target: {hint}")
    rows = row_count(columns)
    if rows < 2:
        raise BadInput(f"there {'is one row' if rows else 'are no rows'}: training needs at least two")
    fields = tuple(Field(name, kind_of(cells, name)) for name, cells in columns.items() if name != target)
    if all(field.kind is Kind.EMPTY for field in fields):
        raise BadInput(f"no column besides the target {target!r} holds a value: there is nothing to learn from")
    task, target_kind = _task(columns, target, task)
    return Schema(target, task, target_kind, fields)


def _task(columns: Columns, target: str, task: str) -> tuple[str, Kind]:
    cells = columns[target]
    kind = kind_of(cells, target)
    if kind is Kind.EMPTY:
        raise BadInput(f"the target {target!r} is missing in every row: choose another column with --target")
    if kind is Kind.DATE:
        raise BadInput(f"the target {target!r} holds dates, which no model predicts: choose another with --target")
    if kind is Kind.NUMBER:
        if task == "auto":
            task = "classification" if _few_whole_numbers(numbers(cells, target)) else "regression"
        distinct = len(np.unique(numbers(cells, target)))
    else:
        if task == "regression":
            _refuse_text(cells, target)
        task = "classification"
        seen = set(texts(cells, target)) - {None}
        distinct = len(seen)
        # Yes and no are shown as they were written; only true and false have a value of their own.
        kind = Kind.BOOLEAN if seen <= {"true", "false"} else Kind.CATEGORY
    if task == "classification" and distinct > MAX_CLASSES:
        raise BadInput(
            f"the target {target!r} has {distinct} distinct values, too many for classes: choose another "
            "column with --target" + (", or --task regression" if kind is Kind.NUMBER else "")
        )
    return task, kind


def _few_whole_numbers(values: NDArray[np.float64]) -> bool:
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    whole = bool((distinct == np.floor(distinct)).all())
    return whole and (len(distinct) <= 2 or len(distinct) <= min(FEW_VALUES, len(known) // 3))


def _refuse_text(cells: Iterable[object], target: str) -> NoReturn:
    """Name the first cell of a column that is not of numbers which is none."""
    row, cell = next((row, cell) for row, cell in enumerate(cells, 1) if isinstance(cell, bool) or not is_number(cell))
    advice = "is not a number: regression needs numbers, so mend it or take --task classification"
    raise BadValue(row, target, cell, advice)
