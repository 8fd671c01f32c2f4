"""Laws on real data: parts as they are met, from file to score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as scikit

from p2pml.ensemble.combine import combine
from p2pml.ensemble.holdout import split
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.models import DEFAULT_MODEL, Model, train
from p2pml.ensemble.schema import Kind, Schema, consensus, infer
from p2pml.ensemble.vote import Vote
from p2pml.peer.table import Table, read_blocks, read_table

Parts = Mapping[str, Table]


def taken(table: Table, rows: Any) -> dict[str, list[object]]:
    return {name: [cells[row] for row in rows] for name, cells in table.columns.items()}


class Ensemble:
    """Each part's model, trained on its own 80 %, and the answers of all on everybody's held-out rows."""

    def __init__(self, parts: Parts, model: str, target: str | None = None) -> None:
        schemas = {name: (infer(part.columns, target), part.rows) for name, part in parts.items()}
        agreed, self.refused = consensus(schemas)
        assert agreed is not None
        self.schema: Schema = agreed
        self.models: dict[str, Model] = {}
        self.held_out: dict[str, dict[str, list[object]]] = {}
        for name, part in parts.items():
            rows, held_out = split(part.rows, 0.2, 0)
            self.models[name] = train(schemas[name][0], part.columns, rows, model, 0)
            self.held_out[name] = taken(part, held_out)

    def scored(self) -> tuple[dict[str, float | None], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Merged scores, and the pooled truths and predictions."""
        statistics: list[Any] = []
        truths, predictions = [], []
        for rows in self.held_out.values():
            self.schema.check(rows)
            votes = [(name, sent(model.vote(rows)), model.rows) for name, model in self.models.items()]
            answer, truth = combine(votes), self.schema.truth(rows)
            kind: Any = RegressionStatistics if self.schema.task == "regression" else ClassificationStatistics
            statistics.append(kind.of(truth, answer))
            truths.append(truth)
            predictions.append(np.asarray(answer.predictions))
        total = statistics[0]
        for other in statistics[1:]:
            total = total.merge(other)
        return total.scores(), np.concatenate(truths), np.concatenate(predictions)


def sent(vote: Vote) -> Vote:
    return Vote.from_data(vote.to_data(), len(vote.values))


def test_four_forests_on_house_prices_answer_well_as_one(shared_data: Path) -> None:
    """The score is of the ensemble itself, and scikit-learn's on the pooled rows."""
    parts = {name: read_table(shared_data / "house_prices" / f"{name}.csv") for name in "ABCD"}
    ensemble = Ensemble(parts, "random-forest")
    assert ensemble.refused == {}
    assert (ensemble.schema.target, ensemble.schema.task) == ("SalePrice", "regression")
    scores, truth, predicted = ensemble.scored()
    assert scores["r2"] is not None
    assert scores["r2"] >= 0.80
    assert scores["r2"] == pytest.approx(scikit.r2_score(truth, predicted), abs=1e-9)


def test_hospitals_that_lack_whole_columns_vote_together(shared_data: Path) -> None:
    """A column that one site never filled in keeps nobody out."""
    table = read_table(shared_data / "heart_disease" / "heart_4sites.csv")
    sites = np.array(table.columns["site"])
    parts: dict[str, Table] = {}
    for site in sorted(set(sites)):
        rows = np.flatnonzero(sites == site)
        parts[site] = Table(taken(table, rows), len(rows))
    parts["switzerland"].columns["chol"] = [""] * parts["switzerland"].rows
    ensemble = Ensemble(parts, "linear")
    assert ensemble.refused == {}
    assert (ensemble.schema.task, ensemble.schema.target_kind) == ("classification", Kind.NUMBER)
    scores, truth, predicted = ensemble.scored()
    assert scores["f1_macro"] == pytest.approx(scikit.f1_score(truth.astype(str), predicted, average="macro"), abs=1e-9)
    assert ensemble.schema.label("3") == 3


def test_a_station_of_35_000_hours_is_read_learnt_and_asked(shared_data: Path) -> None:
    """Gzip, missing values and a column that never changes are nothing special."""
    path = sorted((shared_data / "beijing_air").glob("*.csv.gz"))[0]
    table = read_table(path)
    assert sum(block.rows for block in read_blocks(path)) == table.rows == 35_064
    few = Table(taken(table, range(0, table.rows, 10)), len(range(0, table.rows, 10)))
    schema = infer(table.columns, "PM2.5")
    assert [field.name for field in schema.fields if field.kind is not Kind.NUMBER] == ["wd", "station"]
    ensemble = Ensemble({"one": few}, DEFAULT_MODEL, "PM2.5")
    assert ensemble.models["one"].skipped > 0
    scores, _, _ = ensemble.scored()
    assert scores["r2"] is not None
    assert scores["r2"] > 0.8


def test_a_target_may_stand_anywhere(shared_data: Path) -> None:
    """The last column is a category, and is learnt from when it is not the target."""
    table = read_table(shared_data / "california_housing" / "housing.csv")
    few = Table(taken(table, range(0, table.rows, 10)), len(range(0, table.rows, 10)))
    scores, _, _ = Ensemble({"one": few}, DEFAULT_MODEL, "median_house_value").scored()
    assert scores["r2"] is not None
    assert scores["r2"] > 0.6
    assert infer(table.columns, None).task == "classification"
