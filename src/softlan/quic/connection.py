"""One QUIC connection: qh3's sans-IO `QuicConnection` behind the few calls that softlan needs.

What bites in the library is dealt with here:

* A DATAGRAM that does not fit one packet would block everything behind it for good, so none is ever queued.
* Packets are filled up to the size that the connection began with, also where the path is known to be narrower.
* Datagrams queued while a new path is unvalidated would break the migration, so they are held back meanwhile.
* A path that is begun and never validated, or an old one that the peer returns to, blocks all sending for good. So
  a single packet from elsewhere begins none, and where a validation does not end, the connection does.
* DATAGRAMs are counted as congestion but not held back by it: the control stream is given breaths (`breath`).
* A connection that is about to end raises when something is sent on it, which would harm the sender's session.
* Keys are never updated by the library, while AES-GCM's confidentiality limit is 2^23 packets (RFC 9001,
  section 6.6), so an update is asked for well before.
* A peer's packet may make the library raise: that ends this connection and no other.
"""

import contextlib
import itertools
import operator
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from qh3 import quic_events as events
from qh3.quic.connection import QuicConnection, QuicConnectionError

from softlan.net.address import SocketAddress
from softlan.proto.budget import DATAGRAM_OVERHEAD
from softlan.quic import inside
from softlan.quic.breath import HOLD_LIMIT, Breath
from softlan.quic.configuration import MIN_UDP_PAYLOAD
from softlan.quic.handler import CloseCause, CloseCode, Handler
from softlan.quic.inside import Ending

KEY_UPDATE_PACKETS = 1 << 22
HOLD_TIME = 2.0  # seconds for the validation: some attempts, on a path that loses packets

_IDLE_TIMEOUT = "Idle timeout"  # the library's words for it
PATH_LOST = "the peer has moved, and its new address could not be validated"

CONTROL_STREAM = 0  # the endpoint's first bidirectional stream (RFC 9000, section 2.1)

