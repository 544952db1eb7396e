"""The 4-byte header of an overlay datagram, and probes (docs/reference/protocol.md, "Overlay datagram").

```
byte 0      version (high nibble) and kind (low nibble)
byte 1      flags, 0
bytes 2-3   peer id of the sender, big-endian
byte 4...   the payload, by kind
```
"""

import enum

VERSION = 1
HEADER_LENGTH = 4


class Kind(enum.IntEnum):
    """What follows the header."""

    ETHERNET = 0
    SEALED = 1
    PROBE = 2


_NONCE_END = HEADER_LENGTH + 8

# By first byte: the kind and the shortest datagram of that kind.
_FIRST_BYTES = {
    VERSION << 4 | Kind.ETHERNET: (Kind.ETHERNET, HEADER_LENGTH + 14),
    VERSION << 4 | Kind.SEALED: (Kind.SEALED, HEADER_LENGTH + 14 + 8 + 16),  # clear header, counter, tag
    VERSION << 4 | Kind.PROBE: (Kind.PROBE, _NONCE_END),
}


def header(kind: Kind, peer_id: int) -> bytes:
    """Build the 4 bytes; hot paths build them once, then compare and prepend them."""
    return bytes((VERSION << 4 | kind, 0)) + peer_id.to_bytes(2, "big")


def encode(kind: Kind, peer_id: int, payload: bytes) -> bytes:
    """Build a whole datagram."""
    return header(kind, peer_id) + payload


def parse(datagram: bytes) -> tuple[Kind, int] | None:
    """Read the kind and the sender's peer id; None when the datagram is malformed.

    Malformed is: too short for its kind (4 + 14 bytes for a frame), another version, an unknown kind,
    a flag. Whether the peer id is the sender's own is for the caller to compare.
    """
    if not datagram:
        return None
    known = _FIRST_BYTES.get(datagram[0])
    if known is None or len(datagram) < known[1] or datagram[1]:
        return None
    return known[0], datagram[2] << 8 | datagram[3]


def encode_probe(peer_id: int, nonce: int, size: int) -> bytes:
    """Build a probe of `size` bytes in all: header, 8-byte big-endian nonce, zero padding.

    `peer_id` is 0 before `welcome`. Raises ValueError when `size` has no room for the nonce.
    """
    if size < _NONCE_END:
        raise ValueError(f"a probe takes at least {_NONCE_END} bytes")
    return (header(Kind.PROBE, peer_id) + nonce.to_bytes(8, "big")).ljust(size, b"\0")


def probe_nonce(datagram: bytes) -> int:
    """Read the nonce of a datagram that `parse` called a probe."""
    return int.from_bytes(datagram[HEADER_LENGTH:_NONCE_END], "big")
