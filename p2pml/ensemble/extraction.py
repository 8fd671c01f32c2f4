"""What a fitted estimator of scikit-learn has learnt, taken out of it as plain arrays.

Estimators are known by the names of their classes, so this imports no scikit-learn. A subclass is not its parent:
it may predict in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from p2pml.errors import LocalError

from .arrays import Arrays, Body, Gaussian, Layers
from .estimators import Constant, Softmax, Standardised
from .forests import Unknown, boosted, certain, forest
from .values import Floats


class NotCompiled(LocalError):
    """A model that has no form as plain arrays; the message says why, and scikit-learn serves it."""


def extract(estimator: Any, width: int, classes: int | None) -> Arrays:
    """The arrays of an estimator fitted on `width` features, for that many classes or None for regression.

    Raises NotCompiled where its kind is not known, it holds training rows, or it is too large.
    """
    try:
        arrays = _extract(estimator, width, classes)
        arrays.check(classes)
    except (Unknown, ValueError) as error:
        raise NotCompiled(str(error)) from error
    return arrays


def _extract(estimator: Any, width: int, classes: int | None) -> Arrays:
    if isinstance(estimator, Constant):
        return Arrays(certain(), width, "shares", np.zeros(1))
    if isinstance(estimator, Softmax):
        return _extract(estimator.inner, width, classes)
    if isinstance(estimator, Standardised):
        inner = _extract(estimator.inner, width, classes)
        if inner.link != "identity":
            raise Unknown(f"a standardised target does not go with the link {inner.link}")
        scale = estimator.scale
        return replace(inner, factor=inner.factor * scale, offset=inner.offset * scale + estimator.mean)
    kind = type(estimator)
    name = kind.__name__
    if kind.__module__.partition(".")[0] != "sklearn" or name not in _READERS:
        if kind.__module__.startswith(("sklearn.svm", "sklearn.neighbors")):
            raise Unknown(f"{name} holds rows that it was trained on, and they never leave their peer")
        raise Unknown(f"the arrays of {name} are not known")
    if classes is not None and not np.array_equal(estimator.classes_, np.arange(classes)):
        raise Unknown(f"{name} does not tell all the classes apart")
    return _READERS[name](estimator, width, classes)


def _tree(estimator: Any, width: int, classes: int | None) -> Arrays:
    return _forest([estimator], width, classes)


def _trees(estimator: Any, width: int, classes: int | None) -> Arrays:
    return _forest(estimator.estimators_, width, classes)


def _forest(trees: list[Any], width: int, classes: int | None) -> Arrays:
    body = forest([tree.tree_ for tree in trees], classes)
    link = "identity" if classes is None else "shares"
    return Arrays(body, width, link, np.zeros(classes or 1), 1 / len(trees))


def _boosting(estimator: Any, width: int, classes: int | None) -> Arrays:
    if estimator.is_categorical_ is not None:
        raise Unknown("its trees split categories, where the encoder gives numbers")
    offset = np.asarray(estimator._baseline_prediction, np.float64).ravel()
    if classes is None:
        links = {"IdentityLink": "identity", "LogLink": "exp"}
        link = links.get(type(estimator._loss.link).__name__, "unknown")
    else:
        link = "sigmoid" if classes == 2 else "softmax"
    return Arrays(boosted([[tree.nodes for tree in step] for step in estimator._predictors]), width, link, offset)


def _linear(estimator: Any, width: int, classes: int | None) -> Arrays:
    return Arrays(_layer(estimator), width, "identity", np.zeros(1))


def _logistic(estimator: Any, width: int, classes: int | None) -> Arrays:
    if classes == 2:
        return Arrays(_layer(estimator), width, "sigmoid", np.zeros(1))
    # Deprecated since scikit-learn 1.5 and gone since 1.8, where only liblinear still takes one against the rest.
    apart = estimator.solver == "liblinear" or getattr(estimator, "multi_class", "") == "ovr"
    return Arrays(_layer(estimator), width, "one-vs-rest" if apart else "softmax", np.zeros(classes or 1))


def _descent(estimator: Any, width: int, classes: int | None) -> Arrays:
    if estimator.loss != "log_loss":
        raise Unknown(f"SGDClassifier with the loss {estimator.loss} has no probabilities by a logistic function")
    link = "sigmoid" if classes == 2 else "one-vs-rest"
    return Arrays(_layer(estimator), width, link, np.zeros(len(estimator.coef_)))


def _layer(estimator: Any) -> Layers:
    weights = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).ravel(), len(weights))
    return Layers((_plain(weights.T),), (_plain(bias),))


def _network(estimator: Any, width: int, classes: int | None) -> Arrays:
    links = {"identity": "identity"} if classes is None else {"logistic": "sigmoid", "softmax": "softmax"}
    link = links.get(estimator.out_activation_, "unknown")
    layers = Layers(
        tuple(_plain(weights) for weights in estimator.coefs_),
        tuple(_plain(biases) for biases in estimator.intercepts_),
        estimator.activation,
    )
    return Arrays(layers, width, link, np.zeros(estimator.n_outputs_))


def _bayes(estimator: Any, width: int, classes: int | None) -> Arrays:
    body: Body = Gaussian(_plain(estimator.theta_), _plain(estimator.var_), _plain(estimator.class_prior_))
    return Arrays(body, width, "softmax", np.zeros(classes or 1))


def _plain(array: Any) -> Floats:
    return np.ascontiguousarray(array, np.float64)


_LINEAR = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lasso", "LassoCV",
    "LinearRegression", "Ridge", "RidgeCV", "SGDRegressor",
)  # fmt: skip

_READERS: Mapping[str, Callable[[Any, int, int | None], Arrays]] = MappingProxyType(
    dict.fromkeys(_LINEAR, _linear)
    | dict.fromkeys(("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier"), _tree)
    | dict.fromkeys(("RandomForestClassifier", "RandomForestRegressor"), _trees)
    | dict.fromkeys(("ExtraTreesClassifier", "ExtraTreesRegressor"), _trees)
    | dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _boosting)
    | dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), _logistic)
    | dict.fromkeys(("MLPClassifier", "MLPRegressor"), _network)
    | {"SGDClassifier": _descent, "GaussianNB": _bayes}
)
"""Who reads which class of scikit-learn; a user's own factory may return any of them."""
