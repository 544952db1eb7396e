"""The UDP socket: bursts in, bursts out.

On Unix one system call carries many datagrams (recvmmsg, and GSO and GRO where the kernel has them), through
qh3's binding of quinn-udp. Elsewhere a plain socket does, one datagram a call. Neither ever blocks, and
neither ever fragments: a datagram that is too big for the path is dropped and counted.
"""

import contextlib
import errno
import socket
import sys
from collections.abc import Sequence
from typing import Protocol

from qh3._hazmat import UdpSocketState

from softlan.errors import HostError
from softlan.net.address import HostPort, SocketAddress
from softlan.obs.counters import UdpCounters
from softlan.proto.budget import UDP_PAYLOADS
from softlan.quic.winsock import prepare_udp

# What may wait in the kernel, in each direction; bytes, which Linux doubles and counts its own memory in. It is a queue
# like any other, so it is latency for all that is behind it: some 110 full-size packets, or 340 small ones, on the one
# path of an endpoint, and twice that for all the paths of a relay. Four times as much gave a TCP stream a tenth more,
# and pings beside it twice the round trip.
_ENDPOINT_BUFFER, _RELAY_BUFFER = 128 << 10, 256 << 10

# Errors of one datagram, not of the way: it is bigger than the path's MTU, or a firewall of this machine drops it.
_PASSING = frozenset((errno.EMSGSIZE, errno.EPERM))

Received = list[tuple[bytes, SocketAddress]]


class UdpSocket(Protocol):
    """What the endpoint needs of a socket; `tests/support` has one in memory."""

    counters: UdpCounters

    @property
    def local_address(self) -> SocketAddress:
        """Address and port that the socket is bound to."""

    @property
    def family(self) -> int:
        """`socket.AF_INET6` (dual stack: IPv4 as ``::ffff:a.b.c.d``) or `socket.AF_INET`."""

    def fileno(self) -> int:
        """File descriptor to wait on."""

    def recv(self) -> Received:
        """A burst of datagrams with their senders, in order; empty when nothing is there."""

    def send(self, datagrams: list[bytes], address: SocketAddress) -> None:
        """Send in order. What the system does not take is dropped and counted, as a network would."""

    def close(self) -> None:
        """Close the socket."""


class BatchedUdpSocket:
    """Many datagrams a system call: recvmmsg and GRO in, GSO out."""

    def __init__(self, sock: socket.socket) -> None:
        self.counters = UdpCounters()
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

    def recv(self) -> Received:
        """One system call's worth of datagrams."""
        counters = self.counters
        try:
            received: Received = self._state.recv()
        except OSError:
            counters.errors += 1  # an ICMP error of an earlier send; the datagrams behind it are still there
            return []
        counters.recv_calls += 1
        counters.datagrams_in += len(received)
        for data, _ in received:
            counters.bytes_in += len(data)
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


class PlainUdpSocket:
    """One datagram a system call, for systems without the batched calls."""

    # Bounds one burst, so that a flood cannot keep the loop in here.
    BURST = 64

    def __init__(self, sock: socket.socket) -> None:
        prepare_udp(sock)
        self.counters = UdpCounters()
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

    def recv(self) -> Received:
        """Up to `BURST` datagrams."""
        counters, received = self.counters, []
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
            received.append((data, address))
        return received

    def send(self, datagrams: Sequence[bytes], address: SocketAddress) -> None:
        """Send each; one that fails does not stop those behind it."""
        counters = self.counters
        for data in datagrams:
            counters.send_calls += 1
            try:
                self._sock.sendto(data, address)
            except OSError:
                counters.errors += 1
            else:
                counters.datagrams_out += 1
                counters.bytes_out += len(data)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def open_udp(listen: HostPort | None = None) -> UdpSocket:
    """Open a non-blocking UDP socket, batched where the system can.

    `listen` is where to bind (host ``""``: every address of the machine, both families); None is an
    ephemeral port, for an endpoint that connects. Raises HostError in one line that says what to do.
    """
    host, port = (listen.host, listen.port) if listen else ("", 0)
    sock = _bind(host, port)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        with contextlib.suppress(OSError):  # the system's limit is used instead
            sock.setsockopt(socket.SOL_SOCKET, option, _RELAY_BUFFER if listen else _ENDPOINT_BUFFER)
    if sys.platform == "win32":
        return PlainUdpSocket(sock)
    return BatchedUdpSocket(sock)


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
