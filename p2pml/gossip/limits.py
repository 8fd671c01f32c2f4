"""Every bound of the protocol and its reason: nothing that a peer sends can make another one grow."""

from __future__ import annotations

PACKET_LIMIT = 1200
"""Bytes of one datagram. IPv6 promises 1,280 on every path: 1,200 leaves room for headers and tunnels."""

STREAM_LIMIT = 4 * 1024 * 1024
"""Bytes of one stream message, each way: a whole table of 4,096 members with their summaries fits."""

RECORD_LIMIT = 256
"""Bytes of one encoded claim about a member, so that at least four fit into a packet."""

NAME_LIMIT = 64
"""UTF-8 bytes of a member's name and of a cluster's: a long host name fits, and so does the record."""

KEY_LIMIT = 64
"""UTF-8 bytes of a catalogue key: keys are words."""

VALUE_LIMIT = 4 * 1024
"""Bytes of a catalogue value. What is bigger is named there by its digest and fetched by stream."""

NEWS_LIMIT = 192
"""Bytes up to which the last write of a catalogue is told as news itself: to say that there is one, and to be asked
for it by every member, takes a packet of 120 bytes and its answer from each."""

KEYS_LIMIT = 64
"""Catalogue keys of one owner, deleted ones that others may still have to hear of included."""

MEMBERS_LIMIT = 4096
"""Members remembered, the dead included: the default of `Settings.max_members`."""

ACCUSERS_LIMIT = 4
"""Accusers named in one claim: three confirm the first (Lifeguard §4.2, K = 3), more change nothing."""

MESSAGES_LIMIT = 3 * MEMBERS_LIMIT
"""Messages in one packet or stream message: a claim and a delta a member, and a few."""

SEEDS_LIMIT = 64
"""Addresses remembered as places where a peer may live. The oldest are forgotten first."""

PROBES_LIMIT = 64
"""Probes in flight at once. With more open this host is cut off, and more would not tell it so."""

RELAYS_LIMIT = 256
"""Indirect probes carried for others at once; the rest is dropped, as the asker has other helpers."""

STREAMS_LIMIT = 4
"""Streams that one node has open at once: each may bring four MiB."""

PULLS_LIMIT = 2
"""Of these, how many ask for all that is lacking: each brings the same to one that joins, and one end may die."""

NOTICES_LIMIT = 1024
"""Remembered notices to members that are dead here and alive there; the oldest are forgotten first."""

SOURCES_LIMIT = 4096
"""Sources whose rate is remembered; the one not heard from for longest is forgotten first."""

SOURCE_RATE = 128.0
"""Packets a second that one source may send for ever: ten times what a busy peer sends to one other."""

SOURCE_BURST = 512.0
"""Packets that one source may send at once: what waits in the socket after this process stood for 20 s."""

LEAVE_BURST = 64
"""Members told directly of a graceful leave; in a larger cluster these tell the rest."""

BULK_LIMIT = 32
"""News in one stream message above which it is not passed on: a whole table is old to all but who asked."""

GENERATION_LIMIT = 2**48
"""Generations stay below it. One restart a microsecond would take nine years to get there."""

INCARNATION_LIMIT = 2**32
"""Incarnations stay below it. A peer whose incarnation was forged to the last one raises its generation."""

VERSION_LIMIT = 2**48
"""Catalogue versions stay below it."""

NONCE_LIMIT = 2**64
"""Boot nonces are 64 random bits."""

SEQUENCE_LIMIT = 2**32
"""Probe sequence numbers wrap here; far fewer are in flight."""
