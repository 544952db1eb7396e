"""What can be read off a connection: sizes, times, and who the peer is."""

from qh3.quic.connection import QuicConnection

from softlan.proto.budget import DATAGRAM_OVERHEAD
from softlan.quic import inside
from softlan.quic.configuration import MIN_UDP_PAYLOAD
from softlan.quic.outbox import Outbox


class Gauges:
    """The half of a `Connection` that looks at it; a base class, since `capacity` is asked for every frame."""

    def __init__(self, quic: QuicConnection, outbox: Outbox) -> None:
        self.capacity = MIN_UDP_PAYLOAD - DATAGRAM_OVERHEAD
        """The largest DATAGRAM payload that one packet carries now, in bytes."""
        self._quic = quic
        self._outbox = outbox
        self._is_limited = False

    def limit_packets(self, capacity: int) -> None:
        """From now on, build no packet larger than what a DATAGRAM of `capacity` bytes takes.

        For a path that turned out to be narrower than what the connection began with: bursts of small frames, and
        the control stream, would be lost in packets that are too big for it.
        """
        if capacity < self.capacity:
            self.capacity = capacity
            self._is_limited = inside.limit_payload(self._quic, capacity + DATAGRAM_OVERHEAD)

    def refresh_capacity(self) -> None:
        """Read again what the path carries; it grows while the library probes it (RFC 8899)."""
        path = inside.active_path(self._quic)
        payload = path.payload if path else MIN_UDP_PAYLOAD
        self.capacity = max(0, min(payload - DATAGRAM_OVERHEAD, self.datagram_limit or 0))

    @property
    def datagram_limit(self) -> int | None:
        """The largest DATAGRAM frame that the peer takes; None if it offers none (RFC 9221, section 3)."""
        return inside.datagram_limit(self._quic)

    @property
    def unsent_stream_bytes(self) -> int:
        """Bytes of the control stream that have not left yet: what a slow reader makes grow."""
        size: int = self._quic.get_send_buffer_size()
        return len(self._outbox.written) + size

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time in seconds; None before the first sample."""
        return inside.round_trip(self._quic)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER, also one that was refused; None before it was shown."""
        shown = self._quic.get_peercert()
        return None if shown is None else bytes(shown.public_bytes())

    @property
    def source_cid(self) -> bytes:
        """The connection ID that this side chose first."""
        cid: bytes = self._quic.host_cid
        return cid
