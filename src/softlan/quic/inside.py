"""What has to be done behind qh3's public API: looks at a connection's state and path, the lane, TLS 1.3 alone.

Each has a fallback, so that a library that changes inside costs a refinement and not a session.
"""

import enum
from collections import deque
from typing import Any, NamedTuple, Protocol

from qh3._hazmat import QuicConnectionCore
from qh3.quic.connection import QuicConnection

from softlan.net.address import SocketAddress

_IS_KNOWN = hasattr(QuicConnection, "_drain_core") and all(
    hasattr(QuicConnectionCore, name)
    for name in (
        "receive_datagram",
        "receive_many_datagrams",
        "receive_gro_buffer",
        "next_event",
        "send_datagram",
        "poll_transmit",
        "get_timer",
    )
)
"""Whether the core can be driven directly."""

TLS_1_3 = 0x0304
"""The version that QUIC is made for (RFC 8446, section 4.2.1; RFC 9001, section 4.2)."""

Report = tuple[int, int, int, int, int, int]
"""What became of datagrams that the core was given: how many, their bytes, and of the packets in them how many were
authentic and new, how many copies, and how many neither; the last is of no use here."""
ACCEPTED = 2
"""The packets in it that were authentic and new."""


class Ending(enum.Enum):
    """How a connection ends that has not ended yet (RFC 9000, section 10.2)."""

    CLOSING = "closing"
    """This side has closed it, or has found an error of the peer's."""
    DRAINING = "draining"
    """The peer has closed it."""


class Path(NamedTuple):
    """The path that packets take."""

    remote: SocketAddress
    received: int
    """Bytes of authentic, new packets that came over it."""
    payload: int
    """UDP payload of the largest packet that is sent over it, in bytes."""


IDLE_EVENTS = frozenset(
    ("connection_credit", "stream_credit", "streams_available", "peer_blocked", "peer_migration", "path_validated")
)
"""What the core tells and nobody needs. A peer can provoke hundreds of them with one packet."""


REPEATS = "loss_detection"
"""The name of the timer that repeats what was not acknowledged (RFC 9002, section 6.2)."""


def has_begun(quic: QuicConnection) -> bool:
    """Whether there is anything to close: a server's connection begins with the first packet that it takes."""
    return _core(quic) is not None


def ending(quic: QuicConnection) -> Ending | None:
    """Whether the connection is about to end; the library says so only when it has, some round trips later."""
    state = getattr(_core(quic), "state", None)
    if state == "draining":
        return Ending.DRAINING
    return Ending.CLOSING if state == "closing" else None


def close_reason(quic: QuicConnection) -> str:
    """The reason phrase of that end."""
    event = getattr(quic, "_close_event", None)
    return str(getattr(event, "reason_phrase", "")) or "closed by the other side"


def active_path(quic: QuicConnection) -> Path | None:
    """The path that is validated and in use."""
    path = getattr(_core(quic), "active_path", None)
    return Path(path[2], path[4], path[5]) if path else None


def round_trip(quic: QuicConnection) -> float | None:
    """Smoothed round trip time in seconds; None before the first sample."""
    value: float | None = getattr(_core(quic), "smoothed_rtt", getattr(quic, "_last_rtt", None))
    return value


def is_congested(quic: QuicConnection) -> bool:
    """Whether so much is in flight that nothing new of a stream may be sent (RFC 9002, section 7)."""
    core, path = _core(quic), active_path(quic)
    window, in_flight = getattr(core, "congestion_window", None), getattr(core, "bytes_in_flight", 0)
    return window is not None and path is not None and bool(window - in_flight < path.payload)


def unacknowledged(quic: QuicConnection) -> int:
    """How many packets the core keeps a record of until they are acknowledged or lost; 0.1 ms for a thousand."""
    return len(getattr(_core(quic), "outstanding_application_packets", ()))


def datagram_limit(quic: QuicConnection) -> int | None:
    """The largest DATAGRAM frame that the peer takes; None if it offers none (RFC 9221, section 3)."""
    limit: int | None = getattr(quic, "_remote_max_datagram_frame_size", 65535)
    return limit or None


def limit_payload(quic: QuicConnection, size: int) -> bool:
    """Let no packet be larger than `size` bytes of UDP payload; False if that cannot be done.

    It is done as if the peer had asked for it (`max_udp_payload_size`, RFC 9000, section 18.2): all else is what
    the peer gave before, and changes nothing. The core then fails to begin another path.
    """
    given = getattr(quic, "_applied_transport_parameters", None)
    if given is None:
        return False
    _core(quic).apply_peer_transport_parameters(
        given.initial_max_data or 0,
        given.initial_max_stream_data_bidi_local or 0,
        given.initial_max_stream_data_bidi_remote or 0,
        given.initial_max_stream_data_uni or 0,
        given.initial_max_streams_bidi or 0,
        given.initial_max_streams_uni or 0,
        3 if given.ack_delay_exponent is None else given.ack_delay_exponent,
        (25 if given.max_ack_delay is None else given.max_ack_delay) / 1000,
        given.max_idle_timeout / 1000 if given.max_idle_timeout else None,
        given.max_datagram_frame_size,
        None,
        given.active_connection_id_limit or 2,
        bool(given.disable_active_migration),
        size,
    )
    return True


