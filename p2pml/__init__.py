"""p2pml: one ensemble with no centre."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# From 1.29 on, onnxruntime reports to its maker over the network, also which models it runs, unless the environment
# says otherwise when it is first imported. Here that is always before: nothing of p2pml is imported without this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "AsyncEnsemble": "p2pml.peer.ensemble",
    "Ensemble": "p2pml.peer.blocking",
    "GossipClassifier": "p2pml.ensemble.local",
    "GossipRegressor": "p2pml.ensemble.local",
    "VotesMissing": "p2pml.peer.outcomes",
}

# As typing has it, which would be the heaviest thing to import here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from p2pml.ensemble.local import GossipClassifier as GossipClassifier
    from p2pml.ensemble.local import GossipRegressor as GossipRegressor
    from p2pml.peer.blocking import Ensemble as Ensemble
    from p2pml.peer.ensemble import AsyncEnsemble as AsyncEnsemble
    from p2pml.peer.outcomes import VotesMissing as VotesMissing
else:

    def __getattr__(name: str) -> object:
        """What programs import from here, loaded when it is asked for: a peer and the command line need none of it."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
