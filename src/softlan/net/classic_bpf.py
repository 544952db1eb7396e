"""Programs for sockets: classic BPF, as in Documentation/networking/filter.rst.

An accumulator, loads into it, and jumps that count from the next instruction. Loads are big-endian.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
"""Struct sock_filter: code, jump if true, jump if false, value."""

LOAD_HALF, LOAD_BYTE, LOAD_LENGTH = 0x28, 0x30, 0x80
AND, SHIFT_RIGHT = 0x54, 0x74
IF_EQUAL, IF_AT_LEAST, RETURN = 0x15, 0x35, 0x06

PACKET_TYPE = 0xFFFFF000 + 4
"""Where to load the packet's type from (SKF_AD_OFF + SKF_AD_PKTTYPE): not a byte of it."""
NETWORK_HEADER = 0xFFF00000
"""Where the IP header begins (SKF_NET_OFF), whatever the program was given of the packet."""


def assemble(instructions: Sequence[Instruction]) -> bytes:
    """The program as the kernel takes it."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def attach(sock: socket.socket, option: int, program: bytes) -> None:
    """Give the kernel `program` for the use that `option` stands for. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
