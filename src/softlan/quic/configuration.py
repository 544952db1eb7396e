"""The QUIC settings of both sides (PROTOCOL: Transport), in qh3's terms."""

import ssl
from typing import Any

from qh3 import QuicConfiguration

from softlan.ctrl.messages import ALPN
from softlan.errors import UsageError
from softlan.proto.budget import UDP_PAYLOADS
from softlan.quic.trust import Credentials, Trust

CONNECTION_ID_LENGTH = 8
IDLE_TIMEOUT = 30.0  # seconds
MAX_UDP_PAYLOAD = UDP_PAYLOADS[0]
MIN_UDP_PAYLOAD = UDP_PAYLOADS[-1]
PACKET_SIZES = (UDP_PAYLOADS[0], UDP_PAYLOADS[1], UDP_PAYLOADS[-1])
"""Sizes that a connection may begin with: Ethernet's with IPv4 and with IPv6, and what every path carries."""

# Of the flow control windows: the control stream carries frames of at most 16 KiB, so a peer is never given
# room to fill more than a few of them.
_STREAM_WINDOW = 128 * 1024


def server_configuration(credentials: Credentials, max_udp_payload: int = MAX_UDP_PAYLOAD) -> QuicConfiguration:
    """A relay's side. Raises UsageError when the QUIC library cannot use the key."""
    configuration = QuicConfiguration(is_client=False, **_common(max_udp_payload))
    try:
        configuration.load_cert_chain(credentials.chain, credentials.key)
    except Exception as error:  # the library raises its own several kinds for keys that it cannot use
        raise UsageError(
            f"the certificate's key cannot be used for QUIC ({error}); use an EC P-256 or RSA key"
        ) from error
    return configuration


def client_configuration(trust: Trust, max_udp_payload: int = MAX_UDP_PAYLOAD) -> QuicConfiguration:
    """An endpoint's side: the relay must show what `trust` accepts."""
    configuration = QuicConfiguration(is_client=True, server_name=trust.server_name, **_common(max_udp_payload))
    if trust.fingerprint is not None:
        # The pin names one certificate, whose name and dates were checked when it was loaded.
        configuration.verify_mode = ssl.CERT_NONE
        configuration.assert_fingerprint = trust.fingerprint
    elif trust.authorities is not None:
        configuration.cadata = trust.authorities
    else:
        configuration.capath = _store_directory()
    return configuration


def _store_directory() -> str | None:
    """The system's CAs where they are a directory and nothing else; None lets the QUIC library find them.

    OpenSSL reads such a directory only as it verifies (SSL_CTX_load_verify_locations(3)). The QUIC library verifies by
    itself, with what OpenSSL has read until then.
    """
    paths = ssl.get_default_verify_paths()
    return None if paths.cafile else paths.capath


def _common(max_udp_payload: int) -> dict[str, Any]:
    return {
        "alpn_protocols": [ALPN],
        "connection_id_length": CONNECTION_ID_LENGTH,
        "idle_timeout": IDLE_TIMEOUT,
        "max_datagram_size": max_udp_payload,
        "max_datagram_frame_size": 65535,
        "max_data": 4 * _STREAM_WINDOW,
        "max_stream_data": _STREAM_WINDOW,
    }
