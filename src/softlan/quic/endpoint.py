"""Many QUIC connections on one UDP socket: routing by connection ID, timers in a heap, one flush a turn.

The endpoint itself knows no clock and no event loop: something calls `receive` when the socket is readable, and
`run_timers` when `next_deadline` has come, each with `now`. `softlan.quic.driver` is that something for asyncio.
In one turn a burst is read and sorted by connection, each connection takes its part at once, the handlers queue
what they send, and every connection with something to send is flushed exactly once.
"""

import heapq
import itertools
from collections.abc import Callable

from qh3 import QuicConfiguration
from qh3.quic.connection import QuicConnection

from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger
from softlan.quic.configuration import CONNECTION_ID_LENGTH
from softlan.quic.connection import Connection
from softlan.quic.door import Door, read_long_header
from softlan.quic.handler import Handler
from softlan.quic.udp import UdpSocket

# An acknowledgement may wait this long for data to travel with (RFC 9000, section 13.2.1, allows 25 ms): a
# connection that only receives then sends one for many packets instead of one for each.
ACK_DELAY = 0.002  # seconds

# A timer that is still due after it was served waits this long, so that it cannot keep the loop busy.
MIN_WAIT = 0.001  # seconds

# So many messages one recvmmsg brings at most; some may have been several datagrams.
FULL_BURST = 32

_SHORT_HEADER_END = 1 + CONNECTION_ID_LENGTH
_LONG_HEADER = 0x80

_log = get_logger("quic")


class Endpoint:
    """Connections over one socket, as a server, a client or both."""

    def __init__(self, sock: UdpSocket, door: Door | None = None) -> None:
        self.sock = sock
        self.connections: set[Connection] = set()
        self.ignored = 0
        """Datagrams that belong to no connection and start none."""
        self._door = door
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

    def receive(self, now: float) -> bool:
        """Take one burst of what the socket has, and send what comes of it; whether there may be more.

        What is still there waits for the next turn: what came of this burst does not, and others get theirs.
        """
        received = self.sock.recv()
        if not received:
            return False
        if len(received) == 1:
            data, address = received[0]
            connection = self._by_cid.get(data[1:_SHORT_HEADER_END])
            if connection is None or data[0] & _LONG_HEADER:
                connection = self._route(data, address, now)
            if connection is not None:
                self._give(connection, [data], address, now)
        else:
            self._sort(received, now)
        if self._dirty:
            self.flush(now)
        return len(received) >= FULL_BURST

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
                try:
                    connection.handle_timer(now)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException:  # a panic of the library's native core is no Exception
                    self._faulted(connection, now)
                self.mark_dirty(connection)
            else:
                self._arm(connection, deadline, now)
        self.flush(now)

    def next_deadline(self) -> float | None:
        """When `run_timers` is to be called next; None if nothing waits."""
        acks = self._acks_due
        if not self._heap:
            return acks
        first = self._heap[0][0]
        return first if acks is None or first < acks else acks

    def flush(self, now: float) -> None:
        """Send what the connections have queued: each once, however much it is."""
        send = self.sock.send
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.dirty = connection.owes_ack = False
                if connection.finished:
                    self._forget(connection)
                    continue
                try:
                    connection.transmit(now, send)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException:  # a panic of the library's native core is no Exception
                    self._faulted(connection, now)
                    connection.finished = True  # it cannot even say goodbye
                if connection.finished:
                    self._forget(connection)
                    continue
                deadline = connection.deadline()
                if deadline is not None and deadline < connection.armed:
                    self._arm(connection, deadline, now + MIN_WAIT)

    @property
    def retries_sent(self) -> int:
        """How many peers had to prove their address first."""
        return self._door.retries_sent if self._door is not None else 0

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
        try:
            connection.receive(datagrams, address, now)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a panic of the library's native core is no Exception
            self._faulted(connection, now)
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

    def _faulted(self, connection: Connection, now: float) -> None:
        """A fault of ours in one peer's session ends that session, and no other; called while it is handled."""
        _log.exception("session.fault", peer=connection.address[0])
        try:
            connection.fail("internal error", now)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the handler has just failed, and may fail at this too
            return

    def _route(self, data: bytes, address: SocketAddress, now: float) -> Connection | None:
        """The connection of a packet with a long header or of an unknown connection ID; maybe a new one."""
        header = read_long_header(data)
        if header is None:
            self.ignored += 1
            return None
        connection = self._by_cid.get(header.destination)
        if connection is not None:
            return connection
        door = self._door
        outcome = door.knock(header, data, address, len(self._pending), now) if door is not None else None
        if door is not None and isinstance(outcome, QuicConnection):
            connection = self._add(outcome, address, door.accept)
            self._pending.add(connection)
            self.add_cid(header.destination, connection)
            self.add_cid(connection.source_cid, connection)
            return connection
        if isinstance(outcome, bytes):
            self.sock.send([outcome], address)
        else:
            self.ignored += 1
        return None

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
        if deadline is None:
            return
        deadline = max(deadline, earliest)
        if deadline < connection.armed:
            connection.armed = deadline
            heapq.heappush(self._heap, (deadline, next(self._order), connection))
