"""Laws of the estimators that are an ensemble within one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from p2pml import GossipClassifier, GossipRegressor
from p2pml.ensemble.combine import RULES, combine
from p2pml.ensemble.cutting import WAYS

IRIS, KINDS = load_iris(return_X_y=True)
TREE = "decision-tree"
CHECKED = [
    GossipClassifier(),
    GossipRegressor(),
    GossipClassifier(3, DecisionTreeClassifier(), cut="stratified", combine="density"),
    GossipRegressor(3, DecisionTreeRegressor(), combine="weighted"),
]


@parametrize_with_checks(CHECKED)  # type: ignore[untyped-decorator]  # scikit-learn ships no types
def test_every_check_of_scikit_learn_passes(estimator: Any, check: Any) -> None:
    """As they are, and with none that is expected to fail."""
    check(estimator)


def test_the_check_that_needs_an_environment_passes_too() -> None:
    """scikit-learn looks at array libraries only where SCIPY_ARRAY_API was set before SciPy was imported."""
    script = """
from sklearn.utils.estimator_checks import check_array_api_input
from p2pml import GossipClassifier, GossipRegressor
for make in (GossipClassifier, GossipRegressor):
    check_array_api_input(make.__name__, make(), array_namespace="numpy")
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, check=True)


def test_they_work_inside_pipelines_searches_and_cross_validation() -> None:
    """What scikit-learn builds around estimators takes them as any other."""
    pipeline = make_pipeline(StandardScaler(), GossipClassifier(3, TREE, random_state=0))
    assert cross_val_score(pipeline, IRIS, KINDS, cv=3).mean() > 0.85
    grid = {"gossipclassifier__n_peers": [2, 5], "gossipclassifier__combine": ["auto", "median"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(IRIS, KINDS)
    assert search.best_score_ > 0.85
    inner = {"estimator__max_depth": [1, 4]}
    search = GridSearchCV(GossipClassifier(2, DecisionTreeClassifier(), random_state=0), inner, cv=3).fit(IRIS, KINDS)
    assert search.best_params_ == {"estimator__max_depth": 4}


@pytest.mark.parametrize("combine", ["auto", "density"])
def test_they_survive_a_dump(tmp_path: Path, combine: str) -> None:
    """What is loaded predicts to the last bit what was dumped."""
    fitted = GossipClassifier(3, TREE, combine=combine, random_state=0).fit(IRIS, KINDS)
    joblib.dump(fitted, tmp_path / "fitted")
    loaded = joblib.load(tmp_path / "fitted")
    assert np.array_equal(loaded.predict_proba(IRIS), fitted.predict_proba(IRIS))


def test_the_answer_is_the_combination_of_the_peers_votes() -> None:
    """The very votes and the very function of a cluster: there is no second ensemble here."""
    fitted = GossipClassifier(3, TREE, combine="weighted", random_state=0).fit(IRIS, KINDS)
    columns = {f"x{at}": IRIS[:, at].tolist() for at in range(4)}
    votes = [(str(at), model.vote(columns), model.rows) for at, model in enumerate(fitted.models_)]
    answer = combine(votes, "weighted")
    assert answer.probabilities is not None
    assert np.array_equal(fitted.predict_proba(IRIS), answer.probabilities)


@pytest.mark.parametrize("rule", ["auto", "stacked", *RULES])
def test_every_rule_combines(rule: str) -> None:
    """Those of the cluster, for classes and for numbers."""
    classifier = GossipClassifier(3, TREE, combine=rule, random_state=0).fit(IRIS, KINDS)
    assert classifier.score(IRIS, KINDS) > 0.9
    assert np.allclose(classifier.predict_proba(IRIS).sum(axis=1), 1)
    values, target = load_diabetes(return_X_y=True)
    assert GossipRegressor(3, TREE, combine=rule, random_state=0).fit(values, target).score(values, target) > 0.3


@pytest.mark.parametrize("way", WAYS)
def test_every_row_goes_to_one_peer(way: str) -> None:
    """However the rows are cut; and each peer has some."""
    fitted = GossipClassifier(4, TREE, cut=way, column=0 if way == "by" else None, random_state=1).fit(IRIS, KINDS)
    assert sorted(np.concatenate(fitted.rows_).tolist()) == list(range(len(IRIS)))
    assert all(len(rows) for rows in fitted.rows_)


def test_a_cut_by_a_column_gives_each_peer_a_range() -> None:
    """By its number, or by its name where there are names."""
    for column in (2, -2, "x2"):
        fitted = GossipClassifier(3, TREE, cut="by", column=column).fit(IRIS, KINDS)
        lows = [IRIS[rows, 2].min() for rows in fitted.rows_]
        highs = [IRIS[rows, 2].max() for rows in fitted.rows_]
        assert all(high <= low for high, low in zip(highs, lows[1:], strict=False))


def test_densities_mend_what_skewed_labels_break() -> None:
    """Where each peer saw few of the digits, who knows a row counts for more than how many say so."""
    digits, labels = load_digits(return_X_y=True)
    unlike = GossipClassifier(6, "linear", cut="dirichlet", alpha=0.1, random_state=0)
    fitted = [
        clone(unlike).set_params(combine=rule).fit(digits[:1200], labels[:1200]) for rule in ("mean", "density", "auto")
    ]
    mean, density, auto = (each.score(digits[1200:], labels[1200:]) for each in fitted)
    assert density > mean + 0.1
    assert auto > mean + 0.1
    assert [each.rule_ for each in fitted] == ["mean", "density", "density"]


def test_without_held_out_rows_a_stack_is_the_mean() -> None:
    """Where each peer has one row, none can be held out."""
    values = np.arange(2.0)[:, None]
    fitted = GossipRegressor(2, "linear", combine="stacked", random_state=0).fit(values, values[:, 0])
    assert fitted.rule_ == "mean"
    assert fitted.predict(values).shape == (2,)


def test_parts_that_are_alike_take_the_mean() -> None:
    """Where densities gain nothing on rows that are held out for it, "auto" leaves them alone."""
    noise = np.random.default_rng(0).normal(size=(200, 3))
    fitted = GossipRegressor(2, "linear", random_state=0).fit(noise, noise[:, 0])
    assert fitted.rule_ == "mean"
    assert [model.rows for model in fitted.models_] == [80, 80]
    assert [model.rows for model in clone(fitted).set_params(combine="mean").fit(noise, noise[:, 0]).models_] == [
        100,
        100,
    ]


def test_a_class_that_some_peers_never_saw_keeps_its_place() -> None:
    """Probabilities stand in the order of all classes, and labels come back as they were given."""
    names = np.array(["c", "a", "b"])[KINDS]
    fitted = GossipClassifier(3, TREE, cut="by", column=2).fit(IRIS, names)
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.predict_proba(IRIS[:1]).shape == (1, 3)
    assert set(fitted.predict(IRIS)) <= set(names)


def test_a_class_whose_only_row_is_held_out_has_a_place_and_no_chance() -> None:
    """At some seed it is: its column is there all the same, and 0."""
    kinds = np.where(np.arange(len(KINDS)) == 60, 7, KINDS)
    for seed in range(30):
        fitted = GossipClassifier(2, TREE, random_state=seed).fit(IRIS, kinds)
        assert fitted.classes_.tolist() == [0, 1, 2, 7]
        chances = fitted.predict_proba(IRIS)
        assert chances.shape == (len(IRIS), 4)
        if not chances[:, 3].any():
            assert fitted.score(IRIS, KINDS) > 0.8
            return
    pytest.fail("that row was held out at no seed")


def test_a_seed_repeats_the_cut_and_the_training() -> None:
    """And each peer trains with a seed of its own, also where the caller gave an estimator."""
    first, again, other = (
        GossipClassifier(3, DecisionTreeClassifier(max_features=1), random_state=seed).fit(IRIS, KINDS)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first.predict_proba(IRIS), again.predict_proba(IRIS))
    assert [rows.tolist() for rows in first.rows_] != [rows.tolist() for rows in other.rows_]
    assert len({model.estimator.random_state for model in first.models_}) == 3


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_mixed_columns_are_learned_from_as_in_a_cluster(library: str) -> None:
    """Texts, dates, booleans and gaps need no preparation; names are kept, and checked at prediction."""
    frames = pytest.importorskip(library)
    from datetime import datetime, timedelta

    days = [datetime(2024, 1, 1) + timedelta(days=at) for at in range(40)]
    mixed = {
        "size": [1.5, None, 3.0, 4.5] * 10,
        "town": ["a", "b", None, "b"] * 10,
        "day": days,
        "new": [True, False] * 20,
    }
    frame, labels = frames.DataFrame(mixed), ["no", "yes"] * 20
    fitted = GossipClassifier(2, TREE, combine="mean", random_state=0).fit(frame, labels)
    assert fitted.feature_names_in_.tolist() == list(mixed)
    assert [str(field.kind) for field in fitted.models_[0].schema.fields] == ["number", "category", "date", "boolean"]
    assert fitted.score(frame, labels) == 1.0
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"day": "d"}) if library == "pandas" else frame.rename({"day": "d"}))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_peers": 0}, "n_peers=0 is no count"),
        ({"n_peers": 151}, "n_samples=150 should be >= n_peers=151"),
        ({"cut": "half"}, "choose one of random"),
        ({"cut": "by"}, "needs column="),
        ({"cut": "by", "column": "x9"}, "is none of X, which has x0, x1, x2, x3"),
        ({"cut": "dirichlet", "alpha": 0}, "alpha=0 should be above 0"),
        ({"combine": "vote"}, "choose one of auto, stacked, mean"),
        ({"estimator": "tree"}, "there is no model 'tree'"),
        ({"estimator": DecisionTreeRegressor()}, "does not serve classification"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(wrong: dict[str, Any], words: str) -> None:
    """With what to give instead, before anything is trained."""
    with pytest.raises(ValueError, match=words):
        GossipClassifier(**wrong).fit(IRIS, KINDS)


def test_rows_that_cannot_be_used_are_named() -> None:
    """As BadInput is to a cluster's callers, so is ValueError to an estimator's."""
    with pytest.raises(ValueError, match="no column of X holds a value"):
        GossipRegressor(1, TREE).fit([[np.nan], [np.nan]], [1.0, 2.0])
    fitted = GossipRegressor(1, TREE).fit([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match="row 1, column 'x0': 'two' is not a number"):
        fitted.predict(np.array([["two"]], object))


def test_a_pipelines_own_estimator_sees_the_peers_numbers() -> None:
    """An estimator that is given trains on what the encoder writes: scaled, so that it converges as it is."""
    fitted = GossipClassifier(2, LogisticRegression(), random_state=0).fit(IRIS * 1e6, KINDS)
    assert fitted.score(IRIS * 1e6, KINDS) > 0.9
