"""The main job on real data: four parts of the Ames house prices, four processes that find each other by mDNS."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import RealPeer, all_vote, call, environment, eventually
from sklearn.metrics import mean_absolute_error, mean_squared_error, mean_squared_log_error, r2_score

from p2pml.ensemble.holdout import split
from p2pml.peer.table import read_table

pytestmark = pytest.mark.process


def test_four_parts_of_the_house_prices_answer_as_one(shared_data: Path, tmp_path: Path) -> None:
    """The ensemble's R² is at least 0.80, and is what scikit-learn computes from the same held-out rows and votes."""
    cluster = f"houses-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        peers = []
        for name in "ABCD":
            data = shared_data / "house_prices" / f"{name}.csv"
            peer = RealPeer(data, tmp_path, "--model", "random-forest", cluster=cluster)
            stack.callback(peer.end)
            peers.append(peer.start())
        for peer in peers:
            eventually(lambda peer=peer: all_vote(peer, 4), "the four found each other by mDNS")  # type: ignore[misc]
        report = evaluate(cluster)
        truth, predictions = held_out_votes(peers)
    assert report["votes"] == {"cast": 4, "expected": 4, "missing": []}
    metrics = report["metrics"]
    assert metrics["r2"] >= 0.80
    expected = {
        "r2": r2_score(truth, predictions),
        "mean_absolute_error": mean_absolute_error(truth, predictions),
        "mean_squared_error": mean_squared_error(truth, predictions),
        "root_mean_squared_error": np.sqrt(mean_squared_error(truth, predictions)),
        "mean_squared_log_error": mean_squared_log_error(truth, predictions),
    }
    for name, score in expected.items():
        assert metrics[name] == pytest.approx(score, rel=1e-9), name


def evaluate(cluster: str) -> dict[str, Any]:
    """What `p2pml evaluate --json` prints."""
    command = [sys.executable, "-m", "p2pml.cli", "evaluate", "--json", "--combine", "mean", "--cluster", cluster]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, check=True)
    return dict(json.loads(done.stdout))


def held_out_votes(peers: list[RealPeer]) -> tuple[list[float], list[float]]:
    """The truths of all held-out rows, and what the ensemble predicts for them, row by row."""
    truth: list[float] = []
    predictions: list[float] = []
    for peer in peers:
        table = read_table(peer.data)
        _, held_out = split(table.rows, 0.2, 0)
        columns = [name for name in table.columns if name != "SalePrice"]
        data = [[table.columns[name][i] for name in columns] for i in held_out]
        predictions += call(
            peers[0].address, "/v1/predict", {"columns": columns, "data": data, "combine": "mean"}
        ).data["predictions"]
        truth += [float(str(table.columns["SalePrice"][i])) for i in held_out]
    return truth, predictions
