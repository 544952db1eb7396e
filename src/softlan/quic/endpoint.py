"""Many QUIC connections on one UDP socket: routing by connection ID, timers in a heap, one flush a turn.

The endpoint itself knows no clock and no event loop: something calls `receive` when the socket is readable, and
`run_timers` when `next_deadline` has come, each with `now`. `EndpointDriver` is that something for asyncio.
In one turn a burst is read and sorted by connection, each connection takes its part at once, the handlers queue
what they send, and every connection with something to send is flushed exactly once.
"""

import asyncio
import contextlib
import heapq
import itertools
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from qh3 import QuicConfiguration
from qh3._hazmat import pull_quic_header
from qh3.quic.connection import QuicConnection
from qh3.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation

from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger
from softlan.quic.configuration import (
    CONNECTION_ID_LENGTH,
    MAX_UDP_PAYLOAD,
    MIN_UDP_PAYLOAD,
    PACKET_SIZES,
    server_configuration,
)
from softlan.quic.connection import Connection, Handler
from softlan.quic.retry import RetryTokens
from softlan.quic.trust import Credentials
from softlan.quic.udp import UdpSocket, widest_payload

# An acknowledgement may wait this long for data to travel with (RFC 9000, section 13.2.1, allows 25 ms): a
# connection that only receives then sends one for many packets instead of one for each.
ACK_DELAY = 0.002  # seconds

# A timer that is still due after it was served waits this long, so that it cannot keep the loop busy.
MIN_WAIT = 0.001  # seconds

# Datagrams taken in one turn; more wait for the next, so that timers and devices get theirs.
TURN_LIMIT = 512

_SHORT_HEADER_END = 1 + CONNECTION_ID_LENGTH
_LONG_HEADER = 0x80
_MIN_INITIAL = 1200  # RFC 9000, section 14.1
_MIN_ORIGINAL_CID = 8  # RFC 9000, section 7.2
# The library's first flight is this big where the path allows it, and smaller after a loss. A peer whose
# first packet is smaller is on a narrow path, and is answered in packets that fit it.
_WIDE_INITIAL = 1280

_log = get_logger("quic")
_T = TypeVar("_T")


class ServerSide:
    """What an endpoint needs to accept connections."""

    def __init__(
        self,
        credentials: Credentials,
        accept: Callable[[Connection], Handler],
        *,
        retry_above: int = 64,
        max_pending: int = 1024,
    ) -> None:
        self.accept = accept
        """Makes the handler of a new connection."""
        self.retry_above = retry_above
        """With more handshakes pending than this, an address is validated by Retry first."""
        self.max_pending = max_pending
        """With this many handshakes pending, new ones are ignored."""
        self.configurations = {size: server_configuration(credentials, size) for size in PACKET_SIZES}


