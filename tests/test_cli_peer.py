from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Shell

from p2pml.errors import BadInput
from p2pml.peer.options import PeerOptions


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[PeerOptions]:
    """The options of the peers that were started, in place of running them."""
    for name in ("HOST", "JOIN", "CLUSTER", "STATE", "NAME"):
        monkeypatch.delenv(f"P2PML_{name}", raising=False)
    seen: list[PeerOptions] = []
    monkeypatch.setattr("p2pml.peer.process.run_peer", seen.append)
    return seen


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_a_data_file_is_all_that_a_peer_needs(shell: Shell, started: list[PeerOptions]) -> None:
    """Every other option has the default that the peer's own options have."""
    assert shell("peer", "start", "--data", "rows.csv").code == 0
    assert started == [PeerOptions(data=Path("rows.csv"))]


def test_every_option_reaches_the_peer(shell: Shell, started: list[PeerOptions]) -> None:
    """As it was given."""
    line = (
        "peer start --data x.parquet --target y --task regression --model knn --cluster c --name n --profile wan "
        "--host 127.0.0.1 --port 0 --join a:1 --join 10.0.0.1:2 --no-mdns --state s --holdout 0.5 --seed 9 "
        "--log-format json"
    )
    shell(*line.split())
    assert started == [
        PeerOptions(
            data=Path("x.parquet"), target="y", task="regression", model="knn", cluster="c", name="n",
            host="127.0.0.1", port=0, join=(("a", 1), ("10.0.0.1", 2)), mdns=False, profile="wan", state=Path("s"),
            holdout=0.5, seed=9, log_format="json",
        )
    ]  # fmt: skip


def test_every_option_can_come_from_the_environment(
    shell: Shell, started: list[PeerOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service file needs no command line."""
    for name, value in {"DATA": "x.csv", "HOLDOUT": "0.1", "NO_MDNS": "true", "JOIN": "a:1,b:2", "PORT": "1"}.items():
        monkeypatch.setenv(f"P2PML_{name}", value)
    shell("peer", "start")
    assert started == [PeerOptions(data=Path("x.csv"), holdout=0.1, mdns=False, join=(("a", 1), ("b", 2)), port=1)]


@pytest.mark.parametrize(
    "flags",
    ["--holdout 1", "--port 70000", "--seed -1", "--task other", "--log-format xml", "--profile fast"],
)
def test_values_out_of_range_are_bad_usage(shell: Shell, started: list[PeerOptions], flags: str) -> None:
    """Nothing is started."""
    done = shell("peer", "start", "--data", "x.csv", *flags.split())
    assert done.code == 2
    assert flags.split()[0] in done.err
    assert not started


def test_what_a_peer_refuses_is_one_sentence(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be trained on, a port in use."""

    def refuse(options: PeerOptions) -> None:
        raise BadInput("port 7733 is in use; choose another with --port")

    monkeypatch.setattr("p2pml.peer.process.run_peer", refuse)
    done = shell("peer", "start", "--data", "x.csv")
    assert (done.code, done.err) == (2, "p2pml: port 7733 is in use; choose another with --port.\n")
