"""How far each compiled model is from scikit-learn on each shared data set: `python tests/benchmarks/compiled.py DATA`.

Every model of the list is trained on up to 2,000 rows of each set in the folder DATA and compared on these and up to
2,000 others. Prints the largest difference, in a probability or as a part of a number, and how many rows get another
class. Exit code 1 where one is beyond what may serve.
"""

from __future__ import annotations

import csv
import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from p2pml.ensemble.compiled import CompiledModel, verify
from p2pml.ensemble.extraction import NotCompiled
from p2pml.ensemble.models import MODELS, train
from p2pml.ensemble.portable import Portable
from p2pml.ensemble.schema import infer
from p2pml.errors import BadInput

ROWS = 4_000


def tables(data: Path) -> Iterator[tuple[str, str, list[str], list[list[object]]]]:
    """Each set's name, its target, the names of its columns, and its rows in a random order."""
    houses = [_csv(data / "house_prices" / f"{part}.csv") for part in "ABCD"]
    yield "house prices", "SalePrice", houses[0][0], [row for _, rows in houses for row in rows]
    names, rows = _csv(data / "california_housing" / "housing.csv")
    yield "California", "median_house_value", names, rows
    yield "California, by the sea", "ocean_proximity", names, rows
    names, rows = _csv(next((data / "beijing_air").glob("*Tiantan*")))
    yield "Beijing", "PM2.5", names, [row for row in rows if row[names.index("PM2.5")] != "NA"]
    names, rows = _csv(data / "heart_disease" / "heart_4sites.csv")
    yield "heart", "num", names, [[*row[: names.index("num")], f"grade {row[names.index('num')]}"] for row in rows]
    ill = [[*row[: names.index("num")], "no" if float(str(row[names.index("num")])) == 0 else "yes"] for row in rows]
    yield "heart, two classes", "num", names, ill
    for name in ("mnist", "fashion_mnist"):
        pixels = _idx(data / name / "t10k-images-idx3-ubyte.gz", 16).reshape(10_000, -1)
        labels = _idx(data / name / "t10k-labels-idx1-ubyte.gz", 8)
        images = [[*map(int, row), f"class {label}"] for row, label in zip(pixels, labels, strict=True)]
        yield name, "label", [*(f"p{at}" for at in range(784)), "label"], images


def _csv(path: Path) -> tuple[list[str], list[list[object]]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
        names, *rows = csv.reader(file)
    return names, [list(row) for row in rows]


def _idx(path: Path, head: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read()[head:], np.uint8)


def main() -> None:
    beyond = 0
    for name, target, names, rows in tables(Path(sys.argv[1])):
        chosen = random.Random(0).sample(rows, min(ROWS, len(rows)))
        columns: dict[str, list[object]] = dict(zip(names, map(list, zip(*chosen, strict=True)), strict=True))
        for model in MODELS:
            try:
                trained = train(infer(columns, target), columns, range(0, len(chosen), 2), model, 0)
                found = verify(trained, CompiledModel(Portable.of(trained)), columns)
            except (NotCompiled, BadInput) as error:
                print(f"{name:24} {model:24} served by scikit-learn, or not at all: {error}", flush=True)
                continue
            beyond += not found.acceptable
            print(f"{name:24} {model:24} {found.largest:.1e} {found.flipped} flipped", flush=True)
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
