"""Laws of real peers in processes of their own: killed, stopped, restarted, and fed with garbage."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running import ROWS, RealPeer, all_vote, call, environment, eventually, real_peers, write_part

pytestmark = pytest.mark.process

SLOW_MODEL = '''
"""A tree whose training ends only once a file exists, so that a test can stop in the middle of it."""
import os, time
from sklearn.tree import DecisionTreeClassifier

GATE = os.environ["P2PML_TEST_GATE"]

class Tree(DecisionTreeClassifier):
    def fit(self, X, y, **options):
        open(f"{GATE}.{os.getpid()}", "w").close()
        while not os.path.exists(GATE):
            time.sleep(0.01)
        return super().fit(X, y, **options)

def factory(task, seed):
    return Tree(random_state=seed)
'''


def predict(peer: RealPeer, **options: Any) -> dict[str, Any]:
    """The answer of one peer about the usual rows."""
    answer = call(peer.address, "/v1/predict", ROWS | options)
    assert answer.status == 200, answer.body
    return dict(answer.data)


def parts(folder: Path, count: int) -> list[Path]:
    """Parts with names of their own."""
    return [write_part(folder / f"{name}.csv", seed=seed) for seed, name in enumerate("abcdefgh"[:count])]


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[list[RealPeer]]:
    """Three peers that see each other's models."""
    with real_peers(tmp_path, parts(tmp_path, 3), "--model", "decision-tree") as peers:
        for peer in peers:
            eventually(partial(all_held, peer), "all models are held by the others")
        yield peers


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[list[RealPeer]]:
    """Three peers that keep their models to themselves."""
    with real_peers(tmp_path, parts(tmp_path, 3), "--model", "decision-tree", "--replicas", "0") as peers:
        yield peers


def all_held(peer: RealPeer) -> bool:
    """Whether a peer sees each of three models with both others."""
    return all(len(row["held_by"]) == 2 for row in peer.peers().values())


def test_a_killed_peer_costs_no_vote_where_others_hold_its_model(trio: list[RealPeer]) -> None:
    """At once and once its death is known, a replica votes for it, and the answer says whose."""
    asked, victim, _ = trio
    whole = predict(asked)
    victim.kill()
    answer = predict(asked)
    assert (answer["votes"]["cast"], answer["predictions"]) == (3, whole["predictions"])
    eventually(lambda: asked.peers()[victim.data.stem]["status"] == "dead", "its death is known")
    answer = predict(asked)
    assert (answer["votes"]["cast"], answer["predictions"]) == (3, whole["predictions"])
    assert victim.data.stem in [entry["name"] for entry in answer["votes"]["replicas"]]


def test_a_killed_peer_is_named_at_once_known_dead_soon_and_back_with_its_model(alone: list[RealPeer]) -> None:
    """Nothing waits for it; started again it has its id and its model, and votes."""
    asked, victim, _ = alone
    before = asked.peers()[victim.data.stem]
    victim.kill()
    votes = predict(asked)["votes"]
    assert (votes["cast"], votes["expected"]) == (2, 3)
    assert [missing["name"] for missing in votes["missing"]] == [victim.data.stem]
    eventually(lambda: asked.peers()[victim.data.stem]["status"] == "dead", "its death is known")
    votes = predict(asked)["votes"]
    assert (votes["cast"], votes["expected"]) == (2, 3)
    assert [missing["reason"][:10] for missing in votes["missing"]] == ["it is dead"]
    victim.start()
    eventually(lambda: any(line["event"] == "model loaded from disk" for line in victim.said()), "its model is loaded")
    eventually(lambda: all_vote(asked, 3), "it is back")
    after = asked.peers()[victim.data.stem]
    assert (after["id"], after["model"]["digest"]) == (before["id"], before["model"]["digest"])
    assert after["generation"] > before["generation"]
    assert predict(asked)["votes"]["cast"] == 3


def test_a_stopped_peer_costs_its_vote_and_only_the_first_asker_waits(alone: list[RealPeer]) -> None:
    """The answer comes by the deadline with the votes that came, and the next one does not wait for it."""
    asked, victim, _ = alone
    victim.kill(signal.SIGSTOP)
    first = predict(asked, deadline=2)
    assert first["votes"]["cast"] == 2
    assert first["took"] < 10
    second = predict(asked, deadline=50)
    assert second["votes"]["cast"] == 2
    assert second["took"] < 25
    victim.kill(signal.SIGCONT)
    eventually(lambda: predict(asked)["votes"]["cast"] == 3, "it votes again")
    assert not [line for line in asked.said() if line["level"] == "error"]


def test_a_peer_that_is_asked_to_stop_leaves(trio: list[RealPeer]) -> None:
    """SIGTERM is a polite leave: exit code 0, and the others know at once, and vote on with its model."""
    asked, leaver, _ = trio
    leaver.kill(signal.SIGTERM)
    assert leaver.process is not None
    assert leaver.process.returncode == 0
    eventually(lambda: asked.peers()[leaver.data.stem]["status"] == "left", "it left")
    votes = predict(asked)["votes"]
    assert (votes["cast"], votes["expected"]) == (3, 3)


