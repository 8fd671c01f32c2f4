"""The protocol's parameters with their unit, bound and advice, in profiles for three kinds of network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import limits

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a node behaves. All members of a cluster should use one profile. Times are in seconds."""

    probe_interval: float
    """Between two probes of one node, at full health. Detection time and load are both proportional to it."""
    probe_timeout: float
    """Until a probe goes indirect; shorter than the interval, and longer than nearly all round trips."""
    indirect_probes: int
    """Members asked to probe for us. More help under loss, at as many more packets a failed probe."""
    suspicion_alpha: float
    """Shortest suspicion, in probe intervals times log10 of the cluster's size; at least 3."""
    suspicion_beta: float
    """Longest suspicion, in shortest ones: how long a lone accuser has to wait."""
    health_cap: int
    """Highest local health score: intervals and timeouts grow up to this many times more (Lifeguard §4.1)."""
    gossip_interval: float
    """Between two rounds of news while there are any. An idle cluster sends none."""
    gossip_fanout: int
    """Members told in one round."""
    sync_interval: float
    """Between two comparisons of tables, which happen only with members whose tables were seen to differ."""
    reconnect_interval: float
    """Between two greetings of a dead member and of a seed: partitions heal within about two of them."""
    retransmit: int = 4
    """λ: a piece of news is sent λ·ceil(log10(n + 1)) times by each member (SWIM §4.1)."""
    max_members: int = limits.MEMBERS_LIMIT
    """Members remembered, the dead included. Beyond it the gone are forgotten, then new ones refused."""
    forget_after: float = DAY
    """How long a dead member is remembered and greeted, and its catalogue entries can be read."""
    tombstone_after: float = DAY
    """How long a deleted catalogue entry is remembered as such, for members that were cut off meanwhile."""

    lifeguard: bool = True
    """`False` is plain SWIM, for comparison only: no nacks, no word to the suspect first, no rule for processes that
    stand still, no second thought about a death, and no healing."""

    critical: frozenset[str] = frozenset()
    """Catalogue keys that must not wait: where not everything fits, owners who wrote one of them come first."""

    @classmethod
    def local(cls) -> Settings:
        """One machine."""
        return cls(0.5, 0.1, 1, 3, 6, 8, 0.1, 3, 5, 5)

    @classmethod
    def lan(cls) -> Settings:
        """One site: the default."""
        return cls(1.0, 0.5, 3, 4, 6, 8, 0.2, 3, 10, 15)

    @classmethod
    def wan(cls) -> Settings:
        """Sites far apart."""
        return cls(5.0, 3.0, 3, 6, 6, 8, 0.5, 4, 30, 60)

    def swim(self) -> Settings:
        """The same pace in plain SWIM (DSN 2002): no local health, and every suspicion lasts the shortest time."""
        return replace(self, lifeguard=False, health_cap=0, suspicion_beta=1.0)
