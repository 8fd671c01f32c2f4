from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from fakes import FakePeer, Refuse, Shell

from p2pml.cli.main import COMMANDS, p2pml, run

P2PML = [sys.executable, "-m", "p2pml.cli"]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it."""
    context = click.Context(p2pml)
    for name in COMMANDS:
        command = p2pml.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", leaf) for sub, leaf in command.commands.items())


def test_every_help_has_an_example(shell: Shell) -> None:
    """What to type stands at the end of each --help, and begins with the command itself."""
    assert "p2pml demo" in shell("--help").out.partition("Examples:")[2]
    for words, _ in commands():
        help = shell(*words.split(), "--help")
        assert help.code == 0
        assert f"p2pml {words} " in help.out.partition("Examples:")[2] + " ", words


def test_the_version_is_the_installed_one(shell: Shell) -> None:
    """As `pip show p2pml` has it."""
    assert shell("--version").out == f"p2pml {importlib.metadata.version('p2pml')}\n"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_is_told_how_to_complete(shell: Shell, name: str) -> None:
    """The script asks by the variable that the command answers to."""
    done = shell("completion", name)
    assert done.code == 0
    assert f"_P2PML_COMPLETE={name}_complete" in done.out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("p2pml pe", {"peer", "peers"}), ("p2pml watch --js", {"--json"}), ("p2pml completion z", {"zsh"})],
)
def test_commands_options_and_choices_complete(typed: str, offered: set[str]) -> None:
    """In the way that the script for bash asks."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_P2PML_COMPLETE": "bash_complete"}
    done = subprocess.run(P2PML, capture_output=True, text=True, env={**os.environ, **words}, timeout=60)
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


def test_the_list_of_commands_says_what_each_command_says_of_itself(shell: Shell) -> None:
    """The list is kept by hand, so that it can be shown without importing anything."""
    listed = " ".join(shell("--help").out.split())
    for words, command in commands():
        if words in COMMANDS:
            help = " ".join((command.help or "").split())
            assert help.startswith(COMMANDS[words].rstrip(".")), words
            assert COMMANDS[words] in listed


def test_every_option_can_be_set_in_the_environment() -> None:
    """Its name is P2PML_ and the option's own, in capitals."""
    for words, command in commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "help":
                flag = parameter.opts[0].removeprefix("--").replace("-", "_").upper()
                assert parameter.envvar == f"P2PML_{flag}", (words, parameter.opts)


@pytest.mark.parametrize("words", ["", *COMMANDS, "peer start"])
def test_help_imports_nothing_that_is_heavy(words: str) -> None:
    """A person who asks how to ask does not wait for scikit-learn."""
    probe = (
        "import sys; from p2pml.cli.main import run; assert run(sys.argv[1:]) == 0; "
        "heavy = {'sklearn', 'numpy', 'scipy', 'aiohttp', 'zeroconf', 'rich', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy - ALLOWED else 0)"
    )
    # Commands that ask a peer name asyncio's types; what is slow to import is what counts.
    allowed = "{'asyncio'}" if words else "set()"
    done = subprocess.run(
        [sys.executable, "-c", probe.replace("ALLOWED", allowed), *words.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'. See p2pml --help."),
        (["predict"], "Missing argument 'FILE|-'. See p2pml predict --help."),
        (["peers", "--nonsense"], "No such option"),
        (["peer", "start"], "Missing option '--data'. See p2pml peer start --help."),
        (["split", "x.csv", "--parts", "1", "--how", "random", "--out", "x"], "'--parts': 1 is not in the range"),
    ],
)
def test_bad_usage_exits_2_with_one_sentence(shell: Shell, arguments: list[str], words: str) -> None:
    """It names the flag and the help to read, on standard error."""
    done = shell(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("p2pml: ")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_bad_value_of_the_environment_is_bad_usage(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the option."""
    monkeypatch.setenv("P2PML_PARTS", "some")
    done = shell("split", "x.csv", "--how", "random", "--out", "x")
    assert done.code == 2
    assert "--parts" in done.err


@pytest.mark.parametrize("arguments", [[], ["peer"]])
def test_a_group_alone_shows_its_help_and_is_bad_usage(shell: Shell, arguments: list[str]) -> None:
    """Somebody who types too little is shown what there is."""
    done = shell(*arguments)
    assert done.code == 2
    assert "Examples:" in done.err


def test_an_interrupt_exits_130_without_a_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command as it ends any tool."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2pml.cli.peers._ask", interrupt)
    done = shell("peers")
    assert (done.code, done.err) == (130, "p2pml: Interrupted.\n")


def test_an_interrupt_ends_a_command_that_waits_for_its_input(peer: FakePeer) -> None:
    """Also where nobody ever types anything."""
    process = subprocess.Popen(
        [*P2PML, "predict", "-", "--peer", peer.where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        # The first row travels at the end of the input alone; reading it proves that the command has begun.
        try:
            _wait_until_reading(process.pid)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert err == "p2pml: Interrupted.\n"


def _wait_until_reading(pid: int) -> None:
    """Wait until a thread of the process sleeps in a read from a pipe."""
    import time

    end = time.monotonic() + 30
    while time.monotonic() < end:
        tasks = Path(f"/proc/{pid}/task")
        if any("pipe_read" in (task / "wchan").read_text() for task in tasks.iterdir()):
            return
        time.sleep(0.01)
    pytest.skip("this system does not tell what a thread waits for")


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path, peer: FakePeer) -> None:
    """`p2pml predict … | head` says nothing of a broken pipe."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\n" + "1\n" * 50_000)
    process = subprocess.Popen(
        [*P2PML, "predict", str(rows), "--peer", peer.where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a,prediction\n"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 141
    assert err == ""


def test_a_full_disk_is_one_sentence(tmp_path: Path, peer: FakePeer) -> None:
    """What the system says is passed on."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\n1\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*P2PML, "predict", str(rows), "--peer", peer.where],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_are_utf_8_whatever_the_terminal_speaks(tmp_path: Path, peer: FakePeer) -> None:
    """A file's letters survive a Latin-1 locale."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\nπ\n", encoding="utf-8")
    done = subprocess.run(
        [*P2PML, "predict", str(rows), "--peer", peer.where],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.stdout.decode("utf-8") == "a,prediction\nπ,π-ann\n"


def test_a_peers_failure_exits_1(shell: Shell, peer: FakePeer) -> None:
    """An answer that cannot be used is no bad input."""

    def fail(body: object) -> object:
        raise Refuse(500, "something broke")

    peer.replies["/v1/peers"] = fail
    done = shell("peers", "--peer", peer.where)
    assert (done.code, done.err) == (1, f"p2pml: {peer.where}: something broke.\n")


def test_the_exit_code_of_success_is_0(capsys: pytest.CaptureFixture[str], peer: FakePeer) -> None:
    """Whatever a command returns."""
    assert run(["peers", "--peer", peer.where]) == 0
