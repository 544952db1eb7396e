"""What a UDP socket has to be told on Windows (learn.microsoft.com, Winsock IOCTLs and socket options)."""

import contextlib
import ctypes
import socket
import sys
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

SIO_UDP_CONNRESET = 0x9800000C
IP_DONTFRAGMENT = 14
IPV6_DONTFRAG = 14


def prepare_udp(sock: socket.socket) -> None:
    """Take the edges off a new UDP socket, as far as the system lets us; nothing elsewhere than on Windows.

    An ICMP error of one datagram must not come back as an error of the next read (error 10054), and nothing is
    fragmented: what is too big for the path is an error of its own.
    """
    if sys.platform != "win32":
        return
    is_on, size = c_uint32(0), c_uint32()
    winsock = ctypes.WinDLL("ws2_32.dll")
    winsock.WSAIoctl.argtypes = (c_uint64, c_uint32, c_void_p, c_uint32, c_void_p, c_uint32, c_void_p, *[c_void_p] * 2)
    winsock.WSAIoctl.restype = c_int32
    winsock.WSAIoctl(sock.fileno(), SIO_UDP_CONNRESET, byref(is_on), 4, None, 0, byref(size), None, None)
    with contextlib.suppress(OSError):  # a socket of both families has this one too
        sock.setsockopt(socket.IPPROTO_IP, IP_DONTFRAGMENT, 1)
    if sock.family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
