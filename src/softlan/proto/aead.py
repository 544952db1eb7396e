"""AES-256-GCM by counter: the nonce is 4 zero bytes and the counter in 8, big-endian (NIST SP 800-38D, section 8.2.1).

The QUIC library has this for its packets, with an IV XOR the counter as nonce (RFC 9001, section 5.3): if the IV is
zeros, that is our nonce. It takes half the time of `cryptography`'s for a short frame, and its machine code is warm,
since packets are protected by it too. But it stands behind the library's public API. So it has to give a known answer
at every start, and where it is not there, or not as we know it, `cryptography` does the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import qh3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_START = bytes(4)
_ZERO_IV = bytes(12)


class Cipher(Protocol):
    """AES-256-GCM under one key.

    A counter is from 0 to 2**64 - 1, all else is `bytes` and no other buffer. Threads do not share a cipher.
    """

    def encrypt(self, counter: int, data: bytes, additional: bytes, /) -> bytes:
        """`data` in cipher, and a tag of 16 bytes for it and `additional`. No counter may be used twice."""

    def decrypt(self, counter: int, data: bytes, additional: bytes, /) -> bytes:
        """The reverse; the tag is at the end of `data`. Raises `REFUSED` if anything is not as it was."""


class Choice(NamedTuple):
    """One implementation."""

    cipher: Callable[[bytes], Cipher]
    """Makes the cipher of a key, which has 32 bytes."""
    refused: type[Exception]
    """What `decrypt` raises, and nothing else, for the arguments it takes."""


class _Public:
    """That of `cryptography`."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def encrypt(self, counter: int, data: bytes, additional: bytes, /) -> bytes:
        return self._aead.encrypt(_NONCE_START + counter.to_bytes(8, "big"), data, additional)

    def decrypt(self, counter: int, data: bytes, additional: bytes, /) -> bytes:
        return self._aead.decrypt(_NONCE_START + counter.to_bytes(8, "big"), data, additional)


def choose(library: Any) -> Choice:
    """That of `library`, the native module of the QUIC library or None, if its answers are right; else the public one.

    Never raises for what has changed there.
    """

    def cipher(key: bytes) -> Cipher:
        made: Cipher = library.AeadAes256Gcm(key, _ZERO_IV)
        return made

    try:
        native = Choice(cipher, library.CryptoError)
        if _is_right(native):
            return native
    except (SystemExit, KeyboardInterrupt):
        raise
    except (
        BaseException
    ):  # whatever has changed there, and a native panic is no Exception; the public one does the same
        pass
    return Choice(_Public, InvalidTag)


# The answer is OpenSSL's, by way of `cryptography`. The counter has eight different bytes and goes beyond 2**62, where
# packet numbers end; the data is a block and a half.
_KEY = bytes(range(32))
_COUNTER = 0xF1E2D3C4B5A69788
_DATA = b"softlan, a party far away"
_ADDITIONAL = b"Ethernet in clear"
_ANSWER = bytes.fromhex("9c978f2f4deaed6bae4b76c052973f2ba9523b51d3dc213d35f6936d0f9b683b306f6c2ba724d74cfd")


def _is_right(choice: Choice) -> bool:
    """Whether the answers are the known ones, and a wrong tag is refused."""
    one = choice.cipher(_KEY)
    if one.encrypt(_COUNTER, _DATA, _ADDITIONAL) != _ANSWER or one.decrypt(_COUNTER, _ANSWER, _ADDITIONAL) != _DATA:
        return False
    try:
        one.decrypt(_COUNTER, _ANSWER[:-1] + bytes((_ANSWER[-1] ^ 1,)), _ADDITIONAL)
    except choice.refused:
        return True
    return False


# What this process seals and opens with.
cipher, REFUSED = choose(getattr(qh3, "_hazmat", None))
