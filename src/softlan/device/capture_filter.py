"""Which of an interface's frames a packet socket takes, as a program for the kernel (socket(7), SO_ATTACH_FILTER).

Classic BPF, as in Documentation/networking/filter.rst: an accumulator, loads into it, and jumps that count from the
next instruction. Offsets are into the frame.
"""

import struct

from softlan.proto.ethernet import IPV4, IPV6

PACKET_HOST, PACKET_OUTGOING = 0, 4
"""Of packet(7): frames for this machine's own address, and from it."""

_LOAD_HALF, _LOAD_BYTE, _LOAD_LENGTH = 0x28, 0x30, 0x80
_IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x15, 0x35, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE: not a byte of the frame
_ALL, _NOTHING = 0xFFFFFFFF, 0
_TCP = 6


def capture_filter(*, tcp: bool) -> bytes:
    """Take the LAN's TCP (in IPv4, or right behind an IPv6 header), or else all of the LAN's other frames.

    The two together take each frame once, but for what is from this machine or for it.
    """
    program = (
        (_LOAD_HALF, 0, 0, _PACKET_TYPE),
        (_IF_EQUAL, 12, 0, PACKET_HOST),  # to "ours"
        (_IF_EQUAL, 11, 0, PACKET_OUTGOING),
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_AT_LEAST, 0, 7, 24),  # else to "other": a load from behind the end would drop the frame
        (_LOAD_HALF, 0, 0, 12),
        (_IF_EQUAL, 0, 2, IPV4),
        (_LOAD_BYTE, 0, 0, 23),
        (_IF_EQUAL, 4, 3, _TCP),  # to "TCP", else to "other"
        (_IF_EQUAL, 0, 2, IPV6),
        (_LOAD_BYTE, 0, 0, 20),
        (_IF_EQUAL, 1, 0, _TCP),
        (_RETURN, 0, 0, _NOTHING if tcp else _ALL),  # other
        (_RETURN, 0, 0, _ALL if tcp else _NOTHING),  # TCP
        (_RETURN, 0, 0, _NOTHING),  # ours
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
