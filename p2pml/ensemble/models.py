"""Models by name, and what training one on a part gives: an encoder and an estimator that sees its numbers alone.

scikit-learn is imported when an estimator is built, so that naming and checking models stays light.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pml.errors import BadInput

from .encoder import Encoder
from .estimators import Constant, Softmax, Standardised
from .fields import Schema
from .values import Columns, Floats
from .vote import Vote

DEFAULT_MODEL = "hist-gradient-boosting"

Build = Callable[[str, int, int], Any]
"""(task, seed, training rows) -> an unfitted estimator."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model trained on one part, in two pieces.

    `classes` are those of its part, ascending, or None for regression; `rows` were trained on, `skipped` were
    not because their target is missing.
    """

    name: str
    schema: Schema
    encoder: Encoder
    estimator: Any
    classes: tuple[str, ...] | None
    rows: int
    skipped: int

    def vote(self, columns: Columns, first_row: int = 1) -> Vote:
        """What this model says about each row; BadInput where a cell cannot be read."""
        features = self.encoder.encode(columns, first_row)
        if self.classes is None:
            values = np.zeros(0) if not len(features) else np.asarray(self.estimator.predict(features), np.float64)
            if values.shape != (len(features),) or not np.isfinite(values).all():
                raise BadInput(f"the model {self.name} does not give one finite number a row: take another model")
            return Vote(None, values)
        return Vote(self.classes, _probabilities(self.estimator, features, len(self.classes)))


def check_model(name: str, task: str) -> None:
    """Raise BadInput unless `name` is one of MODELS, or `package.module:factory`, that serves `task`.

    Nothing of MODELS is built: that imports scikit-learn, which a peer that votes need never load.
    """
    if ":" in name:
        _from_factory(name, task, 0)
    else:
        _build(name, task)


def train(
    schema: Schema, columns: Columns, indices: Sequence[int] | NDArray[np.int64], model: str | Build, seed: int
) -> Model:
    """Train `model` on the rows at `indices` (from 0) whose target is known; the same seed gives the same model.

    `model` is a name, or what builds the estimator.

    Regression learns the values, classification the canonical labels that occur. One class is no error: the
    model then says that class. BadInput if no target is known or the model cannot learn from these rows.
    """
    truth = schema.truth(columns)
    known = [int(index) for index in indices if truth[index] is not None and truth[index] == truth[index]]
    if not known:
        raise BadInput(
            f"the target {schema.target!r} is missing in all {len(indices)} training rows: add rows that have it"
        )
    part = {field.name: [columns[field.name][index] for index in known] for field in schema.fields}
    encoder = Encoder.fit(schema, part)
    features = encoder.encode(part)
    if isinstance(model, str):
        name, estimator = model, _estimator(model, schema.task, seed, len(known))
    else:
        estimator = model(schema.task, seed, len(known))
        name = type(estimator).__name__
    classes: tuple[str, ...] | None = None
    target: NDArray[Any] = truth[known]
    if schema.task == "classification":
        names, target = np.unique(target.astype(str), return_inverse=True)
        classes = tuple(names.tolist())
        estimator = Constant() if len(classes) == 1 else estimator
    with warnings.catch_warnings():
        # That the steps ran out before the last digit settled helps nobody who reads a peer's log.
        warnings.simplefilter("ignore")
        try:
            estimator.fit(features, target)
        except Exception as error:  # a factory's estimator may raise anything; the cause is kept
            raise BadInput(f"the model {name} cannot learn from these rows: {error}") from error
    return Model(name, schema, encoder, estimator, classes, len(known), len(indices) - len(known))


def _probabilities(estimator: Any, features: Floats, classes: int) -> Floats:
    """Shape (rows, classes): what the estimator says, or 1 at its prediction if it knows no probabilities."""
    shares = np.zeros((len(features), classes))
    if not len(features):
        return shares
    if hasattr(estimator, "predict_proba"):
        shares[:, np.asarray(estimator.classes_, int)] = estimator.predict_proba(features)
    else:
        shares[np.arange(len(features)), np.asarray(estimator.predict(features), int)] = 1.0
    total = shares.sum(axis=1, keepdims=True)
    # One against the rest may find every class impossible, to the last bit of float64: then none is likelier.
    usable = np.isfinite(total) & (total > 0)
    return np.where(usable, shares / np.where(usable, total, 1.0), 1.0 / classes)


def _estimator(name: str, task: str, seed: int, rows: int) -> Any:
    return _from_factory(name, task, seed) if ":" in name else _build(name, task)(task, seed, rows)


def _build(name: str, task: str) -> Build:
    if name not in MODELS:
        near = get_close_matches(name, MODELS, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(
            f"there is no model {name!r}: {hint}choose one of {', '.join(MODELS)}, or package.module:factory"
        )
    if MODELS[name] is _naive_bayes and task == "regression":
        others = ", ".join(other for other in MODELS if other != name)
        raise BadInput(f"{name} serves classification alone: for regression choose one of {others}")
    return MODELS[name]


def _from_factory(name: str, task: str, seed: int) -> Any:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
        estimator = factory(task, seed)
    except Exception as error:  # importing and calling foreign code may raise anything; the cause is kept
        raise BadInput(f"the model {name} cannot be made ({type(error).__name__}: {error}): mend it") from error
    if not callable(getattr(estimator, "fit", None)) or not callable(getattr(estimator, "predict", None)):
        raise BadInput(f"{name} returned {type(estimator).__name__} and no estimator with fit and predict")
    return estimator


def _leaf(task: str, rows: int) -> int:
    """Rows a leaf holds at least, so that 100 trees on any number of rows stay below about 50 MB. Trees that
    separate classes are far smaller than those that follow a number."""
    return max(1, rows // 5_000) if task == "classification" else max(2, rows // 2_500)


def _boosting(task: str, seed: int, rows: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    make = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    # A part of fewer than 40 rows has no two leaves of 20, which is the default, and would learn nothing. Classes
    # stand apart in leaves in which a number is still noise.
    leaf = rows // 8 if task == "classification" else 20 if rows >= 40 else rows // 3
    # Early stopping would hold rows back a second time, and fails where a class has a single row.
    return make(early_stopping=False, min_samples_leaf=min(20, max(2, leaf)), random_state=seed)


def _forest(task: str, seed: int, rows: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    if task == "classification":
        return RandomForestClassifier(100, min_samples_leaf=_leaf(task, rows), random_state=seed, n_jobs=1)
    # Parts are small and votes are averaged over peers: each tree sees all rows of the part, and a third of the
    # features at a split keeps trees apart (Breiman 2001, §11).
    return RandomForestRegressor(
        100, max_features=1 / 3, bootstrap=False, min_samples_leaf=_leaf(task, rows), random_state=seed, n_jobs=1
    )


def _extra_trees(task: str, seed: int, rows: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    make = ExtraTreesClassifier if task == "classification" else ExtraTreesRegressor
    return make(100, min_samples_leaf=_leaf(task, rows), random_state=seed, n_jobs=1)


def _tree(task: str, seed: int, rows: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    return (DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor)(random_state=seed)


def _linear(task: str, seed: int, rows: int) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if task == "classification":
        return LogisticRegression(max_iter=1_000, random_state=seed)
    return Ridge(random_state=seed)


def _sgd(task: str, seed: int, rows: int) -> Any:
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    if task == "classification":
        return SGDClassifier(loss="log_loss", random_state=seed, n_jobs=1)
    return Standardised(SGDRegressor(random_state=seed))


def _mlp(task: str, seed: int, rows: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if task == "classification":
        return MLPClassifier(random_state=seed)
    return Standardised(MLPRegressor(random_state=seed))


def _svm(task: str, seed: int, rows: int) -> Any:
    from sklearn.svm import SVC, SVR

    return Softmax(SVC()) if task == "classification" else Standardised(SVR())


def _knn(task: str, seed: int, rows: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    make = KNeighborsClassifier if task == "classification" else KNeighborsRegressor
    return make(n_neighbors=min(5, rows), n_jobs=1)


def _naive_bayes(task: str, seed: int, rows: int) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


MODELS: Mapping[str, Build] = MappingProxyType(
    {
        DEFAULT_MODEL: _boosting,
        "random-forest": _forest,
        "extra-trees": _extra_trees,
        "decision-tree": _tree,
        "linear": _linear,
        "sgd": _sgd,
        "mlp": _mlp,
        "svm": _svm,
        "knn": _knn,
        "naive-bayes": _naive_bayes,
    }
)
"""What --model can name. `linear` is logistic regression or ridge; `svm` has a Gaussian kernel, and the softmax
of its decision values for probabilities; all serve both tasks but `naive-bayes`, which classifies."""
