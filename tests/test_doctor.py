"""Laws of `p2pml doctor`: it says what it checked, each problem with a remedy, and nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakePeer, Shell
from running import peer_here, soon, write_part

import p2pml
from p2pml.peer import machine
from p2pml.peer.checkup import Search, Seen, judge
from p2pml.peer.contact import Where
from p2pml.peer.finder import Announcement
from p2pml.peer.machine import Finding


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def seen(
    name: str, *, clock: float = 0.0, version: str = p2pml.__version__, cluster: str = "default", **views: str
) -> Seen:
    """A peer that answered; `views` is how it sees the others."""
    rows = [
        {"id": other, "name": other, "address": "10.0.0.5:7733", "status": status, "generation": 1, "model": None}
        for other, status in ({name: "alive"} | views).items()
    ]
    peers: Any = {"cluster": cluster, "asked": name, "peers": rows}
    return Seen(("10.0.0.5", 7733), peers, version, clock)


def found(*answers: Seen, heard: tuple[str, ...] = (), **silent: str) -> dict[str, Finding]:
    """What is said of a search, by check; `silent` is why by name of an address."""
    search = Search(
        heard=[Announcement(cluster, cluster, ("10.0.0.6", 7733)) for cluster in heard],
        answered={one.peers["asked"]: one for one in answers},
        silent={(name, 7733): ("announced by mDNS", why) for name, why in silent.items()},
    )
    findings = judge(search, Where())
    assert all((finding.status == "problem") == (finding.remedy is not None) for finding in findings)
    return {finding.check: finding for finding in findings}


def test_peers_that_all_answer_and_agree_are_well() -> None:
    """Nothing is made up to have something to say."""
    findings = found(seen("ann", bob="alive"), seen("bob", ann="suspect"))
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert "2 peers of cluster default answer (ann, bob)" in findings["peers"].said


@pytest.mark.parametrize(
    ("findings", "check", "said", "remedy"),
    [
        (found(), "peers", "no peer of cluster default", "--join HOST:PORT"),
        (found(seen("x", cluster="houses")), "peers", "but peers of houses", "--cluster houses"),
        (found(heard=("houses",)), "peers", "but peers of houses", "--cluster houses"),
        (found(there="connection refused"), "reach", "there:7733, announced by mDNS, cannot", "TCP and UDP port 7733"),
        (found(seen("ann", clock=-90.0)), "clocks", "ann is 90 s behind", "NTP"),
        (found(seen("ann", version="9.0")), "versions", "ann runs 9.0", "install one version"),
        (found(seen("ann"), seen("bob", ann="alive")), "gossip", "ann sees bob as unknown", "UDP port 7733"),
        (found(seen("ann", bob="dead"), seen("bob", ann="alive")), "gossip", "ann sees bob as dead", "UDP"),
    ],
)
def test_each_problem_has_its_remedy(findings: dict[str, Finding], check: str, said: str, remedy: str) -> None:
    """The sentence names who and what, and the remedy what to type or to change."""
    finding = findings[check]
    assert finding.status == "problem"
    assert said in finding.said
    assert remedy in (finding.remedy or "")


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({"nft": "chain input { type filter hook input priority 0; policy drop; }"}, "problem"),
        ({"iptables": "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT"}, "problem"),
        ({"nft": "chain forward { type filter hook forward priority 0; policy drop; }"}, "ok"),
        ({"iptables": "-P INPUT ACCEPT"}, "ok"),
        ({}, "unchecked"),
    ],
)
def test_the_firewall_is_judged_by_its_rules_or_not_at_all(
    rules: dict[str, str], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they cannot be read, that is said, and is no problem."""
    monkeypatch.setattr(machine, "_rules", lambda: iter(rules.items()))
    monkeypatch.setattr(machine, "UFW", Path("/nonexistent"))
    assert machine._firewall().status == status


def test_an_address_of_another_machine_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The multicast check then fails too, and says so instead of failing itself."""
    monkeypatch.setattr(machine, "_rules", lambda: iter(()))
    findings = {finding.check: finding for finding in machine.machine("203.0.113.7")}
    assert findings["addresses"].status == findings["multicast"].status == findings["ports"].status == "problem"


@pytest.mark.parametrize(("flags", "status"), [("0x1003", "ok"), ("0x9", "ok"), ("0x3", "problem")])
def test_an_interface_that_carries_no_multicast_is_a_problem(
    flags: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine hears itself there all the same; the loopback needs no flag for it."""
    (tmp_path / "lo").mkdir()
    (tmp_path / "lo" / "flags").write_text(f"{flags}\n")
    monkeypatch.setattr(machine, "NETWORKS", tmp_path)
    monkeypatch.setattr(machine, "_hears_itself", lambda address: True)
    finding = machine._multicast("127.0.0.1")
    assert finding.status == status
    assert (finding.remedy or "").startswith("`ip link set lo multicast on`") == (status == "problem")


async def test_real_peers_that_meet_are_well(tmp_path: Path, shell: Shell) -> None:
    """Exit code 0; one that is not there any more makes it 1, and is named."""
    a_part, b_part = write_part(tmp_path / "a.csv"), write_part(tmp_path / "b.csv", seed=1)
    where = ["--cluster", "here", "--no-mdns", "--host", "127.0.0.1", "--join"]
    async with peer_here(a_part, tmp_path / "sa") as a:
        port = a.address[1]
        async with peer_here(b_part, tmp_path / "sb", join=(a.address,)) as b:
            await soon(lambda: len(b.peers()["peers"]) == len(a.peers()["peers"]) == 2, "they meet")
            done = await asyncio.to_thread(shell, "doctor", "--json", *where, f"127.0.0.1:{port}")
    assert done.code == 0, done.out
    answer = json.loads(done.out.splitlines()[-1])  # what comes before are the peers' own logs
    assert answer["well"] is True
    said = {finding["check"]: finding for finding in answer["findings"]}
    assert "2 peers of cluster here answer (a, b)" in said["peers"]["said"]
    assert {said[check]["status"] for check in ("addresses", "clocks", "versions", "gossip")} == {"ok"}
    done = await asyncio.to_thread(shell, "doctor", *where, f"127.0.0.1:{port}")
    assert done.code == 1
    assert f"127.0.0.1:{port}, given by --join, cannot be reached: connection refused" in done.out
    assert "→" in done.out


def test_a_stranger_is_told_from_a_peer(shell: Shell) -> None:
    """Whatever a program answers that is not one of ours."""
    with FakePeer() as fake:
        done = shell("doctor", "--no-mdns", "--host", "127.0.0.1", "--join", fake.where)
    assert done.code == 1
    assert "what answers there is no p2pml peer" in done.out
