"""What one machine can find out about itself: addresses, multicast, ports, firewall, container."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ifaddr

from .finder import SERVICE, own_addresses
from .sockets import FIRST_PORT

MDNS = ("224.0.0.251", 5353)
NETWORKS = Path("/sys/class/net")
"""Where Linux says what is set of each interface."""
IFF_LOOPBACK, IFF_MULTICAST = 0x8, 0x1000
"""From <linux/if.h>."""
LISTEN = 1.0
"""Seconds in which a packet must come back that never leaves the machine."""
TOOLS = {"nft": ["list", "ruleset"], "iptables": ["-S", "INPUT"]}
"""Commands that list a firewall's rules; both refuse who is not root."""
UFW = Path("/etc/ufw/ufw.conf")
"""Ubuntu's firewall says here, to everybody, whether it is on."""
COMMAND = 5.0
"""Seconds for a command that lists the firewall's rules."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked and what came of it; `remedy` where it is a problem."""

    check: str
    status: Literal["ok", "problem", "unchecked"]
    said: str
    remedy: str | None = None


def machine(host: str | None) -> list[Finding]:
    """All findings about this machine; `host` confines them to the interface of that address."""
    addresses = own_addresses(host)
    return [
        _addresses(addresses, host),
        *(_multicast(address) for address in addresses),
        _ports(host),
        _firewall(),
        _container(),
    ]


def _interface(address: str) -> str:
    for adapter in ifaddr.get_adapters():
        if any(str(ip.ip) == address for ip in adapter.ips):
            return str(adapter.nice_name)
    return ""


def _addresses(addresses: list[str], host: str | None) -> Finding:
    shown = ", ".join(f"{address} ({_interface(address) or 'of no interface'})" for address in addresses)
    if host is not None and not _interface(host):
        remedy = "give --host an address that `ip address` shows"
        return Finding("addresses", "problem", f"{host} is no address of this machine", remedy)
    if all(address.startswith("127.") for address in addresses):
        if host is not None:
            return Finding("addresses", "ok", f"confined to {shown}: peers of this machine alone can meet")
        remedy = "connect the machine to a network; a container needs one too (`docker run --network host`)"
        return Finding("addresses", "problem", "there is no IPv4 address but the loopback's", remedy)
    return Finding("addresses", "ok", f"peers can reach this machine at {shown}")


def _multicast(address: str) -> Finding:
    """Send a question by mDNS and hear it: what leaves the machine nobody but another machine can say."""
    place = f"{address} ({_interface(address)})"
    if _carries_none(_interface(address)):
        remedy = f"`ip link set {_interface(address)} multicast on`, or reach the other peers with --join HOST:PORT"
        return Finding("multicast", "problem", f"the interface of {place} carries no multicast", remedy)
    remedy = "allow UDP port 5353 in this machine's firewall, or reach the other peers with --join HOST:PORT"
    try:
        heard = _hears_itself(address)
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno == errno.EADDRINUSE:
            remedy = "a program holds UDP port 5353 for itself; end it, or reach the other peers with --join HOST:PORT"
        return Finding("multicast", "problem", f"mDNS cannot be used at {place}: {why}", remedy)
    if not heard:
        return Finding("multicast", "problem", f"multicast that is sent at {place} is not even heard there", remedy)
    return Finding(
        "multicast", "ok", f"multicast is sent and heard at {place}; whether it crosses the network, the peers show"
    )


def _carries_none(interface: str) -> bool:
    """Whether the interface is set to carry no multicast; what this machine sends it still hears itself."""
    flags = NETWORKS / interface / "flags"
    if not interface or not flags.exists():
        return False
    # The loopback lacks the flag and carries multicast all the same.
    return not int(flags.read_text(), 16) & (IFF_MULTICAST | IFF_LOOPBACK)


def _hears_itself(address: str) -> bool:
    number = secrets.randbits(16)
    name = b"".join(bytes([len(label)]) + label.encode() for label in SERVICE.rstrip(".").split(".")) + b"\0"
    question = struct.pack(">6H", number, 0, 1, 0, 0, 0) + name + struct.pack(">2H", 12, 1)
    with ExitStack() as stack:
        ear = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ear.bind(("", MDNS[1]))
        group = socket.inet_aton(MDNS[0]) + socket.inet_aton(address)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        mouth = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        mouth.bind((address, 0))
        mouth.sendto(question, MDNS)
        end = time.monotonic() + LISTEN
        while (left := end - time.monotonic()) > 0:
            ear.settimeout(left)
            try:
                data, source = ear.recvfrom(9000)
            except TimeoutError:
                return False
            if data == question and source[0] == address:
                return True
    return False


def _ports(host: str | None) -> Finding:
    """Whether a peer could take its usual port, over TCP and UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host or "", FIRST_PORT))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    said = f"port {FIRST_PORT} is in use, by a peer perhaps; the next peer takes the next free port"
                    return Finding("ports", "ok", said)
                why = os.strerror(error.errno).lower() if error.errno else str(error)
                return Finding(
                    "ports", "problem", f"port {FIRST_PORT} cannot be used: {why}", "give another with --port"
                )
    return Finding("ports", "ok", f"port {FIRST_PORT} is free for TCP and UDP")


def _firewall() -> Finding:
    """Whether this machine's own rules drop what is not allowed, as far as this user may read them."""
    read, drops = [], []
    for tool, rules in _rules():
        read.append(tool)
        if (
            any("hook input" in line and "policy drop" in line for line in rules.splitlines())
            or "-P INPUT DROP" in rules
        ):
            drops.append(tool)
    if UFW.is_file() and "ENABLED=yes" in UFW.read_text(encoding="utf-8", errors="replace"):
        read.append("ufw")
        drops.append("ufw")
    remedy = (
        f"unless rules of yours allow it: open TCP and UDP port {FIRST_PORT} (the next ones for more peers) and UDP "
        f"port {MDNS[1]}, such as `sudo ufw allow {FIRST_PORT}` and `sudo ufw allow {MDNS[1]}/udp`"
    )
    if drops:
        return Finding("firewall", "problem", f"this machine drops what is not allowed ({', '.join(drops)})", remedy)
    if read:
        return Finding("firewall", "ok", f"this machine does not drop incoming packets by default ({', '.join(read)})")
    return Finding("firewall", "unchecked", f"no firewall's rules could be read here ({', '.join(TOOLS)}); ask as root")


def _rules() -> Iterator[tuple[str, str]]:
    for tool, words in TOOLS.items():
        path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
        if path is None:
            continue
        try:
            done = subprocess.run([path, *words], capture_output=True, text=True, timeout=COMMAND)  # noqa: S603 (fixed words)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            yield tool, done.stdout


def _container() -> Finding:
    """Containers on a bridge of their own hear no multicast of the network outside."""
    signs = [path for path in ("/.dockerenv", "/run/.containerenv") if Path(path).exists()]
    signs += ["KUBERNETES_SERVICE_HOST"] if "KUBERNETES_SERVICE_HOST" in os.environ else []
    if not signs:
        return Finding("container", "ok", "nothing says that this is a container")
    said = f"this is a container ({signs[0]}); on a bridge of its own, multicast does not reach it from outside"
    return Finding("container", "ok", f"{said}. Then use `--network host`, or --join HOST:PORT")
