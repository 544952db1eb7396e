"""Which of an interface's frames a packet socket takes, as a program for the kernel (socket(7), SO_ATTACH_FILTER).

Offsets are into the frame.
"""

from softlan.net.classic_bpf import (
    IF_AT_LEAST,
    IF_EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_LENGTH,
    PACKET_TYPE,
    RETURN,
    assemble,
)
from softlan.proto.ethernet import IPV4, IPV6

PACKET_HOST, PACKET_OUTGOING = 0, 4
"""Of packet(7): frames for this machine's own address, and from it."""

_ALL, _NOTHING = 0xFFFFFFFF, 0
_TCP = 6


def capture_filter(*, tcp: bool) -> bytes:
    """Take the LAN's TCP (in IPv4, or right behind an IPv6 header), or else all of the LAN's other frames.

    The two together take each frame once, but for what is from this machine or for it.
    """
    program = (
        (LOAD_HALF, 0, 0, PACKET_TYPE),
        (IF_EQUAL, 12, 0, PACKET_HOST),  # to "ours"
        (IF_EQUAL, 11, 0, PACKET_OUTGOING),
        (LOAD_LENGTH, 0, 0, 0),
        (IF_AT_LEAST, 0, 7, 24),  # else to "other": a load from behind the end would drop the frame
        (LOAD_HALF, 0, 0, 12),
        (IF_EQUAL, 0, 2, IPV4),
        (LOAD_BYTE, 0, 0, 23),
        (IF_EQUAL, 4, 3, _TCP),  # to "TCP", else to "other"
        (IF_EQUAL, 0, 2, IPV6),
        (LOAD_BYTE, 0, 0, 20),
        (IF_EQUAL, 1, 0, _TCP),
        (RETURN, 0, 0, _NOTHING if tcp else _ALL),  # other
        (RETURN, 0, 0, _ALL if tcp else _NOTHING),  # TCP
        (RETURN, 0, 0, _NOTHING),  # ours
    )
    return assemble(program)