class Lane(Protocol):
    """A connection after its handshake, as the data path uses it: qh3's core itself.

    The public calls do the same and make an object of each packet and payload, which is half of what one costs.
    """

    def receive_datagram(self, data: bytes, address: SocketAddress, now: float, size: int, /) -> Report | None:
        """Take one UDP datagram of `size` bytes."""

    def receive_many_datagrams(self, datagrams: list[bytes], address: SocketAddress, now: float, /) -> Report | None:
        """Take several of one sender."""

    def receive_gro_buffer(self, data: bytes, size: int, address: SocketAddress, now: float, /) -> Report | None:
        """The same, one behind the other, each of `size` bytes but the last, which may be shorter."""

    def next_event(self) -> tuple[Any, ...] | None:
        """What came next: ``("datagram", payload)``, or something that is `put_back`."""

    def send_datagram(self, data: bytes, /) -> object:
        """Queue the payload of one DATAGRAM."""

    def poll_transmit(self, now: float, /) -> tuple[Any, ...] | None:
        """The next packet that is to be sent, as ``(data, address, ...)``."""

    def get_timer(self) -> tuple[str, float] | None:
        """The next timer, and when."""


def lane(quic: QuicConnection) -> Lane:
    """The connection's core, or the public calls in its shape."""
    core: Lane | None = _core(quic)
    return core if _IS_KNOWN and core is not None else _PublicLane(quic)


def packets(quic: QuicConnection, now: float, most: int) -> list[tuple[bytes, SocketAddress]]:
    """Up to `most` of the packets that are to be sent now, each with its destination."""
    poll = lane(quic).poll_transmit
    out: list[tuple[bytes, SocketAddress]] = []
    while len(out) < most and (packet := poll(now)) is not None:
        out.append((packet[0], packet[1]))
    return out


def put_back(quic: QuicConnection, event: tuple[Any, ...]) -> None:
    """Let the library deal with an event that was drawn from the lane, and with all behind it."""
    if not _IS_KNOWN:
        return
    core = _core(quic)
    quic._core = _PutBack(core, event)
    try:
        quic._drain_core()
    finally:
        quic._core = core


class _PublicLane:
    """The public calls."""

    def __init__(self, quic: QuicConnection) -> None:
        self._quic = quic
        self._packets: list[tuple[bytes, SocketAddress]] | None = None

    def receive_datagram(self, data: bytes, address: SocketAddress, now: float, size: int, /) -> None:
        self._quic.receive_datagram(data, address, now)

    def receive_many_datagrams(self, datagrams: list[bytes], address: SocketAddress, now: float, /) -> None:
        self._quic.receive_many_datagrams(datagrams, address, now)

    def receive_gro_buffer(self, data: bytes, size: int, address: SocketAddress, now: float, /) -> None:
        self._quic.receive_gro_buffer(data, size, address, now)

    def next_event(self) -> tuple[Any, ...] | None:
        return ("drained",)  # into the library's own queue, from which the connection takes it next

    def send_datagram(self, data: bytes, /) -> None:
        self._quic.send_datagram_frame(data)

    def poll_transmit(self, now: float, /) -> tuple[Any, ...] | None:
        if self._packets is None:
            self._packets = self._quic.datagrams_to_send(now)[::-1]
        if self._packets:
            return self._packets.pop()
        self._packets = None
        return None

    def get_timer(self) -> tuple[str, float] | None:
        when = self._quic.get_timer()
        return None if when is None else ("any", when)


class _PutBack:
    """A core whose next event is one that was drawn already."""

    def __init__(self, core: Any, event: tuple[Any, ...]) -> None:
        self._core = core
        self._event: tuple[Any, ...] | None = event

    def next_event(self) -> tuple[Any, ...] | None:
        event, self._event = self._event, None
        return event if event is not None else self._core.next_event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class Server(QuicConnection):  # type: ignore[misc]  # the library's classes are untyped
    """A server's side of a connection, which chooses TLS 1.3 and never a value that only looks like a version.

    The library puts one of 16 such values (GREASE, RFC 8701) first in its list of versions, whichever side it is. So
    in every 16th handshake with itself it would find that one in both lists and choose it, which a server must not do
    (section 3.2), and for which a stricter client hangs up (section 3.1).
    """

    def _create_tls(self, remote_source_cid: bytes | None) -> Any:
        bridge = super()._create_tls(remote_source_cid)
        versions = getattr(getattr(bridge, "tls", None), "_supported_versions", None)
        if versions:
            versions[:] = [TLS_1_3]
        return bridge


class Gone(QuicConnection):  # type: ignore[misc]  # the library's classes are untyped
    """What is left of a connection that is over: who the peer was, and that nothing can be done."""

    @classmethod
    def of(cls, quic: QuicConnection) -> "Gone":
        """Of `quic`, which is of no use from now on."""
        gone = cls.__new__(cls)
        gone._core = gone._tls = None
        gone._events = deque()
        gone._remote_max_datagram_frame_size = 0
        gone.host_cid = quic.host_cid
        gone._shown, gone._last_rtt = quic.get_peercert(), round_trip(quic)
        bridge = getattr(quic, "_tls", None)
        for part in (getattr(bridge, "tls", None), bridge, quic):  # they call each other back
            getattr(part, "__dict__", {}).clear()
        return gone

    def get_peercert(self) -> Any:
        """As it was."""
        return self._shown

    def get_send_buffer_size(self, stream_id: int | None = None) -> int:
        """Nothing will be sent."""
        return 0


def _core(quic: QuicConnection) -> Any:
    return getattr(quic, "_core", None)
