"""Laws of drift: what has moved is found and named, what has not raises no alarm, however long one looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from p2pml.ensemble.drift import (
    FALSE_ALARM,
    LOOK,
    NOVELTY,
    STILL,
    Alarm,
    Compared,
    Drift,
    compare,
    ground_of,
    holm,
    novelty,
    spent,
)
from p2pml.ensemble.profile import Profile
from p2pml.ensemble.schema import Field, Kind, Schema
from p2pml.ensemble.values import Floats

NAMES = [f"x{at}" for at in range(10)]
SCHEMA = Schema("y", "regression", Kind.NUMBER, tuple(Field(name, Kind.NUMBER) for name in NAMES))
MIXED = Schema("y", "regression", Kind.NUMBER, (Field("size", Kind.NUMBER), Field("colour", Kind.CATEGORY)))
Rows = dict[str, list[object]]


def table(values: Floats) -> Rows:
    return {name: values[:, at].tolist() for at, name in enumerate(NAMES)}


def part(peer: int, rows: int, rng: np.random.Generator) -> Floats:
    """Rows of one of four peers, which differ by far in two columns and in how two others depend on each other."""
    values = rng.normal(size=(rows, 10))
    values[:, 0] += 3 * peer
    values[:, 1] = np.round(values[:, 1] * 2) + (peer == 2)
    values[:, 3] += values[:, 2] * (-1) ** peer
    return values


def coloured(rows: int, rng: np.random.Generator, colours: Sequence[str] = ("red", "blue", "green")) -> Rows:
    return {"size": rng.normal(size=rows).tolist(), "colour": rng.choice(colours, rows).tolist()}


def look_at(asked: Rows, known: list[Rows], schema: Schema = MIXED) -> Drift:
    return compare(
        [Profile.of(schema, asked, 1)],
        [Profile.of(schema, each, 5) for each in known],
        [len(k[schema.fields[0].name]) for k in known],
    )


def p_of(drift: Drift, name: str) -> float:
    return next(each.p for each in drift.columns if each.name == name)


def test_a_peers_own_held_out_rows_are_no_drift_and_half_a_deviation_in_one_column_is_found_and_named() -> None:
    """100 runs each of 500 rows: no alarm in 95 and more, the column named in 95 and more."""
    rng = np.random.default_rng(7)
    known = [Profile.of(SCHEMA, table(part(peer, 2_000, rng)), 5) for peer in range(4)]
    held_out = [part(peer, 1_000, rng) for peer in range(4)]
    quiet = found = 0
    for run in range(100):
        own = held_out[run % 4]
        rows = own[rng.integers(0, len(own), 500)]
        quiet += not Alarm().look(compare([Profile.of(SCHEMA, table(rows), 1)], known, [2_000] * 4), 4)
        column = int(rng.integers(10))
        rows = own[rng.permutation(len(own))[:500]]
        rows[:, column] += 0.5 * own[:, column].std()
        moved = Alarm().look(compare([Profile.of(SCHEMA, table(rows), 1)], known, [2_000] * 4), 4)
        found += ("number", NAMES[column]) in moved
    print(f"no alarm in {quiet} of 100 runs, the moved column named in {found} of 100")
    assert quiet >= 95
    assert found >= 95


def test_rows_like_those_of_any_peers_together_are_no_drift() -> None:
    """Whatever the mixture; and its shares are found."""
    rng = np.random.default_rng(1)
    known = [Profile.of(SCHEMA, table(part(peer, 1_000, rng)), 5) for peer in range(4)]
    rows = np.vstack([part(0, 350, rng), part(3, 150, rng)])
    drift = compare([Profile.of(SCHEMA, table(rows), 1)], known, [1_000] * 4)
    assert drift.moved(STILL) == ()
    assert drift.shares == pytest.approx((0.7, 0, 0, 0.3), abs=0.05)


def test_whoever_looks_for_ever_raises_a_false_alarm_with_one_fixed_chance() -> None:
    """The parts that all looks spend add up to it, and a clear change is still found at the millionth look."""
    looks = np.arange(2, 2_000_000, dtype=float)
    total = spent(1) + float((FALSE_ALARM / 2.109742801236891 / ((looks + 1) * np.log(looks + 1) ** 2)).sum())
    assert total + FALSE_ALARM / 2.109742801236891 / np.log(2_000_000) == pytest.approx(FALSE_ALARM, rel=1e-3)
    rng = np.random.default_rng(0)
    alarms = sum(_ever(rng.uniform(size=200)) for _ in range(500))
    # Three standard errors above 5 %.
    assert 5 <= alarms <= 500 * (FALSE_ALARM + 3 * math.sqrt(FALSE_ALARM / 500))
    late = Alarm(looks=1_000_000)
    assert late.look(Drift(500, 500.0, (Compared("x", "number", 0.19, 1e-13),)), 8) == (("number", "x"),)


def _ever(ps: Floats) -> bool:
    """Whether an alarm that looks so often at nothing but chance is ever raised."""
    alarm = Alarm()
    return any(alarm.look(Drift(500, 500.0, (Compared("x", "number", 0.1, float(p)),)), 1) for p in ps)


def test_an_alarm_stands_until_the_column_is_as_before() -> None:
    """It takes little evidence to keep it, much to raise it, and each column has its own."""
    alarm = Alarm()

    def look(**ps: float) -> tuple[str, ...]:
        columns = tuple(Compared(name, "number", 0.1, p) for name, p in ps.items())
        return tuple(name for _, name in alarm.look(Drift(500, 500.0, columns), 2))

    assert look(a=0.04, b=1.0) == ()
    assert look(a=1e-9, b=0.04) == ("a",)
    assert look(a=0.04, b=1e-9) == ("a", "b")
    assert look(a=0.06, b=0.01) == ("b",)
    assert look(a=1.0, b=1.0) == ()


def test_rows_that_come_again_tell_nothing_new() -> None:
    """A program that asks about one row all day is no drift; neither is a small file that is asked about often."""
    rng = np.random.default_rng(3)
    known = [coloured(2_000, rng)]
    one = {name: cells * 500 for name, cells in coloured(1, rng).items()}
    assert look_at(one, known).moved(STILL) == ()
    few = coloured(40, rng)
    drawn = rng.integers(0, 40, 500).tolist()
    again = {name: [cells[at] for at in drawn] for name, cells in few.items()}
    drift = look_at(again, known)
    assert drift.different == pytest.approx(1 / (1 / 500 + 1 / 40), rel=0.2)
    assert drift.moved(STILL) == ()


def test_rows_that_are_equal_by_nature_all_count() -> None:
    """A table of a few levels has equal rows without anybody asking twice."""
    rng = np.random.default_rng(3)
    schema = Schema("y", "regression", Kind.NUMBER, (Field("colour", Kind.CATEGORY),))
    known: list[Rows] = [{"colour": rng.choice(["red", "blue"], 1_000).tolist()}]
    drift = look_at({"colour": ["red"] * 300}, known, schema)
    assert drift.different == 300
    assert drift.moved() == (("category", "colour"),)
    assert drift.columns[0].level in ("red", "blue")


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (
            lambda rows: rows | {"colour": ["red" if at % 2 else cell for at, cell in enumerate(rows["colour"])]},
            "colour",
        ),
        (
            lambda rows: rows | {"colour": ["pink" if at % 9 == 0 else cell for at, cell in enumerate(rows["colour"])]},
            "colour",
        ),
        (
            lambda rows: rows | {"colour": [None if at % 9 == 0 else cell for at, cell in enumerate(rows["colour"])]},
            "colour",
        ),
        (lambda rows: rows | {"size": [None if at % 9 == 0 else cell for at, cell in enumerate(rows["size"])]}, "size"),
        (lambda rows: rows | {"size": [2 * cell for cell in rows["size"]]}, "size"),
        (lambda rows: rows | {"size": [100.0 + at % 2 for at in range(500)]}, "size"),
    ],
)
def test_each_kind_of_change_is_found_and_nothing_else(change: object, moved: str) -> None:
    """More of a level, a new level, gaps, another spread, one value for all."""
    rng = np.random.default_rng(4)
    asked = change(coloured(500, rng))  # type: ignore[operator]  # one of the functions above
    drift = look_at(asked, [coloured(2_000, rng), coloured(1_000, rng)])
    assert [name for _, name in drift.moved()] == [moved]


def test_a_column_that_some_peers_lack_is_compared_with_those_that_have_it() -> None:
    """A peer without values there says nothing of them."""
    rng = np.random.default_rng(5)
    empty = coloured(1_000, rng) | {"size": [None] * 1_000}
    drift = look_at(coloured(500, rng), [coloured(1_000, rng), empty])
    assert drift.moved(STILL) == ()
    assert drift.shares[0] > 0.9


def test_what_is_suppressed_hides_a_change_and_makes_none() -> None:
    """Profiles in large groups raise no alarm that fine ones would not."""
    rng = np.random.default_rng(6)
    levels = [f"level {at}" for at in range(60)]
    known, asked = coloured(3_000, rng, levels), [coloured(60, rng, levels) for _ in range(9)]
    told = [Profile.of(MIXED, each, 5) for each in asked]
    assert compare(told, [Profile.of(MIXED, known, 5)], [3_000]).moved(STILL) == ()


def test_novelty_is_found_where_columns_alone_show_nothing() -> None:
    """Rows that are unlikely to all peers, under the same peers' densities in the same space."""
    rng = np.random.default_rng(8)
    ground = ground_of("a" * 32, ["b", "a"])
    assert ground == ground_of("a" * 32, ["a", "b"]) != ground_of("a" * 32, ["a"])
    rows = coloured(500, rng)
    known = [Profile.of(MIXED, coloured(2_000, rng), 5, {ground: rng.normal(size=300)})]
    for shift, found in ((0.0, ()), (0.5, ((NOVELTY, NOVELTY),)), (-0.5, ())):
        asked = Profile.of(MIXED, rows, 1, {ground: rng.normal(size=500) + shift})
        assert compare([asked], known, [2_000]).moved(LOOK) == found
    other = Profile.of(MIXED, rows, 1, {"c" * 32: rng.normal(size=500) + 5})
    assert compare([other], known, [2_000]).moved(STILL) == ()


def test_novelty_is_the_unlikelihood_under_all_rows_together() -> None:
    """A mean of densities, by numbers of rows."""
    logs = [np.log([0.1, 0.5]), np.log([0.3, 0.5])]
    assert novelty(logs, [100, 300]) == pytest.approx(-np.log([0.25, 0.5]))


def test_nothing_is_compared_with_nothing() -> None:
    """Neither without asked rows nor without known ones."""
    some = Profile.of(MIXED, coloured(9, np.random.default_rng(0)), 1)
    assert compare([], [some], [9]) == Drift(0, 0.0)
    assert compare([some], [Profile(0)], [9]).columns == ()


def test_holm_corrects_the_least_by_all_and_keeps_the_order() -> None:
    """By hand: 0.01 × 3, 0.02 × 2, and the greatest no less than that."""
    found = [Compared(name, "number", 0.0, p) for name, p in (("a", 0.03), ("b", 0.01), ("c", 0.02))]
    assert [each.p for each in holm(found)] == pytest.approx([0.04, 0.03, 0.04])
