"""Truths and answers become statistics that add up, and statistics become the scores that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p2pml.ensemble.combine import Answer, combine
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.schema import Schema
from p2pml.ensemble.values import Columns
from p2pml.errors import RemoteError

from .table import Table

if TYPE_CHECKING:
    from p2pml.ensemble.models import Model

Statistics = RegressionStatistics | ClassificationStatistics


def statistics_of(schema: Schema, columns: Columns, answer: Answer) -> Statistics:
    """The statistics of an answer on rows that carry the target; rows whose target is missing are left out."""
    kind = RegressionStatistics if schema.task == "regression" else ClassificationStatistics
    return kind.of(schema.truth(columns), answer)  # type: ignore[arg-type]


def merged(statistics: Sequence[Statistics]) -> Statistics:
    """The statistics of all the rows together; raises `RemoteError` where they are of different tasks."""
    total = statistics[0]
    for other in statistics[1:]:
        if type(other) is not type(total):
            raise RemoteError("statistics of a regression and of a classification do not add up")
        total = total.merge(other)  # type: ignore[arg-type]
    return total


def read_statistics(task: str, data: Any) -> Statistics:
    """The statistics that another peer sent; raises `RemoteError` where they are none."""
    if task == "regression":
        return RegressionStatistics.from_data(data)
    return ClassificationStatistics.from_data(data)


def score_alone(model: Model, held_out: Table) -> dict[str, float | None]:
    """Scores of one model on its own held-out rows; empty where there are none."""
    if held_out.rows == 0:
        return {}
    answer = combine([("", model.vote(held_out.columns), model.rows)])
    return statistics_of(model.schema, held_out.columns, answer).scores()
