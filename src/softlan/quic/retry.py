"""Retry tokens: proof that a peer receives what is sent to its address (RFC 9000, sections 8.1.2 and 8.1.3).

A token is sealed with a key of this process, so nothing is kept for a peer that may not exist. It carries the
address, the two connection IDs that the handshake must repeat, and when it was made.
"""

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from softlan.net.address import SocketAddress

LIFETIME = 15.0  # seconds: a handshake goes on at once or not at all
_NONCE = 12
_HEAD = struct.Struct("!dB")


class RetryTokens:
    """Makes and opens Retry tokens; stateless but for its key."""

    def __init__(self, key: bytes | None = None) -> None:
        self._aead = AESGCM(key or AESGCM.generate_key(128))

    def seal(self, address: SocketAddress, original_cid: bytes, retry_cid: bytes, now: float) -> bytes:
        """A token for `address`; `now` in seconds of a monotonic clock."""
        nonce = os.urandom(_NONCE)
        body = _HEAD.pack(now, len(original_cid)) + original_cid + retry_cid
        return nonce + self._aead.encrypt(nonce, body, _bound(address))

    def open(self, token: bytes, address: SocketAddress, now: float) -> tuple[bytes, bytes] | None:
        """The original and the retry connection ID, or None: not ours, another address, too old."""
        try:
            body = self._aead.decrypt(token[:_NONCE], token[_NONCE:], _bound(address))
        except (InvalidTag, ValueError):
            return None
        made, length = _HEAD.unpack_from(body)
        if not 0 <= now - made <= LIFETIME:
            return None
        cids = body[_HEAD.size :]
        return cids[:length], cids[length:]


def _bound(address: SocketAddress) -> bytes:
    return f"{address[0]} {address[1]}".encode()
