"""Texts of other machines, made fit to be shown."""

from __future__ import annotations


def plain(text: object) -> str:
    """`text` on one line without control characters: names come from other machines, and terminals obey."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text))
