"""Laws of the stream of events: what is told, what is remembered, and what a slow listener loses."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from running import ROWS, call, peer_here, soon, write_part

from p2pml.errors import PeerUnreachable, RemoteError
from p2pml.gossip import Member, Status
from p2pml.peer import pulse
from p2pml.peer.client import PeerClient
from p2pml.peer.events import KEPT, LISTENERS, WAITING, Events, Listener
from p2pml.peer.observing import MEANINGS, _kind


def listener(events: Events) -> Listener:
    """One who listens; the state is only a word here, and so is the load."""
    return Listener(events, lambda: {"kind": "state"}, lambda: {"kind": "gossip"})


def kinds(message: bytes) -> list[str]:
    lines = [line for line in message.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: "))["kind"] for line in lines]


def last_id(message: bytes) -> str:
    return [line for line in message.decode().splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")


async def first(stream: Any) -> bytes:
    return bytes(await anext(stream))


async def test_who_comes_back_is_told_what_was_missed_and_nothing_else() -> None:
    """Once, in order, and without the whole state."""
    events = Events("run")
    events.tell("one")
    async with aclosing(listener(events).stream(None)) as stream:
        seen = last_id(await first(stream))
    for kind in ("two", "three"):
        events.tell(kind)
    async with aclosing(listener(events).stream(seen)) as stream:
        assert kinds(await first(stream)) == ["two", "three"]
        events.tell("four")
        assert kinds(await first(stream)) == ["four"]


@pytest.mark.parametrize("id", [None, "", "run", "run.x", "run.²", "run.99999", "other.1", "run.0"])
async def test_who_saw_something_else_begins_with_the_whole_state(id: str | None) -> None:
    """An id of another run, of the future, or of what is forgotten by now."""
    events = Events("run")
    for _ in range(KEPT + 1):
        events.tell("told")
    async with aclosing(listener(events).stream(id)) as stream:
        assert kinds(await first(stream)) == ["state"]


async def test_a_slow_listener_is_told_how_much_it_lost_and_begins_again() -> None:
    """Its queue is bounded, and what it sees afterwards is whole."""
    events = Events("run")
    async with aclosing(listener(events).stream(None)) as stream:
        await first(stream)
        for _ in range(WAITING + 10):
            events.tell("told")
        message = await first(stream)
        assert kinds(message) == ["lost", "state"]
        assert json.loads(message.decode().splitlines()[0].removeprefix("data: "))["count"] == WAITING
        events.tell("later")
        assert kinds(await first(stream)) == ["later"]
    assert not events.listeners


async def test_passing_things_are_not_remembered() -> None:
    """And have no id, so that coming back starts after the last thing that is."""
    events = Events("run")
    async with aclosing(listener(events).stream(None)) as stream:
        await first(stream)
        events.pass_on("gossip")
        assert b"id:" not in await first(stream)
    assert events.last == 0


def test_changes_of_a_member_have_names() -> None:
    """By its status before and after, and whether it was started anew."""

    def name(status: Status, before: Status | None, generation: int = 1) -> str:
        return _kind(Member("a" * 32, "ann", ("127.0.0.1", 1), status, generation, 0), before, 1)

    assert name(Status.ALIVE, None) == "joined"
    assert name(Status.SUSPECT, Status.ALIVE) == "suspected"
    assert name(Status.ALIVE, Status.SUSPECT) == "refuted"
    assert name(Status.DEAD, Status.SUSPECT) == "died"
    assert name(Status.ALIVE, Status.DEAD) == "healed"
    assert name(Status.ALIVE, Status.DEAD, 2) == "returned"
    assert name(Status.ALIVE, Status.LEFT) == "returned"
    assert name(Status.LEFT, Status.ALIVE) == "left"
    assert name(Status.ALIVE, Status.ALIVE, 2) == "returned"
    assert name(Status.ALIVE, Status.ALIVE) == "changed"
    assert name(Status.DEAD, Status.DEAD) == "changed"
    assert name(Status.DEAD, None) == "changed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode({"started": -1.0}),
        msgspec.msgpack.encode({"started": float("nan")}),
        msgspec.msgpack.encode({"started": 1.0, "load": float("inf")}),
        msgspec.msgpack.encode({"started": 1.0, "training": {"model": "x" * 301, "took": 1.0}}),
        msgspec.msgpack.encode({"started": 1.0, "answer": {"at": 1, "rows": 1, "cast": "4", "expected": 4, "took": 1}}),
    ],
)
def test_a_pulse_that_cannot_be_is_refused(raw: bytes) -> None:
    """Another machine wrote it."""
    with pytest.raises(RemoteError, match="not a pulse"):
        pulse.read(raw)


def test_a_pulse_survives_its_way() -> None:
    """Also with all that it may hold."""
    whole = pulse.Pulse(
        started=1.0,
        load=2.5,
        training=pulse.LastTraining("svm", 3.0),
        answer=pulse.Answered(1.0, 10, 3, 4, 0.1),
        score=pulse.EnsembleScore(1.0, 7, "r2", -0.5, 100),
    )
    assert pulse.read(pulse.write(whole)) == whole


async def test_what_happens_is_told_as_it_happens(tmp_path: Path) -> None:
    """A join, questions, a score, a training with what it took last time, and a leave; first of all, the state."""
    heard: list[dict[str, Any]] = []

    def about(kind: str, name: str) -> list[dict[str, Any]]:
        return [event for event in heard if event["kind"] == kind and event["name"] == name]

    async def listen(address: tuple[str, int]) -> None:
        async with PeerClient(address) as client, aclosing(client.events()) as events:
            async for event in events:
                heard.append(event)  # noqa: PERF401 (each at once, since the test waits for them)

    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "sa") as a:
        where = f"127.0.0.1:{a.address[1]}"
        await soon(lambda: a.why_not_ready() is None, "it is ready")
        peers = (await asyncio.to_thread(call, where, "/v1/peers")).data
        listening = asyncio.create_task(listen(a.address))
        await soon(lambda: heard, "the stream began")
        assert heard[0]["kind"] == "state"
        assert heard[0]["peers"] == peers
        async with peer_here(write_part(tmp_path / "b.csv", seed=1), tmp_path / "sb", join=(a.address,)) as b:
            await soon(lambda: about("joined", "b") and about("trained", "b"), "b is there")
            await asyncio.to_thread(call, where, "/v1/predict", ROWS)
            await asyncio.to_thread(call, f"127.0.0.1:{b.address[1]}", "/v1/predict", ROWS)
            await asyncio.to_thread(call, where, "/v1/evaluate", {})
            await soon(lambda: about("answer", "a") and about("score", "a"), "its own work")
            await soon(lambda: about("answer", "b"), "b's work came by gossip")
            a.observer.beat()
            await asyncio.to_thread(call, where, "/v1/fit", {})
            await soon(lambda: about("trained", "a") and len(about("trained", "b")) == 2, "both trained")
        await soon(lambda: about("left", "b"), "b left")
    await asyncio.wait_for(listening, 30)
    (answer,) = about("answer", "a")
    assert (answer["cast"], answer["expected"], answer["missing"], answer["rows"]) == (2, 2, [], 3)
    assert about("score", "a")[0]["metric"] == "accuracy"
    assert about("training", "a")[0]["training"]["expected"] > 0
    assert about("left", "b")[0]["row"]["status"] == "left"
    assert about("trained", "b")[-1]["row"]["model"]["epoch"]["counter"] == 1
    assert all(event["at"] > 1.6e9 for event in heard)


async def test_there_are_only_so_many_listeners(tmp_path: Path) -> None:
    """One more is asked to listen elsewhere; and one that leaves makes room."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer, PeerClient(peer.address) as client:
        kept = [listener(peer.observer.events) for _ in range(LISTENERS)]
        peer.observer.events.listeners.update(kept)
        with pytest.raises(RemoteError, match="listen to another"):
            await anext(client.events())
        peer.observer.events.listeners.remove(kept[0])
        async with aclosing(client.events()) as events:
            assert (await anext(events))["kind"] == "state"


