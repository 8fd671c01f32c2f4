"""Laws of the catalogue: whoever knows an owner up to a version knows all that was last written by then."""

from __future__ import annotations

import pytest
from gossip_support import identity
from hypothesis import given
from hypothesis import strategies as st

from p2pml.errors import BadInput
from p2pml.gossip import limits
from p2pml.gossip.catalogue import Catalogue
from p2pml.gossip.messages import Delta, Write

OWNER = identity(1).id
EPOCH = (1, 7)
ROOMY = 10**6

keys = st.sampled_from("abcd")
values = st.none() | st.binary(max_size=3)
writes = st.tuples(st.just("write"), keys, values)
steps = st.lists(
    st.one_of(
        writes,
        writes,
        st.tuples(st.just("sync"), st.integers(0, 2), st.integers(60, 200)),
        st.tuples(st.just("pass"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("collect"), st.integers(0, 5), st.none()),
    ),
    max_size=40,
)


def owner_with(**entries: bytes) -> Catalogue:
    """Make the owner's catalogue with some entries."""
    catalogue = Catalogue()
    for key, value in entries.items():
        catalogue.write(OWNER, EPOCH, key, value, 0)
    return catalogue


def sync(source: Catalogue, replica: Catalogue, room: int = ROOMY) -> None:
    """Send a replica what it lacks, as far as it fits."""
    delta, _ = source.delta(OWNER, EPOCH, replica.known(OWNER, EPOCH), room)
    if delta is not None:
        replica.apply(delta)


def delta(since: int, until: int, *written: Write, collected: int = 0, epoch: tuple[int, int] = EPOCH) -> Delta:
    """Write a delta by hand."""
    return Delta(OWNER, *epoch, collected, since, until, written)


@given(steps)
def test_replicas_hold_what_the_owner_held(script: list[tuple[str, object, object]]) -> None:
    """Whatever is written, deleted, collected, cut short and passed on, no write up to the version is missing."""
    owner, replicas, now = owner_with(), [Catalogue() for _ in range(3)], 0.0
    last: dict[str, tuple[int, bytes | None]] = {}
    for verb, one, other in script:
        now += 1
        if verb == "write":
            assert isinstance(one, str)
            value = other if isinstance(other, bytes) else None
            if owner.write(OWNER, EPOCH, one, value, now):
                last[one] = (owner.known(OWNER, EPOCH)[1], value)
        elif verb == "collect":
            assert isinstance(one, int)
            owner.collect(OWNER, now - one)
        elif isinstance(one, int) and isinstance(other, int):
            sync(owner if verb == "sync" else replicas[other], replicas[one], other if verb == "sync" else ROOMY)
        for replica in replicas:
            known = {key: value for key, (at, value) in last.items() if at <= replica.known(OWNER, EPOCH)[1]}
            assert known == {key: replica.entries(OWNER).get(key) for key in known}
    for replica in replicas:
        sync(owner, replica)
        assert replica.entries(OWNER) == owner.entries(OWNER)
        assert replica.known(OWNER, EPOCH)[1] == owner.known(OWNER, EPOCH)[1]


@given(st.lists(st.tuples(keys, values), max_size=20), st.lists(st.integers(0, 20), max_size=10))
def test_deltas_commute_and_repeat(script: list[tuple[str, bytes | None]], order: list[int]) -> None:
    """Deltas that arrive late, twice or in another order change nothing that is known."""
    owner, seen = owner_with(), []
    for key, value in script:
        before = owner.known(OWNER, EPOCH)
        owner.write(OWNER, EPOCH, key, value, 0)
        new, _ = owner.delta(OWNER, EPOCH, before, ROOMY)
        seen += [new] if new is not None else []
    replica = Catalogue()
    for place in order:
        if seen:
            replica.apply(seen[place % len(seen)])
    for new in seen:
        replica.apply(new)
    assert replica.entries(OWNER) == owner.entries(OWNER)
    for new in seen:
        assert replica.apply(new) is None


def test_a_write_of_the_same_value_changes_nothing() -> None:
    """Writing again what is there, or deleting what is not, makes no new version."""
    owner = owner_with(a=b"1")
    assert not owner.write(OWNER, EPOCH, "a", b"1", 0)
    assert not owner.write(OWNER, EPOCH, "b", None, 0)
    assert owner.write(OWNER, EPOCH, "a", None, 0)
    assert not owner.write(OWNER, EPOCH, "a", None, 0)
    assert owner.known(OWNER, EPOCH) == (0, 2)


def test_a_change_is_told_once_by_key() -> None:
    """Applying a delta says which values changed, deletions as `None`."""
    owner, replica = owner_with(a=b"1", b=b"2"), Catalogue()
    first, _ = owner.delta(OWNER, EPOCH, (0, 0), ROOMY)
    assert first is not None
    assert replica.apply(first) == {"a": b"1", "b": b"2"}
    owner.write(OWNER, EPOCH, "a", None, 0)
    owner.write(OWNER, EPOCH, "b", b"3", 0)
    second, _ = owner.delta(OWNER, EPOCH, (0, 2), ROOMY)
    assert second is not None
    assert replica.apply(second) == {"a": None, "b": b"3"}
    assert replica.entries(OWNER) == {"b": b"3"}


def test_first_writes_after_an_empty_version_can_be_passed_on() -> None:
    """Who heard of a run before its first write holds all of it then, for whoever knows nothing yet."""
    owner, replica, newcomer = Catalogue(), Catalogue(), Catalogue()
    owner.open(OWNER, EPOCH)
    sync(owner, replica)
    owner.write(OWNER, EPOCH, "a", b"1", 0)
    sync(owner, replica)
    sync(replica, newcomer)
    assert newcomer.known(OWNER, EPOCH) == (0, 2)
    assert newcomer.entries(OWNER) == {"a": b"1"}


def test_what_leaves_a_gap_is_not_applied() -> None:
    """A delta that begins after what is known would hide the writes between."""
    replica = Catalogue()
    assert replica.apply(delta(2, 3, Write("a", 3, b"1"))) is None
    assert replica.entries(OWNER) == {}


def test_a_missed_tombstone_brings_everything_anew() -> None:
    """Who may have missed a deletion that is forgotten is sent all, and drops what is gone."""
    owner, replica = owner_with(a=b"1", b=b"2"), Catalogue()
    sync(owner, replica)
    owner.write(OWNER, EPOCH, "a", None, 0)
    owner.collect(OWNER, 1)
    owner.write(OWNER, EPOCH, "c", b"3", 1)
    new, whole = owner.delta(OWNER, EPOCH, replica.known(OWNER, EPOCH), ROOMY)
    assert new is not None
    assert (new.since, whole) == (0, True)
    assert replica.apply(new) == {"a": None, "c": b"3"}


def test_a_collected_tombstone_is_dropped_everywhere() -> None:
    """Who hears of later writes hears how far the owner collected, and keeps no tombstone up to there."""
    owner, replica = owner_with(a=b"1", b=b"2"), Catalogue()
    owner.write(OWNER, EPOCH, "a", None, 0)
    sync(owner, replica)
    owner.collect(OWNER, 1)
    owner.write(OWNER, EPOCH, "c", b"3", 1)
    sync(owner, replica)
    assert replica.delta(OWNER, EPOCH, (0, 0), ROOMY) == owner.delta(OWNER, EPOCH, (0, 0), ROOMY)
    assert replica.known(OWNER, EPOCH) == (3, 4)


def test_a_partial_renewal_that_goes_back_waits_for_a_whole_one() -> None:
    """Entries that can be read do not vanish because all of them anew do not fit into one packet."""
    owner, replica = owner_with(a=b"1" * 100, b=b"2" * 100, c=b"3" * 100), Catalogue()
    sync(owner, replica)
    owner.write(OWNER, EPOCH, "a", None, 0)
    owner.write(OWNER, EPOCH, "d", b"4", 0)
    owner.collect(OWNER, 1)
    short, whole = owner.delta(OWNER, EPOCH, replica.known(OWNER, EPOCH), 250)
    assert short is not None
    assert (short.until, whole) == (2, False)
    assert replica.apply(short) is None
    assert replica.entries(OWNER)["c"] == b"3" * 100
    sync(owner, replica)
    assert replica.entries(OWNER) == owner.entries(OWNER)


def test_a_delta_is_cut_at_its_end_only() -> None:
    """What does not fit is the latest, and the sender says that there is more."""
    owner = owner_with(a=b"1" * 100, b=b"2" * 100)
    cut, whole = owner.delta(OWNER, EPOCH, (0, 0), 250)
    assert cut is not None
    assert ([write.key for write in cut.writes], cut.until, whole) == (["a"], 1, False)
    assert owner.delta(OWNER, EPOCH, (0, 0), 100) == (None, False)
    assert owner.delta(OWNER, EPOCH, (0, 2), 100) == (None, True)


def test_an_earlier_run_is_read_until_the_next_one_writes() -> None:
    """The entries of a run stay until something of a later run is known, and never come back."""
    replica = Catalogue()
    sync(owner_with(a=b"1", b=b"2"), replica)
    later = (2, 8)
    assert replica.known(OWNER, later) == (0, 0)
    assert replica.entries(OWNER) == {"a": b"1", "b": b"2"}
    assert replica.apply(delta(0, 1, Write("b", 1, b"3"), epoch=later)) == {"a": None, "b": b"3"}
    assert replica.apply(delta(0, 9, Write("a", 9, b"1"))) is None
    assert replica.entries(OWNER) == {"b": b"3"}


def test_a_run_that_says_nothing_can_say_so() -> None:
    """A run without entries opens with an empty version, which ends those of an earlier one."""
    replica, owner = Catalogue(), Catalogue()
    sync(owner_with(a=b"1"), replica)
    assert owner.open(OWNER, (2, 8))
    assert not owner.open(OWNER, (2, 8))
    empty, whole = owner.delta(OWNER, (2, 8), (0, 0), ROOMY)
    assert empty is not None
    assert whole
    assert replica.apply(empty) == {"a": None}


def test_a_new_run_of_our_own_writes_its_entries_anew() -> None:
    """When the generation rises while running, the entries are written again from version 1."""
    owner = owner_with(a=b"1", b=b"2")
    owner.write(OWNER, EPOCH, "a", None, 0)
    owner.restart(OWNER, (2, 7))
    assert owner.entries(OWNER) == {"b": b"2"}
    assert owner.known(OWNER, (2, 7)) == (0, 1)


def test_marks_tell_versions_apart() -> None:
    """The hash of what is known changes with the version and the run, and of nothing it is 0."""
    owner = owner_with(a=b"1")
    one = owner.mark(OWNER, EPOCH)
    owner.write(OWNER, EPOCH, "a", b"2", 0)
    assert len({0, one, owner.mark(OWNER, EPOCH)}) == 3
    assert owner.mark(OWNER, (2, 7)) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", b""),
        ("k" * (limits.KEY_LIMIT + 1), b""),
        ("two\nlines", b""),
        ("k", bytes(limits.VALUE_LIMIT + 1)),
        ("one too many", b""),
    ],
)
def test_a_write_past_a_limit_is_refused(key: str, value: bytes) -> None:
    """The owner is told at once, and nothing has changed."""
    owner = owner_with(**{f"key-{index}": b"" for index in range(limits.KEYS_LIMIT)})
    with pytest.raises(BadInput):
        owner.write(OWNER, EPOCH, key, value, 0)
    assert owner.known(OWNER, EPOCH) == (0, limits.KEYS_LIMIT)
    assert owner.write(OWNER, EPOCH, "key-0", bytes(limits.VALUE_LIMIT), 0)


