"""Laws of `GET /metrics`, and of the dashboard and the alerts that are built on it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running import ROWS, Answer, call, peer_here, soon, write_part

from p2pml.gossip import Member, Status
from p2pml.peer.metrics import BUCKETS, Latencies

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
NAME = re.compile(r"\bp2pml_[a-z_]+")


def samples(page: Answer) -> Callable[..., float]:
    """The value of a sample, by its name and the values of its labels."""
    assert page.status == 200
    assert page.content_type == "text/plain"
    seen = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.body.decode())
        for sample in family.samples
    }
    return lambda name, *labels: seen[name, *sorted(labels)]


def promtool(*words: str, input: bytes | None = None) -> None:
    done = subprocess.run(["promtool", *words], cwd=DEPLOY, input=input, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_page_says_what_the_peer_sees_and_does(tmp_path: Path) -> None:
    """Members, gossip, trainings, answers and votes; and after a death, what is missing."""
    a_part, b_part = write_part(tmp_path / "a.csv"), write_part(tmp_path / "b.csv", seed=1)
    async with (
        peer_here(a_part, tmp_path / "sa", replicas=0) as a,
        peer_here(b_part, tmp_path / "sb", join=(a.address,), replicas=0) as b,
    ):
        where = f"127.0.0.1:{a.address[1]}"
        await soon(lambda: all(len(peer.colleagues.roll().voters) == 2 for peer in (a, b)), "both vote")
        await soon(lambda: a.node.agreed_at is not None, "their tables are one")
        await asyncio.to_thread(call, where, "/v1/predict", ROWS)
        await asyncio.to_thread(call, where, "/v1/evaluate", {})
        seen = samples(await asyncio.to_thread(call, where, "/metrics"))
        other = b.id[:12]
    assert seen("p2pml_members", "alive") == 2
    assert seen("p2pml_members", "dead") == 0
    assert (seen("p2pml_votes_total", "cast"), seen("p2pml_votes_total", "missing")) == (2, 0)
    assert seen("p2pml_answer_seconds_count") == 1
    assert seen("p2pml_vote_seconds_count", "b", other) >= 1
    assert seen("p2pml_vote_seconds_bucket", "b", other, "+Inf") == seen("p2pml_vote_seconds_count", "b", other)
    assert seen("p2pml_trainings_total", "trained") == 1
    assert seen("p2pml_training_seconds") > 0
    assert seen("p2pml_gossip_bytes_total", "in") > 0
    assert seen("p2pml_gossip_bytes_total", "out") > 0
    assert 0 <= seen("p2pml_catalogue_staleness_seconds") < 30
    assert 0 < seen("p2pml_ensemble_score", "accuracy") <= 1
    assert seen("p2pml_suspicions_total") == seen("p2pml_refutations_total") == seen("p2pml_deaths_total") == 0
    assert seen("p2pml_ready") == 1
    assert seen("process_cpu_seconds_total") > 0


async def test_members_that_are_forgotten_leave_no_label(tmp_path: Path) -> None:
    """Names come from others, and could come for ever."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer:
        stranger = Member("f" * 32, "stranger", ("127.0.0.1", 1), Status.ALIVE, 1, 0)
        peer.metrics.heard(stranger, "/v1/peer/vote", 0.1)
        page = await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", "/metrics")
        assert b"stranger" not in page.body
        assert not peer.metrics.voters


def test_latencies_add_up() -> None:
    """Each bucket holds all that took at most so long, and the last one everything."""
    latencies = Latencies()
    for seconds in (0.001, 0.005, 0.3, 100.0):
        latencies.add(seconds)
    buckets = dict(latencies.buckets())
    assert (buckets["0.005"], buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (2, 2, 3, 4)
    assert len(buckets) == len(BUCKETS) + 1
    assert latencies.total == pytest.approx(100.306)


async def test_the_dashboard_and_the_alerts_ask_for_what_there_is(tmp_path: Path) -> None:
    """Every metric that they name is one that a peer shows."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer:
        await soon(lambda: peer.why_not_ready() is None, "it is ready")
        await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", "/v1/evaluate", {})
        body = (await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", "/metrics")).body.decode()
    shown = set(NAME.findall(body))
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    asked = {
        name for panel in dashboard["panels"] for target in panel["targets"] for name in NAME.findall(target["expr"])
    }
    asked |= set(NAME.findall((DEPLOY / "alerts.yml").read_text(encoding="utf-8")))
    assert asked
    assert asked <= shown | {"p2pml_vote_seconds_bucket"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian's package prometheus)")
@pytest.mark.parametrize("words", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_the_alerts(words: list[str]) -> None:
    """Their syntax, and that each one fires when it should and only then."""
    promtool(*words)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian's package prometheus)")
async def test_promtool_accepts_the_page_and_the_dashboards_queries(tmp_path: Path) -> None:
    """The page's format and names, and each query, wrapped into a rule."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer:
        await soon(lambda: peer.why_not_ready() is None, "it is ready")
        body = (await asyncio.to_thread(call, f"127.0.0.1:{peer.address[1]}", "/metrics")).body
    promtool("check", "metrics", input=body)
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"q{number}", "expr": expression} for number, expression in enumerate(asked)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}).replace("$cluster", ".*"))
    promtool("check", "rules", str(path))
