"""Two tables: cuts × rules, and what else an answer promises, each the mean over seeds with its standard error.

    python tests/benchmarks/ensemble/run.py [--seeds 5] [--keep FILE] [CASE ...]

Everything is as in a cluster, but in one process: 30 % of all rows are the test; each part's other rows are split into
training and held-out rows; moments, space and densities come of the training rows, and all that is chosen, of each
peer's trial on the rows held out. The one model is trained on all that is not the test. Scores are R² or accuracy. With
`--keep`, runs are written to a file of JSON lines as they end, and those that are in it are not run again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cuts import CASES, Case
from numpy.typing import NDArray

from p2pml.ensemble.calibration import Calibration
from p2pml.ensemble.certainty import errors_of, likely, reach
from p2pml.ensemble.combine import DENSITY, RULES, Answer, Cast, blended, combine
from p2pml.ensemble.common import Common
from p2pml.ensemble.density import Density
from p2pml.ensemble.equations import Equations
from p2pml.ensemble.features import Features
from p2pml.ensemble.holdout import split
from p2pml.ensemble.home import Told, recognised, sites_of
from p2pml.ensemble.metrics import ClassificationStatistics, RegressionStatistics
from p2pml.ensemble.models import train
from p2pml.ensemble.moments import MIN_COUNT, Moments
from p2pml.ensemble.schema import Schema, infer
from p2pml.ensemble.space import Space
from p2pml.ensemble.stack import Gram
from p2pml.ensemble.trials import Trial
from p2pml.ensemble.values import Columns, Floats, Sheet
from p2pml.ensemble.vote import Vote

SCORES = ("mean", "auto", *(rule for rule in RULES if rule != "mean"), "stacked", "common", "alone", "all rows")
PROMISES = ("within 90 %", "behind, auto", "behind, local", "behind on test rows", "30 % gone", "share")
SAMPLE, TRIED = 5_000, 1_000
"""Rows of which a density is fitted, and held-out rows of one peer that are tried, at most: as in a cluster."""
FEWEST = 10
"""Test rows of one site that are scored."""
LOSSES = 20
"""Choices of lost peers that are averaged."""

Heard = tuple[list[Cast], dict[str, Floats], Vote | None]
"""All votes on some rows, all log-densities, and the common vote."""


class Cluster:
    """The peers of one case: models, and densities in the shared space; a name for each, in order."""

    def __init__(self, schema: Schema, case: Case, parts: list[NDArray[np.int64]], seed: int) -> None:
        self.names = [f"{at:03}" for at in range(len(parts))]
        self.models = [train(schema, case.columns, rows, case.model, seed) for rows in parts]
        rows_of = [taken(case, rows) for rows in parts]
        self.space = Space.of(Moments.of(schema, rows) for rows in rows_of)
        samples = [{name: cells[:SAMPLE] for name, cells in rows.items()} for rows in rows_of]
        self.densities = [Density.fit(self.space.project(rows)) for rows in samples]
        features, truth = Features.of(self.space), schema.truth(case.columns)
        told = [
            Equations.of(features, sample, truth[rows[:SAMPLE]], len(rows), MIN_COUNT)
            for sample, rows in zip(samples, parts, strict=True)
        ]
        packed = [each.packed(features) for each in told if each is not None]
        read = [Equations.read(each, features) for each in packed if each is not None]
        self.common = Common.fit(features, Equations.total(read), len(read)) if read else None

    def ask(self, columns: Columns) -> Heard:
        """What everybody says of some rows."""
        sheet = Sheet(columns)
        votes = [(name, model.vote(sheet), model.rows) for name, model in zip(self.names, self.models, strict=True)]
        points = self.space.project(sheet)
        logs = {name: each.log_density(points) for name, each in zip(self.names, self.densities, strict=True)}
        return votes, logs, None if self.common is None else self.common.vote(sheet)


class Rules:
    """What the peers have chosen on their held-out rows, and the answers that follow."""

    def __init__(self, trials: Mapping[str, Trial]) -> None:
        total = Calibration.total(trial.calibration for trial in trials.values())
        self.heat = total.temperature()
        self.share = total.share(self.heat)
        self.gram = functools.reduce(Gram.merge, (trial.gram for trial in trials.values()))
        self.favours = {name: (name, trial.home.favour(self.heat, self.share)) for name, trial in trials.items()}
        told = {
            name: Told(name, trial.calibration, self.favours[name][1], trial.home.looks(self.heat or 1.0))
            for name, trial in trials.items()
        }
        self.sites = sites_of(told, self.heat or 1.0)
        errors = {name: trial.errors_at(self.heat, self.share) for name, trial in trials.items()}
        self.errors = {name: sketch for name, sketch in errors.items() if sketch is not None}

    def answer(self, rule: str, heard: Heard, asked: str = "") -> Answer:
        """The answer by a rule; that of "local" is of the peer that is asked."""
        votes, densities, common = heard
        if rule == "stacked":
            return self.gram.answer(votes, densities)
        if rule in ("auto", "local"):
            favour = self.favours.get(asked) if rule == "local" else None
            if rule == "auto" and self.heat is not None:
                favour = recognised(votes, densities, self.heat, self.sites)
            answer = combine(votes, "mean" if self.heat is None else DENSITY, densities, self.heat or 1.0, favour)
            return blended(answer, common, self.share) if common is not None and self.share else answer
        return combine(votes, rule, densities)


def score(truth: Any, answer: Answer) -> float:
    """R² or accuracy."""
    kind: Any = RegressionStatistics if answer.classes is None else ClassificationStatistics
    found = kind.of(truth, answer).scores()["r2" if answer.classes is None else "accuracy"]
    return float("nan") if found is None else float(found)


def taken(case: Case, rows: NDArray[np.int64]) -> dict[str, list[object]]:
    """Some rows of a case, without the target."""
    return {name: cells[rows].tolist() for name, cells in case.columns.items() if name != case.target}


def one_run(name: str, seed: int) -> dict[str, float]:
    """Each figure of the tables."""
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
    held_out = {
        each: (truth[pool[held]], cluster.ask(taken(case, pool[held])))
        for each, (pool, _, held) in zip(cluster.names, cuts, strict=True)
    }
    parts = {int(case.part[pool[0]]): each for each, pool in zip(cluster.names, pools, strict=True)}
    origin = np.array([parts.get(part, "") for part in case.part[is_test].tolist()])
    test = taken(case, np.flatnonzero(is_test))
    whole = train(schema, case.columns, np.concatenate(pools), case.model, seed)
    return figures(held_out, (truth[is_test], cluster.ask(test)), origin, combine([("", whole.vote(test), 1)]), rng)


def figures(
    held_out: Mapping[str, tuple[Any, Heard]],
    test: tuple[Any, Heard],
    origin: NDArray[np.str_],
    whole: Answer,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The figures of truths and votes on each peer's held-out rows and on the test, whose rows are of the peers
    `origin`, and of the one model's answer."""
    trials = {
        each: Trial.of(true[:TRIED], votes, densities, each, MIN_COUNT, common)
        for each, (true, heard) in held_out.items()
        for votes, densities, common in [some(heard, slice(TRIED))]
    }
    rules, (wanted, asked) = Rules(trials), test
    found = {rule: score(wanted, rules.answer(rule, asked)) for rule in (*RULES, "auto", "stacked")}
    found["common"] = score(wanted, combine([("", asked[2], 1)])) if asked[2] is not None else float("nan")
    found["share"] = rules.share
    found["alone"] = float(np.mean([score(wanted, combine([vote])) for vote in asked[0]]))
    found["all rows"] = score(wanted, whole)
    found["within 90 %"] = covered(rules, asked, wanted)
    for rule in ("auto", "local"):
        lags = [behind(rules, rule, each, heard, true) for each, (true, heard) in held_out.items()]
        found[f"behind, {rule}"] = float(np.nanmean(lags))
    at_home = {each: np.flatnonzero(origin == each) for each in held_out}
    lags = [
        behind(rules, "auto", each, some(asked, rows), wanted[rows])
        for each, rows in at_home.items()
        if len(rows) >= FEWEST
    ]
    found["behind on test rows"] = float(np.nanmean(lags))
    found["30 % gone"] = lost(rules, asked, wanted, rng)
    return found


