"""The protocol, without IO: membership, the shared catalogue and what is spread by gossip."""
