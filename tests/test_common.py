"""Laws of the common vote: the same from any cut of the rows, nothing of small groups, no share where it is no help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.combine import blended, combine
from p2pml.ensemble.common import Common
from p2pml.ensemble.equations import LARGEST, Equations, most_bytes
from p2pml.ensemble.features import ALL_BYTES, Features
from p2pml.ensemble.knowledge import MOST_LOOKS, NO_GAIN, Decision, Knowledge, decide, looks_told
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.schema import infer
from p2pml.ensemble.sketch import Sketch
from p2pml.ensemble.space import Space
from p2pml.ensemble.summary import ModelState, Summary
from p2pml.ensemble.vote import Vote
from p2pml.errors import RemoteError
from p2pml.gossip.limits import NAME_LIMIT, VALUE_LIMIT
from p2pml.peer.held import LastWords

Columns = dict[str, list[Any]]


def table(rows: int, seed: int = 1) -> Columns:
    """Rows whose target is no line, and a class of it."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, rows))
    target = np.abs(x) + y * (x > 0) + rng.normal(0, 0.05, rows)
    names = np.array(["low", "middle", "high"])[np.digitize(target, [0.5, 1.5])]
    return {"x": x.tolist(), "y": y.tolist(), "target": target.tolist(), "class": names.tolist()}


def taken(columns: Columns, rows: Any, *names: str) -> Columns:
    return {name: [columns[name][row] for row in rows] for name in names}


def features_of(columns: Columns) -> Features:
    inputs = taken(columns, range(len(columns["x"])), "x", "y")
    schema = infer({**inputs, "t": columns["target"]}, "t")
    half = len(columns["x"]) // 2
    parts = (taken(inputs, rows, "x", "y") for rows in (range(half), range(half, 2 * half)))
    return Features.of(Space.of(Moments.of(schema, part) for part in parts))


def truth_of(columns: Columns, target: str) -> Any:
    return np.array(columns[target], float if target == "target" else object)


def told(features: Features, columns: Columns, rows: Any, target: str, least: int = 1) -> Equations:
    inputs = taken(columns, rows, "x", "y")
    found = Equations.of(features, inputs, truth_of(columns, target)[list(rows)], len(rows), least)
    assert found is not None
    return found


ROWS = table(120)
FEATURES = features_of(ROWS)
NEW = taken(table(20, seed=2), range(20), "x", "y")


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(["target", "class"]))
def test_any_cut_order_and_grouping_gives_one_common_vote(data: st.DataObject, target: str) -> None:
    """It is that of one machine with all rows, to 1e-9."""
    order = data.draw(st.permutations(range(120)))
    ends = sorted(data.draw(st.sets(st.integers(20, 100), min_size=1, max_size=4)))
    groups = [list(part) for part in np.split(np.array(order), ends) if len(part) > 1]
    parts = [told(FEATURES, ROWS, group, target) for group in groups]
    missing = sorted(set(range(120)) - {row for group in groups for row in group})
    whole = [row for row in range(120) if row not in missing]
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [parts[at + 1].merge(parts[at])]
    one = Common.fit(FEATURES, told(FEATURES, ROWS, whole, target), 1).vote(NEW)
    other = Common.fit(FEATURES, parts[0], 3).vote(NEW)
    assert one.classes == other.classes
    assert other.values == pytest.approx(one.values, abs=1e-9)


def test_the_common_vote_knows_what_no_peer_does() -> None:
    """Of two halves of a line it is near the truth on both, and its classes are probabilities."""
    rows = table(600)
    features = features_of(rows)
    halves = [[at for at in range(600) if (rows["x"][at] > 0) == side] for side in (False, True)]
    test = table(200, seed=3)
    common = Common.fit(features, Equations.total(told(features, rows, half, "target") for half in halves), 2)
    off = common.vote(taken(test, range(200), "x", "y")).values - np.array(test["target"])
    assert np.square(off).mean() < 0.1 * np.var(test["target"])
    labels = Common.fit(features, Equations.total(told(features, rows, half, "class") for half in halves), 2)
    vote = labels.vote(taken(test, range(200), "x", "y"))
    assert Vote.from_data(vote.to_data(), 200).classes == ("high", "low", "middle")
    named = np.array(vote.classes)[vote.values.argmax(axis=1)]
    assert (named == np.array(test["class"])).mean() > 0.85


