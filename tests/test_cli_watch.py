"""Laws of `p2pml watch`: what it shows of which event, at any width, in a terminal, in a pipe, and once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from fakes import FakePeer, Outcome, Shell
from rich.console import Console
from running import ROWS, RealPeer, call, environment, eventually, real_peers, write_part

from p2pml.cli.screen import screen, sparkline
from p2pml.cli.watching import View
from p2pml.errors import RemoteError

P2PML = [sys.executable, "-m", "p2pml.cli"]
MODEL = {
    "name": "hist-gradient-boosting",
    "state": "ready",
    "reason": None,
    "rows": 12_345,
    "epoch": {"counter": 3, "peer": "a" * 32},
    "metrics": {"accuracy": 0.87654},
}


def row(name: str, status: str = "alive", **model: Any) -> dict[str, Any]:
    address = "10.0.0.5:7733"
    known = {"id": f"{name:0<32}", "name": name, "address": address, "status": status, "generation": 1}
    return known | {"model": MODEL | model}


def state(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The first event of a stream, at 1000 s."""
    peers = {"cluster": "houses", "asked": rows[0]["id"], "peers": list(rows)}
    pulses = {rows[0]["id"]: {"started": 400.0, "load": 12.0, "answer": answer(4, 4) | {"at": 990.0}}}
    whole = {"peers": peers, "pulses": pulses, "trainings": [], "answers": [], "scores": []}
    return {"at": 1000.0, "kind": "state", "gossip": {"bytes_in": 1000, "bytes_out": 2000}} | whole | more


def answer(cast: int, expected: int) -> dict[str, Any]:
    return {"at": 1000.0, "peer": f"{'ann':0<32}", "rows": 3, "cast": cast, "expected": expected, "took": 0.0123}


def seen(*events: dict[str, Any]) -> View:
    """What somebody knows after these events."""
    view = View()
    view.address = "10.0.0.5:7733"
    for event in events:
        view.fold(event)
    return view


def drawn(view: View, width: int = 100, height: int | None = None, elapsed: float = 0.0) -> str:
    """What a terminal shows."""
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(screen(view, width, height, elapsed))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO


def test_the_screen_shows_each_peer_with_what_is_known_of_it() -> None:
    """Status, age, rows, model, epoch, score, load and last answer; the one that tells has a star."""
    text = drawn(seen(state(row("ann"), row("bob", "dead"), row("cyd", state="incompatible"))), 120)
    ann, bob, cyd = (
        next(line for line in text.splitlines() if line.startswith(name)) for name in ("ann", "bob", "cyd")
    )
    assert "cluster houses: 2 of 3 peers alive, seen by ann at 10.0.0.5:7733" in text
    for words in (
        "ann *",
        "alive",
        "10 min",
        "12,345",
        "hist-gradient-boosting",
        " 3 ",
        "0.8765",
        "12 rows/s",
        "4/4, 10 s",
    ):
        assert words in ann
    assert "dead" in bob
    assert "alive, incompatible" in cyd


@pytest.mark.parametrize("width", [20, 60, 61, 70, 80, 100, 200])
@pytest.mark.parametrize("height", [8, 24, None])
def test_the_screen_fits(width: int, height: int | None) -> None:
    """Whatever the terminal's size: from 60 columns on, with whole words in every column."""
    training = {"peer": "c" * 32, "name": "cyd", "model": "svm", "began": 990.0, "expected": 40.0}
    rows = [row("n" * 64), *(row(f"peer-{number}") for number in range(30))]
    view = seen(
        state(*rows, trainings=[training], answers=[answer(3, 4)] * 99),
        *(
            {"at": 1001.0, "kind": "joined", "peer": "x", "name": f"peer-{n}", "row": row(f"peer-{n}")}
            for n in range(30)
        ),
    )
    lines = drawn(view, width, height).splitlines()
    assert max(map(len, lines)) <= width
    assert height is None or len(lines) <= max(height, 14)
    if width >= 60 and height != 8:
        assert sum("12,345" in line or "0.8765" in line for line in lines) >= 5
        assert not any("…" in line for line in lines if line.startswith("peer-") and "joined" not in line)


