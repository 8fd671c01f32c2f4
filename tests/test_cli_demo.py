from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import eventually

from p2pml.cli.processes import LOOPBACK, Processes, free_ports
from p2pml.errors import LocalError

pytestmark = pytest.mark.process

P2PML = [sys.executable, "-m", "p2pml.cli"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go, so that what a demo left can be told from everybody else's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def running(place: Path) -> list[int]:
    """Processes whose command line names a folder in `place`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(place).encode() in words:
                found.append(int(entry.name))
    return found


def demo(*flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*P2PML, "demo", "--peers", "2", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_demo_shows_it_all_and_leaves_nothing(place: Path) -> None:
    """Scores of each alone, of all and of one model; a kill; the answer without the killed one."""
    with demo() as process:
        out, err = process.communicate(timeout=110)
    assert (process.returncode, err) == (0, "")
    scores = dict(re.findall(r"^(\w.*?) {2,}[\d,]+ {2,}(0\.\d+)$", out, re.MULTILINE))
    assert list(scores) == ["peer-1 alone", "peer-2 alone", "the ensemble of 2", "one model on all rows"]
    assert all(float(score) > 0.85 for score in scores.values())
    for words in (
        "with 2 of 2 votes",
        "peer-2 was just killed",
        "peer-2's vote came from a replica of its model, at peer-1",
        "left running",
    ):
        assert words in out
    assert running(place) == []
    assert list(place.iterdir()) == []


def test_peers_that_are_kept_can_be_asked_and_stopped_as_it_says(place: Path) -> None:
    """The commands that it prints work as they stand."""
    with demo("--keep") as process:
        out, _ = process.communicate(timeout=110)
    assert process.returncode == 0
    try:
        peers, predict, stop = (line.strip() for line in out.splitlines() if line.startswith("  ") and "p2pml" in line)
        shown = subprocess.run([*P2PML, *shlex.split(peers)[1:]], capture_output=True, text=True, timeout=60)
        assert (shown.returncode, "peer-1" in shown.stdout) == (0, True)
        answered = subprocess.run([*P2PML, *shlex.split(predict)[1:]], capture_output=True, text=True, timeout=60)
        assert answered.stdout.splitlines()[0].endswith(",prediction")
        subprocess.run(["sh", "-c", stop], check=True, timeout=30)
        eventually(lambda: not running(place), "the peers that were kept end")
    finally:
        for pid in running(place):
            os.kill(pid, signal.SIGKILL)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_stopped_leaves_nothing(place: Path, number: signal.Signals) -> None:
    """Neither processes nor files, in whatever way it was stopped."""
    with demo() as process:
        try:
            eventually(lambda: len(running(place)) >= 2, "two peers are started")
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "p2pml: Interrupted.\n")
    assert running(place) == []
    assert list(place.iterdir()) == []


def test_a_peer_that_ends_by_itself_is_named_with_its_last_words(tmp_path: Path) -> None:
    """Nobody waits for a peer that cannot come."""
    with Processes("test", tmp_path) as processes:
        processes.start({"ann": tmp_path / "missing.csv"})
        (ann,) = processes.peers
        ann.process.wait(60)
        with pytest.raises(LocalError, match=r"ann ended with code 2: p2pml: .*missing\.csv"):
            processes.check()


def test_a_peer_that_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Politeness has an end."""
    monkeypatch.setattr("p2pml.cli.processes.GOODBYE", 0.0)
    with Processes("test", tmp_path) as processes:
        processes.start({"ann": tmp_path / "missing.csv"})
        (ann,) = processes.peers
        # A stopped process takes no SIGTERM.
        ann.process.send_signal(signal.SIGSTOP)
    assert ann.process.returncode == -signal.SIGKILL


def test_free_ports_are_free_and_different() -> None:
    """For TCP and UDP alike."""
    import socket

    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as bound:
                bound.bind((LOOPBACK, port))


def test_what_is_set_for_the_users_own_peers_does_not_reach_the_demos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2PML_STATE, above all: the demo must not touch a real peer's folder."""
    monkeypatch.setenv("P2PML_STATE", str(tmp_path / "precious"))
    with Processes("test", tmp_path) as processes:
        processes.start({"ann": tmp_path / "missing.csv"})
        environment = Path(f"/proc/{processes.peers[0].process.pid}/environ").read_bytes()
    assert not re.search(rb"\0P2PML_", environment)
