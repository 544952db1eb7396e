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
from softlan.quic.connection import Connection
from softlan.quic.crowd import network_of
from softlan.quic.door import LATER, Door, TurnedAway, read_long_header
from softlan.quic.handler import Handler
from softlan.quic.line import Line
from softlan.quic.segments import CID, LONG_HEADER, sort, split
from softlan.quic.udp import UdpSocket

# An acknowledgement may wait this long for data to travel with: a connection that only receives then sends one for
# many packets instead of one for each. RFC 9000, section 13.2.1, allows the 25 ms that we advertise; but a peer's
# breath lasts until its packets are acknowledged, so on a lossy path this is added to what waits for its end.
ACK_DELAY = 0.01  # seconds

# A timer that is still due after it was served waits this long, so that it cannot keep the loop busy.
MIN_WAIT = 0.001  # seconds

# A handshake that takes longer is forgotten, and whoever is still there begins anew. The library would wait for its
# idle timeout, and for as long again with every packet that comes.
HANDSHAKE_TIME = 10.0  # seconds

# Faults that are logged at most; a peer may be able to cause one with every packet.
FAULT_INTERVAL = 1.0  # seconds


_log = get_logger("quic")


class Endpoint:
    """Connections over one socket, as a server, a client or both."""

    def __init__(self, sock: UdpSocket, door: Door | None = None) -> None:
        self.sock = sock
        self._express = sock.express or sock
        self.connections: set[Connection] = set()
        self.ignored = 0
        """Datagrams that belong to no connection and start none."""
        self.handshakes_given_up = 0
        """Handshakes that took too long, or had to make room for newer ones."""
        self._door = door
        self._by_cid: dict[bytes, Connection] = {}
        self._pending: dict[Connection, float] = {}  # handshakes with us as the server, and when they end, in order
        self._dirty: list[Connection] = []
        self._acks: list[Connection] = []
        self._acks_due: float | None = None
        self._heap: list[tuple[float, int, Connection]] = []
        self._order = itertools.count()
        self._faults_until = 0.0  # no more are logged
        self._line = Line()

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

    def receive(self, now: float, *, express: bool = False) -> bool:
        """Take one burst of what the socket has, and send what comes of it; whether there may be more.

        What is still there waits for the next turn: what came of this burst does not, and others get theirs.
        `express`: of its express socket, and by that one goes what comes of it.
        """
        sock = self._express if express else self.sock
        received = sock.recv()
        if not received:
            return False
        if self._line:
            self._admit(now)  # who waits comes before who comes now
        data, size, address = received[0]
        if len(received) == 1 and size == len(data):  # it came alone, as a game's do: there is nothing to sort
            self._take([data], 1, address, now)
        else:
            for run in sort(received):
                self._take(*run, now)
        if self._dirty:
            self.flush(now, express=express)
        return sock.has_more

    def run_timers(self, now: float) -> None:
        """Run every timer that is due, and send what comes of it."""
        if self._acks_due is not None and now >= self._acks_due:
            self._acks_due = None
            for connection in self._acks:
                if connection.owes_ack:
                    self.mark_dirty(connection)
            self._acks.clear()
        self._end_handshakes(now)
        if self._line:
            self._admit(now)
        heap = self._heap
        while heap and heap[0][0] <= now:
            armed, _, connection = heapq.heappop(heap)
            if connection.finished or armed != connection.armed:
                continue
            connection.armed = float("inf")
            try:
                deadline = connection.deadline()
                if deadline is None or deadline > now:
                    self._arm(connection, deadline, now)
                    continue
                connection.handle_timer(now)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:  # a panic of the library's native core is no Exception
                self._faulted(connection, now)
            self.mark_dirty(connection)
        self.flush(now)

    def next_deadline(self) -> float | None:
        """When `run_timers` is to be called next; None if nothing waits."""
        deadline = self._acks_due
        if self._heap and (deadline is None or self._heap[0][0] < deadline):
            deadline = self._heap[0][0]
        if (opens := self._line.opens()) is not None and (deadline is None or opens < deadline):
            deadline = opens
        for end in self._pending.values():  # the first is the earliest
            return end if deadline is None or end < deadline else deadline
        return deadline

    def flush(self, now: float, *, express: bool = False) -> None:
        """Send what the connections have queued, each once, however much it is; `express`, by the express socket."""
        send = (self._express if express else self.sock).send
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.dirty = connection.owes_ack = False
                if connection.finished:
                    self._forget(connection)
                    continue
                try:
                    connection.transmit(now, send)
                    if not connection.finished:
                        deadline = connection.deadline()
                        if deadline is not None and deadline < connection.armed:
                            self._arm(connection, deadline, now + MIN_WAIT)
                        continue
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException:  # a panic of the library's native core is no Exception
                    self._faulted(connection, now)
                    connection.finished = True  # it cannot even say goodbye
                self._forget(connection)

    @property
    def retries_sent(self) -> int:
        """How many peers had to prove their address first."""
        return self._door.retries_sent if self._door is not None else 0

    def snapshot(self) -> dict[str, int]:
        """Counters by name: connections, datagrams that began nothing, handshakes given up, and the door's own."""
        counters = {
            "connections": len(self.connections),
            "ignored": self.ignored,
            "handshakes_given_up": self.handshakes_given_up,
        }
        return counters | (self._door.snapshot() if self._door is not None else {})

    # What the connections call (handler.Owner)

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

    def _take(self, datagrams: list[bytes] | bytes, size: int, address: SocketAddress, now: float) -> None:
        """Take one of the runs of `sort`."""
        first = datagrams if isinstance(datagrams, bytes) else datagrams[0]
        known = self._by_cid.get(first[CID])
        if known is not None and first[0] < LONG_HEADER:
            self._give(known, datagrams, address, now, size)
            return
        for data in split(datagrams, size) if isinstance(datagrams, bytes) else datagrams:
            connection = self._route(data, address, now)
            if connection is not None:
                self._give(connection, [data], address, now)

    def _give(
        self, connection: Connection, datagrams: list[bytes] | bytes, address: SocketAddress, now: float, size: int = 1
    ) -> None:
        try:
            connection.receive(datagrams, address, now, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a panic of the library's native core is no Exception
            self._faulted(connection, now)
        established = connection.established
        if self._pending and established:
            self._settle(connection)
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
        self._log_fault(connection.address, now)
        try:
            connection.fail("internal error", now)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the handler has just failed, and may fail at this too
            return

    def _log_fault(self, address: SocketAddress, now: float) -> None:
        if now >= self._faults_until:
            self._faults_until = now + FAULT_INTERVAL
            _log.exception("session.fault", peer=address[0])

    def _route(self, data: bytes, address: SocketAddress, now: float) -> Connection | None:
        """The connection of a packet with a long header or of an unknown connection ID; maybe a new one."""
        try:
            connection = self._find(data, address, now)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a panic of the library's native core is no Exception: it costs this datagram
            self._log_fault(address, now)
            if self._door is not None:
                self._door.turn_away(TurnedAway.FAULT)
            connection = None
            self.ignored += 1
        return connection

    def _find(self, data: bytes, address: SocketAddress, now: float) -> Connection | None:
        door = self._door
        header = read_long_header(data)
        if header is None:
            self.ignored += 1
            if door is not None:
                door.turn_away(TurnedAway.NOISE)
            return None
        connection = self._by_cid.get(header.destination)
        if connection is not None:
            return connection
        if door is None:
            self.ignored += 1
            return None
        outcome = door.knock(header, data, address, now, waiting=len(self._line), is_open=self._line.is_open(now))
        if outcome is LATER and self._line.join(data, address):
            return None
        if isinstance(outcome, QuicConnection):
            self._line.began()
            if (network := door.crowded(address)) is not None:
                self._make_room(door, network, now)
            connection = self._add(outcome, address, door.accept)
            door.crowd.enter(connection, network_of(address))
            self._pending[connection] = now + HANDSHAKE_TIME
            self.add_cid(header.destination, connection)
            self.add_cid(connection.source_cid, connection)
            return connection
        if isinstance(outcome, bytes):
            self.sock.send([outcome], address)
        else:
            self.ignored += 1
            if outcome is LATER:
                door.turn_away(TurnedAway.HANDSHAKES)
        return None

    def _admit(self, now: float) -> None:
        """Let those begin who have waited; whoever is let in by another datagram meanwhile just gets one more."""
        while self._line and self._line.is_open(now):
            data, address = self._line.leave()
            connection = self._route(data, address, now)
            if connection is not None:
                self._give(connection, [data], address, now)

    # Connections and timers

    def _add(self, quic: QuicConnection, address: SocketAddress, accept: Callable[[Connection], Handler]) -> Connection:
        connection = Connection(quic, address, self)
        connection.handler = accept(connection)
        self.connections.add(connection)
        return connection

    def _end_handshakes(self, now: float) -> None:
        while self._pending:
            connection, end = next(iter(self._pending.items()))
            if end > now:
                return
            self._give_up(connection, "the handshake took too long", now)

    def _make_room(self, door: Door, network: bytes, now: float) -> None:
        """Give up the oldest handshake of a network."""
        for connection in self._pending:
            if door.crowd.is_pending(connection, network):
                self._give_up(connection, "too many handshakes", now)
                return

    def _give_up(self, connection: Connection, reason: str, now: float) -> None:
        self._settle(connection)
        self.handshakes_given_up += 1
        try:
            connection.abandon(reason, now)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the handler has failed
            self._faulted(connection, now)

    def _settle(self, connection: Connection) -> None:
        """Its handshake is no longer under way."""
        if self._pending.pop(connection, None) is not None and self._door is not None:
            self._door.crowd.settle(connection)

    def _forget(self, connection: Connection) -> None:
        for cid in connection.cids:
            self._by_cid.pop(cid, None)
        connection.cids.clear()
        self.connections.discard(connection)
        self._settle(connection)
        if self._door is not None:
            self._door.crowd.leave(connection)
        connection.let_go()
        self._sweep()

    def _sweep(self) -> None:
        """Drop the heap's entries that nobody waits for, once they are many: each keeps its connection in memory."""
        if len(self._heap) > 64 + 4 * len(self.connections):
            self._heap[:] = [entry for entry in self._heap if entry[0] == entry[2].armed and not entry[2].finished]
            heapq.heapify(self._heap)

    def _arm(self, connection: Connection, deadline: float | None, earliest: float) -> None:
        """See that the heap wakes us by `deadline`. An entry that is too early just looks again (idle timers move)."""
        if deadline is None:
            return
        deadline = max(deadline, earliest)
        if deadline < connection.armed:
            self._sweep()
            connection.armed = deadline
            heapq.heappush(self._heap, (deadline, next(self._order), connection))