def test_a_training_says_how_long_it_takes_only_where_that_is_known() -> None:
    """By what the same model took last time; later than that, or without a last time, only what has passed."""

    def line(began: float, expected: float | None) -> str:
        training = {"peer": "c" * 32, "name": "cyd", "model": "svm", "began": began, "expected": expected}
        return next(line for line in drawn(seen(state(row("ann"), trainings=[training]))).splitlines() if "svm" in line)

    assert re.search(r"cyd trains svm: █+░+ about 30 s to go", line(990.0, 40.0))
    assert line(990.0, None).rstrip() == "cyd trains svm: 10 s so far"
    assert line(950.0, 40.0).rstrip() == "cyd trains svm: 50 s, longer than the 40 s of last time"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "joined", "row": row("bob")}, "bob joined"),
        ({"kind": "suspected", "row": row("bob", "suspect")}, "bob does not answer and is suspected"),
        ({"kind": "refuted", "row": row("bob")}, "bob answers after all"),
        ({"kind": "died", "row": row("bob", "dead")}, "bob is dead; its vote is missing"),
        ({"kind": "healed", "row": row("bob")}, "bob is back: the network is whole again"),
        ({"kind": "returned", "row": row("bob")}, "bob is back, started anew"),
        ({"kind": "left", "row": row("bob", "left")}, "bob left"),
        (
            {"kind": "trained", "row": row("bob"), "took": 3.21},
            "bob trained hist-gradient-boosting on 12345 rows in 3.2 s",
        ),
        (
            {"kind": "training-failed", "row": row("bob"), "reason": "the disk is full"},
            "could not train: the disk is full",
        ),
        ({"kind": "model", "row": row("bob", reason="column 'a' is a date")}, "bob: column 'a' is a date"),
        (
            {"kind": "drift", "columns": ["rooms", "area"], "more": 2, "rows": 500, "since": 1.0, "novel": True},
            "bob: the rows that it is asked about have moved, in rooms, area and 2 more, and are new to all peers",
        ),
        ({"kind": "drift-over"}, "bob is asked about rows like the known ones again"),
        ({"kind": "lost", "count": 7}, "7 events were lost on the way"),
        (
            answer(1, 2)
            | {"kind": "answer", "missing": [{"peer": "b", "name": "bob", "reason": "connection refused"}]},
            "bob answered with 1 of 2 votes; missing: bob (connection refused)",
        ),
        (
            {"kind": "score", "epoch": 3, "metric": "accuracy", "value": 0.95821, "rows": 2000},
            "the ensemble scores accuracy 0.9582 on 2,000 rows in epoch 3",
        ),
        (
            {"kind": "training", "training": {"peer": "b", "name": "bob", "model": "svm", "began": 1.0}},
            "bob trains svm",
        ),
    ],
)
def test_each_thing_that_happens_has_its_line(event: dict[str, Any], words: str) -> None:
    """With the time at which it did."""
    view = seen(state(row("ann"), row("bob")), {"at": 1001.0, "peer": f"{'bob':0<32}", "name": "bob"} | event)
    (line,) = view.happened
    assert words in line.words
    assert re.search(rf"\d\d:\d\d:\d\d  .*{re.escape(words)}", drawn(view, 120))


def test_votes_and_scores_are_sparklines() -> None:
    """Of each answer, and of the last score in each epoch."""
    scores = [
        {"at": 1.0, "peer": "a", "epoch": epoch, "metric": "r2", "value": value, "rows": 9}
        for epoch, value in ((1, 0.1), (2, 0.1), (2, 0.5), (3, 0.9))
    ]
    text = drawn(seen(state(row("ann"), answers=[answer(4, 4), answer(2, 4), answer(4, 4)], scores=scores)))
    assert "votes   █▅█ 4 of 4 in 12 ms" in text
    assert "score   ▁▅█ r2 0.9000 in epoch 3" in text
    assert sparkline([2.0, 2.0], 2.0, 2.0) == "▄▄"


def test_an_alert_stands_on_the_screen_until_it_is_over() -> None:
    """With a line for each of the first ones; a peer that is gone takes its own along."""
    alerts = [
        {"peer": f"{name:0<32}", "name": name, "columns": ["rooms"], "more": 0, "rows": 500, "since": 1.0}
        for name in ("ann", "bob", "cyd", "dan", "eve")
    ]
    began = state(*(row(str(alert["name"])) for alert in alerts), alerts=alerts)
    text = drawn(seen(began))
    assert "drift   ann: the rows that it is asked about have moved, in rooms" in text
    assert "drift   … and 2 more" in text
    over = [{"kind": "drift-over", "at": 1.0, "peer": f"{name:0<32}", "name": name} for name in ("ann", "bob", "cyd")]
    gone = {"kind": "died", "at": 1.0, "peer": f"{'dan':0<32}", "name": "dan", "row": row("dan", "dead")}
    assert re.findall(r"drift   (\w+)", drawn(seen(began, *over, gone))) == ["eve"]


