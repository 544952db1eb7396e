"""How large an overlay datagram may be, and the MTU that follows; all in bytes.

See docs/reference/protocol.md, "Budgets".
"""

DATAGRAM_OVERHEAD = 32
"""QUIC's share of a UDP payload: 1 short header, 8 connection ID, 4 packet number, 16 AEAD tag, 3 DATAGRAM
frame type and length (RFC 9000 section 17.3, RFC 9001 section 5.3, RFC 9221 section 4)."""

FRAME_OVERHEAD = 22
"""Overlay header 4, Ethernet header 14, one 802.1Q tag 4."""

SEAL_OVERHEAD = 24
"""In a sealed room: counter 8, AES-256-GCM tag 16."""

MIN_BUDGET, MAX_BUDGET = 300, 65527
MIN_MTU, MAX_MTU = 256, 9000

DEFAULT_ROOM_MTU = 1418
DEFAULT_MTU_FLOOR = 576

UDP_PAYLOADS = (1472, 1452, 1350, 1280, 1200)
"""Sizes that are tried on a path, falling: Ethernet with IPv4, with IPv6 (or PPPoE), tunnels and mobile
networks, and QUIC's minimum, which every path must carry (RFC 9000 section 14)."""


def budget_of_payload(udp_payload: int) -> int:
    """The largest overlay datagram that fits a UDP payload: 1472 -> 1440."""
    return udp_payload - DATAGRAM_OVERHEAD


def mtu_of_budget(budget: int, *, sealed: bool = False) -> int:
    """The MTU whose frames, with one tag, fit the budget: 1440 -> 1418, 1394 in a sealed room."""
    return budget - FRAME_OVERHEAD - (SEAL_OVERHEAD if sealed else 0)
