"""Laws of `p2pml simulate`: what is printed, what is stored, and which code it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes import Shell
from plants import hasty_verdict

from p2pml.simulations.experiments import EXPERIMENTS
from p2pml.simulations.operations import Operation
from p2pml.simulations.plans import Plan
from p2pml.simulations.reports import Report
from p2pml.simulations.scenarios import SCENARIOS

QUICK = ("--peers", "3", "--minutes", "0.15")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


def texts(path: Path) -> set[str | None]:
    """What is written in a picture."""
    return {element.text for element in ElementTree.fromstring(path.read_text()).iter()}


def test_all_scenarios_are_listed(shell: Shell) -> None:
    """Each with a sentence."""
    lines = shell("simulate", "list").out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith((".", "?"))] == [*SCENARIOS, *EXPERIMENTS]


def test_a_seed_that_holds_is_shown(shell: Shell, tmp_path: Path) -> None:
    """As a table of properties and measures, with its trace, and as a plot over time."""
    done = shell("simulate", "churn", *QUICK, "--plot", "churn.svg")
    assert done.code == 0
    assert "churn.svg shows seed 1 over time" in done.err
    assert {"believed alive", "possible", "cast", "score", "the core is healed"} <= texts(tmp_path / "churn.svg")
    assert "nobody declares itself dead" in done.out
    assert "recovered_after" in done.out
    assert done.out.splitlines()[-1].startswith("trace ")


def test_each_seed_is_one_line_of_json(shell: Shell) -> None:
    """With exactly these fields, and the same ones when it is run again."""
    first = shell("simulate", "flap", *QUICK, "--seeds", "3..5", "--json")
    lines = [json.loads(line) for line in first.out.splitlines()]
    assert [line["seed"] for line in lines] == [3, 4, 5]
    for line in lines:
        assert list(line) == ["scenario", "seed", "trace", "held", "properties", "measures"]
        assert line["scenario"] == "flap"
        assert line["held"] is True
        assert all(line["properties"].values())
    alone = json.loads(shell("simulate", "flap", *QUICK, "--seed", "4", "--json").out)
    assert alone["trace"] == lines[1]["trace"]


def test_whole_daemons_run_the_same_scenarios(shell: Shell, tmp_path: Path) -> None:
    """With their own properties and measures, and a stored plan knows its layer."""
    done = shell("simulate", "flap", *QUICK, "--layer", "daemon", "--json")
    line = json.loads(done.out)
    assert done.code == 0
    assert line["measures"]["availability"] == 1.0
    assert line["properties"]["the count of votes is true"] is True
    plan = Plan("test", 1, 3, 9.0, (), (0, 1, 2), layer="daemon")
    (tmp_path / "daemons.json").write_text(json.dumps(plan.to_data()))
    replayed = json.loads(shell("simulate", "replay", "daemons.json", "--json").out)
    assert "availability" in replayed["measures"]


def test_a_name_of_both_is_a_scenario_where_an_option_says_so(shell: Shell) -> None:
    """`join-burst` with peers is one, as any other scenario; alone it is the experiment."""
    line = json.loads(shell("simulate", "join-burst", *QUICK, "--json").out)
    assert (line["scenario"], line["held"]) == ("join-burst", True)
    assert "availability" in line["measures"]


def test_a_scenario_for_whole_daemons_runs_on_them(shell: Shell) -> None:
    """Without being told to; on the protocol alone it is refused."""
    assert "longest_answer" in json.loads(shell("simulate", "byzantine", *QUICK, "--json").out)["measures"]
    refused = shell("simulate", "byzantine", *QUICK, "--layer", "core")
    assert refused.code == 2
    assert "--layer daemon" in refused.err


def test_several_seeds_are_summed_up(shell: Shell) -> None:
    """How many held each property, and the mean, least and most of each measure."""
    done = shell("simulate", "swarm", *QUICK, "--seeds", "1..3")
    assert done.code == 0
    assert "least" in done.out


def test_a_failure_is_replayed_and_shrunk(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The schedule of a file fails as it did; the least of it is stored beside it, and fails too."""
    operations = (Operation(8.0, "crash", (1,)), Operation(9.0, "fit", (2,)), Operation(9.5, "restart", (2,)))
    path = tmp_path / "failure.json"
    path.write_text(json.dumps(Plan("test", 1, 4, 20.0, operations, (0, 2, 3)).to_data()))
    assert shell("simulate", "replay", "failure.json").code == 0
    hasty_verdict(monkeypatch)
    replayed = shell("simulate", "replay", "failure.json", "--json", "--plot", "failure.svg")
    assert replayed.code == 3
    assert "broke: no death before its suspicion's deadline" in texts(tmp_path / "failure.svg")
    assert json.loads(replayed.out)["held"] is False
    assert "no death before its suspicion's deadline" in replayed.err
    shrunk = shell("simulate", "shrink", "failure.json")
    assert shrunk.code == 3
    assert "3 operations were shrunk to 1" in shrunk.err
    assert "p2pml simulate replay failure.least.json" in shrunk.err
    assert shell("simulate", "replay", "failure.least.json").code == 3