def test_gossip_is_shown_as_a_rate() -> None:
    """Between the last events that tell of it."""
    text = drawn(seen(state(row("ann")), {"at": 1002.0, "kind": "gossip", "bytes_in": 5000, "bytes_out": 2100}))
    assert "gossip  2.0 kB/s in, 50 B/s out" in text


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "state"},
        {"kind": "died", "at": 1.0, "row": {"id": 7}},
        {"kind": "answer", "at": 1.0, "cast": "x"},
        {"kind": "gossip", "at": "now"},
        {"kind": "left", "at": 1.0},
        {"kind": "lost", "at": 1.0},
        {"kind": "model", "at": 1.0, "peer": "nobody"},
    ],
)
def test_an_event_that_cannot_be_is_the_peers_fault(event: dict[str, Any]) -> None:
    """Another peer is asked then."""
    with pytest.raises(RemoteError, match="cannot be read"):
        seen(event)


def test_a_kind_that_is_not_known_is_passed_over() -> None:
    """A newer peer may tell of more."""
    assert not seen(state(row("ann")), {"kind": "eclipse", "at": 1001.0}).happened


def test_names_cannot_steer_the_terminal() -> None:
    """Neither by control characters nor by rich's own markup."""
    text = drawn(
        seen(state(row("\x1b[2J[bold]x")), {"at": 1.0, "kind": "left", "name": "\x1b]0;", "row": row("b", "left")})
    )
    assert "\x1b" not in text
    assert "[bold]x" in text


@contextmanager
def telling(*events: dict[str, Any], name: str = "ann") -> Iterator[FakePeer]:
    """A double that tells these events and then breaks off."""
    with FakePeer(name) as peer:
        body = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
        peer.replies["/v1/events"] = lambda _: web.Response(body=body, content_type="text/event-stream")
        yield peer


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def once(shell: Shell, peer: FakePeer, *flags: str) -> Outcome:
    return shell("watch", "--once", "--peer", peer.where, *flags)