class Endpoint:
    """Connections over one socket, as a server, a client or both."""

    def __init__(self, sock: UdpSocket, server: ServerSide | None = None) -> None:
        self.sock = sock
        self.connections: set[Connection] = set()
        self.retries_sent = 0
        self.ignored = 0
        """Datagrams that belong to no connection and start none."""
        self._server = server
        self._tokens = RetryTokens()
        self._by_cid: dict[bytes, Connection] = {}
        self._pending: set[Connection] = set()
        self._dirty: list[Connection] = []
        self._acks: list[Connection] = []
        self._acks_due: float | None = None
        self._heap: list[tuple[float, int, Connection]] = []
        self._order = itertools.count()

    def connect(
        self,
        configuration: QuicConfiguration,
        address: SocketAddress,
        accept: Callable[[Connection], Handler],
        now: float,
    ) -> Connection:
        """Start a handshake with a relay. `address` is in the form of the socket's family (`udp.peer_address`)."""
        connection = self._add(QuicConnection(configuration=configuration), address, accept)
        self.add_cid(connection.source_cid, connection)
        connection.connect(now)
        self.mark_dirty(connection)
        self.flush(now)
        return connection

    def receive(self, now: float) -> None:
        """Take what the socket has (up to `TURN_LIMIT` datagrams), and send what comes of it."""
        taken = 0
        while taken < TURN_LIMIT:
            received = self.sock.recv()
            if not received:
                break
            taken += len(received)
            if len(received) == 1:
                data, address = received[0]
                connection = self._by_cid.get(data[1:_SHORT_HEADER_END])
                if connection is None or data[0] & _LONG_HEADER:
                    connection = self._route(data, address, now)
                if connection is not None:
                    self._give(connection, [data], address, now)
            else:
                self._sort(received, now)
        if taken:
            self.flush(now)

    def run_timers(self, now: float) -> None:
        """Run every timer that is due, and send what comes of it."""
        if self._acks_due is not None and now >= self._acks_due:
            self._acks_due = None
            for connection in self._acks:
                if connection.owes_ack:
                    self.mark_dirty(connection)
            self._acks.clear()
        heap = self._heap
        while heap and heap[0][0] <= now:
            armed, _, connection = heapq.heappop(heap)
            if connection.finished or armed != connection.armed:
                continue
            connection.armed = float("inf")
            deadline = connection.deadline()
            if deadline is not None and deadline <= now:
                self._guarded(connection, connection.handle_timer, now)
                self.mark_dirty(connection)
            else:
                self._arm(connection, deadline, now)
        self.flush(now)

    def next_deadline(self) -> float | None:
        """When `run_timers` is to be called next; None if nothing waits."""
        first = self._heap[0][0] if self._heap else None
        if self._acks_due is None:
            return first
        return self._acks_due if first is None else min(first, self._acks_due)

    def flush(self, now: float) -> None:
        """Send what the connections have queued: each once, however much it is."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.dirty = connection.owes_ack = False
                packets = self._guarded(connection, connection.packets, now)
                if packets:
                    self._send(packets)
                if connection.finished:
                    self._forget(connection)
                else:
                    self._arm(connection, connection.deadline(), now + MIN_WAIT)

    # What the connections call (connection.Owner)

    def mark_dirty(self, connection: Connection) -> None:
        """Flush this connection at the end of the turn."""
        if not connection.dirty:
            connection.dirty = True
            self._dirty.append(connection)

    def add_cid(self, cid: bytes, connection: Connection) -> None:
        """Packets to `cid` are for this connection."""
        self._by_cid[cid] = connection
        connection.cids.add(cid)

    def drop_cid(self, cid: bytes) -> None:
        """`cid` is no longer in use."""
        self._by_cid.pop(cid, None)

    # Receiving

    def _sort(self, received: list[tuple[bytes, SocketAddress]], now: float) -> None:
        """Give each run of datagrams of one connection and address to it in one call; order is kept within both."""
        groups: dict[tuple[Connection, SocketAddress], list[bytes]] = {}
        by_cid = self._by_cid
        for data, address in received:
            connection = by_cid.get(data[1:_SHORT_HEADER_END])
            if connection is None or data[0] & _LONG_HEADER:
                connection = self._route(data, address, now)
                if connection is None:
                    continue
            key = (connection, address)
            group = groups.get(key)
            if group is None:
                groups[key] = [data]
            else:
                group.append(data)
        for (connection, address), datagrams in groups.items():
            self._give(connection, datagrams, address, now)

    def _give(self, connection: Connection, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        self._guarded(connection, connection.receive, datagrams, address, now)
        established = connection.established
        if self._pending and established:
            self._pending.discard(connection)
        if connection.dirty or connection.owes_ack:
            return
        if established:
            if self._acks_due is None:
                self._acks_due = now + ACK_DELAY
            connection.owes_ack = True
            self._acks.append(connection)
        else:
            self.mark_dirty(connection)

    def _guarded(self, connection: Connection, operation: Callable[..., _T], *args: Any) -> _T | None:
        """Call into one peer's session; a fault of ours in there ends that session, and no other."""
        try:
            return operation(*args)
        except Exception:
            _log.exception("session.fault", peer=connection.address[0])
            with contextlib.suppress(Exception):  # the handler has just failed; it may fail at this too
                connection.fail("internal error", args[-1])
            return None

    def _route(self, data: bytes, address: SocketAddress, now: float) -> Connection | None:
        """The connection of a packet with a long header or of an unknown connection ID; maybe a new one."""
        if not data or not data[0] & _LONG_HEADER:
            self.ignored += 1
            return None
        try:
            header = pull_quic_header(data, 0, CONNECTION_ID_LENGTH)
        except ValueError:
            self.ignored += 1
            return None
        version, packet_type, destination, source, token = (
            header[0],
            header[1],
            header[3],
            header[4],
            header[5],
        )
        connection = self._by_cid.get(destination)
        if connection is not None:
            return connection
        server = self._server
        if server is None or len(data) < _MIN_INITIAL:
            self.ignored += 1
            return None
        versions = server.configurations[MAX_UDP_PAYLOAD].supported_versions
        if version is None or version not in versions:
            if not version:  # itself a Version Negotiation packet
                self.ignored += 1
            else:
                self.sock.send(
                    [
                        encode_quic_version_negotiation(
                            source_cid=destination, destination_cid=source, supported_versions=versions
                        )
                    ],
                    address,
                )
            return None
        if (
            packet_type != QuicPacketType.INITIAL
            or len(destination) < _MIN_ORIGINAL_CID
            or len(self._pending) >= server.max_pending
        ):
            self.ignored += 1
            return None
        return self._accept(server, data, address, destination, source, token, version, now)

    def _accept(
        self,
        server: ServerSide,
        data: bytes,
        address: SocketAddress,
        destination: bytes,
        source: bytes,
        token: bytes,
        version: int,
        now: float,
    ) -> Connection | None:
        original, retry = destination, None
        if token:
            # Tokens come from our Retry packets alone. With one that is no good a handshake could only fail, and
            # would look like an impostor's; without an answer the peer tries again.
            opened = self._tokens.open(token, address, now)
            if opened is None or opened[1] != destination:
                self.ignored += 1
                return None
            original, retry = opened
        elif len(self._pending) >= server.retry_above or _is_padded_behind(data):
            self._send_retry(address, destination, source, version, now)
            return None
        size = widest_payload(address) if len(data) >= _WIDE_INITIAL else MIN_UDP_PAYLOAD
        quic = QuicConnection(
            configuration=server.configurations[size],
            original_destination_connection_id=original,
            retry_source_connection_id=retry,
        )
        connection = self._add(quic, address, server.accept)
        self._pending.add(connection)
        self.add_cid(destination, connection)
        self.add_cid(connection.source_cid, connection)
        return connection

    def _send_retry(self, address: SocketAddress, destination: bytes, source: bytes, version: int, now: float) -> None:
        cid = os.urandom(CONNECTION_ID_LENGTH)
        self.retries_sent += 1
        packet = encode_quic_retry(
            version=version,
            source_cid=cid,
            destination_cid=source,
            original_destination_cid=destination,
            retry_token=self._tokens.seal(address, destination, cid, now),
        )
        self.sock.send([packet], address)

    # Connections and timers

    def _add(self, quic: QuicConnection, address: SocketAddress, accept: Callable[[Connection], Handler]) -> Connection:
        connection = Connection(quic, address, self)
        connection.handler = accept(connection)
        self.connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        for cid in connection.cids:
            self._by_cid.pop(cid, None)
        connection.cids.clear()
        self.connections.discard(connection)
        self._pending.discard(connection)

    def _arm(self, connection: Connection, deadline: float | None, earliest: float) -> None:
        """See that the heap wakes us by `deadline`. An entry that is too early just looks again (idle timers move)."""
        if deadline is not None and deadline < connection.armed:
            connection.armed = deadline = max(deadline, earliest)
            heapq.heappush(self._heap, (deadline, next(self._order), connection))

    def _send(self, packets: list[tuple[bytes, SocketAddress]]) -> None:
        """Send in runs of one destination: nearly always one."""
        start = 0
        while start < len(packets):
            address = packets[start][1]
            end = start + 1
            while end < len(packets) and packets[end][1] == address:
                end += 1
            self.sock.send([data for data, _ in packets[start:end]], address)
            start = end