async def test_a_peer_that_is_no_longer_there_is_unreachable(tmp_path: Path) -> None:
    """Whoever watches turns to another one."""
    async with peer_here(write_part(tmp_path / "a.csv"), tmp_path / "s") as peer:
        address = peer.address
    async with PeerClient(address) as client:
        with pytest.raises(PeerUnreachable):
            await anext(client.events())


@pytest.mark.parametrize(
    ("status", "before", "later", "kind"),
    [
        (Status.ALIVE, None, 0, "joined"),
        (Status.SUSPECT, Status.ALIVE, 0, "suspected"),
        (Status.ALIVE, Status.SUSPECT, 0, "refuted"),
        (Status.DEAD, Status.SUSPECT, 0, "died"),
        (Status.ALIVE, Status.DEAD, 0, "healed"),
        (Status.ALIVE, Status.DEAD, 1, "returned"),
        (Status.LEFT, Status.ALIVE, 0, "left"),
        (Status.ALIVE, Status.ALIVE, 0, "changed"),
    ],
)
def test_a_false_alarm_a_heal_and_a_restart_are_told_apart(
    status: Status, before: Status | None, later: int, kind: str
) -> None:
    """Each has a sentence that says what happened and what to do; a mere change of address has none."""
    member = Member("b" * 32, "bob", ("10.0.0.5", 7733), status, 1 + later, 0)
    assert _kind(member, before, 1) == kind
    assert (kind in MEANINGS) == (kind != "changed")