def test_a_failing_sweep_stores_its_first_failure(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """And names the seeds, the property, and the command that shows it again."""
    from p2pml.simulations import sweeps

    # In this process, where the bug is planted.
    monkeypatch.setattr(sweeps, "sweep", lambda run, plans, *how: ((plan, run(plan)) for plan in plans))
    monkeypatch.setattr("p2pml.cli.simulate.SHOWN", 1)
    hasty_verdict(monkeypatch)
    done = shell("simulate", "crash-restart", "--peers", "4", "--minutes", "0.6", "--seeds", "0..13")
    assert done.code == 3
    assert "more of 14 seeds failed" in done.err
    assert done.err.splitlines()[-1].startswith("p2pml: See it again with: p2pml simulate replay crash-restart-")
    stored = done.err.split()[-1]
    assert shell("simulate", "replay", stored).code == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["explosion"], "there is no scenario 'explosion': choose one of churn"),
        (["replay"], "say which file: p2pml simulate replay FILE"),
        (["churn", "more"], "one word too many"),
        (["churn", "--seeds", "5..1"], "is not A..B"),
        (["churn", "--seeds", "x"], "is not A..B"),
        (["churn", "--minutes", "0"], "--minutes"),
        (["churn", "--data", "few.csv"], "few.csv has 3 rows with a b, and a simulation needs 400"),
        (["churn", "--data", "few.csv", "--target", "c"], "'c'"),
        (["churn", "--data", "few.csv", "--layer", "daemon"], "--data is for the layer core"),
        (["churn", "--target", "c"], "give both"),
        (["churn", "--plot", "churn.png"], "does not end in .svg"),
        (["churn", "--plot", "nowhere/churn.svg"], "there is no folder nowhere"),
        (["replay", "nothing.json"], "nothing.json"),
    ],
)
def test_bad_usage_is_a_sentence(shell: Shell, words: list[str], sentence: str, tmp_path: Path) -> None:
    """With code 2."""
    (tmp_path / "few.csv").write_text("a,b\n1,2\n2,3\n3,4\n")
    done = shell("simulate", *words)
    assert done.code == 2
    assert sentence in done.err


def test_a_process_that_was_ended_is_a_crash(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory ran out: code 5, and what to try."""
    from p2pml.simulations import sweeps

    def ended(run: object, plans: object, jobs: int, tell: object) -> Iterator[Report]:
        yield from ()
        raise BrokenProcessPool

    monkeypatch.setattr(sweeps, "local", ended)
    done = shell("simulate", "churn", *QUICK)
    assert done.code == 5
    assert "try fewer --jobs" in done.err


def test_without_dask_a_sentence_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = shell("simulate", "churn", *QUICK, "--dask", "127.0.0.1:1")
    assert done.code == 2
    assert "pip install 'p2pml[dask]'" in done.err


def test_where_no_dask_scheduler_is_a_sentence_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its address."""
    from p2pml.simulations import sweeps

    monkeypatch.setattr(sweeps, "CONNECTING", 0.2)
    done = shell("simulate", "churn", *QUICK, "--dask", "127.0.0.1:1")
    assert done.code == 2
    assert "there is no Dask scheduler at 127.0.0.1:1" in done.err


def test_a_dask_cluster_that_gives_up_is_a_crash(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a machine of it ran out of memory: code 5, and which cluster it was."""
    import distributed

    class GivesUp:
        def __init__(self, address: str, timeout: float) -> None:
            self.cancel = lambda *futures: None

        def __enter__(self) -> GivesUp:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def map(self, run: object, plans: list[object], pure: bool) -> list[Future[None]]:
            futures = [Future[None]() for _ in plans]
            futures[0].cancel()
            return futures

    monkeypatch.setattr(distributed, "Client", GivesUp)
    done = shell("simulate", "churn", *QUICK, "--dask", "127.0.0.1:1")
    assert done.code == 5
    assert "the Dask cluster at 127.0.0.1:1 did not run a seed to its end" in done.err


DASK = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def test_a_dask_cluster_gives_the_same_reports(shell: Shell, tmp_path: Path) -> None:
    """Line by line, in the order of the seeds."""
    words = ("simulate", "flap", *QUICK, "--seeds", "3..5", "--json")
    (tmp_path / "cluster.py").write_text(DASK)
    apart = [sys.executable, "cluster.py"]
    with subprocess.Popen(apart, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        there = shell(*words, "--dask", cluster.stdout.readline().strip())
        cluster.communicate("")
    assert there.code == 0
    assert there.out == shell(*words).out
