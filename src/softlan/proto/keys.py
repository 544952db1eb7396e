"""What a room's secret is for: a token that opens the room, and keys that seal its frames (docs/reference/protocol.md).

Everything is derived with HKDF-SHA-256 (RFC 5869). The relay sees the token, which tells nothing of the frame key.
"""

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_LENGTH = 32
SALT_LENGTH = 16


@dataclass(frozen=True)
class RoomKeys:
    """What is derived from a room's secret. Never printed."""

    token: str = field(repr=False)
    """Sent in `hello`: 43 characters of base64url."""
    frame_key: bytes = field(repr=False)
    """Never sent: 32 bytes, from which each sender's key is derived."""


def room_keys(secret: bytes, room: str) -> RoomKeys:
    """The keys of `room`, whose secret has 32 bytes."""
    token = _derive(secret, room.encode(), b"softlan/1 join token")
    return RoomKeys(
        token=base64.urlsafe_b64encode(token).rstrip(b"=").decode(),
        frame_key=_derive(secret, room.encode(), b"softlan/1 frame key"),
    )


def sender_key(frame_key: bytes, salt: bytes, mac: bytes | None) -> bytes:
    """The AES-256 key of one sender's session, 32 bytes.

    `salt` has 16 bytes, and is the sender's for this session alone; `mac` is a client's, None for a gateway. Who it is
    goes into the key, so a relay that says something else of it makes its frames unreadable, and nothing worse.
    """
    return _derive(frame_key, salt, b"softlan/1 sender " + (mac or b"gateway"))


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)
