"""One port: TCP for HTTP and UDP for gossip under the same number."""

from __future__ import annotations

import ipaddress
import socket

from p2pml.errors import BadInput

FIRST_PORT = 7733
"""The first port that a peer tries where the user names none."""
PORTS = 100
"""How many ports a peer tries: more peers than people run on one machine."""


def bind(host: str | None, port: int | None, remembered: int | None) -> tuple[socket.socket, socket.socket, int]:
    """A TCP and a UDP socket on one and the same port of `host` (None: every interface).

    `port` None tries the remembered one, then 7733 and the next 99, so that a firewall can open a range, then
    any; 0 is any free one. Raises `BadInput` where the host is not this machine's or the port is in use.
    """
    at = host or "0.0.0.0"  # noqa: S104 (no --host means every interface, as the help says)
    _check_host(at)
    candidates = [port] if port else []
    if port is None:
        candidates = [*([remembered] if remembered else []), *range(FIRST_PORT, FIRST_PORT + PORTS)]
    for candidate in candidates:
        if (bound := _bind_both(at, candidate)) is not None:
            return bound
    if port:
        raise BadInput(f"port {port} of {at} is in use; choose another with --port, or leave the flag out")
    for _ in range(PORTS):
        if (bound := _bind_both(at, 0)) is not None:
            return bound
    raise BadInput(f"no port of {at} is free for both TCP and UDP; free one, or name it with --port")


def _check_host(host: str) -> None:
    try:
        address = ipaddress.ip_address(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (ValueError, OSError) as error:
        raise BadInput(
            f"--host {host} is not an IPv4 address of this machine; name one of its interfaces' addresses, "
            "such as 127.0.0.1, or leave the flag out for all of them"
        ) from error
    assert address.version == 4


def _bind_both(host: str, port: int) -> tuple[socket.socket, socket.socket, int] | None:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # A restarted peer takes its port back while old connections linger; a listening one still refuses.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        tcp.listen(128)
        number: int = tcp.getsockname()[1]
        udp.bind((host, number))
    except OSError:
        tcp.close()
        udp.close()
        return None
    tcp.setblocking(False)
    udp.setblocking(False)
    return tcp, udp, number
