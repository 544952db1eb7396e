"""A second socket on the same port, for what is not to wait behind streams: games, voice, pings.

A UDP socket's buffer is a queue. One for all has to be short for the games' sake, and a stream then loses what a
longer one would have kept. So an endpoint on Linux has two. Who sends a burst knows its class, for the devices keep
TCP apart from all else, and marks what is express in the IP header: with CS4, which is for interactive gaming (RFC
4594, section 4.4), so that home routers and Wi-Fi may let it pass first as well. At the receiver the kernel sorts by
that mark. Where it is lost on the way, or was never made (on Windows), all goes to the first socket, as it would
without a second one.

To QUIC, an express packet that overtakes others looks as if these were lost (RFC 9002, section 6.1.1). DATAGRAMs are
not sent again, so that costs congestion window, which they do not heed; the control stream does, and has its breaths.
"""

import contextlib
import errno
import socket
import struct
import sys

from softlan.net.address import SocketAddress
from softlan.net.classic_bpf import (
    AND,
    IF_EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    NETWORK_HEADER,
    RETURN,
    SHIFT_RIGHT,
    assemble,
    attach,
)
from softlan.obs.counters import UdpCounters
from softlan.quic.segments import Segments
from softlan.quic.udp import BatchedUdpSocket, send_each

CS4 = 0b100000 << 2
"""The mark, as it stands in the second byte of an IPv4 header, above two bits of ECN (RFC 2474)."""

# linux/udp.h, asm-generic/socket.h; Python's socket module does not have them.
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_SO_ATTACH_REUSEPORT_CBPF = 51
_MOST_SEGMENTS, _MOST_BYTES = 64, 65000  # of one call: UDP_MAX_SEGMENTS, and what a UDP packet can be long
_LARGEST = 65535
_ROOM = 256  # bytes for what the kernel tells of a datagram: its time, the size of its segments, its addresses
_LONE = 16
"""Datagrams that came alone after which no more are read in one turn."""

_FIRST, _SECOND = 0, 1  # sockets of a port, in the order in which they were bound
_SORT = assemble(
    (
        (LOAD_BYTE, 0, 0, NETWORK_HEADER),
        (SHIFT_RIGHT, 0, 0, 4),
        (IF_EQUAL, 0, 3, 4),  # else to IPv6
        (LOAD_BYTE, 0, 0, NETWORK_HEADER + 1),
        (AND, 0, 0, 0xFC),
        (IF_EQUAL, 4, 3, CS4),
        (LOAD_HALF, 0, 0, NETWORK_HEADER),  # IPv6: four bits of version, eight of traffic class
        (AND, 0, 0, 0x0FC0),
        (IF_EQUAL, 1, 0, CS4 << 4),
        (RETURN, 0, 0, _FIRST),
        (RETURN, 0, 0, _SECOND),
    )
)


class StreamUdpSocket(BatchedUdpSocket):
    """The first socket, of two: it reads little in one go, so that the second one's turn comes soon."""

    def __init__(self, sock: socket.socket, large: int) -> None:
        """`large` is how many of GRO's large packets, of up to 45 full datagrams, are read in one go."""
        super().__init__(sock)
        self._large = large

    def recv(self) -> list[Segments]:
        """That many of them, with a few datagrams in between that came alone."""
        counters = self.counters
        received: list[Segments] = []
        calls = large = segments = 0
        self.has_more = False
        while calls < _LONE:
            calls += 1
            try:
                data, ancillary, _, address = self._sock.recvmsg(_LARGEST, _ROOM)
            except BlockingIOError:
                break
            except OSError:
                counters.errors += 1  # an ICMP error of an earlier send; the datagrams behind it are still there
                break
            length = len(data)
            counters.bytes_in += length
            size = _segment_size(ancillary)
            if 0 < size < length:
                received.append((data, size, address))
                segments += -(-length // size) - 1
                self.has_more = True  # where there is one, there is a stream
                large += 1
                if large == self._large:
                    break
            else:
                received.append((data, length, address))
        else:
            self.has_more = True
        counters.recv_calls += calls
        counters.datagrams_in += len(received) + segments
        return received


class ExpressUdpSocket(BatchedUdpSocket):
    """The second socket: all that it sends is marked.

    The batched calls of the first one would set the mark to nothing, so it sends with its own.
    """

    def __init__(self, sock: socket.socket, counters: UdpCounters) -> None:
        super().__init__(sock)
        self.counters = counters

    def send(self, datagrams: list[bytes], address: SocketAddress) -> None:
        """Send all, in order; one that does not pass (too big, refused by a firewall) does not stop those behind it."""
        start, count = 0, len(datagrams)
        while start < count:
            size = len(datagrams[start])
            end = start + 1
            most = min(count, start + min(self._segments, _MOST_SEGMENTS), start + _MOST_BYTES // max(size, 1))
            while end < most and len(datagrams[end]) == size:
                end += 1
            if end < most and 0 < len(datagrams[end]) < size:  # only the last one may be shorter
                end += 1
            if end == start + 1:
                send_each(self._sock, datagrams[start:end], address, self.counters)
            else:
                self._send_many(datagrams[start:end], size, address)
            start = end

    def _send_many(self, datagrams: list[bytes], size: int, address: SocketAddress) -> None:
        counters = self.counters
        counters.send_calls += 1
        try:
            self._sock.sendmsg(datagrams, [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size))], 0, address)
        except BlockingIOError:  # the socket's buffer is full: they are lost, as in any full queue
            counters.errors += 1
        except OSError as error:
            if error.errno == errno.EIO:
                self._segments = 1  # the device does not segment, or cannot add checksums: now nobody asks it to
            send_each(self._sock, datagrams, address, counters)
        else:
            counters.datagrams_out += len(datagrams)
            counters.bytes_out += sum(map(len, datagrams))


def add_express(sock: socket.socket) -> tuple[socket.socket, ...]:
    """Give `sock`, which is bound, a second one on its port, as (`sock`, the second); (`sock`,) where that cannot be.

    `sock` was bound without SO_REUSEPORT, so that a port which is in use is noticed, and nobody else can join them.
    """
    if sys.platform != "linux":
        return (sock,)
    second = socket.socket(sock.family, socket.SOCK_DGRAM)
    with contextlib.ExitStack() as stack:
        stack.callback(second.close)
        try:
            for each in (sock, second):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CS4)
            second.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CS4)
            second.bind(sock.getsockname())
            attach(second, _SO_ATTACH_REUSEPORT_CBPF, _SORT)
        except OSError:
            return (sock,)
        second.setblocking(False)
        stack.pop_all()
        return sock, second


def _segment_size(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Of the datagrams that came as one, as GRO tells it; 0 when one came alone."""
    for level, kind, value in ancillary:
        if level == _SOL_UDP and kind == _UDP_GRO:
            return int.from_bytes(value[:4], sys.byteorder)
    return 0
