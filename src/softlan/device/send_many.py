"""Many datagrams in one system call: sendmmsg(2), which Python's socket module does not have."""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from itertools import accumulate

MOST = 64
"""So many are sent at once."""


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_uint),
        ("msg_iov", ctypes.c_void_p),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("msg_hdr", _Header), ("msg_len", ctypes.c_uint))


_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
# One struct iovec is an address and a length, both as wide as a pointer.
_fill = [struct.Struct(f"@{2 * count}N").pack_into for count in range(MOST + 1)]
# A function of our own: the attributes of ctypes.pythonapi's are everybody's.
_address = ctypes.PYFUNCTYPE(ctypes.c_size_t, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


class SendMany:
    """Sends on a connected or bound socket; what it needs is made once, and filled in anew for each burst."""

    __slots__ = ("_messages", "_messages_at", "_socket", "_vectors")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._vectors = (ctypes.c_size_t * (2 * MOST))()
        self._messages = (_Message * MOST)()
        vector_size = 2 * ctypes.sizeof(ctypes.c_size_t)
        for index, message in enumerate(self._messages):
            message.msg_hdr.msg_iov = ctypes.addressof(self._vectors) + index * vector_size
            message.msg_hdr.msg_iovlen = 1
        self._messages_at = ctypes.addressof(self._messages)

    def send(self, datagrams: Sequence[bytes]) -> int:
        """How many of the first `MOST` datagrams were sent, in their order. Raises OSError when the first cannot be.

        Never blocks.
        """
        if len(datagrams) > MOST:
            datagrams = datagrams[:MOST]
        # Python tells the address of one object at a time, and slowly, so they are laid out in one.
        joined = b"".join(datagrams)
        address = _address(joined)
        lengths = list(map(len, datagrams))
        count = len(lengths)
        vectors = [0] * (2 * count)
        vectors[1::2] = lengths
        lengths.pop()
        vectors[::2] = accumulate(lengths, initial=address)
        _fill[count](self._vectors, 0, *vectors)
        sent: int = _sendmmsg(self._socket.fileno(), self._messages_at, count, socket.MSG_DONTWAIT)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return sent
