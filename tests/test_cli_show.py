from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakePeer, votes

from p2pml.cli.show import number, plain, table

P2PML = [sys.executable, "-m", "p2pml.cli"]


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    with FakePeer() as fake:
        yield fake


class Terminal:
    """A terminal of 40 columns in which a command runs; what appears on it is `text`."""

    def __init__(self) -> None:
        self._mine, self.slave = pty.openpty()
        self.text = ""

    def run(self, *arguments: str, **streams: Any) -> int:
        environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "40"} | streams.pop("env", {})
        reader = threading.Thread(target=self._read)
        reader.start()
        done = subprocess.run([*P2PML, *arguments], env=environment, timeout=60, **streams)
        os.close(self.slave)
        reader.join()
        os.close(self._mine)
        return done.returncode

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._mine, 65536)
            except OSError:
                # This is how a terminal says that nobody writes to it any more.
                return
            self.text += piece.decode()


def test_a_terminal_gets_colour_and_whole_lines(peer: FakePeer) -> None:
    """An address is not cut off, however narrow the terminal is."""
    terminal = Terminal()
    assert terminal.run("peers", "--peer", peer.where, stdout=terminal.slave, stderr=subprocess.DEVNULL) == 0
    assert "\x1b[32malive" in terminal.text
    assert peer.where in terminal.text
    assert "…" not in terminal.text


def test_no_color_is_respected(peer: FakePeer) -> None:
    """See no-color.org."""
    terminal = Terminal()
    terminal.run("peers", "--peer", peer.where, stdout=terminal.slave, stderr=subprocess.DEVNULL, env={"NO_COLOR": "1"})
    assert "alive" in terminal.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.text)


def test_progress_is_on_the_terminal_and_the_result_where_it_belongs(peer: FakePeer, tmp_path: Path) -> None:
    """A file that is written while a spinner turns holds the rows alone."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\n1\n")
    terminal = Terminal()
    done = tmp_path / "out.csv"
    with done.open("w") as stream:
        terminal.run("predict", str(rows), "--peer", peer.where, stdout=stream, stderr=terminal.slave)
    assert "asking the peers" in terminal.text
    assert "1 rows predicted" in terminal.text
    assert done.read_text() == "a,prediction\n1,1-ann\n"


def test_no_spinner_turns_among_rows_on_a_terminal(peer: FakePeer, tmp_path: Path) -> None:
    """Where the rows themselves move, nothing else does."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\n1\n")
    terminal = Terminal()
    terminal.run("predict", str(rows), "--peer", peer.where, stdout=terminal.slave, stderr=terminal.slave)
    assert "asking the peers" not in terminal.text
    assert "1,1-ann" in terminal.text


def test_a_title_stands_over_its_table_on_a_terminal_too(peer: FakePeer, tmp_path: Path) -> None:
    """As it does in plain text."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a,kind\n" + "1,x\n2,[red]y\n" * 4)
    terminal = Terminal()
    flags = ["split", str(rows), "--parts", "2", "--how", "random", "--out", str(tmp_path / "out")]
    terminal.run(*flags, stdout=terminal.slave, stderr=subprocess.DEVNULL)
    assert "Shares of kind" in terminal.text
    # What looks like an instruction to the one that draws is a label all the same.
    assert "[red]y" in terminal.text


def test_the_same_table_is_plain_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are aligned, numbers to the right, and no line ends in blanks."""
    table(["name", "rows", "why"], [["ann", 1234, None], ["bo\nb", 5, "gone"]], title="All")
    assert capsys.readouterr().out == "All\nname   rows  why\nann   1,234  –\nbo b      5  gone\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5000"), (1234567.0, "1.235e+06"), (1234567, "1,234,567"), (None, "–"), (True, "True"), ("x\ty", "x y")],
)
def test_numbers_are_shown_for_people(value: object, shown: str) -> None:
    """With as many digits as they can use."""
    assert number(value) == shown


def test_control_characters_become_blanks() -> None:
    """Nothing that another machine chose can steer a terminal."""
    assert plain("a\x1b[2Jb\r\nc\x9b") == "a [2Jb  c "


def test_votes_over_blocks_are_told_in_one_sentence() -> None:
    """The fewest and the most, and everyone who was missing."""
    from p2pml.peer.totals import Tally

    tally = Tally()
    assert str(tally) == "0 of 0 votes"
    tally.add(votes(2, 3, bob="slow"))  # type: ignore[arg-type]
    assert str(tally) == "2 of 3 votes; missing: bob (slow)"
    tally.add(votes(3, 3))  # type: ignore[arg-type]
    assert str(tally) == "2 to 3 of 3 votes; missing: bob (slow)"
    assert tally.votes() == votes(2, 3, bob="slow")