def test_far_from_all_rows_the_common_vote_keeps_to_what_was_seen() -> None:
    """A line leads anywhere, and a wild row must not take the answer along."""
    common = Common.fit(FEATURES, told(FEATURES, ROWS, range(120), "target"), 1)
    wild = common.vote({"x": [1e9, -1e9], "y": [-1e9, 1e9]}).values
    target = np.array(ROWS["target"])
    assert (np.abs(wild - target.mean()) <= 10.01 * target.std()).all()


def test_what_travels_is_what_was_told() -> None:
    """Up to float32, and as one sentence where it is anything else."""
    for target in ("target", "class"):
        equations = told(FEATURES, ROWS, range(120), target)
        packed = equations.packed(FEATURES)
        assert packed is not None
        again = Equations.read(packed, FEATURES)
        assert (again.classes, again.rows, again.seen) == (equations.classes, 120, 120)
        assert again.gram == pytest.approx(equations.gram, abs=1e-5)
        assert Common.fit(FEATURES, again, 1).vote(NEW).values == pytest.approx(
            Common.fit(FEATURES, equations, 1).vote(NEW).values, abs=1e-2
        )


def changed(**how: Any) -> bytes:
    packed = told(FEATURES, ROWS, range(120), "class").packed(FEATURES)
    assert packed is not None
    data = msgpack.unpackb(packed)
    changes = {name: change(data[name]) if callable(change) else change for name, change in how.items()}
    return bytes(msgpack.packb({**data, **changes}))


