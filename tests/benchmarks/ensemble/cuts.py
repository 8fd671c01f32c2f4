"""Public data, cut into parts as peers would hold them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from p2pml.peer.table import read_table

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
MISSING = (None, "", "NA")

Cells = dict[str, Any]
"""The cells of each column, as an array."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """Some rows, which column is predicted, the model, and each row's part."""

    columns: Cells
    target: str
    model: str
    part: Places


def by(values: NDArray[np.float64], parts: int) -> Places:
    """Equal parts along a column."""
    places = np.empty(len(values), np.int64)
    places[np.argsort(values, kind="stable")] = np.arange(len(values)) * parts // len(values)
    return places


def dirichlet(labels: NDArray[Any], parts: int, alpha: float, rng: np.random.Generator) -> Places:
    """Each label's rows shared out by a Dirichlet distribution."""
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        ends = (np.cumsum(rng.dirichlet([alpha] * parts))[:-1] * len(rows)).astype(int)
        for at, some in enumerate(np.split(rows, ends)):
            places[some] = at
    return places


def california(rng: np.random.Generator, skewed: bool) -> Case:
    """House prices in six strips of longitude, or in eight parts at random."""
    columns = _cells(DATA / "california_housing" / "housing.csv")
    longitude = columns["longitude"].astype(float)
    part = by(longitude, 6) if skewed else rng.integers(0, 8, len(longitude))
    return Case(columns, "median_house_value", "hist-gradient-boosting", part)


def beijing(rng: np.random.Generator, skewed: bool) -> Case:
    """48,000 hours of air by temperature in eight, or by station."""
    tables = [_cells(path) for path in sorted((DATA / "beijing_air").glob("*.csv.gz"))]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    chosen = np.sort(rng.permutation(len(columns["PM2.5"]))[:48_000])
    chosen = chosen[[columns["PM2.5"][row] not in MISSING for row in chosen]]
    columns = {name: cells[chosen] for name, cells in columns.items()}
    heat = np.array([0.0 if cell in MISSING else float(cell) for cell in columns["TEMP"]])
    part = by(heat, 8) if skewed else np.unique(columns["station"].astype(str), return_inverse=True)[1]
    return Case(columns, "PM2.5", "hist-gradient-boosting", part)


def heart(rng: np.random.Generator) -> Case:
    """Heart disease by hospital, without the hospital's name."""
    columns = _cells(DATA / "heart_disease" / "heart_4sites.csv")
    part = np.unique(columns.pop("site").astype(str), return_inverse=True)[1]
    columns["num"] = np.where(columns["num"].astype(float) > 0, "yes", "no").astype(object)
    return Case(columns, "num", "linear", part)


def houses(rng: np.random.Generator) -> Case:
    """House prices in the four parts that they come in."""
    tables = [_cells(DATA / "house_prices" / f"{name}.csv") for name in "ABCD"]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    part = np.repeat(np.arange(4), [len(table["SalePrice"]) for table in tables])
    return Case(columns, "SalePrice", "hist-gradient-boosting", part)


def images(rng: np.random.Generator, name: str, rows: int, alpha: float, model: str) -> Case:
    """Images in eight parts, skewed by label."""
    folder = DATA / name
    pixels = np.frombuffer(gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    chosen = np.sort(rng.permutation(len(labels))[:rows])
    table = pixels.reshape(-1, 784)[chosen].astype(float)
    columns: Cells = {f"p{at}": table[:, at] for at in range(784)}
    columns["label"] = labels[chosen].astype(int)
    return Case(columns, "label", model, dirichlet(columns["label"], 8, alpha, rng))


def bundled(rng: np.random.Generator, load: Callable[[], Any], parts: int, how: str, model: str) -> Case:
    """A set of scikit-learn's own: by label (Dirichlet(0.3)), by k-means clusters, by the column that says most of the
    target, or at random."""
    data = load()
    values, target = np.asarray(data.data, float), np.asarray(data.target)
    columns: Cells = {f"x{at:02}": values[:, at] for at in range(values.shape[1])}
    # Classes are texts, so that they are not taken for numbers.
    columns["y"] = np.array([f"c{label}" for label in target], object) if hasattr(data, "target_names") else target
    if how == "by label":
        part = dirichlet(target, parts, 0.3, rng)
    elif how == "by cluster":
        scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
        part = KMeans(parts, n_init=2, random_state=int(rng.integers(1_000))).fit_predict(scaled).astype(np.int64)
    elif how == "by column":
        known = values.std(axis=0) > 0
        says = [
            abs(np.corrcoef(column, target)[0, 1]) if some else 0.0
            for column, some in zip(values.T, known, strict=True)
        ]
        part = by(values[:, int(np.argmax(says))], parts)
    else:
        part = rng.integers(0, parts, len(target))
    return Case(columns, "y", model, part)


def _cells(path: Path) -> Cells:
    return {name: np.array(cells, object) for name, cells in read_table(path).columns.items()}


CASES: dict[str, tuple[bool, Callable[[np.random.Generator], Case]]] = {
    "California by longitude": (True, lambda rng: california(rng, True)),
    "Beijing air by temperature": (True, lambda rng: beijing(rng, True)),
    "heart disease by hospital": (True, heart),
    "MNIST, Dirichlet(0.1)": (True, lambda rng: images(rng, "mnist", 12_000, 0.1, "hist-gradient-boosting")),
    "Fashion-MNIST, Dirichlet(0.3)": (True, lambda rng: images(rng, "fashion_mnist", 20_000, 0.3, "mlp")),
    "California at random": (False, lambda rng: california(rng, False)),
    "Beijing air by station": (False, lambda rng: beijing(rng, False)),
    "house prices A to D": (False, houses),
    **{
        f"{name} {how}, {model}": (how != "at random", partial(bundled, load=load, parts=parts, how=how, model=model))
        for name, load, parts, cuts in (
            ("digits", load_digits, 6, ("by label", "by cluster", "at random")),
            ("breast cancer", load_breast_cancer, 4, ("by cluster", "at random")),
            ("wine", load_wine, 3, ("by label",)),
            ("diabetes", load_diabetes, 4, ("by column", "at random")),
        )
        for how in cuts
        for model in ("linear", "random-forest")
    },
}
"""By name: whether the cut is skewed, and how it is made."""
