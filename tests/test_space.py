"""Laws of the shared space and of the densities in it."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from test_moments import SCHEMA, part, together

from p2pml.ensemble.density import Density
from p2pml.ensemble.fields import Field, Schema
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.space import MOST, Space, digest_of
from p2pml.ensemble.values import Kind, Sheet
from p2pml.errors import RemoteError

PARTS = [part(seed) for seed in range(3)]
MOMENTS = [Moments.of(SCHEMA, some) for some in PARTS]
SPACE = Space.of(MOMENTS)


def test_the_same_moments_give_the_same_space_to_the_last_bit() -> None:
    """In whatever order they came; the digest names the set."""
    again = Space.of([Moments.from_data(some.to_data()) for some in MOMENTS[::-1]])
    assert again.digest == SPACE.digest == digest_of({some.digest for some in MOMENTS})
    assert again.project(PARTS[0]).tobytes() == SPACE.project(PARTS[0]).tobytes()
    assert Space.of(MOMENTS[:2]).digest != SPACE.digest


def test_a_space_comes_back_from_its_data_to_the_last_bit() -> None:
    """And one of another version does not."""
    data = msgpack.unpackb(msgpack.packb(SPACE.to_data()))
    again = Space.from_data(data)
    assert again.digest == SPACE.digest
    assert again.project(PARTS[0]).tobytes() == SPACE.project(PARTS[0]).tobytes()
    with pytest.raises(ValueError, match="version 99"):
        Space.from_data(data | {"version": 99})


def test_all_rows_together_have_mean_0_and_variance_1_along_each_component() -> None:
    """What principal components are."""
    points = SPACE.project(together(*PARTS))
    assert points.shape == (90, SPACE.components)
    assert np.cov(points.T, bias=True) == pytest.approx(np.eye(SPACE.components), abs=1e-6)


def test_a_row_is_one_point_alone_or_among_others() -> None:
    """And a sheet, whose cells a model has read already, gives the same, once for all who look at it."""
    rows = PARTS[1]
    all_points = SPACE.project(rows)
    sheet = Sheet(rows)
    sheet.matrix(["b"], 1)
    assert SPACE.project(sheet).tobytes() == all_points.tobytes()
    assert SPACE.project(sheet) is SPACE.project(sheet)
    alone = SPACE.project({name: cells[7:8] for name, cells in rows.items()})
    assert alone[0] == pytest.approx(all_points[7])
    assert SPACE.project({name: [] for name in rows}).shape == (0, SPACE.components)
    assert len(sheet) == len(rows)


def test_what_a_row_lacks_is_missing() -> None:
    """A column that is not there, a level that nobody has seen: neither is an error."""
    lacking: dict[str, list[object]] = {"a": [1.0], "c": ["violet"], "d": ["2024-05-01"]}
    assert SPACE.project(lacking) == pytest.approx(SPACE.project({**lacking, "b": [None], "c": [None]}))
    assert SPACE.project({"a": [1.0], "b": [2.0], "d": ["2024-05-01"]}).shape == (1, SPACE.components)


def test_wide_tables_have_few_components() -> None:
    """However many columns there are."""
    rng = np.random.default_rng(0)
    fields = tuple(Field(f"n{at}", Kind.NUMBER) for at in range(700))
    columns = {field.name: rng.normal(size=60).tolist() for field in fields}
    space = Space.of([Moments.of(Schema("y", "regression", Kind.NUMBER, fields), columns)])
    assert space.components == MOST


def test_constant_columns_and_no_rows_have_a_space_too() -> None:
    """Without directions: every density is the same there, and rows alone weigh."""
    schema = Schema("y", "regression", Kind.NUMBER, (Field("a", Kind.NUMBER), Field("c", Kind.CATEGORY)))
    rows: dict[str, list[object]] = {"a": [3.0] * 9, "c": ["x"] * 9}
    for moments in (Moments.of(schema, rows), Moments.of(schema, {"a": [1.0], "c": ["x"]})):
        space = Space.of([moments])
        points = space.project(rows)
        assert points.shape == (9, 0)
        assert Density.fit(points).log_density(points).tolist() == [0.0] * 9


def test_the_commonest_levels_of_all_peers_have_a_place() -> None:
    """However many peers bring levels of their own."""
    schema = Schema("y", "regression", Kind.NUMBER, (Field("c", Kind.CATEGORY),))
    moments = [Moments.of(schema, {"c": [f"{seed}-{at % 30}" for at in range(300)] + ["all"] * 9}) for seed in range(3)]
    space = Space.of(moments)
    assert len(space.levels[0][1]) == 32
    assert "all" in space.levels[0][1]


def test_a_density_is_that_of_its_mixture() -> None:
    """One Gaussian's logarithm, written out; the densities of several add up to one over the plane."""
    rng = np.random.default_rng(1)
    points = np.vstack([rng.normal(-4, 1, (400, 2)), rng.normal(4, 0.5, (400, 2))])
    density = Density.fit(points)
    assert len(density.means) > 1
    step = 0.1
    grid = np.stack(np.meshgrid(np.arange(-12, 12, step), np.arange(-12, 12, step)), -1).reshape(-1, 2)
    assert np.exp(density.log_density(grid)).sum() * step**2 == pytest.approx(1, abs=1e-3)
    one = Density.fit(rng.normal(size=(5, 2)))
    covariance = np.linalg.inv(one.factors[0] @ one.factors[0].T)
    apart = np.array([1.0, 2.0]) - one.means[0]
    expected = -0.5 * (apart @ np.linalg.solve(covariance, apart) + np.log(np.linalg.det(2 * np.pi * covariance)))
    assert one.log_density(np.array([[1.0, 2.0]]))[0] == pytest.approx(expected)


def test_rows_of_a_part_are_likelier_there_than_elsewhere() -> None:
    """And the same rows and seed give the same density."""
    rng = np.random.default_rng(2)
    here, there = rng.normal(0, 1, (300, 3)), rng.normal(3, 1, (300, 3))
    one, two = Density.fit(here), Density.fit(there)
    new = rng.normal(0, 1, (200, 3))
    assert (one.log_density(new) > two.log_density(new)).mean() > 0.95
    assert Density.fit(here).log_density(new).tobytes() == one.log_density(new).tobytes()


def test_equal_rows_and_far_rows_have_a_finite_density() -> None:
    """Nothing is divided by nothing, and nothing overflows."""
    same = np.zeros((100, 3))
    density = Density.fit(same)
    assert np.isfinite(density.log_density(np.vstack([same, np.full((1, 3), 1e4)]))).all()


def test_many_measures_of_one_unit_share_one_scale() -> None:
    """A pixel that seldom changes counts for little; a column in another unit counts as much as any other."""
    rng = np.random.default_rng(0)
    fields = tuple(Field(f"n{at:03}", Kind.NUMBER) for at in range(80))
    rows: dict[str, list[object]] = {
        field.name: (rng.normal(size=60) * (0.1 if at < 20 else 1)).tolist() for at, field in enumerate(fields)
    }
    schema = Schema("y", "regression", Kind.NUMBER, fields)
    assert len(set(Space.of([Moments.of(schema, rows)]).scale.tolist())) == 1
    rows["n000"] = [float(cell) * 1e4 for cell in rows["n000"]]  # type: ignore[arg-type]
    assert len(set(Space.of([Moments.of(schema, rows)]).scale.tolist())) == 80


def test_a_space_that_cannot_be_computed_is_a_remote_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the moments of one peer do not end another."""

    def fails(matrix: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "eigh", fails)
    with pytest.raises(RemoteError, match="no space comes of them"):
        Space.of(MOMENTS)
