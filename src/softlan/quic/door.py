"""Who may begin a connection: a relay's answer to packets that belong to none (RFC 9000, sections 5.2.2, 6 and 8.1)."""

import enum
import os
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from qh3._hazmat import pull_quic_header
from qh3.quic.connection import QuicConnection
from qh3.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation

from softlan.net.address import SocketAddress
from softlan.quic.configuration import (
    CONNECTION_ID_LENGTH,
    MAX_UDP_PAYLOAD,
    MIN_UDP_PAYLOAD,
    PACKET_SIZES,
    server_configuration,
)
from softlan.quic.connection import Connection
from softlan.quic.crowd import Caps, Crowd, network_of
from softlan.quic.handler import Handler
from softlan.quic.inside import Server
from softlan.quic.retry import RetryTokens
from softlan.quic.trust import Credentials
from softlan.quic.udp import widest_payload

_LONG_HEADER = 0x80
_MIN_INITIAL = 1200  # RFC 9000, section 14.1
_MIN_ORIGINAL_CID = 8  # RFC 9000, section 7.2
# The library's first flight is this big where the path allows it, and smaller after a loss. A peer whose
# first packet is smaller is on a narrow path, and is answered in packets that fit it.
_WIDE_INITIAL = 1280


class LongHeader(NamedTuple):
    """What a packet with a long header says in clear (RFC 9000, section 17.2)."""

    version: int | None
    packet_type: int
    destination: bytes
    source: bytes
    token: bytes
    end: int
    """Where the packet ends in its datagram."""


def read_long_header(data: bytes) -> LongHeader | None:
    """Read the header of the first packet in a datagram; None if it has a short one, or makes no sense."""
    if not data or not data[0] & _LONG_HEADER:
        return None
    try:
        header = pull_quic_header(data, 0, CONNECTION_ID_LENGTH)
    except ValueError:
        return None
    return LongHeader(header[0], header[1], header[3], header[4], header[5], header[9])


class TurnedAway(enum.Enum):
    """Why a datagram began nothing, as the counters name it."""

    NOISE = "noise"
    """No Initial of at least 1,200 bytes, and of no connection (RFC 9000, section 14.1)."""
    TOKEN = "bad_token"
    """Its Retry token is not ours, is somebody else's, or too old."""
    HANDSHAKES = "too_many_handshakes"
    """More want to begin at a time than can wait for it."""
    CONNECTIONS = "too_many_connections"
    NETWORK_CONNECTIONS = "too_many_connections_of_network"
    FAULT = "faults"
    """It made the library fail."""


class Later(enum.Enum):
    """The type of `LATER`."""

    LATER = "later"


LATER = Later.LATER


class Door:
    """Lets connections begin, within bounds, and sends those away that must prove their address first.

    Nothing is kept for a datagram that begins no connection, and what is answered is shorter than what came.
    """

    def __init__(
        self,
        credentials: Credentials,
        accept: Callable[[Connection], Handler],
        *,
        caps: Caps | None = None,
        **some: int,
    ) -> None:
        self.accept = accept
        """Makes the handler of a new connection."""
        self.crowd = Crowd()
        self.retries_sent = 0
        self.versions_sent = 0
        """Version Negotiation packets."""
        self.turned_away = dict.fromkeys(TurnedAway, 0)
        self._caps = replace(caps or Caps(), **some)
        self._tokens = RetryTokens()
        self.use(credentials)
        self._versions = self._configurations[MAX_UDP_PAYLOAD].supported_versions

    def use(self, credentials: Credentials) -> None:
        """Show this certificate to who comes from now on; connections that are up stay. Raises UsageError."""
        self._configurations = {size: server_configuration(credentials, size) for size in PACKET_SIZES}

    def knock(
        self,
        header: LongHeader,
        data: bytes,
        address: SocketAddress,
        now: float,
        *,
        waiting: int = 0,
        is_open: bool = True,
    ) -> QuicConnection | bytes | Later | None:
        """Decide on a datagram of no connection: a new connection, a datagram to answer with, or nothing.

        Or `LATER`: it would be a new connection, if the door were open. `waiting` is how many have heard that already.
        """
        if len(data) < _MIN_INITIAL or not header.version:  # version 0 is itself a Version Negotiation packet
            self.turn_away(TurnedAway.NOISE)
            return None
        if header.version not in self._versions:
            self.versions_sent += 1
            negotiation: bytes = encode_quic_version_negotiation(
                source_cid=header.destination, destination_cid=header.source, supported_versions=self._versions
            )
            return negotiation
        if header.packet_type != QuicPacketType.INITIAL or len(header.destination) < _MIN_ORIGINAL_CID:
            self.turn_away(TurnedAway.NOISE)
            return None
        crowd, network = self.crowd, network_of(address)
        if (reason := self._is_full(network)) is not None:
            self.turn_away(reason)
            return None
        original, retry = header.destination, None
        if header.token:
            # Tokens come from our Retry packets alone. With one that is no good a handshake could only fail, and
            # would look like an impostor's; without an answer the peer tries again.
            opened = self._tokens.open(header.token, address, now)
            if opened is None or opened[1] != header.destination:
                self.turn_away(TurnedAway.TOKEN)
                return None
            original, retry = opened
        elif (
            crowd.pending + waiting >= self._caps.retry_above
            or crowd.pending_of(network) >= self._caps.retry_above_network
            or header.end != len(data)
        ):
            # A peer may pad behind the packet (RFC 9000, section 14.1). Until its address is validated, the library
            # answers with three times the bytes of packets alone, where section 8.1 counts datagrams: too little for a
            # certificate, and then it fails.
            return self._retry(header, address, now)
        if not is_open:
            return LATER
        size = widest_payload(address) if len(data) >= _WIDE_INITIAL else MIN_UDP_PAYLOAD
        return Server(
            configuration=self._configurations[size],
            original_destination_connection_id=original,
            retry_source_connection_id=retry,
        )

    def crowded(self, address: SocketAddress) -> bytes | None:
        """Before somebody of `address` begins: the network whose oldest handshake has to make room, if one has to.

        To turn the new one away would be worse: who never finishes theirs would keep all others out.
        """
        crowd, network = self.crowd, network_of(address)
        if crowd.pending_of(network) >= self._caps.max_pending_network:
            return network
        return crowd.busiest() if crowd.pending >= self._caps.max_pending else None

    def turn_away(self, reason: TurnedAway) -> None:
        """Count a datagram that begins nothing."""
        self.turned_away[reason] += 1

    def snapshot(self) -> dict[str, int]:
        """The counters by name, and how many handshakes are under way."""
        counters = {"handshakes": self.crowd.pending, "retries": self.retries_sent, "versions": self.versions_sent}
        return counters | {reason.value: count for reason, count in self.turned_away.items()}

    def _is_full(self, network: bytes) -> TurnedAway | None:
        """Why nobody of `network` may come in now; None if somebody may."""
        crowd, caps = self.crowd, self._caps
        if len(crowd) >= caps.max_connections:
            return TurnedAway.CONNECTIONS
        if crowd.connections_of(network) >= caps.max_connections_network:
            return TurnedAway.NETWORK_CONNECTIONS
        return None

    def _retry(self, header: LongHeader, address: SocketAddress, now: float) -> bytes:
        cid = os.urandom(CONNECTION_ID_LENGTH)
        self.retries_sent += 1
        packet: bytes = encode_quic_retry(
            version=header.version,
            source_cid=cid,
            destination_cid=header.source,
            original_destination_cid=header.destination,
            retry_token=self._tokens.seal(address, header.destination, cid, now),
        )
        return packet
