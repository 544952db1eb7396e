"""Opens the UDP sockets of a relay, and of an endpoint that connects."""

import errno
import socket
import sys

from softlan.errors import HostError
from softlan.net.address import HostPort
from softlan.net.buffers import set_buffers
from softlan.quic.express import ExpressUdpSocket, StreamUdpSocket, add_express
from softlan.quic.udp import BatchedUdpSocket, PlainUdpSocket, UdpSocket

# What may wait in the kernel, in each direction, of an endpoint that connects and of a relay; bytes. Each is a queue
# like any other, so it is latency for all that is behind it. One for all takes some 110 full-size packets, or 340 small
# ones, on the one path of an endpoint, and twice that for all the paths of a relay: four times as much gave a TCP
# stream a tenth more, and pings beside it twice the round trip. Where there are two, they may be longer: only streams
# wait behind streams.
_SHARED, _STREAMS, _EXPRESS = (128 << 10, 256 << 10), (384 << 10, 512 << 10), (256 << 10, 512 << 10)
_LARGE = 1, 2
"""GRO's large packets of streams that are read in one turn, where others wait for that turn, and where nobody does."""


def open_udp(listen: HostPort | None = None, *, is_alone: bool = False) -> UdpSocket:
    """Open a non-blocking UDP socket, batched where the system can.

    `listen` is where to bind (host ``""``: every address of the machine, both families); None is an
    ephemeral port, for an endpoint that connects. `is_alone`: no other player waits for this endpoint's turns. Raises
    HostError in one line that says what to do.
    """
    host, port = (listen.host, listen.port) if listen else ("", 0)
    sock = _bind(host, port)
    sock.setblocking(False)
    sockets = add_express(sock)
    is_relay = listen is not None
    for each, sizes in zip(sockets, (_STREAMS, _EXPRESS) if len(sockets) > 1 else (_SHARED,), strict=True):
        set_buffers(each, receive=sizes[is_relay], send=sizes[is_relay])
    if sys.platform == "win32":
        return PlainUdpSocket(sock)
    if len(sockets) == 1:
        return BatchedUdpSocket(sock)
    first = StreamUdpSocket(sock, _LARGE[is_alone])
    first.express = ExpressUdpSocket(sockets[1], first.counters)
    return first


def _bind(host: str, port: int) -> socket.socket:
    families = [socket.AF_INET6, socket.AF_INET] if not host else None
    if families is None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise HostError(
                "bind", f"cannot listen on {host}: {error.strerror}; give an address of this machine"
            ) from error
        families = [found[0][0]]
    failure: OSError | None = None
    for family in families:
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:  # the system has no IPv6
            failure = error
            continue
        try:
            if family == socket.AF_INET6 and not host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            failure = error
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and not host:
                continue
            break
        return sock
    assert failure is not None
    raise HostError("bind", _bind_hint(host, port, failure)) from failure


def _bind_hint(host: str, port: int, error: OSError) -> str:
    where = f"{host or 'every address'}, UDP port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is in use; stop what uses it or choose another with --listen"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot listen on {where}: not permitted; run as root or choose a port above 1023 with --listen"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: this machine has no such address; see `ip address`"
    return f"cannot listen on {where}: {error.strerror}"
