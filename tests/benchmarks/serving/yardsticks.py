"""What the peers are held against: the same three forests in one process."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from load import Ask
from rows import NAMES, TARGET

from p2pml.ensemble.combine import combine
from p2pml.ensemble.compiled import CompiledModel
from p2pml.ensemble.holdout import split
from p2pml.ensemble.models import Model, train
from p2pml.ensemble.portable import Portable
from p2pml.ensemble.schema import infer


def models(parts: list[Path]) -> list[Model]:
    """What the peers train of these parts, trained here."""
    trained = []
    for part in parts:
        with part.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        columns: dict[str, list[object]] = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        kept, _ = split(len(rows), 0.2, 0)
        trained.append(train(infer(columns, TARGET), columns, kept, "random-forest", 0))
    return trained


def in_process(voters: Sequence[Model | CompiledModel], data: list[list[object]]) -> Ask:
    """The mean of all votes on some rows, by one function call."""
    columns = {name: list(cells) for name, cells in zip(NAMES, zip(*data, strict=True), strict=True)}

    async def ask() -> object:
        return combine([(str(at), voter.vote(columns), voter.rows) for at, voter in enumerate(voters)])

    return ask


def compiled(trained: list[Model]) -> list[CompiledModel]:
    """The same models, run by onnxruntime."""
    return [CompiledModel(Portable.of(model)) for model in trained]


def pipelines(parts: list[Path], data: list[list[object]]) -> Ask:
    """As a user of scikit-learn has it: a pipeline of column transformers and a forest on each part, asked with a
    data frame."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    pd: Any = importlib.import_module("pandas")
    fitted: list[Any] = []
    for part in parts:
        frame = pd.read_csv(part)
        y, x = frame.pop(TARGET), frame
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        texts = OneHotEncoder(handle_unknown="ignore")
        prepared = ColumnTransformer([("numbers", numbers, NAMES[:10]), ("texts", texts, NAMES[10:])])
        fitted.append(make_pipeline(prepared, RandomForestClassifier(100, random_state=0, n_jobs=1)).fit(x, y))
    asked = pd.DataFrame(data, columns=NAMES)

    async def ask() -> object:
        return np.mean([pipeline.predict_proba(asked) for pipeline in fitted], axis=0)

    return ask