def some(heard: Heard, rows: slice | NDArray[np.int64]) -> Heard:
    """The same of some of the rows."""
    votes, densities, common = heard
    cast = [(name, Vote(vote.classes, vote.values[rows]), known) for name, vote, known in votes]
    of_all = None if common is None else Vote(common.classes, common.values[rows])
    return cast, {name: logs[rows] for name, logs in densities.items()}, of_all


def covered(rules: Rules, heard: Heard, truth: Any) -> float:
    """The share of rows whose truth is within the bounds for 90 %."""
    answer = rules.answer("auto", heard)
    wrong = reach(heard[0], answer, rules.errors, 0.9)
    assert wrong is not None
    known = np.array([value is not None and value == value for value in truth], bool)
    if answer.classes is None:
        errors = errors_of(np.asarray(answer.predictions)[known], truth[known], None)
        return float((errors <= wrong[known]).mean())
    hits = truth[:, None] == np.array(answer.classes, object)
    return float((likely(answer, wrong) & hits).any(axis=1)[known].mean())


def behind(rules: Rules, rule: str, me: str, heard: Heard, truth: Any) -> float:
    """How far a rule is behind the better of a site's own model and the mean, on that site's held-out rows."""
    own = [vote for vote in heard[0] if vote[0] == me]
    best = max(score(truth, combine(own)), score(truth, combine(heard[0])))
    return best - score(truth, rules.answer(rule, heard, me))


