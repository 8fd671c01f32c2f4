"""What can go wrong, in two families: what is wrong here, and what another peer did wrong.

A remote error never stops a daemon; a local one is for the person or program that called. The message of
each is one sentence that names the row, the column, the flag or the peer, and says the way out, because it
is shown to people as it is.
"""

from __future__ import annotations


class P2pmlError(Exception):
    """The root of everything that p2pml raises on purpose."""


class LocalError(P2pmlError):
    """Something on this side is wrong: an input, a file, a flag. No state has changed."""


class BadInput(LocalError):
    """The data or the options that the caller gave cannot be used; the caller can mend them."""


class NoVotes(LocalError):
    """No peer could be asked, or none of those asked cast a vote."""


class RemoteError(P2pmlError):
    """Another peer did not answer, or sent what cannot be used: it is dropped; no state has changed."""


class PeerUnreachable(RemoteError):
    """A peer could not be reached, or stopped answering. Another one may answer."""