def filled(number: float, kind: str = "<f4") -> Any:
    return lambda raw: np.full(len(raw) // np.dtype(kind).itemsize, number, kind).tobytes()


def test_equations_that_cannot_be_are_refused_by_one_sentence() -> None:
    """Of another size, space or library, not finite, or of no rows."""
    hostile = {
        "cannot be read": [b"\xc1", b"\x90", b"\x80", changed(rows=None), changed(classes=[1, 2, 3])],
        "are too many": [bytes(most_bytes(FEATURES) + 1)],
        "more classes": [changed(classes=[f"{at:02}" for at in range(52)])],
        "another space": [changed(space="0" * 32), changed(version=2)],
        "other libraries": [changed(mark=filled(1.0))],
        "numbers of rows": [changed(rows=0), changed(seen=-1), changed(seen=121), changed(rows=2**60)],
        "numbers": [changed(gram=lambda raw: raw[4:]), changed(means=b""), changed(cross="text")],
        "not finite, or too large": [
            changed(gram=filled(np.nan)),
            changed(means=filled(np.inf)),
            changed(target=filled(10 * LARGEST, "<f8")),
        ],
        "sum of squares": [changed(gram=filled(-1.0)), changed(spread=filled(-1.0, "<f8"))],
        "no rows have": [changed(cross=filled(9.0))],
        "shares of classes": [changed(target=filled(0.9, "<f8")), changed(target=filled(-0.1, "<f8"))],
    }
    for why, bodies in hostile.items():
        for body in bodies:
            with pytest.raises(RemoteError, match=why) as refused:
                Equations.read(body, FEATURES)
            assert "\n" not in str(refused.value)


def test_a_regression_and_a_classification_do_not_add_up() -> None:
    """Nor does a peer of the one get into the common vote of the other."""
    with pytest.raises(RemoteError, match="do not add up"):
        told(FEATURES, ROWS, range(60), "target").merge(told(FEATURES, ROWS, range(60), "class"))


def test_small_groups_leave_no_trace() -> None:
    """A rare class is not named, no unit tells a few rows from the others, and too few rows tell nothing."""
    rare = {**ROWS, "class": ["rare"] * 4 + ROWS["class"][4:]}
    equations = told(FEATURES, rare, range(120), "class", least=5)
    assert equations.classes == ("high", "low", "middle")
    assert equations.target.sum() == pytest.approx(1)
    outlier = {**ROWS, "x": [1e3, *ROWS["x"][1:]], "y": [-1e3, *ROWS["y"][1:]]}
    for shift in (-12, 12):
        features = replace(FEATURES, offsets=FEATURES.offsets + shift)
        alone = features.units(features.places(taken(outlier, range(120), "x", "y")))
        apart = (alone * shift < 0).sum(axis=0)
        few = np.flatnonzero((apart > 0) & (apart < 5))
        assert len(few)
        units = told(features, outlier, range(120), "target", least=5)
        # Off throughout, or on, and then its mean is that of a line.
        expected = alone[:, few].mean(axis=0) if shift > 0 else np.zeros(len(few))
        assert units.means[features.axes + few] == pytest.approx(expected)
    nothing: list[Any] = [np.zeros(120), np.r_[np.ones(4), np.zeros(116)], np.full(120, np.nan)]
    nothing += [np.array(["a"] * 2 + ["b"] * 2 + [None] * 116, object)]
    inputs = taken(ROWS, range(120), "x", "y")
    assert [Equations.of(FEATURES, inputs, truth, 120, 5) for truth in nothing] == [None] * 4


def test_of_more_classes_than_features_can_have_nothing_is_told() -> None:
    """Else the bytes would have no bound; so many as they can have fit, whatever their names."""
    for count, fits in ((51, True), (52, False)):
        names = {at: f"{at:02}" + "\U0001f40b" * 254 for at in range(count)}
        rows = {**ROWS, "class": [names[at % count] for at in range(120)]}
        packed = told(FEATURES, rows, range(120), "class").packed(FEATURES)
        assert (packed is not None) == fits
        assert packed is None or Equations.read(packed, FEATURES).rows == 120


def test_all_peers_together_tell_a_bounded_number_of_products() -> None:
    """However many they are, and whatever their space is like."""
    for members in (2, 8, 100, 4096):
        space = replace(FEATURES.space, members=tuple(map(str, range(members))), axes=np.zeros((500, 128)), rows=10**6)
        features = Features.of(space)
        assert 2 * features.width**2 * members <= ALL_BYTES
        assert min(features.axes, len(features.offsets)) > 0
    assert FEATURES.width == 102


def voters(rows: int, noise: float, seed: int) -> tuple[Any, list[tuple[str, Vote, int]], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    votes = [(id, Vote(None, truth + rng.normal(0, noise, rows)), 10) for id in "ab"]
    return truth, votes, {id: rng.normal(size=rows) for id in "ab"}


@given(st.integers(5, 200), st.floats(0, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_share_never_raises_the_loss_that_it_was_chosen_by(rows: int, noise: float, seed: int) -> None:
    """The sums are those of the blended answers themselves; where no share gains anything, it has none."""
    truth, votes, densities = voters(rows, 1.0, seed)
    common = Vote(None, truth + np.random.default_rng(seed + 1).normal(0.1, noise, rows))
    tried = Calibration.of(truth, votes, densities, "a", common)
    answer = combine(votes)
    losses = [
        np.square(np.asarray(blended(answer, common, share / 10).predictions) - truth).sum() for share in range(10)
    ]
    chosen = round(10 * tried.share(None))
    assert losses[chosen] <= losses[0] + 1e-9
    if min(losses[1:]) > losses[0]:
        assert chosen == 0


def test_a_better_voter_has_most_of_the_weight_and_a_worse_one_none() -> None:
    """Of few rows less is believed."""
    for rows, noise, low, high in ((500, 0.1, 0.8, 0.9), (500, 5.0, 0.0, 0.0), (10, 0.1, 0.2, 0.7)):
        truth, votes, densities = voters(rows, 1.0, 1)
        common = Vote(None, truth + np.random.default_rng(2).normal(0, noise, rows))
        assert low <= Calibration.of(truth, votes, densities, "a", common).share(None) <= high


def test_a_share_that_makes_more_errors_is_none() -> None:
    """However much smaller its loss: sharper probabilities are not worth wrong classes."""
    truth = np.array(["x"] * 60 + ["y"] * 60, object)
    unsure = np.where(truth == "x", 0.51, 0.49)
    sharp = np.where(truth == "x", 0.97, 0.03)
    sharp[:3] = 0.3
    votes = [("a", Vote(("x", "y"), np.column_stack([unsure, 1 - unsure])), 1)]
    for common, low, high in ((sharp, 0.0, 0.0), (np.where(truth == "x", 0.97, 0.03), 0.8, 0.9)):
        vote = Vote(("x", "y"), np.column_stack([common, 1 - common]))
        tried = Calibration.of(truth, votes, {"a": np.zeros(120)}, "a", vote)
        assert low <= tried.share(None) <= high


def test_classes_that_only_some_know_are_blended_in_full() -> None:
    """Probabilities add up to one, and what is said of the sums holds for them too."""
    votes = [("a", Vote(("x", "y"), np.array([[0.5, 0.5], [0.9, 0.1]])), 1)]
    common = Vote(("y", "z"), np.array([[0.2, 0.8], [1.0, 0.0]]))
    answer = blended(combine(votes), common, 0.4)
    assert answer.classes == ("x", "y", "z")
    assert answer.probabilities == pytest.approx(np.array([[0.3, 0.38, 0.32], [0.54, 0.46, 0]]))
    assert (answer.common, answer.weights.sum()) == (0.4, pytest.approx(0.6))
    truth = np.array(["w", "y"], object)
    tried = Calibration.of(truth, votes, {"a": np.zeros(2)}, "a", Vote(("x", "y"), votes[0][1].values))
    assert tried.crossed is not None
    assert tried.crossed[:12] == pytest.approx([tried.losses[0]] * 12)
    assert tried.crossed[12:] == (tried.errors[0],) * 99


def test_the_common_vote_has_a_share_once_all_have_tried_it() -> None:
    """One peer of an older version, or that has not gathered it yet, keeps it out."""
    truth, votes, densities = voters(300, 1.0, 1)
    common = Vote(None, truth + np.random.default_rng(2).normal(0, 0.1, 300))
    tried, plain = (Calibration.of(truth, votes, densities, "a", each) for each in (common, None))
    space = "b" * 32
    knows = Knowledge("a" * 32, space, tried, equations="e" * 64, share=0.9)
    again = Knowledge.from_data(msgpack.unpackb(msgpack.packb(knows.to_data())))
    assert again == knows
    decision = decide([("one", again), ("two", again)])
    assert (decision.space, decision.temperature, decision.because) == (space, None, NO_GAIN)
    assert 0.8 <= decision.share <= 0.9
    older = {name: value for name, value in knows.to_data().items() if name not in ("equations", "share", "crossed")}
    old = Knowledge.from_data(older)
    assert old.calibration == plain
    assert decide([("one", knows), ("two", old)]) == Decision(because=NO_GAIN)
    with pytest.raises(RemoteError, match="of the common vote on its held-out rows"):
        Knowledge.from_data({**knows.to_data(), "crossed": np.full(12, 1e9).tobytes() + bytes(198)})


def test_last_words_with_a_common_vote_fit_into_an_entry() -> None:
    """Else nobody could hold a replica of the model."""
    rng = np.random.default_rng(0)
    truth, votes, densities = voters(2000, 1.0, 1)
    tried = Calibration.of(truth, votes, densities, "a", votes[0][1])
    sketch = Sketch.of(rng.normal(size=2000), 5)
    metrics: dict[str, float | None] = {f"a metric of this name {at}": 1 / 3 for at in range(8)}
    summary = Summary(
        ModelState.READY,
        "hist-gradient-boosting",
        voting=True,
        schema="c" * 64,
        digest="d" * 64,
        task="classification",
        target="t" * 64,
        metrics=metrics,
    )
    knows = Knowledge("a" * 32, "b" * 32, tried, sketch, sketch, 1.5, "d" * 64, "e" * 64, 0.3, 10.0)
    knows = replace(knows, looks=looks_told({f"{at:032x}": 1.0 for at in range(MOST_LOOKS)}))
    words = LastWords("f" * 32, "n" * NAME_LIMIT, summary.last_words(), knows, 2**40)
    assert words.fits
    assert len(words.packed()) < 0.9 * VALUE_LIMIT
