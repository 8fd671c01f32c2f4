"""The daemon: one peer on one machine."""
