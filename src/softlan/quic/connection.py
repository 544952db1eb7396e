"""One QUIC connection: qh3's sans-IO `QuicConnection` behind the few calls that softlan needs.

What bites in the library is dealt with here, and by `moving`, `outbox`, `breath` and `ledger`:

* A DATAGRAM that does not fit one packet would block everything behind it for good, so none is ever queued.
* Packets are filled up to the size that the connection began with, also where the path is known to be narrower.
* A connection that is about to end raises when something is sent on it, which would harm the sender's session.
* A peer's packet may make the library raise: that ends this connection and no other.
"""

import itertools
import operator
from collections.abc import Callable
from typing import Any

from qh3 import quic_events as events
from qh3.quic.connection import QuicConnection

from softlan.net.address import SocketAddress
from softlan.quic import inside
from softlan.quic.backoff import Backoff
from softlan.quic.configuration import MIN_UDP_PAYLOAD
from softlan.quic.gauges import Gauges
from softlan.quic.handler import GONE, CloseCause, CloseCode, Handler, Owner
from softlan.quic.inside import ACCEPTED, IDLE_EVENTS, REPEATS, Ending
from softlan.quic.ledger import DATAGRAM_FRAME, DEAF, HANDSHAKE_BYTES, NO_USE, RETIRED, STREAM_BYTE, Ledger
from softlan.quic.moving import PATH_LOST, Moving, Packets
from softlan.quic.outbox import CONTROL_STREAM, Outbox
from softlan.quic.segments import split

LINGER_TIME = 3.0  # seconds for the goodbye; the library's time for it grows with round trips that the peer feigns

_IDLE_TIMEOUT = "Idle timeout"  # the library's words for it


