"""What a user says when starting a peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """The options of `p2pml peer start`, one field a flag; the defaults are the command's."""

    data: Path
    target: str | None = None
    """Column to predict; None is the last column."""
    task: str = "auto"
    model: str = "hist-gradient-boosting"
    cluster: str = "default"
    name: str | None = None
    """What people call the peer; None is the data file's name without its ending."""
    host: str | None = None
    """Address whose interface discovery, gossip and HTTP are confined to; None is every interface."""
    port: int | None = None
    """None is the port of the last start, else the first free one from 7733 up; 0 is any free port."""
    join: tuple[tuple[str, int], ...] = ()
    mdns: bool = True
    profile: str = "lan"
    """Pace of the protocol: local (one machine), lan (one site) or wan (sites far apart); one for all peers."""
    state: Path | None = None
    """None is a folder of this cluster, name and data file under the user's state directory."""
    holdout: float = 0.2
    min_count: int = 5
    """Groups of fewer training rows are left out of the moments that the other peers get."""
    seed: int = 0
    secret_file: Path | None = None
    """File with a secret a line, without which nobody is heard by the protocol; one for all peers."""
    replicas: int = 2
    """How many other peers hold a copy of this cluster's models each; one for all peers."""
    log_format: str = "console"
