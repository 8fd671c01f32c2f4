"""Laws of a cluster's secret: where it is read from, and who is heard."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import peer_here, soon, write_part
from structlog.testing import capture_logs

from p2pml.errors import BadInput
from p2pml.peer.secrets import read_secrets


def test_a_secret_is_a_line(tmp_path: Path) -> None:
    """The first is written with; blank lines and spaces around do not count."""
    path = tmp_path / "secret"
    path.write_text("  0123456789abcdef \n\nfedcba9876543210\n")
    assert read_secrets(path) == (b"0123456789abcdef", b"fedcba9876543210")
    assert read_secrets(None) == ()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"short\n", b"0123456789abcdef\nshort", b"0" * 70_000])
def test_what_is_no_secret_is_refused(content: bytes, tmp_path: Path) -> None:
    """With the way to make one."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="openssl rand"):
        read_secrets(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """And so is the reason."""
    with pytest.raises(BadInput, match="nothing cannot be read: no such file"):
        read_secrets(tmp_path / "nothing")


async def test_peers_with_one_secret_meet_and_tell_once_of_who_has_none(tmp_path: Path) -> None:
    """Whoever has none joins nobody, and its user is not left without a word at the others."""
    secret, part = tmp_path / "secret", write_part(tmp_path / "part.csv")
    secret.write_text("0123456789abcdef\n")
    with capture_logs() as logs:
        async with peer_here(part, tmp_path / "one", secret_file=secret) as one:
            join = (one.address,)
            async with (
                peer_here(part, tmp_path / "two", secret_file=secret, join=join) as two,
                peer_here(part, tmp_path / "three", join=join) as three,
            ):
                await soon(lambda: one.node.member(two.id), "the two with the secret have met")
                await soon(lambda: one.node.counters["dropped_secret"], "the one without has spoken")
                assert one.node.member(three.id) is None
                assert [member.id for member in three.node.members()] == [three.id]
    assert len([entry for entry in logs if "without this cluster's secret" in entry["event"]]) == 1
