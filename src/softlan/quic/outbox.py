"""What one connection has to send while more than DATAGRAMs is under way.

* Datagrams are held back for a new path or a breath, and so is what is written to the stream until its turn.
* Closing makes the library drop what is still queued, so it comes last.
* Keys are never updated by the library, while AES-GCM's confidentiality limit is 2^23 packets (RFC 9001,
  section 6.6), so an update is asked for well before.
* A peer that acknowledges nothing gets no DATAGRAMs: the library would keep a record of each packet (`ledger`).
"""

import contextlib
from collections import deque

from qh3.quic.connection import QuicConnection, QuicConnectionError

from softlan.net.address import SocketAddress
from softlan.quic import inside
from softlan.quic.breath import HOLD_LIMIT, Breath
from softlan.quic.ledger import LOOK_EVERY, PING_ABOVE, Hearing
from softlan.quic.moving import Moving, Packets

KEY_UPDATE_PACKETS = 1 << 22
CONTROL_STREAM = 0  # the endpoint's first bidirectional stream (RFC 9000, section 2.1)


class Outbox:
    """The sending side of one connection, but for the plain case."""

    __slots__ = (
        "_hearing",
        "_quic",
        "_update_at",
        "breath",
        "early",
        "failed",
        "goodbye",
        "held",
        "holds",
        "look_at",
        "moving",
        "written",
    )

    def __init__(self, quic: QuicConnection, moving: Moving) -> None:
        self.holds = False
        """Datagrams are held back."""
        self.held: deque[bytes] = deque(maxlen=HOLD_LIMIT)
        """Those; the oldest go first."""
        self.written = bytearray()
        """To the stream, and not given to the library yet."""
        self.early: Packets = []
        """Made before their turn."""
        self.goodbye: tuple[int, str] | None = None
        """Error code and reason to close with, once."""
        self.failed = False
        """Nothing but the goodbye is of use."""
        self.breath = Breath()
        self.moving = moving
        self.look_at = LOOK_EVERY
        """After how many packets `look` is to be called."""
        self._quic = quic
        self._update_at = KEY_UPDATE_PACKETS
        self._hearing = Hearing()

    @property
    def is_deaf(self) -> bool:
        """Whether the peer acknowledges so little that DATAGRAMs are to be kept away from it."""
        return self._hearing.is_deaf

    @property
    def is_idle(self) -> bool:
        """Whether DATAGRAMs are all there is."""
        is_busy = self.failed or self.holds or self.early or self.is_deaf
        return not is_busy and self.moving.target is None and self.breath.is_over

    def deadline(self, timer: float | None) -> float | None:
        """When the connection is to be looked at; `timer` is when the library wants it."""
        if self.moving.target is not None:
            return min(self.moving.until, self.moving.next_try)
        until = self.breath.end if self.holds else None
        return timer if until is None else until if timer is None else min(timer, until)

    def hold_for_move(self, early: Packets) -> None:
        """Hold datagrams back until the peer's new address is validated; `early` was to be sent before."""
        self.early += early
        self.holds = True

    def collect(self, now: float, most: int) -> tuple[Packets, SocketAddress | None]:
        """What is to be sent now, with its destinations; and the peer's new address if it has arrived there.

        With `most` packets or more there is something left, for the next call.
        Raises what the library raises when a packet cannot be built; the next call is then for the goodbye.
        """
        quic, moving = self._quic, self.moving
        if moving.target is not None and self.goodbye is None and not moving.is_due(now):
            return [], None
        out, self.early = self.early, []
        arrived = None
        if not self.failed:
            out += inside.packets(quic, now, most)
            if len(out) >= most and self.goodbye is None:
                return out, None
            if self.written:
                # Only when no DATAGRAM is queued: with both waiting, and the window full, the library sends nothing at
                # all, not even acknowledgements. Two sides that do so at once wait for each other.
                written, self.written = bytes(self.written), bytearray()
                try:
                    quic.send_stream_data(CONTROL_STREAM, written)
                except Exception:  # the peer has asked us to stop (RFC 9000, section 3.5)
                    self.early = out
                    raise
                out += inside.packets(quic, now, most)
        if self.goodbye is not None:
            if moving.target is None and not self.failed:
                out += self._release(now)
            code, reason = self.goodbye
            self.goodbye = None
            quic.close(error_code=code, reason_phrase=reason)
            goodbye = quic.datagrams_to_send(now)
            out += goodbye
            if moving.target is not None:  # it may be at either
                out += [(data, moving.target) for data, _ in goodbye]
        elif moving.target is not None:
            if (arrived := moving.has_arrived(out)) is not None:
                out += self._release(now)
            else:
                out += moving.copies(out)
        elif self.breath.is_on(now, self._is_congested, len(self.held)):
            self.holds = True
        elif self.holds:
            out += self._release(now)
        return out, arrived

    def look(self, sent: int, received: int, now: float) -> bool:
        """See to what is due after so many packets, sent and received in all; False if the peer is to be given up."""
        quic, hearing = self._quic, self._hearing
        if sent < self.look_at and now < hearing.next_look:
            return True
        self.look_at = sent + LOOK_EVERY
        if sent >= self._update_at:
            # Refused before the handshake is confirmed, and until the last update is acknowledged: then the next look
            # tries again.
            with contextlib.suppress(AssertionError, ValueError, QuicConnectionError):
                quic.request_key_update()
                self._update_at = sent + KEY_UPDATE_PACKETS
        waiting = inside.unacknowledged(quic)
        if waiting > PING_ABOVE and not self.failed:
            with contextlib.suppress(QuicConnectionError):  # about to end
                quic.send_ping(0)
        return not hearing.look(waiting, received, now) or self.failed

    def _release(self, now: float) -> Packets:
        """Send what was held back."""
        self.holds = False
        for data in self.held:
            self._quic.send_datagram_frame(data)
        self.held.clear()
        out: Packets = self._quic.datagrams_to_send(now)
        return out

    def _is_congested(self) -> bool:
        return inside.is_congested(self._quic)