def test_garbage_on_both_ports_changes_nothing(trio: list[RealPeer]) -> None:
    """Random bytes by UDP and TCP are dropped; every vote is still cast."""
    rng = random.Random(7)
    host, _, port = trio[0].address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for size in range(0, 1500, 10):
            udp.sendto(rng.randbytes(size), (host, int(port)))
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=10) as tcp:
            tcp.sendall(rng.randbytes(2000))
    assert predict(trio[1])["votes"]["cast"] == 3
    assert predict(trio[0])["votes"]["cast"] == 3


def test_with_every_peer_killed_predict_exits_1_and_says_so(tmp_path: Path) -> None:
    """No vote is an error, never a made-up number."""
    with real_peers(tmp_path, parts(tmp_path, 2), "--model", "decision-tree") as peers:
        for peer in peers:
            peer.kill()
        rows = tmp_path / "rows.csv"
        rows.write_text("height,width,colour\n1,2,red\n")
        command = [sys.executable, "-m", "p2pml.cli", "predict", str(rows), "--no-mdns"]
        command += ["--cluster", peers[0].cluster, "--join", peers[0].address]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No peer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_peer_killed_while_it_trains_delays_nobody_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit ends when the others have trained, and the victim's training process ends with it."""
    gate = tmp_path / "gate"
    (tmp_path / "slow_model.py").write_text(SLOW_MODEL)
    monkeypatch.setenv("P2PML_TEST_GATE", str(gate))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gate.touch()
    with (
        real_peers(tmp_path, parts(tmp_path, 3), "--model", "slow_model:factory") as peers,
        ThreadPoolExecutor() as pool,
    ):
        for old in tmp_path.glob("gate*"):
            old.unlink()
        asked, victim, _ = peers
        fit = pool.submit(call, asked.address, "/v1/fit", {})
        eventually(lambda: len(list(tmp_path.glob("gate.*"))) == 3, "all three are training")
        workers = {int(path.suffix[1:]) for path in tmp_path.glob("gate.*")}
        victim.kill()
        gate.touch()
        told = {row["name"]: row["status"] for row in fit.result(120).data["peers"]}
        assert told == {"a": "trained", "b": "missing", "c": "trained"}
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "no process is left behind")


def test_two_fits_at_once_resolve_to_one(trio: list[RealPeer]) -> None:
    """Whoever is asked, every peer ends with the same epoch and the same kind of model."""
    with ThreadPoolExecutor() as pool:
        fits = [
            pool.submit(call, peer.address, "/v1/fit", {"model": model})
            for peer, model in zip(trio, ("naive-bayes", "linear", "knn"), strict=True)
        ]
        assert [fit.result(120).status for fit in fits] == [200, 200, 200], [fit.result().body for fit in fits]

    def one_epoch() -> bool:
        models = [row["model"] for peer in trio for row in peer.peers().values()]
        return len({(model["name"], str(model["epoch"]), model["state"]) for model in models}) == 1

    eventually(one_epoch, "all peers agree on one fit")


def test_a_second_peer_on_one_state_folder_is_refused(trio: list[RealPeer]) -> None:
    """The message names the process that has it; nothing happens to the first."""
    first = trio[0]
    command = [sys.executable, "-m", "p2pml.cli", "peer", "start", "--data", str(first.data), "--no-mdns"]
    command += ["--state", str(first.folder / f"state-{first.data.stem}")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 2
    assert first.process is not None
    assert f"process {first.process.pid}" in done.stderr
    assert first.ready()


def test_a_copied_state_folder_stops_one_of_the_two(trio: list[RealPeer], tmp_path: Path) -> None:
    """Two peers with one identity do not fight for ever: one ends with code 2 and says why."""
    original = trio[0]
    state = original.folder / f"state-{original.data.stem}"
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("identity", "format"):
        (copy / name).write_bytes((state / name).read_bytes())
    twin = RealPeer(
        original.data, tmp_path, "--no-mdns", "--join", trio[1].address, "--state", str(copy), cluster=original.cluster
    )
    try:
        twin.start()
        ended = eventually(
            lambda: next((p for p in (twin, original) if p.process and p.process.poll() is not None), None),
            "one of the two has stopped",
        )
        assert ended is not None
        assert ended.process is not None
        assert ended.process.returncode == 2
        assert "runs with a copy of this state folder" in ended.log.read_text()
    finally:
        twin.end()
    assert os.path.exists(copy)


PRODUCTS = """
import pathlib
from threadpoolctl import threadpool_info
from p2pml.peer import process
from p2pml.peer.options import PeerOptions

async def say(options):
    print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])

process._run = say
process.run_peer(PeerOptions(pathlib.Path("part.csv")))
"""


def test_a_peer_takes_one_processor_for_products_of_matrices() -> None:
    """Whatever the library takes by itself: its threads do not sleep while they wait, and starve trainings beside."""
    free = {name: said for name, said in os.environ.items() if not name.endswith("_NUM_THREADS")}
    four = free | {"OPENBLAS_NUM_THREADS": "4"}
    ran = subprocess.run([sys.executable, "-c", PRODUCTS], env=four, capture_output=True, check=True, text=True)
    assert set(json.loads(ran.stdout)) == {1}
