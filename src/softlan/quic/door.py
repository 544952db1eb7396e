"""Who may begin a connection: a relay's answer to packets that belong to none (RFC 9000, sections 5.2.2, 6 and 8.1)."""

import os
from collections.abc import Callable
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
from softlan.quic.handler import Handler
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


class Door:
    """Lets connections begin, within bounds, and sends those away that must prove their address first."""

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
        self.retries_sent = 0
        self._retry_above = retry_above  # with more handshakes pending, an address is validated by Retry first
        self._max_pending = max_pending  # with as many pending, new ones are ignored
        self._tokens = RetryTokens()
        self.use(credentials)
        self._versions = self._configurations[MAX_UDP_PAYLOAD].supported_versions

    def use(self, credentials: Credentials) -> None:
        """Show this certificate to who comes from now on; connections that are up stay. Raises UsageError."""
        self._configurations = {size: server_configuration(credentials, size) for size in PACKET_SIZES}

    def knock(
        self, header: LongHeader, data: bytes, address: SocketAddress, pending: int, now: float
    ) -> QuicConnection | bytes | None:
        """Decide on a datagram of no connection: a new connection, a datagram to answer with, or nothing.

        `pending` is how many handshakes are under way.
        """
        if len(data) < _MIN_INITIAL or not header.version:  # version 0 is itself a Version Negotiation packet
            return None
        if header.version not in self._versions:
            negotiation: bytes = encode_quic_version_negotiation(
                source_cid=header.destination, destination_cid=header.source, supported_versions=self._versions
            )
            return negotiation
        if (
            header.packet_type != QuicPacketType.INITIAL
            or len(header.destination) < _MIN_ORIGINAL_CID
            or pending >= self._max_pending
        ):
            return None
        original, retry = header.destination, None
        if header.token:
            # Tokens come from our Retry packets alone. With one that is no good a handshake could only fail, and
            # would look like an impostor's; without an answer the peer tries again.
            opened = self._tokens.open(header.token, address, now)
            if opened is None or opened[1] != header.destination:
                return None
            original, retry = opened
        elif pending >= self._retry_above or header.end != len(data):
            # A peer may pad behind the packet (RFC 9000, section 14.1). Until its address is validated, the library
            # answers with three times the bytes of packets alone, where section 8.1 counts datagrams: too little for a
            # certificate, and then it fails.
            return self._retry(header, address, now)
        size = widest_payload(address) if len(data) >= _WIDE_INITIAL else MIN_UDP_PAYLOAD
        return QuicConnection(
            configuration=self._configurations[size],
            original_destination_connection_id=original,
            retry_source_connection_id=retry,
        )

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
