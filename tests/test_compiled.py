"""Laws of compiled models: they say what scikit-learn says, without it, or say why they cannot."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree

from p2pml.ensemble import values
from p2pml.ensemble.compiled import CompiledModel, Difference, verify
from p2pml.ensemble.extraction import NotCompiled
from p2pml.ensemble.models import MODELS, Model, train
from p2pml.ensemble.portable import Portable
from p2pml.ensemble.schema import infer
from p2pml.ensemble.values import BadValue
from p2pml.peer.table import read_table

RNG = np.random.default_rng(5)
SIZE, AGE = RNG.normal(size=300), RNG.gamma(2, size=300)
ROWS: dict[str, list[object]] = {
    "size": [None if index % 11 == 0 else value for index, value in enumerate(SIZE.tolist())],
    "age": AGE.tolist(),
    "town": [["paris", "oslo", "rome", None][index % 4] for index in range(300)],
    "sold": [datetime(2020, 1, 1) + timedelta(hours=31 * index) for index in range(300)],
    "new": [index % 3 == 0 for index in range(300)],
}
SCORE = SIZE + np.sqrt(AGE) + np.arange(300) % 4 + RNG.normal(size=300) / 3
TARGETS: dict[str, list[object]] = {
    "regression": (SCORE * 50_000).tolist(),
    "two": ["high" if score > 3 else "low" for score in SCORE],
    "four": [f"class{min(3, max(0, int(score)))}" for score in SCORE],
}
NEVER = ("svm", "knn")
SERVED = [
    (name, target)
    for name in MODELS
    for target in TARGETS
    if name not in NEVER and (name, target) != ("naive-bayes", "regression")
]


def trained(name: str, target: str, rows: int = 300) -> Model:
    columns = {column: cells[:rows] for column, cells in {**ROWS, "y": TARGETS[target]}.items()}
    task = "regression" if target == "regression" else "classification"
    return train(infer(columns, "y", task), columns, range(0, rows, 2), name, 0)


def compiled(model: Model) -> CompiledModel:
    """As a peer does it, be the model its own or another's: by way of the bytes."""
    return CompiledModel(Portable.read(Portable.of(model).packed()))


def first(rows: int) -> dict[str, list[object]]:
    return {column: cells[:rows] for column, cells in ROWS.items()}


@pytest.mark.parametrize(("name", "target"), SERVED)
def test_a_compiled_model_says_what_scikit_learn_says(name: str, target: str) -> None:
    """No class flips, and only the last digits of float64 may differ, a forest's shares a little more."""
    model = trained(name, target)
    difference = verify(model, compiled(model), ROWS)
    assert difference.flipped == 0
    assert difference.largest < 1e-7


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NEVER)
def test_a_model_that_holds_training_rows_is_not_compiled(name: str, target: str) -> None:
    """Its arrays would carry rows to other peers."""
    with pytest.raises(NotCompiled, match="holds rows that it was trained on, and they never leave their peer"):
        Portable.of(trained(name, target))


@pytest.mark.parametrize("name", ["random-forest", "linear", "naive-bayes"])
def test_a_part_of_one_class_compiles_to_that_class(name: str) -> None:
    """It is certain of all that it has seen."""
    columns: dict[str, list[object]] = {**ROWS, "y": ["only"] * 300}
    vote = compiled(train(infer(columns, "y", "classification"), columns, range(300), name, 0)).vote(first(2))
    assert vote.classes == ("only",)
    assert vote.values.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*NEVER, "naive-bayes")])
def test_a_target_that_never_changes_compiles_to_it(name: str) -> None:
    """Trees of one leaf, and a scale of 0."""
    columns: dict[str, list[object]] = {**first(40), "y": [7.25] * 40}
    model = train(infer(columns, "y", "regression"), columns, range(40), name, 0)
    assert compiled(model).vote(first(9)).values == pytest.approx(7.25)