def test_tombstones_make_room_for_new_keys() -> None:
    """Deleted keys count until they are collected: the oldest goes when the limit is reached."""
    owner, replica = owner_with(**{f"key-{index}": b"" for index in range(limits.KEYS_LIMIT)}), Catalogue()
    sync(owner, replica)
    for index in range(2 * limits.KEYS_LIMIT):
        owner.write(OWNER, EPOCH, f"key-{index}", None, index)
        owner.write(OWNER, EPOCH, f"key-{index + limits.KEYS_LIMIT}", b"new", index)
        sync(owner, replica)
        assert replica.entries(OWNER) == owner.entries(OWNER)
    assert len(owner.entries(OWNER)) == limits.KEYS_LIMIT


def test_an_owner_cannot_make_others_hold_more_than_the_limit() -> None:
    """A delta that would bring more keys than an owner may have is not applied."""
    replica = Catalogue()
    for start in (0, 40):
        written = [Write(f"key-{start + index}", start + index + 1, b"") for index in range(40)]
        changes = replica.apply(delta(start, start + 40, *written))
        assert (changes is None) == (start > 0)
    assert len(replica.entries(OWNER)) == 40


def test_a_forgotten_owner_leaves_nothing() -> None:
    """Forgetting says which entries could be read."""
    replica = Catalogue()
    sync(owner_with(a=b"1"), replica)
    assert replica.forget(OWNER) == ["a"]
    assert replica.forget(OWNER) == []
    assert replica.entries(OWNER) == {}


def test_a_tombstone_rewritten_is_a_value() -> None:
    """A deleted key that is written again is not collected."""
    owner = owner_with(a=b"1")
    owner.write(OWNER, EPOCH, "a", None, 0)
    owner.write(OWNER, EPOCH, "a", b"2", 1)
    owner.collect(OWNER, 10)
    assert owner.entries(OWNER) == {"a": b"2"}
