"""The UDP socket: bursts in, bursts out.

On Unix one system call carries many datagrams (recvmmsg, and GSO and GRO where the kernel has them), through
qh3's binding of quinn-udp. Elsewhere a plain socket does, one datagram a call. Neither ever blocks, and
neither ever fragments: a datagram that is too big for the path is dropped and counted. `open_udp` makes them.
"""

import errno
import socket
from collections.abc import Sequence
from typing import Protocol

from qh3._hazmat import UdpSocketState

from softlan.net.address import SocketAddress
from softlan.obs.counters import UdpCounters
from softlan.proto.budget import UDP_PAYLOADS
from softlan.quic.segments import Segments
from softlan.quic.winsock import prepare_udp

# Errors of one datagram, not of the way: it is bigger than the path's MTU, or a firewall of this machine drops it.
_PASSING = frozenset((errno.EMSGSIZE, errno.EPERM))

# So many messages one recvmmsg brings at most; some may have been several datagrams.
FULL_BURST = 32


class UdpSocket(Protocol):
    """What the endpoint needs of a socket; `tests/support` has one in memory."""

    counters: UdpCounters
    has_more: bool
    """Whether the last burst may have left something behind."""

    @property
    def express(self) -> "UdpSocket | None":
        """A second socket on the same port, for what is not to wait behind streams; None where there is one for all."""

    @property
    def local_address(self) -> SocketAddress:
        """Address and port that the socket is bound to."""

    @property
    def family(self) -> int:
        """`socket.AF_INET6` (dual stack: IPv4 as ``::ffff:a.b.c.d``) or `socket.AF_INET`."""

    def fileno(self) -> int:
        """File descriptor to wait on."""

    def recv(self) -> list[Segments]:
        """A burst of datagrams, in order; empty when nothing is there."""

    def send(self, datagrams: list[bytes], address: SocketAddress) -> None:
        """Send in order. What the system does not take is dropped and counted, as a network would."""

    def close(self) -> None:
        """Close the socket."""


class BatchedUdpSocket:
    """Many datagrams a system call: recvmmsg and GRO in, GSO out."""

    def __init__(self, sock: socket.socket) -> None:
        self.counters = UdpCounters()
        self.has_more = False
        self.express: UdpSocket | None = None
        self._sock = sock
        self._state = UdpSocketState(sock.fileno())
        self._segments: int = self._state.max_gso_segments

    @property
    def local_address(self) -> SocketAddress:
        """Address and port that the socket is bound to."""
        address: SocketAddress = self._sock.getsockname()
        return address

    @property
    def family(self) -> int:
        """The address family of the socket."""
        return self._sock.family

    def fileno(self) -> int:
        """File descriptor to wait on."""
        return self._sock.fileno()

    def recv(self) -> list[Segments]:
        """One system call's worth of datagrams."""
        counters = self.counters
        try:
            received = [(data, len(data), address) for data, address in self._state.recv()]
        except OSError:
            counters.errors += 1  # an ICMP error of an earlier send; the datagrams behind it are still there
            self.has_more = False
            return []
        counters.recv_calls += 1
        counters.datagrams_in += len(received)
        for _, size, _ in received:
            counters.bytes_in += size
        self.has_more = len(received) >= FULL_BURST
        return received

    def send(self, datagrams: list[bytes], address: SocketAddress) -> None:
        """Send all, in order; one that does not pass (too big, refused by a firewall) does not stop those behind it."""
        counters = self.counters
        if not address[1]:
            # Nobody has port 0, but anyone can send from it: the EINVAL would turn segmentation off for good.
            counters.errors += 1
            return
        counters.send_calls += 1
        try:
            sent = self._state.send(datagrams, address)
        except OSError as error:
            self._send_past(datagrams, address, error)
            return
        counters.datagrams_out += sent
        if sent == len(datagrams):
            counters.bytes_out += sum(map(len, datagrams))
        else:  # the socket's buffer is full: the rest is lost, as in any full queue
            counters.bytes_out += sum(map(len, datagrams[:sent]))
            counters.errors += 1

    def _send_past(self, datagrams: Sequence[bytes], address: SocketAddress, error: OSError) -> None:
        """Send what stands behind `error`, if that is worth trying."""
        counters, state = self.counters, self._state
        pending = list(datagrams)
        segments = self._segments
        while True:
            counters.errors += 1
            sent = getattr(error, "datagrams_sent", 0)
            counters.datagrams_out += sent
            counters.bytes_out += sum(map(len, pending[:sent]))
            del pending[:sent]
            if state.max_gso_segments < segments:
                segments = self._segments = state.max_gso_segments  # the device does not segment: now nobody asks it to
            elif error.errno in _PASSING:
                del pending[:1]
            else:
                return
            if not pending:
                return
            counters.send_calls += 1
            try:
                sent = state.send(pending, address)
            except OSError as next_error:
                error = next_error
            else:
                counters.datagrams_out += sent
                counters.bytes_out += sum(map(len, pending[:sent]))
                counters.errors += sent < len(pending)
                return

    def close(self) -> None:
        """Close the socket."""
        del self._state  # it holds a duplicate of the descriptor, which would keep the port
        self._sock.close()
        if self.express is not None:
            self.express.close()