FACTORIES: dict[str, tuple[str, Callable[[], Any]]] = {
    "trees grown best first": ("four", lambda: tree.DecisionTreeClassifier(max_leaf_nodes=9, random_state=0)),
    "a forest of weighted classes": (
        "four",
        lambda: ensemble.RandomForestClassifier(7, class_weight="balanced", min_samples_leaf=3, random_state=0),
    ),
    "a boosted count": (
        "regression",
        lambda: _positive(ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=9)),
    ),
    "a boosted median": (
        "regression",
        lambda: ensemble.HistGradientBoostingRegressor(loss="absolute_error", max_iter=9),
    ),
    "least squares": ("regression", linear_model.LinearRegression),
    "without a constant": ("regression", lambda: linear_model.Lasso(fit_intercept=False)),
    "a Bayesian line": ("regression", linear_model.BayesianRidge),
    "one against the rest": ("two", lambda: linear_model.LogisticRegression(solver="liblinear")),
    "layers of tanh": (
        "four",
        lambda: neural_network.MLPClassifier((8, 5), activation="tanh", max_iter=20, random_state=0),
    ),
    "layers of sigmoids": (
        "two",
        lambda: neural_network.MLPClassifier((8,), activation="logistic", max_iter=20, random_state=0),
    ),
    "layers that are lines": (
        "regression",
        lambda: neural_network.MLPRegressor(
            hidden_layer_sizes=(8,), activation="identity", max_iter=20, random_state=0
        ),
    ),
    "priors of one's own": ("two", lambda: naive_bayes.GaussianNB(priors=[0.3, 0.7])),
}

REFUSED: dict[str, tuple[str, Callable[[], Any], str]] = {
    "neighbours": ("two", neighbors.KNeighborsClassifier, "KNeighborsClassifier holds rows"),
    "support vectors": ("regression", svm.SVR, "SVR holds rows"),
    "many models": (
        "two",
        lambda: ensemble.AdaBoostClassifier(n_estimators=2),
        "the arrays of AdaBoostClassifier are not known",
    ),
    "a hinge": ("two", lambda: linear_model.SGDClassifier(loss="hinge"), "SGDClassifier with the loss hinge"),
    "categories of its own": (
        "two",
        lambda: ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        "its trees split categories",
    ),
    "a child of a known class": (
        "regression",
        type("Mine", (linear_model.Ridge,), {}),
        "the arrays of Mine are not known",
    ),
}


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any], str], Model]:
    """Trains the estimator of a user's own factory."""

    def make(build: Callable[[], Any], target: str) -> Model:
        module: Any = types.ModuleType("beside")
        module.make = lambda task, seed: build()
        monkeypatch.setitem(sys.modules, "beside", module)
        return trained("beside:make", target)

    return make


Factory = Callable[[Callable[[], Any], str], Model]


@pytest.mark.parametrize("name", FACTORIES)
def test_the_estimator_of_a_factory_compiles_if_its_class_is_known(name: str, factory: Factory) -> None:
    """With all its options, it says what scikit-learn says."""
    target, build = FACTORIES[name]
    if name == "a boosted count":
        target, build = (
            "regression",
            lambda: _positive(ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=9)),
        )
    model = factory(build, target)
    difference = verify(model, compiled(model), ROWS)
    assert difference.flipped == 0
    assert difference.largest < 1e-7


def _positive(estimator: Any) -> Any:
    """The same, but that it learns the size of its target: a count is never negative."""
    fit = estimator.fit
    estimator.fit = lambda features, target: fit(features, np.abs(target))
    return estimator


@pytest.mark.parametrize("name", REFUSED)
def test_an_estimator_whose_arrays_are_not_known_says_so(name: str, factory: Factory) -> None:
    """The sentence names its class; a child of a known class may predict in another way."""
    target, build, sentence = REFUSED[name]
    with pytest.raises(NotCompiled, match=sentence):
        Portable.of(factory(build, target))


def test_a_tie_goes_to_the_class_that_scikit_learn_gives_it() -> None:
    """Rows that differ in their class alone leave halves in the leaves of every tree."""
    columns: dict[str, list[object]] = {"x": [0, 0, 1, 1, 2, 2] * 5, "y": [*("abbaab" * 5)]}
    for name in ("decision-tree", "random-forest", "extra-trees"):
        model = train(infer(columns, "y"), columns, range(30), name, 0)
        assert verify(model, compiled(model), columns).flipped == 0


def test_classes_that_are_all_unlikely_keep_their_order() -> None:
    """One against the rest divides tiny probabilities by each other."""
    model = trained("sgd", "four")
    model.estimator.coef_ *= 40
    model.estimator.intercept_[:] = [-100, -90, -80, -85]
    difference = verify(model, compiled(model), ROWS)
    assert (difference.flipped, difference.largest < 1e-9) == (0, True)


def test_a_row_that_every_class_finds_impossible_is_shared_evenly() -> None:
    """As in scikit-learn's place: no class is likelier than another."""
    model = trained("sgd", "four")
    model.estimator.coef_[:] = 0.0
    model.estimator.intercept_[:] = -1e9
    assert compiled(model).vote(first(1)).values == pytest.approx(1 / 4)


