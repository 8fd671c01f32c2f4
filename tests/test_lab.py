"""Machines that are network namespaces: what only real interfaces can show. Needs root; skips, and says so, without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running import environment, eventually, write_part

from p2pml.peer.sockets import FIRST_PORT

pytestmark = [
    pytest.mark.root,
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]


class Machine:
    """A namespace with an interface on the common bridge."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab, self.name, self.address = lab, f"{lab.prefix}{number}", f"10.99.0.{number}"
        self.port = f"v{number}"
        ip("netns", "add", self.name)
        lab.stack.callback(ip, "netns", "del", self.name)
        ip("link", "add", "eth0", "netns", self.name, "type", "veth", "peer", "name", self.port, "netns", lab.switch)
        ip("-n", lab.switch, "link", "set", self.port, "master", "br0", "up")
        self.inside("link", "set", "lo", "up")
        self.inside("addr", "add", f"{self.address}/24", "dev", "eth0")
        self.inside("link", "set", "eth0", "up")

    def inside(self, *words: str) -> None:
        """An `ip` command inside this machine."""
        ip("-n", self.name, *words)

    def start(self, data: Path, *flags: str) -> None:
        """A peer on this machine that was told nothing of the network."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "p2pml.cli", "peer", "start"]
        command += ["--data", str(data), "--cluster", self.lab.prefix, "--model", "decision-tree", *flags]
        command += ["--state", str(self.lab.folder / f"state-{data.stem}")]
        with open(self.lab.folder / f"{data.stem}.log", "ab") as log:
            process = subprocess.Popen(command, stderr=log, env=unconfined())
        self.lab.stack.callback(end, process)

    def peers(self, *where: str) -> dict[str, dict[str, Any]]:
        """What any peer that can be found from this machine, or the one at `where`, says of each."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "p2pml.cli", "peers", "--json"]
        command += ["--cluster", self.lab.prefix, *where]
        done = subprocess.run(command, capture_output=True, text=True, env=unconfined(), timeout=60, check=False)
        return {row["name"]: row for row in json.loads(done.stdout)["peers"]} if done.returncode == 0 else {}


class Lab:
    """A bridge in a namespace of its own; all is taken down at the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.prefix = f"p{uuid.uuid4().hex[:6]}"
        self.switch = f"{self.prefix}sw"
        ip("netns", "add", self.switch)
        stack.callback(ip, "netns", "del", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        ip("-n", self.switch, "link", "set", "br0", "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def unconfined() -> dict[str, str]:
    """Peers of a namespace are free in it: it reaches nothing outside."""
    return {name: value for name, value in environment().items() if name != "P2PML_HOST"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        try:
            yield Lab(tmp_path, stack)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")


def addresses(machine: Machine, *where: str) -> dict[str, str]:
    """The addresses, without ports, of the live peers that are seen from a machine."""
    return {n: row["address"].split(":")[0] for n, row in machine.peers(*where).items() if row["status"] == "alive"}


def test_machines_meet_at_addresses_that_each_other_reaches(lab: Lab, tmp_path: Path) -> None:
    """An interface that leads nowhere is not what the others are told to use."""
    one, two = Machine(lab, 1), Machine(lab, 2)
    one.inside("link", "add", "dead0", "type", "veth", "peer", "name", "dead1")
    one.inside("addr", "add", "10.1.0.1/24", "dev", "dead0")
    one.inside("link", "set", "dead0", "up")
    one.inside("link", "set", "dead1", "up")
    for machine, name in ((one, "a"), (two, "b")):
        machine.start(write_part(tmp_path / f"{name}.csv"))
    eventually(lambda: addresses(two) == {"a": "10.99.0.1", "b": "10.99.0.2"}, "they meet")
    eventually(lambda: len(addresses(one)) == 2, "on both sides")


def test_the_doctor_says_what_to_do_where_the_network_carries_no_multicast(lab: Lab, tmp_path: Path) -> None:
    """A switch that keeps multicast from one port: the doctor there names --join, and with it all is well."""
    one, two = Machine(lab, 1), Machine(lab, 2)
    one.start(write_part(tmp_path / "a.csv"))
    eventually(lambda: len(addresses(two)) == 1, "it can be found")

    def doctor(*where: str) -> tuple[int, dict[str, dict[str, Any]]]:
        command = ["ip", "netns", "exec", two.name, sys.executable, "-m", "p2pml.cli", "doctor", "--json"]
        command += ["--cluster", lab.prefix, *where]
        done = subprocess.run(command, capture_output=True, text=True, env=unconfined(), timeout=60, check=False)
        return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}

    code, before = doctor()
    assert (code, before["multicast"]["status"], before["peers"]["status"]) == (0, "ok", "ok")
    ip("-n", lab.switch, "link", "set", two.port, "type", "bridge_slave", "mcast_flood", "off")
    code, cut = doctor()
    assert (code, cut["peers"]["status"]) == (1, "problem")
    assert "--join" in cut["peers"]["remedy"]
    code, joined = doctor("--join", f"10.99.0.1:{FIRST_PORT}")
    assert (code, joined["peers"]["status"]) == (0, "ok")
    two.inside("link", "set", "eth0", "down")
    code, down = doctor("--join", f"10.99.0.1:{FIRST_PORT}")
    assert (code, down["reach"]["status"]) == (1, "problem")


def test_an_interface_that_comes_late_is_followed(lab: Lab, tmp_path: Path) -> None:
    """A machine without a network is alone; once it has one, the others find it, and when it changes, too.

    The third machine reaches only the first: what it knows of the second is what that one claims.
    """
    one, two, three = Machine(lab, 1), Machine(lab, 2), Machine(lab, 3)
    two.inside("route", "add", "blackhole", "10.99.0.3/32")
    for late in ("10.99.0.22", "10.99.0.23"):
        three.inside("route", "add", "blackhole", f"{late}/32")
    two.inside("addr", "del", "10.99.0.2/24", "dev", "eth0")
    for machine, name in ((one, "a"), (two, "b")):
        machine.start(write_part(tmp_path / f"{name}.csv"))
    eventually(lambda: set(addresses(one)) == {"a"} and set(addresses(two)) == {"b"}, "each is alone")
    two.inside("addr", "add", "10.99.0.22/24", "dev", "eth0")
    eventually(lambda: addresses(one) == {"a": "10.99.0.1", "b": "10.99.0.22"}, "the late one is found")
    three.start(write_part(tmp_path / "c.csv"), "--no-mdns", "--join", "10.99.0.1:7733")
    seen = {"a": "10.99.0.1", "b": "10.99.0.22", "c": "10.99.0.3"}
    eventually(lambda: addresses(three, "--peer", "10.99.0.3:7733") == seen, "the third one is told where it is")
    two.inside("addr", "del", "10.99.0.22/24", "dev", "eth0")
    two.inside("addr", "add", "10.99.0.23/24", "dev", "eth0")
    seen["b"] = "10.99.0.23"
    eventually(lambda: addresses(one) == seen, "it is followed")
    eventually(lambda: addresses(three, "--peer", "10.99.0.3:7733") == seen, "and the third one is told")
