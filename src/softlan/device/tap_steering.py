"""Which of a TAP's two queues a frame goes to, as a program for the kernel: TCP by the first, all else by the second.

Without a program the tun driver chooses by a hash of the flow, and a game's first packets stand behind a download as
often as not. The program is extended BPF with the old loads of socket filters (Documentation/bpf/standardization/
instruction-set.rst, legacy packet access), attached by `TUNSETSTEERINGEBPF` (drivers/net/tun.c, since Linux 4.16).
"""

import ctypes
import fcntl
import os
import struct

from softlan.proto.ethernet import IPV4, IPV6

BULK, REST = 0, 1
"""The queues, by the order in which they were opened."""

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "armv7l": 386, "i686": 357}
"""bpf(2) by machine: the C library has no name for it."""
_BPF_PROG_LOAD, _SOCKET_FILTER = 5, 1
_TUNSETSTEERINGEBPF = 0x800454E0
_LOAD_HALF, _LOAD_BYTE, _MOVE, _SET = 0x28, 0x30, 0xBF, 0xB7  # the loads go by offset in the frame, and set r0
_JUMP, _IF_EQUAL, _UNLESS_EQUAL, _EXIT = 0x05, 0x15, 0x55, 0x95
_TCP = 6


def steer(descriptor: int) -> None:
    """Let the program decide for the interface of this queue. Raises OSError where that is not to be had."""
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise OSError(0, "bpf(2) is not known on this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    code, licence = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM)), ctypes.create_string_buffer(b"GPL")
    # union bpf_attr: prog_type, insn_cnt, insns, license; what follows is zero (linux/bpf.h).
    fields = struct.pack("=IIQQ", _SOCKET_FILTER, len(_PROGRAM) // 8, ctypes.addressof(code), ctypes.addressof(licence))
    attributes = ctypes.create_string_buffer(fields, 120)
    program = libc.syscall(number, _BPF_PROG_LOAD, attributes, len(attributes))
    if program < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, os.strerror(failure))
    try:
        fcntl.ioctl(descriptor, _TUNSETSTEERINGEBPF, struct.pack("=i", program))
    finally:
        os.close(program)  # the interface keeps it


def _instruction(code: int, destination: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
    """Struct bpf_insn; a jump counts from the next instruction."""
    return struct.pack("=BBhi", code, destination | source << 4, jump, value)


_PROGRAM = b"".join(
    (
        _instruction(_MOVE, 6, 1),  # the loads find the frame by r6
        _instruction(_LOAD_HALF, value=12),
        _instruction(_IF_EQUAL, jump=2, value=IPV4),
        _instruction(_IF_EQUAL, jump=3, value=IPV6),
        _instruction(_JUMP, jump=5),
        _instruction(_LOAD_BYTE, value=23),
        _instruction(_JUMP, jump=1),
        _instruction(_LOAD_BYTE, value=20),
        _instruction(_UNLESS_EQUAL, jump=1, value=_TCP),
        _instruction(_JUMP, jump=2),
        _instruction(_SET, value=REST),
        _instruction(_EXIT),
        _instruction(_SET, value=BULK),
        _instruction(_EXIT),
    )
)
