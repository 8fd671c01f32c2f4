"""Laws of training by name and of what a model says."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from p2pml.ensemble.models import DEFAULT_MODEL, MODELS, Model, check_model, train
from p2pml.ensemble.schema import infer
from p2pml.ensemble.values import BadValue
from p2pml.errors import BadInput

RNG = np.random.default_rng(0)
SIZES = RNG.normal(size=120)
TABLE: dict[str, list[object]] = {
    "size": [None if index % 11 == 0 else value for index, value in enumerate(SIZES.tolist())],
    "town": [["a", "b", ""][index % 3] for index in range(120)],
    "price": (300_000 + 50_000 * SIZES + 10_000 * (np.arange(120) % 3)).tolist(),
    "class": [["low", "middle", "high"][int(np.digitize(value, [-0.5, 0.5]))] for value in SIZES],
}
TASKS = {"regression": "price", "classification": "class"}
SERVED = [(name, task) for name in MODELS for task in TASKS if (name, task) != ("naive-bayes", "regression")]


def trained(model: str, task: str, table: dict[str, list[object]] = TABLE, seed: int = 0) -> Model:
    columns = {name: cells for name, cells in table.items() if name not in TASKS.values() or name == TASKS[task]}
    return train(infer(columns, TASKS[task], task), columns, range(len(columns["size"])), model, seed)


def first(rows: int) -> dict[str, list[object]]:
    return {name: cells[:rows] for name, cells in TABLE.items()}


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_each_model_learns_and_casts_votes_of_its_task(name: str, task: str) -> None:
    """It does better than saying the same of every row."""
    vote = trained(name, task).vote(TABLE)
    assert vote.values.dtype == np.float64
    if task == "regression":
        assert vote.classes is None
        assert np.corrcoef(vote.values, np.array(TABLE["price"], float))[0, 1] > 0.8
    else:
        assert vote.classes == ("high", "low", "middle")
        assert vote.values.sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert np.mean(np.array(vote.classes)[vote.values.argmax(axis=1)] == TABLE["class"]) > 0.7


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_each_model_trains_on_two_rows_and_on_one_class(name: str, task: str) -> None:
    """Parts are small and skewed in life."""
    small = trained(name, task, first(2))
    assert np.isfinite(small.vote(TABLE).values).all()
    alike = trained(name, task, {**TABLE, "price": [5.0] * 120, "class": ["low"] * 120})
    vote = alike.vote(TABLE)
    assert vote.values == pytest.approx(5 if task == "regression" else 1)
    assert alike.classes == (None if task == "regression" else ("low",))


@pytest.mark.parametrize("task", TASKS)
def test_boosting_learns_from_thirty_rows(task: str) -> None:
    """Its usual leaves of 20 rows would leave a part of fewer than 40 without a single split."""
    vote = trained(DEFAULT_MODEL, task, first(30)).vote({name: TABLE[name] for name in ("size", "town")})
    assert len(np.unique(vote.values, axis=0)) > 1


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_the_same_seed_gives_the_same_model(name: str, task: str) -> None:
    """Everything random follows from the seed."""
    one, two = (trained(name, task, first(40), seed=3).vote(TABLE) for _ in range(2))
    assert np.array_equal(one.values, two.values)


def test_a_machine_of_support_vectors_gives_the_softmax_of_its_decisions() -> None:
    """Of two classes the one decision value stands for the second, its negative for the first."""
    columns: dict[str, list[object]] = {"x": list(range(-9, 9)), "y": [*("a" * 9 + "b" * 9)]}
    model = train(infer(columns, "y"), columns, range(18), "svm", 0)
    decision = model.estimator.inner.decision_function(model.encoder.encode(columns).astype(float))
    assert model.vote(columns).values[:, 1] == pytest.approx(1 / (1 + np.exp(-2 * decision)))


@pytest.mark.parametrize("task", TASKS)
def test_a_vote_does_not_depend_on_how_rows_are_cut(task: str) -> None:
    """Rows voted on in blocks or one by one get the same vote."""
    for name in ("linear", "mlp", DEFAULT_MODEL):
        model = trained(name, task)
        pieces = [
            model.vote({column: cells[at : at + 7] for column, cells in TABLE.items()}).values
            for at in range(0, 120, 7)
        ]
        assert np.concatenate(pieces) == pytest.approx(model.vote(TABLE).values, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_get_an_empty_vote(task: str) -> None:
    """Its shape still says what it is of."""
    assert trained(DEFAULT_MODEL, task).vote(first(0)).values.shape == ((0,) if task == "regression" else (0, 3))


def test_only_the_named_rows_are_trained_on_and_only_if_their_target_is_known() -> None:
    """The others are counted."""
    columns: dict[str, list[object]] = {"x": [1, 2, 3, 4, 5], "y": [1.5, None, 3.5, 100.5, "NA"]}
    model = train(infer(columns, "y"), columns, [0, 1, 2, 4], "decision-tree", 0)
    assert (model.rows, model.skipped) == (2, 2)
    assert model.vote({"x": [1, 9]}).values.tolist() == [1.5, 3.5]


def test_a_part_without_any_known_target_says_so() -> None:
    """All of them may have been held out."""
    columns: dict[str, list[object]] = {"x": [1, 2, 3], "y": [None, None, 3.5]}
    with pytest.raises(BadInput, match="the target 'y' is missing in all 2 training rows"):
        train(infer(columns, "y"), columns, [0, 1], "linear", 0)


def test_a_cell_that_cannot_be_read_names_its_row() -> None:
    """Rows count from `first_row`."""
    with pytest.raises(BadValue, match="row 9, column 'size': 'x'"):
        trained("linear", "regression").vote({"size": ["x"], "town": ["a"]}, first_row=9)


@pytest.mark.parametrize(
    ("name", "task", "sentence"),
    [
        ("random-forrest", "regression", "no model 'random-forrest': did you mean random-forest? choose one of hist-"),
        ("zzz", "regression", "there is no model 'zzz': choose one of hist-gradient-boosting, random-forest"),
        ("naive-bayes", "regression", "naive-bayes serves classification alone: for regression choose one of"),
        ("no.such.module:make", "regression", "cannot be made (ModuleNotFoundError: No module named 'no'"),
        ("math:nothing", "regression", "cannot be made (AttributeError:"),
        (":make", "regression", "cannot be made (ValueError:"),
        ("builtins:max", "classification", "cannot be made (TypeError:"),
        ("builtins:isinstance", "regression", "cannot be made (TypeError:"),
        ("operator:eq", "regression", "operator:eq returned bool and no estimator with fit and predict"),
    ],
)
def test_a_model_that_cannot_be_had_says_which_can(name: str, task: str, sentence: str) -> None:
    """The sentence comes before any training."""
    with pytest.raises(BadInput) as caught:
        check_model(name, task)
    assert sentence in str(caught.value)


class Half:
    """An estimator of somebody's own, without probabilities."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def fit(self, features: Any, target: Any) -> None:
        if self.value != self.value:
            raise RuntimeError("no luck")
        self.share = np.median(target)

    def predict(self, features: Any) -> Any:
        return np.full(len(features), self.share + self.value)


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside the data that makes estimators."""
    module: Any = types.ModuleType("beside")
    module.half = lambda task, seed: Half()
    module.infinite = lambda task, seed: Half(float("inf"))
    module.failing = lambda task, seed: Half(float("nan"))
    monkeypatch.setitem(sys.modules, "beside", module)


@pytest.mark.usefixtures("factories")
def test_a_factory_of_somebodys_own_takes_part() -> None:
    """Without probabilities, its prediction counts as certain."""
    check_model("beside:half", "regression")
    assert trained("beside:half", "regression").vote(TABLE).values == pytest.approx(np.median(TABLE["price"]))  # type: ignore[arg-type]
    vote = trained("beside:half", "classification").vote(first(2))
    assert vote.values.tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.usefixtures("factories")
def test_a_factory_that_fails_or_says_no_finite_number_is_named() -> None:
    """The cause is in the sentence."""
    with pytest.raises(BadInput, match="the model beside:failing cannot learn from these rows: no luck"):
        trained("beside:failing", "regression")
    with pytest.raises(BadInput, match="the model beside:infinite does not give one finite number a row"):
        trained("beside:infinite", "regression").vote(TABLE)


def test_a_row_that_every_class_finds_impossible_is_shared_evenly() -> None:
    """One against the rest can underflow to nothing, and then no class is likelier than another."""
    model = trained("sgd", "classification")
    model.estimator.coef_[:] = 0.0
    model.estimator.intercept_[:] = -1e9
    assert model.vote(first(1)).values == pytest.approx(1 / 3)


def test_a_forest_stays_small_on_many_rows() -> None:
    """Leaves grow with the part, so that a peer that holds a forest stays within its memory."""
    rows = 8_000
    table: dict[str, list[object]] = {
        "size": RNG.normal(size=rows).tolist(),
        "town": ["a"] * rows,
        "price": RNG.normal(size=rows).tolist(),
    }
    forest = trained("random-forest", "regression", table).estimator
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    assert nodes * 72 < 50e6


def test_naming_models_needs_no_scikit_learn() -> None:
    """A command that only lists them starts fast."""
    code = "import sys, p2pml.ensemble.models, p2pml.ensemble.metrics; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
