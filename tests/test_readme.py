"""The README's commands are real ones."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import click
import msgspec
import pytest

from p2pml.cli.main import COMMANDS, p2pml
from p2pml.ensemble.models import MODELS
from p2pml.peer.bodies import PredictRequest
from p2pml.peer.openapi import DOCUMENT

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`((?:P2PML_\w+=\S+ )?p2pml [^`\n]+)`", README)


def calls() -> list[str]:
    """Every call of p2pml in a shell block or in the text."""
    lines = [line for block in BLOCKS for line in block.splitlines()]
    typed = [part.strip().removeprefix(".venv/bin/") for line in lines for part in line.split("&&")]
    return [line for line in (*typed, *INLINE) if line.startswith(("p2pml ", "P2PML_"))]


def test_there_are_calls() -> None:
    """Else the next test would hold nothing."""
    assert {call.split()[1] for call in calls() if call.startswith("p2pml ")} >= set(COMMANDS)


@pytest.mark.parametrize("call", calls())
def test_every_call_parses(call: str) -> None:
    """Commands, flags and values are those that there are."""
    words = [word for word in shlex.split(call.partition(">")[0]) if "=" not in word]
    command: click.Command = p2pml
    context = click.Context(p2pml)
    arguments = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, call
        command, arguments = found, arguments[1:]
    if "--how" in arguments and "--parts" not in arguments:
        arguments += ["--parts", "2", "--out", "x", "x.csv"]
    command.make_context("p2pml", arguments)


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    """So that the two cannot drift apart."""
    shown = subprocess.run([ROOT / ".ci" / "run", "--show"], capture_output=True, text=True, timeout=30)
    assert shown.returncode == 0
    assert shown.stderr.removeprefix("+ ") in BLOCKS
    assert shown.stderr.strip().endswith("/tox")


def test_the_body_of_the_http_example_is_one_that_a_peer_reads() -> None:
    """And its path is one that a peer serves."""
    (example,) = (block for block in BLOCKS if block.startswith("curl"))
    words = shlex.split(example)
    asked = msgspec.convert(json.loads(words[words.index("-d") + 1]), PredictRequest)
    assert asked.combine == "weighted"
    paths = json.loads(DOCUMENT)["paths"]
    for path in ("/v1/predict", "/v1/peers", "/v1/evaluate", "/v1/fit", "/healthz", "/readyz"):
        assert path in README
        assert path in paths


def test_the_models_that_it_names_are_those_that_there_are() -> None:
    """In the order in which the help gives them."""
    sentence = " ".join(README.partition("The models are ")[2].partition(", or your own")[0].split())
    assert re.findall(r"`([\w-]+)`", sentence) == list(MODELS)
