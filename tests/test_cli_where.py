from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from fakes import Drop, FakePeer, Refuse, Shell, finder_of

from p2pml.errors import NoVotes, PeerUnreachable
from p2pml.peer.contact import Contact, Where


@pytest.fixture
def pair() -> Iterator[tuple[FakePeer, FakePeer]]:
    with FakePeer("ann") as ann, FakePeer("bob") as bob:
        yield ann, bob


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("PEER", "HOST", "JOIN", "CLUSTER", "ANY_PEER", "NO_MDNS"):
        monkeypatch.delenv(f"P2PML_{name}", raising=False)
    monkeypatch.setattr("p2pml.peer.finder.find", finder_of())
    return Shell(capsys)


def found(monkeypatch: pytest.MonkeyPatch, *peers: FakePeer) -> None:
    monkeypatch.setattr("p2pml.peer.finder.find", finder_of(*(peer.address for peer in peers)))


def closed_port() -> tuple[str, int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        return host, port


def drop(body: object) -> object:
    raise Drop


def test_any_peer_that_is_found_is_asked(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word about where, the first peer that mDNS finds answers."""
    found(monkeypatch, pair[0])
    assert shell("peers").code == 0
    assert pair[0].requests("/v1/peers")


def test_a_peer_that_does_not_answer_is_passed_over(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead address and a peer that breaks off cost a moment, not the answer."""
    ann, bob = pair
    ann.replies["/v1/peers"] = drop
    monkeypatch.setattr("p2pml.peer.finder.find", finder_of(closed_port(), ann.address, bob.address))
    assert "bob" in shell("peers").out


def test_a_peer_of_another_cluster_is_passed_over(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters never mix, also where --join leads to the wrong one."""
    ann, bob = pair
    ann.cluster = "others"
    found(monkeypatch, bob)
    assert "bob" in shell("peers", "--join", ann.where).out
    alone = shell("peers", "--join", ann.where, "--no-mdns")
    assert alone.code == 1
    assert "is of cluster 'others'" in alone.err


def test_a_named_peer_is_the_only_one_asked(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--peer means that one: if it does not answer, nobody is asked in its place."""
    ann, bob = pair
    found(monkeypatch, bob)
    assert "ann" in shell("peers", "--peer", ann.where).out
    ann.replies["/v1/peers"] = drop
    silent = shell("peers", "--peer", ann.where)
    assert (silent.code, silent.out) == (1, "")
    assert silent.err == f"p2pml: {ann.where} broke off the connection.\n"
    assert not bob.asked


def test_no_peer_at_all_exits_1_and_says_where_it_looked(shell: Shell) -> None:
    """The sentence names the cluster, the ways of looking, and the way out."""
    host, port = closed_port()
    nobody = shell("peers", "--cluster", "houses", "--join", f"{host}:{port}")
    assert (nobody.code, nobody.out) == (1, "")
    assert nobody.err.count("\n") == 1
    for words in ("'houses'", "by mDNS", f"at {host}:{port}", "connection refused", "p2pml peer start"):
        assert words in nobody.err
    nowhere = shell("peers", "--no-mdns")
    assert nowhere.code == 1
    assert "--no-mdns was given without --join" in nowhere.err


def test_the_environment_says_where_and_the_command_line_goes_before_it(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2PML_PEER names the peer to ask, until --any-peer is typed."""
    ann, bob = pair
    found(monkeypatch, bob)
    monkeypatch.setenv("P2PML_PEER", ann.where)
    assert "ann" in shell("peers").out
    assert "bob" in shell("peers", "--any-peer").out
    monkeypatch.setenv("P2PML_ANY_PEER", "1")
    assert "ann" in shell("peers", "--peer", ann.where).out
    both = shell("peers", "--any-peer", "--peer", ann.where)
    assert both.code == 2
    assert "not both" in both.err


@pytest.mark.parametrize("text", ["{} {}", "{},{}", " {} , {} "])
def test_join_takes_several_places_from_the_environment(
    pair: tuple[FakePeer, FakePeer], shell: Shell, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """They stand apart by spaces or commas."""
    monkeypatch.setenv("P2PML_NO_MDNS", "1")
    pair[0].replies["/v1/peers"] = drop
    monkeypatch.setenv("P2PML_JOIN", text.format(pair[0].where, pair[1].where))
    assert "bob" in shell("peers").out


@pytest.mark.parametrize(
    ("place", "words"),
    [("7733", "is not HOST:PORT"), ("host:99999", "ports are 1 to 65535"), ("http://a:1", "is not HOST:PORT")],
)
def test_a_place_that_is_none_is_bad_usage(shell: Shell, place: str, words: str) -> None:
    """The sentence shows what was given and what is meant."""
    refused = shell("peers", "--join", place)
    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


def test_an_address_that_this_machine_does_not_have_is_bad_input(shell: Shell) -> None:
    """--host names one of this machine's own addresses."""
    refused = shell("peers", "--host", "203.0.113.77")
    assert refused.code == 2
    assert "host 203.0.113.77 is not an address of this machine" in refused.err


async def test_another_peer_takes_over_when_the_asked_one_dies(
    pair: tuple[FakePeer, FakePeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' addresses are learned at the first meeting, since a dead peer can no longer tell them."""
    ann, bob = pair
    ann.others = [bob]
    found(monkeypatch, ann)
    async with Contact(Where()) as contact:
        await contact.ask(lambda peer: peer.predict({"a": ["1"]}))
        await asyncio.to_thread(ann.stop)
        found(monkeypatch)
        answer = await contact.ask(lambda peer: peer.predict({"a": ["2"]}))
    assert answer["predictions"] == ["2-bob"]


async def test_questions_at_once_move_on_to_the_same_peer(
    pair: tuple[FakePeer, FakePeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two blocks in flight agree on who is asked next."""
    ann, bob = pair
    found(monkeypatch, ann, bob)
    ann.replies["/v1/predict"] = drop
    async with Contact(Where()) as contact:
        answers = await asyncio.gather(*(contact.ask(lambda peer: peer.predict({"a": ["1"]})) for _ in range(2)))
    assert [answer["predictions"] for answer in answers] == [["1-bob"], ["1-bob"]]


async def test_no_votes_is_the_answer_when_everyone_alive_says_so(
    pair: tuple[FakePeer, FakePeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every peer that is known is asked once, and the sentence is the last one's own."""

    def refuse(body: object) -> object:
        raise Refuse(503, "no peer has a model yet")

    for peer in pair:
        peer.replies["/v1/predict"] = refuse
    pair[0].others = [pair[1]]
    found(monkeypatch, pair[0])
    async with Contact(Where()) as contact:
        with pytest.raises(NoVotes, match="no peer has a model yet"):
            await contact.ask(lambda peer: peer.predict({"a": ["1"]}))
    assert [len(peer.requests("/v1/predict")) for peer in pair] == [1, 1]


async def test_a_named_peer_that_dies_is_unreachable() -> None:
    """There is nobody to turn to."""
    async with Contact(Where(peer=closed_port())) as contact:
        with pytest.raises(PeerUnreachable):
            await contact.ask(lambda peer: peer.peers())
