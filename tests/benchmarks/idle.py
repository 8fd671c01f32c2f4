"""What idle peers cost, and how soon they know of a death: `python tests/benchmarks/idle.py 32`.

So many daemons on tiny parts train and come to rest. Then their CPU and the protocol's bytes are counted for a minute;
one is stopped (SIGSTOP) for 20 s and must accuse nobody when it wakes; and one is killed, and everybody must know
within the time that the protocol's parameters predict.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from running import RealPeer, call, eventually, write_part

from p2pml.gossip import Settings
from p2pml.gossip.suspicion import CONFIRMATIONS, JUDGED_LATER, timeout

PATIENCE = 900.0
REST = 30.0
LASTING = 60.0
STOPPED = 20.0
UNLUCKY = 0.001
"""Chance of a first suspicion later than the prediction says."""


def predicted(count: int) -> tuple[float, float]:
    """Seconds until all know of a death: as is to be expected, and at most but for one time in a thousand.

    A member is probed by nobody in an interval with probability 1/e (SWIM §5); a probe fails an interval later, those
    who hear of it take as long to confirm, and who does not accuse itself waits longer for the news.
    """
    lan = Settings.lan()
    judged = 2 * lan.probe_interval + timeout(lan, count, 1 + CONFIRMATIONS)
    first = math.e / (math.e - 1) * lan.probe_interval
    return first + judged, (-math.log(UNLUCKY) + JUDGED_LATER) * lan.probe_interval + judged


def cpu(peer: RealPeer) -> float:
    """Processor seconds that a peer has used."""
    assert peer.process is not None
    fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def sent(peer: RealPeer) -> float:
    """Bytes of the protocol that a peer has sent."""
    page = call(peer.address, "/metrics").body.decode()
    found = re.search(r'p2pml_gossip_bytes_total\{direction="out"\} (\S+)', page)
    assert found is not None, page
    return float(found[1])


def kinds(peer: RealPeer, since: int) -> list[str]:
    """What a peer noted of others after so many lines of its log, as `what name`."""
    return [f"{line['event']} {line.get('name')}" for line in peer.said()[since:] if "name" in line]


def main() -> None:
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        peers: list[RealPeer] = []
        try:
            for index in range(count):
                flags = ["--host", "127.0.0.1", "--port", "0", "--no-mdns", "--model", "linear"]
                flags += ["--join", peers[0].address] if peers else []
                part = write_part(folder / f"peer-{index}.csv", seed=index)
                peers.append(RealPeer(part, folder, *flags, cluster="idle").start())
            measure(peers)
        finally:
            for peer in peers:
                peer.end()


def measure(peers: list[RealPeer]) -> None:
    def whole(peer: RealPeer) -> bool:
        rows = peer.peers().values()
        trained = [row for row in rows if row["model"] and row["model"]["state"] == "ready"]
        return len(trained) == len(peers) and all(row["status"] == "alive" for row in rows)

    eventually(lambda: all(whole(peer) for peer in peers), "all know all models", PATIENCE)
    time.sleep(REST)
    before, bytes_before, began = [cpu(peer) for peer in peers], [sent(peer) for peer in peers], time.monotonic()
    time.sleep(LASTING)
    used, span = [cpu(peer) - then for peer, then in zip(peers, before, strict=True)], time.monotonic() - began
    rate = [(sent(peer) - then) / span for peer, then in zip(peers, bytes_before, strict=True)]
    print(f"{len(peers)} peers, idle for {span:.0f} s: {100 * sum(used) / span / len(peers):.2f} % of a core each")
    print(f"  at most {100 * max(used) / span:.2f} %; {sum(rate) / len(rate):.0f} B/s sent, at most {max(rate):.0f}")

    stopped, victim, *others = peers
    lines = {peer.log: len(peer.said()) for peer in peers}
    stopped.kill(signal.SIGSTOP)
    time.sleep(STOPPED)
    stopped.kill(signal.SIGCONT)
    eventually(lambda: all(whole(peer) for peer in peers), "all hold all alive again")
    time.sleep(STOPPED)
    print(f"stopped for {STOPPED:.0f} s, it noted: {kinds(stopped, lines[stopped.log]) or 'nothing'}")
    noted = {note for peer in [victim, *others] for note in kinds(peer, lines[peer.log])}
    print(f"  the others noted: {sorted(noted)}")

    name, began = victim.data.stem, time.monotonic()
    victim.kill()
    knew: dict[str, float] = {}

    def known() -> bool:
        for peer in [stopped, *others]:
            if peer.address not in knew and peer.peers()[name]["status"] == "dead":
                knew[peer.address] = time.monotonic() - began
        return len(knew) == len(peers) - 1

    eventually(known, "all know of the death")
    expected, most = predicted(len(peers))
    print(f"killed: the first knew after {min(knew.values()):.1f} s, all after {max(knew.values()):.1f} s")
    print(f"  predicted: {expected:.1f} s, and at most {most:.1f} s in 999 of 1,000")


if __name__ == "__main__":
    main()