def _is_padded_behind(data: bytes) -> bool:
    """Whether there is more in a datagram than its first packet; RFC 9000, section 14.1, lets a peer pad so.

    Until an address is validated, the library answers with three times the bytes of the packets alone, where
    section 8.1 counts datagrams: too little for a certificate, and then it fails. A Retry validates the address.
    """
    end: int = pull_quic_header(data, 0, CONNECTION_ID_LENGTH)[9]
    return end != len(data)


class EndpointDriver:
    """Runs an endpoint in an asyncio loop: readiness of its socket, and its next timer."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        loop.add_reader(endpoint.sock.fileno(), self._readable)

    def flush(self) -> None:
        """Send what has been queued from outside of the endpoint's own turns."""
        self.endpoint.flush(time.monotonic())
        self._rearm()

    def close(self) -> None:
        """Stop, and close the socket. Connections that are open just end."""
        self._loop.remove_reader(self.endpoint.sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.endpoint.sock.close()

    def _readable(self) -> None:
        self.endpoint.receive(time.monotonic())
        self._rearm()

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.endpoint.run_timers(time.monotonic())
        self._rearm()

    def _rearm(self) -> None:
        """Keep one timer in the loop, and touch it only when the next deadline comes before it."""
        deadline = self.endpoint.next_deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        # asyncio's own clock is time.monotonic(): deadlines carry over as they are.
        self._timer = self._loop.call_at(deadline, self._due)
