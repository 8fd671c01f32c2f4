"""Laws of what serves a peer's votes: the compiled model where it equals scikit-learn's, else scikit-learn's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import ROWS, RealPeer, call, peer_here, real_peers, soon, write_part

from p2pml.ensemble import compiled as compiling
from p2pml.ensemble.compiled import CompiledModel
from p2pml.ensemble.models import Model, train
from p2pml.ensemble.schema import infer
from p2pml.errors import RemoteError
from p2pml.peer.compiling import compile_model, load_compiled
from p2pml.peer.table import read_table


def test_a_model_is_compiled_as_it_is_read(tmp_path: Path) -> None:
    """What the training process leaves, the daemon votes with."""
    columns = read_table(write_part(tmp_path / "p.csv")).columns
    model = train(infer(columns, None), columns, range(40), "random-forest", 0)
    packed, reason = compile_model(model, columns)
    assert reason is None
    assert packed is not None
    assert load_compiled(packed).vote(columns).values == pytest.approx(model.vote(columns).values)


def test_a_model_that_differs_from_scikit_learn_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says by how much."""
    columns = read_table(write_part(tmp_path / "p.csv")).columns
    model = train(infer(columns, None), columns, range(40), "linear", 0)
    monkeypatch.setattr(compiling, "TOLERANCE", -1.0)
    packed, reason = compile_model(model, columns)
    assert packed is None
    assert reason is not None
    assert re.fullmatch(r"compiled it differs from scikit-learn by \S+", reason)


def test_bytes_of_a_newer_p2pml_are_refused_with_a_sentence() -> None:
    """A downgraded peer then trains anew."""
    with pytest.raises(RemoteError, match="cannot be read"):
        load_compiled(b"newer")


@pytest.mark.parametrize(("name", "kind"), [("linear", CompiledModel), ("knn", Model)])
async def test_a_peer_serves_what_equals_scikit_learn(name: str, kind: type, tmp_path: Path) -> None:
    """So does one that is started again; one that scikit-learn serves says so, and why."""
    part = write_part(tmp_path / "p.csv")
    for _ in range(2):
        async with peer_here(part, tmp_path / "state", model=name) as peer:
            await soon(lambda: peer.why_not_ready() is None, "it is ready")
            trained = peer.voting.trained
            assert trained is not None
            assert type(trained.model) is kind
            shown = peer.peers()["peers"][0]["model"]
            assert shown is not None
            said = shown["reason"]
            assert said == (None if kind is CompiledModel else trained.notes[0])
    assert kind is CompiledModel or said == (
        "scikit-learn serves the model knn, uncompiled: "
        "KNeighborsClassifier holds rows that it was trained on, and they never leave their peer"
    )


def loads_scikit_learn(peer: RealPeer) -> bool:
    """Whether any of its libraries is in the process."""
    assert peer.process is not None
    return "sklearn" in Path(f"/proc/{peer.process.pid}/maps").read_text()


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="/proc shows what a process loaded")
def test_a_peer_with_a_compiled_model_never_loads_scikit_learn(tmp_path: Path) -> None:
    """Not to train, vote, evaluate or retrain; that is 40 MB and a second which it saves."""
    with real_peers(tmp_path, [write_part(tmp_path / "p.csv")], "--model", "decision-tree") as (peer,):
        assert call(peer.address, "/v1/predict", ROWS).status == 200
        assert call(peer.address, "/v1/evaluate", {}).status == 200
        assert call(peer.address, "/v1/fit", {"model": "linear"}).status == 200
        assert call(peer.address, "/v1/predict", ROWS).status == 200
        assert not loads_scikit_learn(peer)
