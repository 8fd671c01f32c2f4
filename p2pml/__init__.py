"""p2pml: one ensemble with no centre."""

__version__ = "0.1.0"
