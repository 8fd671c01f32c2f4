"""Kill a whole peer with SIGKILL at a random moment, again and again: `python tests/benchmarks/restarts.py 50`.

It starts, trains for fits that are asked for all along, takes the replica of another peer, and is killed. Each time its
state folder must be sound, and the fit that it acknowledged last must be on disk.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from running import RealPeer, call, write_part

from p2pml.ensemble.summary import FitCommand
from p2pml.peer.inspecting import ASIDE, SOUND, STRANGE, inspect
from p2pml.peer.store import Store

LONGEST = 3.0
"""Seconds after its start at which it is killed, at most: a training takes about as long."""


def main() -> None:
    count, rng = int(sys.argv[1]), random.Random(0)
    flags = ["--host", "127.0.0.1", "--no-mdns", "--model", "linear"]
    fits = 0
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        other = RealPeer(write_part(folder / "other.csv", 2000), folder, *flags, cluster="restarts").start()
        peer = RealPeer(
            write_part(folder / "p.csv", 2000, 1), folder, *flags, "--join", other.address, cluster="restarts"
        )
        state = folder / "state-p"
        slowest = 0.0
        try:
            for at in range(count):
                peer.start()
                began, acknowledged = time.monotonic(), 0
                while time.monotonic() < began + rng.uniform(0, LONGEST):
                    answer = call(peer.address, "/v1/fit", {"wait": False})
                    acknowledged = answer.data["epoch"]["counter"] if answer.status == 200 else acknowledged
                    fits += 1
                    time.sleep(rng.uniform(0, 0.5))
                peer.kill()
                broken = [each for each in inspect(state) if each.state not in (SOUND, ASIDE)]
                # What a broken-off write left goes with the next start.
                assert all(each.state == STRANGE and each.file.startswith(".") for each in broken), broken
                store = Store(state)
                kept = store.read_document("fit", FitCommand.from_data)
                store.close()
                on_disk = kept.epoch.counter if kept else 0
                assert on_disk >= acknowledged, (on_disk, acknowledged)
                print(f"{at + 1}: fit {acknowledged} was acknowledged, {on_disk} is on disk", flush=True)
            began = time.monotonic()
            peer.start()
            while not peer.ready():
                time.sleep(0.02)
            slowest = time.monotonic() - began
        except BaseException:
            print(peer.log.read_text()[-4_000:], f"its exit code: {peer.process and peer.process.poll()}", flush=True)
            raise
        finally:
            peer.end()
            other.end()
    print(
        f"{count} deaths amid {fits} fits: the folder was sound every time; at the end it voted after {slowest:.2f} s"
    )


if __name__ == "__main__":
    main()
