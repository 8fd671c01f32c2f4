"""The same protocol object in virtual time, over a network that can be broken at will."""
