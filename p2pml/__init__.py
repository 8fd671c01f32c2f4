"""p2pml: one ensemble with no centre."""

import os

__version__ = "0.1.0"

# From 1.29 on, onnxruntime reports to its maker over the network, also which models it runs, unless the environment
# says otherwise when it is first imported. Here that is always before: nothing of p2pml is imported without this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