def lost(rules: Rules, heard: Heard, truth: Any, rng: np.random.Generator) -> float:
    """What the score loses where 30 % of the peers are gone, over some choices of whom."""
    whole, names = score(truth, rules.answer("auto", heard)), [name for name, *_ in heard[0]]
    choices = list(itertools.combinations(names, round(0.3 * len(names))))
    chosen = [choices[at] for at in rng.permutation(len(choices))[:LOSSES]]
    left = [[vote for vote in heard[0] if vote[0] not in gone] for gone in chosen]
    return float(np.mean([whole - score(truth, rules.answer("auto", (votes, *heard[1:]))) for votes in left]))


def cells(runs: Sequence[dict[str, float]], columns: Sequence[str]) -> list[str]:
    """Means and their standard errors."""
    shown = []
    for column in columns:
        values = np.array([run[column] for run in runs])
        error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
        shown.append(f"{values.mean():.3f}{error}")
    return shown


def closure(name: str, runs: Sequence[dict[str, float]]) -> str:
    """(auto − mean) / (all rows − mean) of the means; of an even cut, auto − mean."""
    mean, auto, whole = (float(np.mean([run[column] for run in runs])) for column in ("mean", "auto", "all rows"))
    return f"{(auto - mean) / (whole - mean):.2f}" if CASES[name][0] else f"{auto - mean:+.4f}"


def print_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    for line in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(line)} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {'; '.join(CASES)}; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    asked = parser.parse_args()
    lines = asked.keep.read_text().splitlines() if asked.keep and asked.keep.exists() else []
    done = {(name, seed): figures for name, seed, figures in map(json.loads, lines)}
    for seed, name in itertools.product(range(asked.seeds), asked.cases or CASES):
        if (name, seed) not in done:
            done[name, seed] = one_run(name, seed)
            if asked.keep:
                with open(asked.keep, "a") as file:
                    file.write(json.dumps([name, seed, done[name, seed]]) + "\n")
    runs = {name: [done[name, seed] for seed in range(asked.seeds)] for name in asked.cases or CASES}
    print_table(
        ["cut", *SCORES, "closure, or auto − mean"],
        [[name, *cells(some, SCORES), closure(name, some)] for name, some in runs.items()],
    )
    print_table(["cut", *PROMISES], [[name, *cells(some, PROMISES)] for name, some in runs.items()])


if __name__ == "__main__":
    main()