class PlainUdpSocket:
    """One datagram a system call, for systems without the batched calls."""

    # Bounds one burst, so that a flood cannot keep the loop in here.
    BURST = 64

    express = None

    def __init__(self, sock: socket.socket) -> None:
        prepare_udp(sock)
        self.counters = UdpCounters()
        self.has_more = False
        self._sock = sock

    @property
    def local_address(self) -> SocketAddress:
        """Address and port that the socket is bound to."""
        address: SocketAddress = self._sock.getsockname()
        return address

    @property
    def family(self) -> int:
        """The address family of the socket."""
        return self._sock.family

    def fileno(self) -> int:
        """File descriptor to wait on."""
        return self._sock.fileno()

    def recv(self) -> list[Segments]:
        """Up to `BURST` datagrams."""
        counters = self.counters
        received: list[Segments] = []
        for _ in range(self.BURST):
            counters.recv_calls += 1
            try:
                data, address = self._sock.recvfrom(65535)
            except BlockingIOError:
                break
            except OSError:
                counters.errors += 1
                continue
            counters.datagrams_in += 1
            counters.bytes_in += len(data)
            received.append((data, len(data), address))
        self.has_more = len(received) >= FULL_BURST
        return received

    def send(self, datagrams: Sequence[bytes], address: SocketAddress) -> None:
        """Send each; one that fails does not stop those behind it."""
        send_each(self._sock, datagrams, address, self.counters)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def send_each(sock: socket.socket, datagrams: Sequence[bytes], address: SocketAddress, counters: UdpCounters) -> None:
    """Send each by a call of its own; one that fails does not stop those behind it."""
    for data in datagrams:
        counters.send_calls += 1
        try:
            sock.sendto(data, address)
        except OSError:
            counters.errors += 1
        else:
            counters.datagrams_out += 1
            counters.bytes_out += len(data)


def peer_address(address: SocketAddress, family: int) -> SocketAddress | None:
    """`address` as a socket of `family` names it; None if it cannot reach it (IPv6 from an IPv4 socket)."""
    is_ipv6 = ":" in address[0]
    if family == socket.AF_INET6:
        if is_ipv6:
            return address if len(address) == 4 else (address[0], address[1], 0, 0)
        return (f"::ffff:{address[0]}", address[1], 0, 0)
    return None if is_ipv6 else (address[0], address[1])


def widest_payload(address: SocketAddress) -> int:
    """The largest UDP payload of a packet to `address` on Ethernet, in bytes: IPv6's header is longer than IPv4's."""
    is_ipv6 = ":" in plain_host(address)
    return UDP_PAYLOADS[1] if is_ipv6 else UDP_PAYLOADS[0]


def plain_host(address: SocketAddress) -> str:
    """The IP address in its usual form: ``::ffff:192.0.2.1`` reads ``192.0.2.1``, a scope is left out."""
    return address[0].removeprefix("::ffff:").partition("%")[0]
