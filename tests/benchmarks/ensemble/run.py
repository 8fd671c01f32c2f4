"""One table: cuts × rules, against each peer alone and one model on all rows, with standard errors over seeds.

    python tests/benchmarks/ensemble/run.py [--seeds 5] [CASE ...]

Everything is as in a cluster, but in one process: 30 % of all rows are the test; each part's other rows are split into
training and held-out rows; moments, space and densities come of the training rows, and the temperature of the rows held
out. The one model is trained on all that is not the test. Scores are R² or accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from cuts import CASES, Case
from numpy.typing import NDArray

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.combine import DENSITY, RULES, Answer, Cast, combine
from p2pml.ensemble.density import Density
from p2pml.ensemble.holdout import split
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.models import Model, train
from p2pml.ensemble.moments import Moments
from p2pml.ensemble.schema import Schema, infer
from p2pml.ensemble.space import Space
from p2pml.ensemble.values import Columns, Floats, Sheet

COLUMNS = ("mean", "auto", *(rule for rule in RULES if rule != "mean"), "alone", "all rows")
SAMPLE = 5_000


class Cluster:
    """The peers of one case: models, and densities in the shared space."""

    def __init__(self, schema: Schema, case: Case, parts: list[NDArray[np.int64]], seed: int) -> None:
        self.schema = schema
        self.models = [train(schema, case.columns, rows, case.model, seed) for rows in parts]
        rows_of = [taken(case, rows) for rows in parts]
        self.space = Space.of(Moments.of(schema, rows) for rows in rows_of)
        samples = [{name: cells[:SAMPLE] for name, cells in rows.items()} for rows in rows_of]
        self.densities = [Density.fit(self.space.project(rows)) for rows in samples]

    def ask(self, columns: Columns) -> tuple[list[Cast], dict[str, Floats]]:
        """All votes on some rows, and all log-densities."""
        sheet = Sheet(columns)
        names = [f"{at:03}" for at in range(len(self.models))]
        votes = [(name, model.vote(sheet), model.rows) for name, model in zip(names, self.models, strict=True)]
        points = self.space.project(sheet)
        return votes, {name: each.log_density(points) for name, each in zip(names, self.densities, strict=True)}

    def score(self, truth: Any, answer: Answer) -> float:
        """R² or accuracy."""
        kind: Any = RegressionStatistics if answer.classes is None else ClassificationStatistics
        return float(kind.of(truth, answer).scores()["r2" if answer.classes is None else "accuracy"])


def taken(case: Case, rows: NDArray[np.int64]) -> dict[str, list[object]]:
    """Some rows of a case, without the target."""
    return {name: cells[rows].tolist() for name, cells in case.columns.items() if name != case.target}


def one_run(name: str, seed: int) -> dict[str, float]:
    """The score of each column of the table."""
    rng = np.random.default_rng(1_000 + seed)
    case = CASES[name][1](rng)
    rows = len(case.part)
    is_test = np.zeros(rows, bool)
    is_test[rng.permutation(rows)[: int(0.3 * rows)]] = True
    pools = [np.flatnonzero((case.part == part) & ~is_test) for part in np.unique(case.part)]
    pools = [pool for pool in pools if len(pool) >= 10]
    cuts = [(pool, *split(len(pool), 0.2, seed)) for pool in pools]
    schema = infer(case.columns, case.target)
    truth = schema.truth(case.columns)
    cluster = Cluster(schema, case, [pool[train_rows] for pool, train_rows, _ in cuts], seed)
    held_out = np.concatenate([pool[held] for pool, _, held in cuts])
    heat = Calibration.of(truth[held_out], *cluster.ask(taken(case, held_out))).temperature()
    votes, densities = cluster.ask(taken(case, np.flatnonzero(is_test)))
    wanted = truth[is_test]
    found = {rule: cluster.score(wanted, combine(votes, rule, densities)) for rule in RULES}
    found["auto"] = found["mean"] if heat is None else cluster.score(wanted, combine(votes, DENSITY, densities, heat))
    found["alone"] = float(np.mean([cluster.score(wanted, combine([vote])) for vote in votes]))
    whole: Model = train(schema, case.columns, np.concatenate(pools), case.model, seed)
    found["all rows"] = cluster.score(wanted, combine([("", whole.vote(taken(case, np.flatnonzero(is_test))), 1)]))
    return found


def line(name: str, runs: Sequence[dict[str, float]]) -> str:
    """One line of the table: means, their standard errors, and the closure."""
    cells = []
    for column in COLUMNS:
        scores = np.array([run[column] for run in runs])
        error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
        cells.append(f"{scores.mean():.3f} ± {error:.3f}")
    mean, auto, whole = (float(np.mean([run[column] for run in runs])) for column in ("mean", "auto", "all rows"))
    closure = f"{(auto - mean) / (whole - mean):.2f}" if CASES[name][0] else f"{auto - mean:+.4f}"
    return f"| {name} | {' | '.join(cells)} | {closure} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print(f"| cut | {' | '.join(COLUMNS)} | closure, or auto − mean |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in asked.cases or CASES:
        print(line(name, [one_run(name, seed) for seed in range(asked.seeds)]), flush=True)


if __name__ == "__main__":
    main()