@pytest.mark.parametrize("target", TARGETS)
def test_no_rows_get_an_empty_vote(target: str) -> None:
    """Its shape still says what it is of."""
    model = trained("linear", target)
    vote, other = compiled(model).vote(first(0)), model.vote(first(0))
    assert vote.values.shape == other.values.shape
    assert vote.classes == other.classes


def test_rows_unlike_any_in_training_are_voted_on() -> None:
    """Unseen towns, huge numbers and missing values reach both models as the same features."""
    model = trained("hist-gradient-boosting", "four")
    odd: dict[str, list[object]] = {
        "size": [1e300, None, -1e300],
        "age": [None, 0, 1],
        "town": ["zagreb", None, ""],
        "sold": ["1066-10-14", None, "2999-12-31T23:59:59"],
        "new": [None, "maybe", "yes"],
    }
    assert verify(model, compiled(model), odd).largest < 1e-12


def test_a_cell_that_cannot_be_read_names_its_row() -> None:
    """Rows count from `first_row`."""
    with pytest.raises(BadValue, match="row 9, column 'age': 'x'"):
        compiled(trained("linear", "two")).vote({**first(1), "age": ["x"]}, first_row=9)


@pytest.mark.parametrize("name", ["random-forest", "mlp", "naive-bayes"])
def test_a_vote_does_not_depend_on_how_rows_are_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large inputs run in blocks, so that memory stays flat."""
    model = trained(name, "four")
    whole = compiled(model).vote(ROWS).values
    monkeypatch.setattr(values, "NEAR", 700)
    assert compiled(model).vote(ROWS).values == pytest.approx(whole, abs=1e-12)


def test_threads_may_share_a_model() -> None:
    """Each gets the votes of its own rows."""
    model = compiled(trained("random-forest", "regression"))
    alone = model.vote(ROWS).values

    def one(row: int) -> float:
        return float(model.vote({name: [cells[row]] for name, cells in ROWS.items()}).values[0])

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(one, range(300))) == pytest.approx(alone)


def test_a_difference_is_seen() -> None:
    """A model that is not the one it was made from may not serve."""
    one, other = trained("linear", "two"), trained("linear", "two", 100)
    difference = verify(one, compiled(other), ROWS)
    assert difference.flipped > 0
    assert not difference.acceptable
    assert not verify(trained("linear", "regression"), compiled(trained("linear", "regression", 100)), ROWS).acceptable
    assert not Difference(1e-4, 0).acceptable
    assert not Difference(1e-9, 1).acceptable


def test_a_compiled_model_votes_without_scikit_learn(tmp_path: Path) -> None:
    """A process that only votes does not pay for it."""
    packed = tmp_path / "model"
    packed.write_bytes(Portable.of(trained("random-forest", "two")).packed())
    code = (
        "import sys, pathlib\n"
        "from p2pml.ensemble.compiled import CompiledModel\n"
        "from p2pml.ensemble.portable import Portable\n"
        "model = CompiledModel(Portable.read(pathlib.Path(sys.argv[1]).read_bytes()))\n"
        "model.vote({'size': [1], 'age': [2], 'town': ['rome'], 'sold': ['2020-01-01'], 'new': [True]})\n"
        "sys.exit(bool({'sklearn', 'scipy', 'pandas'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(packed)], check=False).returncode == 0


@pytest.mark.parametrize("name", ["hist-gradient-boosting", "extra-trees", "linear", "mlp"])
def test_house_prices_are_the_same_from_a_compiled_model(name: str, shared_data: Path) -> None:
    """Eighty columns of mixed kinds, with missing values, on rows that were trained on and rows that were not."""
    table = read_table(shared_data / "house_prices" / "C.csv")
    model = train(infer(table.columns, "SalePrice"), table.columns, range(0, table.rows, 2), name, 0)
    assert verify(model, compiled(model), table.columns).largest < 1e-10


@pytest.mark.parametrize("name", ["random-forest", "sgd", "naive-bayes"])
def test_hearts_are_the_same_from_a_compiled_model(name: str, shared_data: Path) -> None:
    """Five classes that are hard to tell apart: ties would show."""
    table = read_table(shared_data / "heart_disease" / "heart_4sites.csv")
    model = train(infer(table.columns, "num"), table.columns, range(0, table.rows, 2), name, 0)
    difference = verify(model, compiled(model), table.columns)
    assert difference.flipped == 0
    assert difference.largest < 1e-7