Packets = list[tuple[bytes, SocketAddress]]


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
        self.capacity = MIN_UDP_PAYLOAD - DATAGRAM_OVERHEAD
        """The largest DATAGRAM payload that one packet carries now, in bytes."""
        self.cids: set[bytes] = set()
        """The connection IDs by which the peer addresses us."""
        self._quic = quic
        self._lane = inside.lane(quic)
        self._owner = owner
        self._is_client: bool = quic.configuration.is_client
        self._is_limited = False
        self._closing = False
        self._told = False
        self._failed = False
        self._close_with: tuple[int, str] | None = None
        self._is_plain = False  # nothing but packets to send: no handshake, move, breath or end under way
        self._packets_sent = 0
        self._stray: SocketAddress | None = None  # another address, from which one packet came
        self._new_address: SocketAddress | None = None  # where the peer has moved, while that is validated
        self._hold_until = 0.0
        self._breath = Breath()
        self._written = bytearray()  # to the stream, not given to the library yet
        self._holds = False  # datagrams, for a new path or a breath; the oldest go first
        self._held: deque[bytes] = deque(maxlen=HOLD_LIMIT)
        self._early: Packets = []  # made before their turn

    # What a handler calls

    def send_datagram(self, data: bytes) -> bool:
        """Queue one DATAGRAM. False, and nothing queued, if the connection does not take it. Never raises.

        It is called in the turns of other connections, which must not pay for what this one refuses.
        """
        if len(data) > self.capacity or self._closing:
            return False
        if self._holds:
            self._held.append(data)
            return True
        try:
            self._lane.send_datagram(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # the library's kinds, and a panic of its core: larger than the peer takes, about to end
            return False
        if not self.dirty:
            self._owner.mark_dirty(self)
        return True

    def send_stream(self, data: bytes) -> None:
        """Queue bytes of the control stream; the endpoint's first call opens it."""
        if self._closing:
            return
        self._written += data
        self._breath.wrote()
        self._is_plain = False
        if not self.dirty:
            self._owner.mark_dirty(self)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close with an application error code and a reason phrase; what was queued before it still goes."""
        if self._closing:
            return
        self._closing = self._told = True
        self._close_with = (int(code), reason[:256])
        self._is_plain = False
        if not self.dirty:
            self._owner.mark_dirty(self)

    def limit_packets(self, capacity: int) -> None:
        """From now on, build no packet larger than what a DATAGRAM of `capacity` bytes takes.

        For a path that turned out to be narrower than what the connection began with: bursts of small frames, and
        the control stream, would be lost in packets that are too big for it.
        """
        if capacity < self.capacity:
            self.capacity = capacity
            self._is_limited = inside.limit_payload(self._quic, capacity + DATAGRAM_OVERHEAD)

    @property
    def datagram_limit(self) -> int | None:
        """The largest DATAGRAM frame that the peer takes; None if it offers none (RFC 9221, section 3)."""
        return inside.datagram_limit(self._quic)

    @property
    def unsent_stream_bytes(self) -> int:
        """Bytes of the control stream that have not left yet: what a slow reader makes grow."""
        size: int = self._quic.get_send_buffer_size()
        return len(self._written) + size

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time in seconds; None before the first sample."""
        return inside.round_trip(self._quic)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER, also one that was refused; None before it was shown."""
        shown = self._quic.get_peercert()
        return None if shown is None else bytes(shown.public_bytes())

    def refresh_capacity(self) -> None:
        """Read again what the path carries; it grows while the library probes it (RFC 8899)."""
        path = inside.active_path(self._quic)
        payload = path.payload if path else MIN_UDP_PAYLOAD
        self.capacity = max(0, min(payload - DATAGRAM_OVERHEAD, self.datagram_limit or 0))

    # What the endpoint calls

    def connect(self, now: float) -> None:
        """Start a client's handshake."""
        self._quic.connect(self.address, now)

    @property
    def source_cid(self) -> bytes:
        """The connection ID that this side chose first."""
        cid: bytes = self._quic.host_cid
        return cid

    def receive(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        """Take UDP datagrams that came from `address`, and hand on what they bring."""
        if not self.established or address != self.address:
            self._receive_otherwise(datagrams, address, now)
            return
        self._stray = None
        lane = self._lane
        burst: list[bytes] = []
        has_more = False
        try:
            if len(datagrams) == 1:
                data = datagrams[0]
                lane.receive_datagram(data, address, now, len(data))
            else:
                lane.receive_many_datagrams(datagrams, address, now)
            next_event = lane.next_event
            while (event := next_event()) is not None:
                if event[0] != "datagram":
                    has_more = True
                    inside.put_back(self._quic, event)
                    break
                burst.append(event[1])
        except Exception as error:  # whatever a peer's bytes provoke in the library ends with this connection
            self.fail(f"protocol error: {error}", now)
            has_more = True
        if burst and not self._told:
            self.handler.datagrams_received(burst, now)
        if has_more:
            self._dispatch(now)

    def handle_timer(self, now: float) -> None:
        """Let the library's timers run."""
        if self._new_address is not None and now >= self._hold_until:
            self._give_up_path(now)
        try:
            self._quic.handle_timer(now)
        except Exception as error:  # see receive()
            self.fail(f"protocol error: {error}", now)
        self._dispatch(now)

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, in the clock of `now`."""
        found = self._lane.get_timer()
        timer = None if found is None else found[1]
        if self._holds:
            until = self._hold_until if self._new_address is not None else self._breath.end
            return timer if until is None else until if timer is None else min(timer, until)
        return timer

    def transmit(self, now: float, send: Callable[[list[bytes], SocketAddress], None]) -> None:
        """Give `send` what is to be sent now, as UDP datagrams of one destination at a time."""
        if not self._is_plain:
            for address, group in itertools.groupby(self._packets(now), key=operator.itemgetter(1)):
                send([data for data, _ in group], address)
            return
        out: list[bytes] = []
        try:
            poll = self._lane.poll_transmit
            while (packet := poll(now)) is not None:
                out.append(packet[0])
        except Exception as error:  # see _packets()
            self.fail(f"cannot send: {error}", now)
            return
        if out:
            self._packets_sent += len(out)
            if self._packets_sent >= KEY_UPDATE_PACKETS:
                self._update_keys()
            send(out, self.address)

    def fail(self, reason: str, now: float, cause: CloseCause = CloseCause.ERROR) -> None:
        """Give the connection up; the peer is told that much, if it can still be told anything."""
        self._failed = True
        self._is_plain = False
        self.finished = self.finished or not inside.has_begun(self._quic)
        if self._close_with is None:
            told = reason if cause is CloseCause.TIMEOUT else "internal error"
            self._close_with = (int(CloseCode.INTERNAL), told)
        self._owner.mark_dirty(self)
        self._tell_closed(cause, reason, now)

    # Receiving

    def _receive_otherwise(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        """During the handshake, or from another address than the peer's."""
        try:
            if address == self.address:
                self._take(datagrams, address, now)
            elif self._is_client or not self.established:
                return  # RFC 9000, section 9: a server stays where it is, and nobody moves during the handshake
            else:
                self._take_from_elsewhere(datagrams, address, now)
        except Exception as error:  # see receive()
            self.fail(f"protocol error: {error}", now)
        self._dispatch(now)

    def _take(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        if len(datagrams) == 1:
            self._quic.receive_datagram(datagrams[0], address, now)
        else:
            self._quic.receive_many_datagrams(datagrams, address, now)

    def _take_from_elsewhere(self, datagrams: list[bytes], address: SocketAddress, now: float) -> None:
        """Take what came from another address than the peer's: the second time in a row, the peer has moved there.

        The first time it is taken as if it came from where the peer was. The library counts a path's bytes only
        when a packet is authentic and new, so nobody else's packets move the peer.
        """
        if address not in (self._stray, self._new_address):
            before = self._bytes_received()
            self._take(datagrams, self.address, now)
            if self._bytes_received() > before:
                self._stray = address
            return
        if address != self._new_address:
            # The challenge must be the first thing that is queued, or it is sent to the old address.
            self._early += self._quic.datagrams_to_send(now)
            self._new_address, self._hold_until = address, now + HOLD_TIME
            self._holds = True
            self._is_plain = False
        if self._is_limited:
            self._give_up_path(now)  # the library would fail at it: `inside.limit_payload`
        else:
            self._take(datagrams, address, now)

    def _bytes_received(self) -> int:
        path = inside.active_path(self._quic)
        return path.received if path else 0

    def _give_up_path(self, now: float) -> None:
        self._hold_until = float("inf")
        self.fail(PATH_LOST, now, CloseCause.TIMEOUT)

    def _dispatch(self, now: float) -> None:
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
        if not self._told and (ending := inside.ending(self._quic)) is not None:
            cause = CloseCause.PEER if ending is Ending.DRAINING else CloseCause.ERROR
            self._tell_closed(cause, inside.close_reason(self._quic), now)
            self._owner.mark_dirty(self)

    def _deliver(self, burst: list[bytes], now: float) -> None:
        if not self._told:
            self.handler.datagrams_received(burst, now)

    def _control_event(self, event: Any, now: float) -> None:
        if isinstance(event, events.StreamDataReceived):
            if event.stream_id == CONTROL_STREAM and not self._told:
                self.handler.stream_received(event.data, event.end_stream, now)
        elif isinstance(event, events.StreamReset):
            if event.stream_id == CONTROL_STREAM and not self._told:
                self.handler.stream_received(b"", True, now)  # as good as its end
        elif isinstance(event, events.HandshakeCompleted):
            self.established = True
            self._lane = inside.lane(self._quic)
            self.refresh_capacity()
            if not self._told:
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

    def _tell_closed(self, cause: CloseCause, reason: str, now: float) -> None:
        if not self._told:
            self._told = self._closing = True
            self.handler.closed(cause, reason, now)

    # Sending

    def _packets(self, now: float) -> Packets:
        """What is to be sent now, with its destinations; nothing once it is finished."""
        if self.finished:
            return []
        try:
            return self._collect(now)
        except Exception as error:  # a packet that cannot be built leaves the connection of no use
            if self._failed:
                self.finished = True  # not even for a goodbye
                return []
            self.fail(f"cannot send: {error}", now)
            return self._packets(now)

    def _collect(self, now: float) -> Packets:
        out, self._early = self._early, []
        if not self._failed:
            out += self._quic.datagrams_to_send(now)
            if self._written:
                # Only when no DATAGRAM is queued: with both waiting, and the window full, the library sends nothing at
                # all, not even acknowledgements. Two sides that do so at once wait for each other.
                written, self._written = bytes(self._written), bytearray()
                try:
                    self._quic.send_stream_data(CONTROL_STREAM, written)
                except Exception as error:  # the peer has asked us to stop (RFC 9000, section 3.5)
                    self.fail(f"cannot send: {error}", now)
                else:
                    out += self._quic.datagrams_to_send(now)
        if self._close_with is not None:
            # Only now: closing makes the library drop what is still queued.
            if self._new_address is None and not self._failed:
                out += self._release(now)
            code, reason = self._close_with
            self._close_with = None
            self._quic.close(error_code=code, reason_phrase=reason)
            goodbye = self._quic.datagrams_to_send(now)
            out += goodbye
            if self._new_address is not None:  # it may be at either
                out += [(data, self._new_address) for data, _ in goodbye]
        elif self._new_address is not None:
            if self._path_moved(out):
                self.address, self._new_address, self._stray = self._new_address, None, None
                out += self._release(now)
        elif self._breath.is_on(now, self._is_congested, len(self._held)):
            self._holds = True
        elif self._holds:
            out += self._release(now)
        self._packets_sent += len(out)
        if self._packets_sent >= KEY_UPDATE_PACKETS:
            self._update_keys()
        self._is_plain = (
            self.established
            and not (self._failed or self._closing or self._holds or self._early)
            and self._new_address is None
            and self._breath.is_over
        )
        return out

    def _release(self, now: float) -> Packets:
        """Send what was held back."""
        self._holds = False
        for data in self._held:
            self._quic.send_datagram_frame(data)
        self._held.clear()
        out: Packets = self._quic.datagrams_to_send(now)
        return out

    def _is_congested(self) -> bool:
        return inside.is_congested(self._quic)

    def _path_moved(self, out: Packets) -> bool:
        path = inside.active_path(self._quic)
        if path is not None:
            return path.remote == self._new_address
        return any(address == self._new_address for _, address in out)

    def _update_keys(self) -> None:
        # Refused before the handshake is confirmed, and until the last update is acknowledged: then the next
        # flush tries again.
        with contextlib.suppress(AssertionError, ValueError, QuicConnectionError):
            self._quic.request_key_update()
            self._packets_sent = 0
