"""One QUIC connection: qh3's sans-IO `QuicConnection` behind the few calls that softlan needs.

This is the only module that looks behind qh3's public API (`_core`, for the path's size, RTT and state); each
look has a fallback. What bites in the library is dealt with here:

* A DATAGRAM that does not fit one packet would block everything behind it for good, so none is ever queued.
* Datagrams queued while a new path is unvalidated would break the migration, so they are held back meanwhile.
* Keys are never updated by the library, while AES-GCM's confidentiality limit is 2^23 packets (RFC 9001,
  section 6.6), so an update is asked for well before.
* A peer's packet may make the library raise: that ends this connection and no other.
"""

import enum
from collections import deque
from typing import Any, Protocol

from qh3 import quic_events as events
from qh3.quic.connection import QuicConnection

from softlan.net.address import SocketAddress
from softlan.proto.budget import DATAGRAM_OVERHEAD
from softlan.quic.configuration import MIN_UDP_PAYLOAD

KEY_UPDATE_PACKETS = 1 << 22
HOLD_LIMIT = 256  # datagrams kept for a path under validation; the oldest go first
HOLD_TIME = 1.0  # seconds; then the new address was no more than a stray packet

_IDLE_TIMEOUT = "Idle timeout"  # the library's words for it

CONTROL_STREAM = 0  # the endpoint's first bidirectional stream (RFC 9000, section 2.1)


class CloseCode(enum.IntEnum):
    """Application error codes of CONNECTION_CLOSE. The reason phrase says more, for a person."""

    NO_ERROR = 0
    BAD_MESSAGE = 1
    DATAGRAM_UNSUPPORTED = 2
    REJECTED = 3
    DISCONNECT = 4
    MALFORMED = 5
    HELLO_TIMEOUT = 6
    REPLACED = 7
    INTERNAL = 8


class CloseCause(enum.Enum):
    """Why a connection is gone, when it was not us who closed it."""

    PEER = "peer"
    """The peer closed it."""
    TIMEOUT = "timeout"
    """Nothing came for the idle timeout, or the handshake never ended."""
    ERROR = "error"
    """It broke: a protocol violation, a failed handshake, or a fault of ours."""


class Handler(Protocol):
    """Who uses a connection. Every call happens inside the endpoint's turn: what is sent leaves at its end."""

    def handshake_completed(self, now: float) -> None:
        """TLS is done and the peer is who it should be."""

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        """Bytes of the control stream, in any chunking; `end` when the peer ended it."""

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        """A burst of DATAGRAM payloads, in order."""

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        """The connection is gone, `reason` in words. Not called after our own `close`."""


class Owner(Protocol):
    """The endpoint, as its connections see it."""

    def mark_dirty(self, connection: "Connection") -> None:
        """Something is queued: flush this connection at the end of the turn."""

    def add_cid(self, cid: bytes, connection: "Connection") -> None:
        """Packets to `cid` are for this connection."""

    def drop_cid(self, cid: bytes) -> None:
        """`cid` is no longer in use."""