class Connection(Gauges):
    """A connection of an `Endpoint`, made by it alone, which flushes each once at the end of its turn."""

    def __init__(self, quic: QuicConnection, address: SocketAddress, owner: "Owner[Connection]") -> None:
        self._moving = Moving(quic)
        super().__init__(quic, Outbox(quic, self._moving))
        self.handler: Handler
        self.address = address
        """Where the peer is now: the address of the validated path."""
        self.established = False
        self.finished = False
        """Nothing more will come or go; the endpoint forgets it."""
        self.dirty = False
        """Something is queued; the endpoint will flush it at the end of its turn."""
        self.owes_ack = False
        """Something came that is not acknowledged yet; the endpoint will flush it within `ACK_DELAY`."""
        self.armed = float("inf")
        """The earliest time for which the endpoint's timer heap holds an entry of this connection."""
        self.cids: set[bytes] = set()
        """The connection IDs by which the peer addresses us."""
        self._lane = inside.lane(quic)
        self._owner = owner
        self._is_client: bool = quic.configuration.is_client
        self._closing = self._told = False
        self._refuses = False  # datagrams: it is about to end, or its peer acknowledges nothing
        self._end_by: float | None = None
        self._is_plain = False  # nothing but packets to send: no handshake, move, breath or end under way
        self._has_strayed = False
        self._ledger = Ledger()
        self._backoff = Backoff()

    # What a handler calls

    def send_datagram(self, data: bytes) -> bool:
        """Queue one DATAGRAM. False, and nothing queued, if the connection does not take it. Never raises.

        It is called in the turns of other connections, which must not pay for what this one refuses.
        """
        if len(data) > self.capacity or self._refuses:
            return False
        if self._outbox.holds:
            self._outbox.held.append(data)
            self._ledger.queued += 1
            return True
        try:
            self._lane.send_datagram(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the library's kinds, and a panic of its core: larger than the peer takes, about to end
            return False
        self._ledger.queued += 1
        if not self.dirty:
            self._owner.mark_dirty(self)
        return True

    def send_datagrams(self, burst: list[bytes]) -> int:
        """Queue DATAGRAMs as `send_datagram` does, up to the first that is not taken; how many were. Never raises."""
        if self._refuses or self._outbox.holds or max(map(len, burst), default=0) > self.capacity:
            return len(list(itertools.takewhile(self.send_datagram, burst)))
        send = self._lane.send_datagram
        taken, rest = len(burst), iter(burst)
        try:
            for data in rest:
                send(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the library's kinds, and a panic of its core: the connection is about to end
            taken -= 1 + len(list(rest))
        self._ledger.queued += taken
        if not self.dirty:
            self._owner.mark_dirty(self)
        return taken

    def send_stream(self, data: bytes) -> None:
        """Queue bytes of the control stream; the endpoint's first call opens it."""
        if self._closing:
            return
        self._outbox.written += data
        self._ledger.queued += 1 + len(data) // MIN_UDP_PAYLOAD
        self._outbox.breath.wrote()
        self._is_plain = False
        if not self.dirty:
            self._owner.mark_dirty(self)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close with an application error code and a reason phrase; what was queued before it still goes."""
        if self._closing:
            return
        self._closing = self._refuses = self._told = True
        self._outbox.goodbye = (int(code), reason[:256])
        self._is_plain = False
        if not self.dirty:
            self._owner.mark_dirty(self)

    # What the endpoint calls

    def connect(self, now: float) -> None:
        """Start a client's handshake."""
        self._quic.connect(self.address, now)

    def receive(self, datagrams: list[bytes] | bytes, address: SocketAddress, now: float, size: int = 1) -> None:
        """Take UDP datagrams that came from `address`, and hand on what they bring.

        As bytes, they are `segments` of `size` bytes each.
        """
        if not self.established or address != self.address:
            each = split(datagrams, size) if isinstance(datagrams, bytes) else datagrams
            self._receive_otherwise(each, address, now)
            return
        if self._has_strayed:
            self._has_strayed = False
            self._moving.heard_at_home()
        lane, ledger = self._lane, self._ledger
        burst: list[bytes] = []
        start = counted = 0
        end = len(datagrams)
        while start < end:
            step = ledger.chunk * size
            chunk = datagrams if end <= step else datagrams[start : start + step]
            start += step
            has_more = False
            report = None
            try:
                if isinstance(chunk, bytes):
                    report = lane.receive_gro_buffer(chunk, size, address, now)
                elif len(chunk) == 1:
                    data = chunk[0]
                    report = lane.receive_datagram(data, address, now, len(data))
                else:
                    report = lane.receive_many_datagrams(chunk, address, now)
                next_event = lane.next_event
                while (event := next_event()) is not None:
                    if event[0] == "datagram":
                        burst.append(event[1])
                    elif event[0] not in IDLE_EVENTS:
                        has_more = True
                        inside.put_back(self._quic, event)
                        break
            except Exception as error:  # whatever a peer's bytes provoke in the library ends with this connection
                self.fail(f"protocol error: {error}", now, is_peers=True)
                has_more = True
            ledger.received += -(-len(chunk) // size) if report is None else report[ACCEPTED]
            is_due = ledger.is_due
            if has_more or is_due or start >= end:
                fresh = burst[counted:] if counted else burst
                ledger.delivered += sum(map(len, fresh)) + DATAGRAM_FRAME * len(fresh)
                counted = len(burst)
                if has_more:
                    self._deliver(burst, now)
                    burst, counted = [], 0
                    self._dispatch(now)
                if is_due:
                    self._audit(now)
                if self._told:
                    break
        self._deliver(burst, now)

    def handle_timer(self, now: float) -> None:
        """Let the library's timers run."""
        if self._end_by is not None and now >= self._end_by:
            self.finished = True
            return
        if self._moving.target is not None and now >= self._moving.until and not self._told:
            self.fail(PATH_LOST, now, CloseCause.TIMEOUT)
        found = self._lane.get_timer()
        if found is not None and found[0] == REPEATS and found[1] <= now:
            self._backoff.rang(self._ledger.received, now)
        try:
            self._quic.handle_timer(now)
        except Exception as error:  # what a peer's bytes have left in the library ends with this connection
            self.fail(f"protocol error: {error}", now)
        self._dispatch(now)

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, in the clock of `now`."""
        found = self._lane.get_timer()
        timer = None if found is None else found[1]
        if found is not None and found[0] == REPEATS:
            timer = self._backoff.put_off(found[1], self._ledger.received)
        return self._outbox.deadline(timer) if self._end_by is None else min(timer or self._end_by, self._end_by)

    def transmit(self, now: float, send: Callable[[list[bytes], SocketAddress], None]) -> None:
        """Give `send` what is to be sent now, as UDP datagrams of one destination at a time."""
        if not self._is_plain:
            for address, group in itertools.groupby(self._packets(now), key=operator.itemgetter(1)):
                send([data for data, _ in group], address)
            return
        out: list[bytes] = []
        most = self._ledger.burst()
        try:
            poll = self._lane.poll_transmit
            while len(out) < most and (packet := poll(now)) is not None:
                out.append(packet[0])
        except Exception as error:  # a packet that cannot be built leaves the connection of no use
            self.fail(f"cannot send: {error}", now)
            return
        if out:
            self._ledger.sent += len(out)
            if self._ledger.sent >= self._outbox.look_at:
                self._look(now)
            if len(out) == most:
                self._look_at_answers(now)
            send(out, self.address)

    def fail(self, reason: str, now: float, cause: CloseCause = CloseCause.ERROR, *, is_peers: bool = False) -> None:
        """Give the connection up; the peer is told why if the fault `is_peers`, or if it has moved out of reach."""
        self._outbox.failed = True
        self._is_plain = False
        self.finished = self.finished or not inside.has_begun(self._quic)
        if self._outbox.goodbye is None:
            is_told = is_peers or cause is CloseCause.TIMEOUT
            told = " ".join(reason.split())[:256] if is_told else "internal error"
            self._outbox.goodbye = (int(CloseCode.MALFORMED if is_peers else CloseCode.INTERNAL), told)
        self._owner.mark_dirty(self)
        self._tell_closed(cause, reason, now)

    def abandon(self, reason: str, now: float) -> None:
        """Forget the connection without a word to the peer, which may not even exist."""
        self.finished = True
        self._owner.mark_dirty(self)
        self._tell_closed(CloseCause.TIMEOUT, reason, now)

    def let_go(self) -> None:
        """Keep nothing of what made it work. It is finished, and forgotten by its endpoint, but maybe not by others.

        They may still call what they always did. Without this, it, its handler and the library's part would keep each
        other in memory until the garbage collector looks for such circles, which may be never (`net.loop`).
        """
        if self.handler is GONE:
            return
        self.finished = self._told = self._closing = self._refuses = True
        self._is_plain = False
        self._end_by = None
        self.handler = GONE
        gone = inside.Gone.of(self._quic)
        self._moving = Moving(gone)
        self._quic, self._outbox = gone, Outbox(gone, self._moving)
        self._lane = inside.lane(gone)

    # Receiving

    def _receive_otherwise(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        """During the handshake, or from another address than the peer's."""
        if address != self.address and (self._is_client or not self.established):
            return  # RFC 9000, section 9: a server stays where it is, and nobody moves during the handshake
        for data in datagrams:
            before = self._moving.bytes_received()
            try:
                if address == self.address:
                    self._quic.receive_datagram(data, address, now)
                else:
                    self._take_from_elsewhere(data, address, now)
            except Exception as error:  # whatever a peer's bytes provoke in the library ends with this connection
                self.fail(f"protocol error: {error}", now, is_peers=True)
            self._dispatch(now)
            if not (self.established or self._is_client) and self._moving.bytes_received() > HANDSHAKE_BYTES:
                self.abandon("the handshake was too long", now)
            self._ledger.received += self._moving.bytes_received() != before
            if self._ledger.is_due:
                self._audit(now)
            if self._told:
                return

    def _take_from_elsewhere(self, data: bytes, address: SocketAddress, now: float) -> None:
        self._has_strayed = True
        early = self._moving.take_from_elsewhere(data, address, self.address, now)
        if early is not None:
            self._outbox.hold_for_move(early)
            self._is_plain = False
            if self._is_limited:  # the library would fail at it: `inside.limit_payload`
                self.fail(PATH_LOST, now, CloseCause.TIMEOUT)
            else:
                self._quic.receive_datagram(data, address, now)

    def _audit(self, now: float) -> None:
        """See whether what came was of use (`ledger`)."""
        if self._ledger.is_overdrawn(self._moving.bytes_received(), now) and not self._told:
            self.fail(NO_USE, now, is_peers=True)

    def _dispatch(self, now: float) -> None:
        """Hand the library's events to the handler."""
        burst: list[bytes] = []
        next_event = self._quic.next_event
        while True:
            event = next_event()
            if type(event) is events.DatagramFrameReceived:
                burst.append(event.data)
                self._ledger.delivered += len(event.data) + DATAGRAM_FRAME
                continue
            self._deliver(burst, now)
            burst = []
            if event is None:
                break
            self._control_event(event, now)
        if not self._told and (ending := inside.ending(self._quic)) is not None:
            cause = CloseCause.PEER if ending is Ending.DRAINING else CloseCause.ERROR
            self._tell_closed(cause, inside.close_reason(self._quic), now)
            self._owner.mark_dirty(self)

    def _deliver(self, burst: list[bytes], now: float) -> None:
        if burst and not self._told:
            self.handler.datagrams_received(burst, now)

    def _control_event(self, event: Any, now: float) -> None:
        if isinstance(event, events.StreamDataReceived):
            if event.stream_id == CONTROL_STREAM and not self._told:
                self._ledger.delivered += STREAM_BYTE * len(event.data)
                self.handler.stream_received(event.data, event.end_stream, now)
        elif isinstance(event, events.StreamReset):
            if event.stream_id == CONTROL_STREAM and not self._told:
                self.handler.stream_received(b"", True, now)  # as good as its end
        elif isinstance(event, events.HandshakeCompleted):
            self.established = True
            self._lane = inside.lane(self._quic)
            self.refresh_capacity()
            self._ledger.open(self._moving.bytes_received(), now)
            if not self._told:
                self.handler.handshake_completed(now)
        elif isinstance(event, events.ConnectionIdIssued):
            self.cids.add(event.connection_id)
            self._owner.add_cid(event.connection_id, self)
        elif isinstance(event, events.ConnectionIdRetired):
            self.cids.discard(event.connection_id)
            self._owner.drop_cid(event.connection_id)
            if not self._ledger.retire() and not self._told:
                self.fail(RETIRED, now, is_peers=True)
        elif isinstance(event, events.ConnectionTerminated):
            self.finished = True
            cause = CloseCause.TIMEOUT if event.reason_phrase == _IDLE_TIMEOUT else CloseCause.ERROR
            self._tell_closed(cause, event.reason_phrase or "the connection broke", now)

    def _tell_closed(self, cause: CloseCause, reason: str, now: float) -> None:
        if not self._told:
            self._told = self._closing = self._refuses = True
            self.handler.closed(cause, reason, now)

    # Sending

    def _packets(self, now: float) -> Packets:
        """What is to be sent now, with its destinations; nothing once it is finished."""
        if self.finished:
            return []
        most = self._ledger.burst()
        try:
            out, arrived = self._outbox.collect(now, most)
        except Exception as error:  # a packet that cannot be built leaves the connection of no use
            if self._outbox.failed:
                self.finished = True  # not even for a goodbye
                return []
            self.fail(f"cannot send: {error}", now)
            return self._packets(now)
        if arrived is not None:
            self.address = arrived
        if self._closing and self._end_by is None:
            self._end_by = now + LINGER_TIME
        self._ledger.sent += len(out)
        self._is_plain = self.established and self._outbox.is_idle and not self._closing
        if self._ledger.sent >= self._outbox.look_at or self._outbox.is_deaf:
            self._look(now)
        if len(out) >= most:
            self._look_at_answers(now)
        return out

    def _look_at_answers(self, now: float) -> None:
        """The library has more to send than it was asked for: see whether the peer can pay for that (`ledger`)."""
        self._audit(now)
        if not self.finished:
            self._owner.mark_dirty(self)

    def _look(self, now: float) -> None:
        """Every so many packets, and while the peer is deaf: `Outbox.look`."""
        outbox = self._outbox
        if not outbox.look(self._ledger.sent, self._ledger.received, now):
            self.fail(DEAF, now, is_peers=True)
        self._refuses = self._closing or outbox.is_deaf
        self._is_plain = self._is_plain and outbox.is_idle
