"""What a connection and its user say to each other, and what it says to its endpoint."""

import enum
from typing import Protocol, TypeVar

_C = TypeVar("_C", contravariant=True)


class CloseCode(enum.IntEnum):
    """Application error codes of CONNECTION_CLOSE. The reason phrase says more, for a person."""

    NO_ERROR = 0
    BAD_MESSAGE = 1
    DATAGRAM_UNSUPPORTED = 2
    REJECTED = 3
    DISCONNECT = 4
    MALFORMED = 5
    HELLO_TIMEOUT = 6
    REPLACED = 7
    INTERNAL = 8


class CloseCause(enum.Enum):
    """Why a connection is gone, when it was not us who closed it."""

    PEER = "peer"
    """The peer closed it."""
    TIMEOUT = "timeout"
    """Nothing came for the idle timeout, the handshake never ended, or the peer moved out of reach."""
    ERROR = "error"
    """It broke: a protocol violation, a failed handshake, or a fault of ours."""


class Handler(Protocol):
    """Who uses a connection. Every call happens inside the endpoint's turn: what is sent leaves at its end."""

    def handshake_completed(self, now: float) -> None:
        """TLS is done and the peer is who it should be."""

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        """Bytes of the control stream, in any chunking; `end` when the peer ended it."""

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        """A burst of DATAGRAM payloads, in order."""

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        """The connection is gone, `reason` in words. Not called after our own `close`."""


class _Gone:
    """Nobody."""

    def handshake_completed(self, now: float) -> None:
        pass

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        pass

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        pass

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        pass


GONE: Handler = _Gone()
"""Handles what comes after the end: nothing."""


class Owner(Protocol[_C]):
    """The endpoint, as its connections see it."""

    def mark_dirty(self, connection: _C) -> None:
        """Something is queued: flush this connection at the end of the turn."""

    def add_cid(self, cid: bytes, connection: _C) -> None:
        """Packets to `cid` are for this connection."""

    def drop_cid(self, cid: bytes) -> None:
        """`cid` is no longer in use."""