class Connection:
    """A connection of an `Endpoint`, made by it alone.

    The sending half queues; the endpoint flushes each connection once at the end of its turn.
    """

    def __init__(self, quic: QuicConnection, address: SocketAddress, owner: Owner) -> None:
        self.handler: Handler
        self.address = address
        """Where the peer is now."""
        self.established = False
        self.finished = False
        """Nothing more will come or go; the endpoint forgets it."""
        self.dirty = False
        """Something is queued; the endpoint will flush it at the end of its turn."""
        self.armed = float("inf")
        """The earliest time for which the endpoint's timer heap holds an entry of this connection."""
        self.capacity = MIN_UDP_PAYLOAD - DATAGRAM_OVERHEAD
        """The largest DATAGRAM payload that one packet carries now, in bytes."""
        self.cids: set[bytes] = set()
        """The connection IDs by which the peer addresses us."""
        self._quic = quic
        self._owner = owner
        self._closing = False
        self._told = False
        self._close_with: tuple[int, str] | None = None
        self._packets_sent = 0
        self._new_address: SocketAddress | None = None
        self._hold_until = 0.0
        self._held: deque[bytes] = deque(maxlen=HOLD_LIMIT)

    # What a handler calls

    def send_datagram(self, data: bytes) -> bool:
        """Queue one DATAGRAM. False, and nothing queued, if it cannot fit a packet or the connection is closing."""
        if len(data) > self.capacity or self._closing:
            return False
        if self._new_address is not None:
            self._held.append(data)
            return True
        self._quic.send_datagram_frame(data)
        if not self.dirty:
            self._owner.mark_dirty(self)
        return True

    def send_stream(self, data: bytes) -> None:
        """Queue bytes of the control stream; the endpoint's first call opens it."""
        if self._closing:
            return
        self._quic.send_stream_data(CONTROL_STREAM, data)
        if not self.dirty:
            self._owner.mark_dirty(self)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close with an application error code and a reason phrase; what was queued before it still goes."""
        if self._closing:
            return
        self._closing = self._told = True
        self._close_with = (int(code), reason[:256])
        if not self.dirty:
            self._owner.mark_dirty(self)

    @property
    def datagram_limit(self) -> int | None:
        """The largest DATAGRAM frame that the peer takes; None if it offers none (RFC 9221, section 3)."""
        limit: int | None = getattr(self._quic, "_remote_max_datagram_frame_size", 65535)
        return limit or None

    @property
    def unsent_stream_bytes(self) -> int:
        """Bytes of the control stream that have not left yet: what a slow reader makes grow."""
        size: int = self._quic.get_send_buffer_size()
        return size

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time in seconds; None before the first sample."""
        value: float | None = getattr(self._core, "smoothed_rtt", None)
        return value

    # What the endpoint calls

    def receive(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        """Take UDP datagrams that came from `address`, and hand on what they bring."""
        if address != self.address and self.established:
            self._start_hold(address, now)
        try:
            if len(datagrams) == 1:
                self._quic.receive_datagram(datagrams[0], address, now)
            else:
                self._quic.receive_many_datagrams(datagrams, address, now)
        except Exception as error:  # whatever a peer's bytes provoke in the library ends with this connection
            self.fail(f"protocol error: {error}", now)
            return
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Hand the library's events to the handler."""
        burst: list[bytes] = []
        next_event = self._quic.next_event
        while (event := next_event()) is not None:
            if type(event) is events.DatagramFrameReceived:
                burst.append(event.data)
            else:
                if burst:
                    self._deliver(burst, now)
                    burst = []
                self._control_event(event, now)
        if burst:
            self._deliver(burst, now)
        if not self._told and getattr(self._core, "state", None) == "draining":
            # The library reports a peer's close only when draining has ended, some round trips later.
            self._tell_closed(CloseCause.PEER, _close_reason(self._quic), now)

    def handle_timer(self, now: float) -> None:
        """Let the library's timers run."""
        if self._new_address is not None and now >= self._hold_until:
            self._end_hold()
        try:
            self._quic.handle_timer(now)
        except Exception as error:  # see receive()
            self.fail(f"protocol error: {error}", now)
            return
        self.dispatch(now)

    def packets(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """What is to be sent now, as UDP datagrams with their destinations."""
        try:
            out: list[tuple[bytes, SocketAddress]] = self._quic.datagrams_to_send(now)
            if self._close_with is not None:
                # Only now: closing makes the library drop what is still queued.
                code, reason = self._close_with
                self._close_with = None
                self._quic.close(error_code=code, reason_phrase=reason)
                out += self._quic.datagrams_to_send(now)
        except Exception as error:  # a packet that cannot be built leaves the connection of no use
            self.fail(f"cannot send: {error}", now)
            return []
        if self._new_address is not None and self._path_moved(out):
            self.address = self._new_address
            self._end_hold()
            out += self._quic.datagrams_to_send(now)
        self._packets_sent += len(out)
        if self._packets_sent >= KEY_UPDATE_PACKETS and self.established:
            self._packets_sent = 0
            self._quic.request_key_update()
        return out

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, in the clock of `now`."""
        timer: float | None = self._quic.get_timer()
        if self._new_address is not None:
            return self._hold_until if timer is None else min(timer, self._hold_until)
        return timer

    @property
    def source_cid(self) -> bytes:
        """The connection ID that this side chose first."""
        cid: bytes = self._quic.host_cid
        return cid

    def connect(self, now: float) -> None:
        """Start a client's handshake."""
        self._quic.connect(self.address, now)

    # Inside

    @property
    def _core(self) -> Any:
        return getattr(self._quic, "_core", None)

    def _deliver(self, burst: list[bytes], now: float) -> None:
        if not self._told:
            self.handler.datagrams_received(burst, now)

    def _control_event(self, event: Any, now: float) -> None:
        if isinstance(event, events.StreamDataReceived):
            if event.stream_id == CONTROL_STREAM and not self._told:
                self.handler.stream_received(event.data, event.end_stream, now)
        elif isinstance(event, events.HandshakeCompleted):
            self.established = True
            self.refresh_capacity()
            self.handler.handshake_completed(now)
        elif isinstance(event, events.ConnectionIdIssued):
            self.cids.add(event.connection_id)
            self._owner.add_cid(event.connection_id, self)
        elif isinstance(event, events.ConnectionIdRetired):
            self.cids.discard(event.connection_id)
            self._owner.drop_cid(event.connection_id)
        elif isinstance(event, events.ConnectionTerminated):
            self.finished = True
            cause = CloseCause.TIMEOUT if event.reason_phrase == _IDLE_TIMEOUT else CloseCause.ERROR
            self._tell_closed(cause, event.reason_phrase or "the connection broke", now)

    def refresh_capacity(self) -> None:
        """Read again what the path carries; it grows while the library probes it (RFC 8899)."""
        path = getattr(self._core, "active_path", None)
        payload = path[5] if path else MIN_UDP_PAYLOAD
        limit = self.datagram_limit
        self.capacity = max(0, min(payload - DATAGRAM_OVERHEAD, limit if limit is not None else 0))

    def _start_hold(self, address: SocketAddress, now: float) -> None:
        if address != self._new_address:
            self._new_address = address
            self._hold_until = now + HOLD_TIME

    def _path_moved(self, out: list[tuple[bytes, SocketAddress]]) -> bool:
        path = getattr(self._core, "active_path", None)
        if path is not None:
            return bool(path[2] == self._new_address)
        return any(address == self._new_address for _, address in out)

    def _end_hold(self) -> None:
        self._new_address = None
        for data in self._held:
            self._quic.send_datagram_frame(data)
        self._held.clear()

    def fail(self, reason: str, now: float) -> None:
        """Give the connection up without a word to the peer."""
        self.finished = True
        self._closing = True
        self._tell_closed(CloseCause.ERROR, reason, now)

    def _tell_closed(self, cause: CloseCause, reason: str, now: float) -> None:
        if not self._told:
            self._told = self._closing = True
            self.handler.closed(cause, reason, now)


def _close_reason(quic: QuicConnection) -> str:
    event = getattr(quic, "_close_event", None)
    return str(getattr(event, "reason_phrase", "")) or "closed by the other side"
