"""Kill peers at once, and see that every vote is still cast: `python tests/benchmarks/deaths.py PARTS_DIR NEW.csv ...`.

Peers on the parts of a folder (`p2pml split` makes them) train; as soon as every model is where it should be and all
weigh the votes alike, some of them are killed with SIGKILL at once, and a survivor is asked about the rows of NEW.csv,
as before. With `--at-once` they are killed a gossip round after a training of all, whatever is in place by then, and
answers are means.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from running import RealPeer, call, eventually

from p2pml.ensemble.combine import DENSITY
from p2pml.ensemble.knowledge import NO_GAIN
from p2pml.peer.placing import keepers

PATIENCE = 600.0
ROUND = 1.0
"""Seconds of a gossip round."""


def ask(peer: RealPeer, body: dict[str, Any]) -> Any:
    """The answer of one peer, by its own account."""
    return call(peer.address, "/v1/predict", body).data


def holds(peer: RealPeer) -> dict[str, list[str]]:
    """By peer id, who holds its model, as `peer` sees it."""
    return {row["id"]: row.get("held_by", []) for row in call(peer.address, "/v1/peers").data["peers"]}


def settled(answer: Any) -> bool:
    """Whether the held-out rows of all have said how to weigh the votes."""
    return str(answer["combined"]) == DENSITY or str(answer.get("because")) == NO_GAIN


def wait_for_all(peers: list[RealPeer], body: dict[str, Any], replicas: int) -> None:
    """Until each model has its replicas, and all peers weigh the votes alike."""
    began = time.monotonic()
    eventually(
        lambda: all(len(held) >= replicas for peer in peers for held in holds(peer).values()),
        "all is in place",
        PATIENCE,
    )
    print(f"replicas were in place {time.monotonic() - began:.2f} s after the last training")
    eventually(lambda: all(settled(ask(peer, body)) for peer in peers), "all weigh the votes alike", PATIENCE)
    print(f"and all weighed the votes alike after {time.monotonic() - began:.2f} s")


def score(answer: Any, truth: list[str]) -> float:
    return sum(str(said) == true for said, true in zip(answer["predictions"], truth, strict=True)) / len(truth)


def apart(before: Any, after: Any) -> float:
    """The largest difference in a probability."""
    rows = zip(before["probabilities"], after["probabilities"], strict=True)
    return max(abs(float(one) - float(other)) for old, new in rows for one, other in zip(old, new, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kill", type=int, default=3)
    parser.add_argument("--model", default="linear", help="with --at-once they have another one before")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", action="store_true")
    given = parser.parse_args()
    with open(given.new, newline="") as file:
        rows = list(csv.reader(file))[: given.rows + 1]
    body = {"columns": rows[0][:-1], "data": [row[:-1] for row in rows[1:]], "proba": True, "deadline": 60}
    truth = [row[-1] for row in rows[1:]]
    parts = sorted(given.parts.glob("*.csv"))
    peers: list[RealPeer] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for part in parts:
                first = "naive-bayes" if given.at_once else given.model
                flags = ["--host", "127.0.0.1", "--port", "0", "--no-mdns", "--model", first]
                flags += ["--replicas", str(given.replicas), "--name", part.stem]
                flags += ["--join", peers[0].address] if peers else []
                peers.append(RealPeer(part, Path(folder), *flags, cluster="deaths").start())
            count = len(peers)

            def trained() -> bool:
                models = [row["model"] for row in peers[0].peers().values()]
                return len(models) == count and all(model and model["state"] == "ready" for model in models)

            eventually(trained, "all are trained", PATIENCE)
            if given.at_once:
                body["combine"] = "mean"
                fitted = call(peers[0].address, "/v1/fit", {"model": given.model, "wait": True}).data["peers"]
                time.sleep(ROUND)
                print(
                    f"{len(fitted)} learned {given.model}, and {ROUND:g} s later:", {each["status"] for each in fitted}
                )
            else:
                wait_for_all(peers, body, given.replicas)
            chance = random.Random(given.seed)
            doomed = chance.sample(peers, given.kill)
            asker = next(peer for peer in peers if peer not in doomed)
            before = ask(asker, body)
            ids = {row["name"]: row["id"] for row in asker.peers().values()}
            gone = {ids[peer.data.stem] for peer in doomed}
            lost = [id for id in gone if set(keepers(id, ids.values(), given.replicas)) <= gone]
            for peer in doomed:
                assert peer.process is not None
                peer.process.kill()
            at = time.monotonic()
            after = ask(asker, body)
            print(f"the first answer after the deaths came in {time.monotonic() - at:.2f} s")
            for what, answer in (("before", before), ("after", after)):
                print(what, answer["combined"], score(answer, truth), json.dumps(answer["votes"])[:600])
            if after["classes"] == before["classes"]:
                print(f"largest difference {apart(before, after):.3g}")
            missing = {entry["peer"] for entry in after["votes"]["missing"]}
            said = "the very ones that are missing" if set(lost) == missing else "OTHERS THAN THOSE THAT ARE MISSING"
            print(f"by the hashing {len(lost)} of {len(gone)} votes are lost: {said}")
            eventually(
                lambda: sum(row["status"] == "dead" for row in asker.peers().values()) == given.kill, "known", PATIENCE
            )
            last = ask(asker, body)
            print("known dead", last["combined"], score(last, truth), json.dumps(last["votes"])[:900])
        finally:
            for peer in peers:
                peer.end()


if __name__ == "__main__":
    main()
