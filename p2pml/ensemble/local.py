"""scikit-learn estimators that are an ensemble of peers within one process, to try what a cluster would say.

Each peer trains its own encoder and model on its own rows and casts the very `Vote` that a peer of a cluster casts,
and the votes are combined by the same functions. What differs: rows are held out only where the rule asks for some, and
the columns' kinds are found from all rows at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier, is_regressor
from sklearn.utils import check_array, check_random_state, check_X_y
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from p2pml.errors import BadInput

from .calibration import Calibration
from .combine import DENSITY, RULES, Answer, Cast, combine
from .cutting import WAYS, cut
from .density import Density
from .fields import Field, Schema
from .frames import BadCell, column_cells, is_frame, object_array
from .holdout import split
from .knowledge import AUTO, STACKED
from .models import DEFAULT_MODEL, check_model, train
from .moments import Moments
from .space import Space
from .stack import Gram
from .values import Columns, Floats, Kind, Sheet, kind_of, row_count

Cells = list[object]

MEAN = "mean"

HELD_OUT = 0.2
"""The share of its rows that a peer keeps out of training, as by default in a cluster, where the rule asks for some."""

_CHECKS = {"dtype": None, "ensure_all_finite": "allow-nan"}
"""What scikit-learn checks of X: its shape, and that nothing is infinite."""


class _Gossip(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both have in common: cutting, training each part, and asking all of them."""

    _task = ""

    def __init__(
        self,
        n_peers: int = 4,
        estimator: Any = DEFAULT_MODEL,
        *,
        cut: str = "random",
        column: str | int | None = None,
        alpha: float = 0.5,
        combine: str = AUTO,
        random_state: Any = None,
    ) -> None:
        self.n_peers = n_peers
        self.estimator = estimator
        self.cut = cut
        self.column = column
        self.alpha = alpha
        self.combine = combine
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Texts and categories work too. Those tags say more: that any object may stand in a cell.
        tags.input_tags.allow_nan = True
        return tags

    def _fit(self, X: NDArray[Any], kind: Kind, target: Cells) -> None:  # noqa: N803
        self._check_parameters(len(X))
        generator = check_random_state(self.random_state)
        columns = self._columns(X)
        # A name that no column has.
        name = "target" + "_" * sum(map(len, columns))
        schema = Schema(name, self._task, kind, tuple(Field(each, kind_of(columns[each], each)) for each in columns))
        if all(field.kind is Kind.EMPTY for field in schema.fields):
            raise ValueError("no column of X holds a value: there is nothing to learn from")
        seeds = generator.randint(2**31 - 1, size=self.n_peers + 1).tolist()
        cut_by = name if self.column is None else self._named(self.column, list(columns))
        table = {**columns, name: target}
        self.rows_ = cut(table[cut_by], cut_by, self.n_peers, self.cut, self.alpha, seeds.pop())
        share = HELD_OUT if self.combine in (AUTO, STACKED) else 0.0
        halves = [split(len(rows), share, seed) for rows, seed in zip(self.rows_, seeds, strict=True)]
        known = [rows[kept] for rows, (kept, _) in zip(self.rows_, halves, strict=True)]
        held_out = [rows[held] for rows, (_, held) in zip(self.rows_, halves, strict=True)]
        model = self.estimator if isinstance(self.estimator, str) else self._build
        self.models_ = [train(schema, table, rows, model, seed) for rows, seed in zip(known, seeds, strict=True)]
        self.rule_, self.temperature_ = self.combine, 1.0
        if self.combine in (AUTO, DENSITY, STACKED):
            parts = [_part(columns, rows) for rows in known]
            self.space_ = Space.of(Moments.of(schema, part) for part in parts)
            self.densities_ = [Density.fit(self.space_.project(part)) for part in parts]
        if self.combine in (AUTO, STACKED):
            self._settle(schema, [_part(table, rows) for rows in held_out])

    def _settle(self, schema: Schema, held_out: list[dict[str, Cells]]) -> None:
        """Choose a temperature, or fit the stack, by rows that nobody trained on, each peer's own."""
        sums, grams = [], []
        for at, part in enumerate(held_out):
            if row_count(part):
                sheet = Sheet(part)
                found = (schema.truth(part), self._votes(sheet), self._densities(sheet))
                if self.combine == AUTO:
                    sums.append(Calibration.of(*found, _text(at)))
                else:
                    grams.append(Gram.of(*found))
        if self.combine == AUTO:
            heat = Calibration.total(sums).temperature()
            self.rule_, self.temperature_ = (MEAN, 1.0) if heat is None else (DENSITY, heat)
        elif grams:
            self.stack_ = functools.reduce(Gram.merge, grams)
        else:
            self.rule_ = MEAN

    def _votes(self, columns: Columns) -> list[Cast]:
        return [(_text(at), model.vote(columns), model.rows) for at, model in enumerate(self.models_)]

    def _densities(self, columns: Columns) -> dict[str, Floats]:
        points = self.space_.project(columns)
        return {_text(at): each.log_density(points) for at, each in enumerate(self.densities_)}

    def _answer(self, X: ArrayLike) -> Answer:  # noqa: N803
        """What all peers together say of the rows of X."""
        check_is_fitted(self)
        rows = self._validated(X)
        with _as_value_errors():
            columns = Sheet(self._columns(rows))
            densities = self._densities(columns) if self.rule_ in (DENSITY, STACKED) else {}
            if self.rule_ == STACKED:
                return self.stack_.answer(self._votes(columns), densities)
            return combine(self._votes(columns), self.rule_, densities, self.temperature_)

    def _validated(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        if not is_frame(X):
            return np.asarray(validate_data(self, X, reset=False, **_CHECKS))
        validate_data(self, X, reset=False, skip_check_array=True)
        return np.asarray(check_array(object_array(X), **_CHECKS))

    def _validated_both(self, X: ArrayLike, y: ArrayLike, **more: Any) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: N803
        # scikit-learn makes one array of a frame, which not all frames become when a column holds dates or texts.
        if not is_frame(X):
            rows, target = validate_data(self, X, y, **_CHECKS, **more)
        else:
            validate_data(self, X, y, skip_check_array=True)
            rows, target = check_X_y(object_array(X), y, estimator=self, **_CHECKS, **more)
        return rows, target

    def _columns(self, X: NDArray[Any]) -> dict[str, Cells]:  # noqa: N803
        names = list(getattr(self, "feature_names_in_", ()))
        if len(set(names)) != X.shape[1]:
            names = [f"x{at}" for at in range(X.shape[1])]
        return {name: column_cells(X[:, at], name) for at, name in enumerate(names)}

    def _named(self, column: str | int, names: list[str]) -> str:
        if isinstance(column, int) and -len(names) <= column < len(names):
            return names[column]
        if column not in names:
            raise ValueError(f"column={column!r} is none of X, which has {', '.join(names[:12])}")
        return str(column)

    def _build(self, task: str, seed: int, rows: int) -> Any:
        """A copy of the caller's estimator for one peer, with a seed of its own as in scikit-learn's ensembles."""
        own = clone(self.estimator)
        seeded = [name for name in own.get_params() if name == "random_state" or name.endswith("__random_state")]
        return own.set_params(**dict.fromkeys(seeded, seed))

    def _check_parameters(self, rows: int) -> None:
        if not isinstance(self.n_peers, int | np.integer) or self.n_peers < 1:
            raise ValueError(f"n_peers={self.n_peers!r} is no count of peers: give a whole number of at least 1")
        if rows < self.n_peers:
            raise ValueError(f"n_samples={rows} should be >= n_peers={self.n_peers}: every peer needs a row")
        if self.cut not in WAYS:
            raise ValueError(f"cut={self.cut!r} is no way to cut: choose one of {', '.join(WAYS)}")
        if self.cut == "by" and self.column is None:
            raise ValueError("cut='by' needs column=, the column of X to cut by")
        if not self.alpha > 0:
            raise ValueError(f"alpha={self.alpha!r} should be above 0; the smaller, the less alike the parts")
        if self.combine not in (rules := (AUTO, STACKED, *RULES)):
            raise ValueError(f"combine={self.combine!r} is no rule: choose one of {', '.join(rules)}")
        if isinstance(self.estimator, str):
            check_model(self.estimator, self._task)
        elif (is_regressor if self._task == "classification" else is_classifier)(self.estimator):
            raise ValueError(f"estimator={self.estimator!r} does not serve {self._task}")


class GossipClassifier(ClassifierMixin, _Gossip):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that is an ensemble of peers, each trained on its own part of the rows.

    X may hold numbers, texts, booleans and dates, and missing values; a text column is a category, as in a cluster.

    Parameters
    ----------
    n_peers : int, default=4
        Into how many parts the rows are cut, one for each peer.
    estimator : str or estimator, default="hist-gradient-boosting"
        What each peer trains: a model by its name (`p2pml peer start --model`), or an estimator of scikit-learn,
        of which each peer trains a copy. Both see rows as a peer's encoder writes them: filled, scaled, one-hot.
    cut : {"random", "stratified", "dirichlet", "by"}, default="random"
        How the rows are cut, as by `p2pml split --how`.
    column : str or int, default=None
        The column of X that "stratified", "dirichlet" and "by" cut by; None is y.
    alpha : float, default=0.5
        For "dirichlet": the smaller, the less alike the parts.
    combine : {"auto", "density", "mean", "median", "stacked", "trimmed-mean", "weighted"}, default="auto"
        How votes become one answer. "density" weighs each peer on each row by its rows and its density there. "auto"
        does so where that gains on rows that the peers hold out for it, a fifth of each part, and else takes the mean.
        "stacked" is a linear fit to such rows. All other rules train on all rows.
    random_state : int, RandomState instance or None, default=None
        Seeds the cut and each peer's training.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, ascending.
    models_ : list of Model
        What each peer trained: an encoder and an estimator.
    rows_ : list of ndarray
        The rows of X that each peer has, by number from 0.
    rule_ : str
        How votes become one answer: `combine`, or what "auto" has chosen.
    temperature_ : float
        How evenly densities weigh the votes, where they do: 1 follows them as they are.
    n_features_in_, feature_names_in_
        As of every estimator; names only where X is a frame with text for names.

    Examples
    --------
    >>> from p2pml import GossipClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> GossipClassifier(n_peers=3, random_state=0).fit(X, y).predict(X[:2])
    array([0, 0])
    """

    _task = "classification"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Cut the rows and train every peer on its own. X has shape (n_samples, n_features), y (n_samples,).

        Raises ValueError where parameters or rows cannot be used; nothing is trained then.
        """
        rows, labels = self._validated_both(X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        # Texts in the order of the classes, since that is the order of a vote's probabilities.
        with _as_value_errors():
            self._fit(rows, Kind.CATEGORY, [_text(code) for code in codes.tolist()])
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The probabilities of the classes, shape (n_samples, n_classes), ordered as `classes_`."""
        answer = self._answer(X)
        assert answer.probabilities is not None
        shares = np.zeros((len(answer.probabilities), len(self.classes_)))
        # A class whose every row was held out is known to no peer.
        shares[:, [int(text) for text in answer.classes or ()]] = answer.probabilities
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The likeliest class of each row, shape (n_samples,); the first of equally likely ones."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[likeliest]
        return labels


class GossipRegressor(RegressorMixin, _Gossip):  # type: ignore[misc]  # scikit-learn ships no types
    """A regressor that is an ensemble of peers, each trained on its own part of the rows.

    Parameters and attributes are those of `GossipClassifier`, without `classes_`. "naive-bayes" does not serve here.
    """

    _task = "regression"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Cut the rows and train every peer on its own. X has shape (n_samples, n_features), y (n_samples,).

        Raises ValueError where parameters or rows cannot be used; nothing is trained then.
        """
        rows, target = self._validated_both(X, y, y_numeric=True)
        with _as_value_errors():
            self._fit(rows, Kind.NUMBER, np.asarray(target, np.float64).tolist())
        return self

    def predict(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The predicted values, shape (n_samples,)."""
        return np.asarray(self._answer(X).predictions, np.float64)


def _part(columns: Columns, rows: NDArray[Any]) -> dict[str, Cells]:
    chosen = rows.tolist()
    return {name: [cells[row] for row in chosen] for name, cells in columns.items()}


def _text(code: int) -> str:
    return f"{code:09d}"


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What cannot be used is a ValueError to callers of an estimator."""
    try:
        yield
    except BadCell:
        raise
    except BadInput as error:
        raise ValueError(str(error)) from error
