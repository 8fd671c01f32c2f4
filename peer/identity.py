"""Who a peer is: the hash of its public key, and the count of its starts, both kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer's key; its `id` is the first 16 bytes of the SHA-256 of the public key, in hexadecimal."""

    key: Ed25519PrivateKey

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.public_key().public_bytes_raw()).hexdigest()[:32]


def load_identity(store: Store) -> Identity:
    """The identity in the state folder; a new one is made, and kept, where there is none that can be read."""
    key = store.read_document("identity", lambda data: Ed25519PrivateKey.from_private_bytes(data["private_key"]))
    if key is None:
        key = Ed25519PrivateKey.generate()
        store.write_document("identity", {"private_key": key.private_bytes_raw()})
    return Identity(key)


def next_generation(store: Store) -> int:
    """One more than the last generation used, on disk before it is returned, so that no two starts share one."""
    generation = (store.read_document("generation", _read_generation) or 0) + 1
    keep_generation(store, generation)
    return generation


def keep_generation(store: Store, generation: int) -> None:
    """Remember that `generation` has been used or heard of."""
    store.write_document("generation", {"generation": generation})


def _read_generation(data: Any) -> int:
    generation = data["generation"]
    if not isinstance(generation, int) or generation < 0:
        raise ValueError(f"generation {generation!r}")
    return generation