def test_once_draws_the_state_and_ends(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe without colour, as wide as COLUMNS says."""
    monkeypatch.setenv("COLUMNS", "60")
    with telling(state(row("ann"), row("bob", "dead"))) as peer:
        done = once(shell, peer)
    assert done.code == 0
    assert "1 of 2 peers alive" in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 60


def test_once_as_json_is_what_peers_says(shell: Shell) -> None:
    """To the letter."""
    with FakePeer() as peer:
        assert once(shell, peer, "--json").out == shell("peers", "--json", "--peer", peer.where).out != ""


def test_no_peer_at_the_start_is_an_error(shell: Shell) -> None:
    """As for every command."""
    with FakePeer() as peer:
        where = peer.where
    for flags in ([], ["--once"], ["--json"], ["--once", "--json"]):
        assert shell("watch", "--peer", where, *flags).code == 1


def test_a_pipe_gets_a_line_for_each_thing_and_json_an_event_each(tmp_path: Path) -> None:
    """At once, not when a buffer is full."""
    died = {"at": 1001.0, "kind": "died", "peer": "b", "name": "bob", "row": row("bob", "dead")}
    for flags, words in (([], "bob is dead"), (["--json"], '"kind": "died"')):
        with telling(state(row("ann"), row("bob")), died) as peer:
            command = [*P2PML, "watch", "--peer", peer.where, *flags]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
                assert process.stdout is not None
                first, second = process.stdout.readline(), process.stdout.readline()
                process.terminate()
        assert words in second
        assert ('"kind": "state"' if flags else "2 of 2 peers alive") in first


class Terminal:
    """A program in a real terminal of tmux."""

    def __init__(self, folder: str, command: list[str], width: int, height: int) -> None:
        # Without the user's configuration; in a folder with a short name, for the path of a socket is bounded.
        self._tmux = ["tmux", "-u", "-S", f"{folder}/tmux", "-f", "/dev/null"]
        more = {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        size = ["-x", str(width), "-y", str(height)]
        self._run("new-session", "-d", *size, "sleep", "600", more=more)
        self._run("set-option", "-g", "remain-on-exit", "on")
        # A shell notes the exit code, as tmux sometimes has none of a pane that it knows to be dead.
        self._code = Path(folder) / "code"
        self._run("respawn-pane", "-k", "sh", "-c", f'trap : INT; "$@"; echo $? >{self._code}', "sh", *command)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self._run("kill-server")

    def text(self, *flags: str) -> str:
        return self._run("capture-pane", "-p", *flags)

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int) -> None:
        self._run("resize-window", "-x", str(width))

    def ended(self) -> int:
        """The program's exit code, once it has ended."""
        return int(eventually(lambda: self._code.exists() and self._code.read_text().strip(), "the program ends"))

    def shows(self, *patterns: str) -> str:
        """The screen, once it shows all of these regular expressions."""

        def found() -> str | None:
            text = self.text()
            return text if all(re.search(pattern, text, re.MULTILINE) for pattern in patterns) else None

        try:
            return eventually(found, f"the screen shows {patterns}") or ""
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from error

    def _run(self, *words: str, more: dict[str, str] | None = None) -> str:
        kept = {name: value for name, value in environment().items() if name not in ("TMUX", "NO_COLOR", "COLUMNS")}
        done = subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, env=kept | (more or {}), timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def ticks(peer: RealPeer) -> float:
    """Seconds of processor that a peer has used so far."""
    assert peer.process is not None
    words = Path(f"/proc/{peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def counted(condition: Callable[[], Any], times: int) -> None:
    """Wait until the value of `condition` has changed so many times."""
    last = condition()
    for number in range(times):
        last = eventually(lambda last=last: (now := condition()) != last and now, f"change {number}")  # type: ignore[misc]


def watching_is_cheap(peer: RealPeer, terminal: Terminal) -> bool:
    """Whether the watched peer used less than 1 % of a core for some seconds, its own life included."""
    used, began = ticks(peer), time.monotonic()
    counted(lambda: re.findall(r"^gossip .*$", terminal.text(), re.MULTILINE), 3)
    return ticks(peer) - used <= 0.01 * (time.monotonic() - began)


@pytest.mark.process
@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here, such as Debian's package of that name")
def test_in_a_real_terminal_it_shows_what_happens_to_four_peers(tmp_path: Path) -> None:
    """One is killed, one joins, all retrain; the watched one is killed, and another one tells on; Ctrl-C ends it."""
    parts = [write_part(tmp_path / f"{name}.csv", seed=seed) for seed, name in enumerate(("ann", "bob", "cyd", "dan"))]
    with real_peers(tmp_path, parts, "--model", "decision-tree") as peers, tempfile.TemporaryDirectory() as folder:
        ann, bob, cyd, dan = peers
        where = ["--cluster", ann.cluster, "--no-mdns", "--join", ann.address]
        with Terminal(folder, [*P2PML, "watch", *where], 100, 40) as terminal:
            terminal.shows("4 of 4 peers alive, seen by ann", r"^ann \* +alive", "^bob +alive", "^cyd +alive")
            assert any(watching_is_cheap(ann, terminal) for _ in range(5))
            assert_the_three_ways_agree(where, ann)
            call(ann.address, "/v1/predict", ROWS)
            call(bob.address, "/v1/evaluate", {})
            terminal.shows(r"^votes .*4 of 4 in \d+", r"^score .*accuracy 0\.\d{4} in epoch 0|^score .*accuracy 1\.0")
            dan.kill()
            terminal.shows("dan is dead; its vote is missing", "3 of 4 peers alive", "^dan +dead")
            call(ann.address, "/v1/fit", {"wait": False})
            terminal.shows("^[0-9:]+  cyd trains decision-tree", r"^[0-9:]+  cyd trained .* rows in \d", r"^cyd .* 1  ")
            part = write_part(tmp_path / "eve.csv", seed=9)
            eve = RealPeer(part, tmp_path, "--no-mdns", "--join", cyd.address, cluster=ann.cluster)
            try:
                eve.start()
                terminal.shows("eve joined", "4 of 5 peers alive", r"^eve[ *]+alive")
                ann.kill()
                terminal.shows(r"seen by (bob|cyd|eve)", r"tells from now on", r"^ann +(suspect|dead)")
                terminal.resize(60)
                text = terminal.shows(r"^eve[ *]+alive", "3 of 5 peers alive|4 of 5 peers alive")
                assert max(map(len, text.splitlines())) <= 60
                terminal.press("C-c")
                assert terminal.ended() == 0
            finally:
                eve.end()


def assert_the_three_ways_agree(where: list[str], peer: RealPeer) -> None:
    """`watch --json --once`, `peers --json` and GET /v1/peers are one object."""
    said = [
        json.loads(subprocess.run([*P2PML, *words, *where], capture_output=True, env=environment(), timeout=60).stdout)
        for words in (["watch", "--json", "--once"], ["peers", "--json"])
    ]
    assert said[0] == said[1] == call(peer.address, "/v1/peers").data
