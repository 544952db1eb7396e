"""The control messages, typed, and checked on the way in (docs/reference/protocol.md, "Control stream").

Structures are checked when they are decoded, not when they are built: what we send is our own business.
"""

import enum
import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from softlan.errors import RemoteError
from softlan.proto.budget import MAX_BUDGET, MAX_MTU, MIN_BUDGET, MIN_MTU
from softlan.proto.mac import identity_fault

PROTOCOL_VERSION = 1
ALPN = "softlan/1"

_ROOM = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

PeerId = Annotated[int, Meta(ge=1, le=65535)]
Mtu = Annotated[int, Meta(ge=MIN_MTU, le=MAX_MTU)]
Budget = Annotated[int, Meta(ge=MIN_BUDGET, le=MAX_BUDGET)]
ResumeToken = Annotated[str, Meta(max_length=128)]
Features = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)]
Counters = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=0, le=2**63 - 1)]],
    Meta(max_length=256),
]
RoomToken = Annotated[str, Meta(max_length=128)]
Salt = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
ReasonCode = Annotated[str, Meta(pattern=r"\A[a-z0-9_-]{1,64}\Z")]


class BadMessage(RemoteError):
    """The other side sent what the protocol does not allow; the connection is closed with `code`.

    `code` is a `RejectCode` value. The message is one line, short enough for a reason phrase.
    """

    def __init__(self, message: str, code: str = "bad_message") -> None:
        line = "".join(letter if letter.isprintable() else "?" for letter in message[:200])
        super().__init__(code, line)


class Role(enum.Enum):
    """What an endpoint is in its room."""

    CLIENT = "client"
    GATEWAY = "gateway"


class RejectCode(enum.Enum):
    """Why the relay refuses a hello."""

    UNSUPPORTED_VERSION = "unsupported_version"
    BAD_MESSAGE = "bad_message"
    BAD_ROOM = "bad_room"
    BAD_MAC = "bad_mac"
    UNAUTHORIZED = "unauthorized"
    ROOM_FULL = "room_full"
    RELAY_FULL = "relay_full"
    GATEWAY_EXISTS = "gateway_exists"
    DUPLICATE_MAC = "duplicate_mac"
    BUDGET_TOO_SMALL = "budget_too_small"
    REDIRECT = "redirect"
    SHUTTING_DOWN = "shutting_down"
    RATE_LIMITED = "rate_limited"


class Hello(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="hello"):
    """An endpoint's first message."""

    version: int
    role: Role
    room: str
    mac: str | None = None
    """A client's identity; None for a gateway."""
    datagram_budget: int
    """The largest overlay datagram that the endpoint's path carries, in bytes."""
    software: Annotated[str, Meta(max_length=64)] | None = None
    features: Features = ()
    room_token: RoomToken | None = None
    """Proof of the room's secret (`proto.keys`)."""
    resume: ResumeToken | None = None
    """The `resume` of the welcome of the session that this one shall replace."""
    seal: Salt | None = None
    """The salt of this session's frame key, 16 bytes in hex, when its frames are sealed (`proto.seal`)."""

    def __repr__(self) -> str:
        """Without token and resume string: they let in who has them."""
        return f"Hello({self.role.value}, {self.room!r}, {self.mac})"

    @property
    def mac_bytes(self) -> bytes | None:
        """The MAC as 6 bytes; None for a gateway."""
        return None if self.mac is None else bytes.fromhex(self.mac.replace(":", ""))

    def check(self) -> None:
        """Raise BadMessage for the first member, in the protocol's order, whose value is not allowed."""
        if not room_ok(self.room):
            raise BadMessage("a room is 1 to 32 characters of A-Z a-z 0-9 _ -", "bad_room")
        if fault := _mac_fault(self.role, self.mac):
            raise BadMessage(fault, "bad_mac")
        if not MIN_BUDGET <= self.datagram_budget <= MAX_BUDGET:
            raise BadMessage(f"hello: datagram_budget must be {MIN_BUDGET} to {MAX_BUDGET}")


class Welcome(Struct, frozen=True, kw_only=True, tag_field="type", tag="welcome"):
    """The relay's answer to a hello that it admits."""

    version: int
    mode: Literal["ethernet"]
    peer_id: PeerId
    room: str
    room_mtu: Mtu
    effective_mtu: Mtu
    """This endpoint's own MTU, at most `room_mtu`."""
    datagram_budget: Budget
    """The largest overlay datagram that the relay sends to this endpoint or takes from it, in bytes."""
    gateway_present: bool
    resume: ResumeToken
    stats_interval: Annotated[float, Meta(ge=0.01, le=86400)]
    """Seconds between two stats messages."""
    features: Features = ()
    sealed: bool = False
    """Whether the room's frames are sealed: all of them, or none."""

    def __repr__(self) -> str:
        """Without the resume string."""
        return f"Welcome({self.peer_id}, {self.room!r}, mtu={self.effective_mtu}, sealed={self.sealed})"

    def check(self) -> None:
        """Raise BadMessage when a member's value is not allowed."""
        if self.version != PROTOCOL_VERSION:
            raise BadMessage(f"welcome: version must be {PROTOCOL_VERSION}", "unsupported_version")
        if not room_ok(self.room):
            raise BadMessage("welcome: a room is 1 to 32 characters of A-Z a-z 0-9 _ -")
        if self.effective_mtu > self.room_mtu:
            raise BadMessage("welcome: effective_mtu must be at most room_mtu")


class Reject(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="reject"):
    """The relay's refusal; it closes the connection after it."""

    code: RejectCode
    message: str
    """For a person."""
    redirect: Annotated[str, Meta(min_length=1, max_length=300)] | None = None
    """Where to go instead, `host:port`; with code `redirect` only."""
    retry_after: Annotated[float, Meta(ge=0, le=86400)] | None = None
    """Seconds to wait before the next attempt."""

    def check(self) -> None:
        """Raise BadMessage unless code and redirect go together."""
        if (self.code is RejectCode.REDIRECT) != (self.redirect is not None):
            raise BadMessage("reject: redirect goes with code redirect, and with no other")


class PeerJoined(Struct, frozen=True, kw_only=True, tag_field="type", tag="peer_joined"):
    """Someone is in the room: told of a newcomer, and to a newcomer of those present."""

    peer_id: PeerId
    role: Role
    mac: str | None = None
    """None for a gateway."""
    seal: Salt | None = None
    """The `seal` of its hello."""

    @property
    def mac_bytes(self) -> bytes | None:
        """The MAC as 6 bytes; None for a gateway."""
        return None if self.mac is None else bytes.fromhex(self.mac.replace(":", ""))

    def check(self) -> None:
        """Raise BadMessage when role and MAC do not go together."""
        if fault := _mac_fault(self.role, self.mac):
            raise BadMessage(f"peer_joined: {fault}")


class PeerLeft(Struct, frozen=True, kw_only=True, tag_field="type", tag="peer_left"):
    """Someone left the room."""

    peer_id: PeerId
    reason: str
    """`timeout`, `malformed`, `replaced`, `relay_shutdown`, `protocol_error`, `disconnect:<reason given>`."""


class Stats(Struct, frozen=True, kw_only=True, tag_field="type", tag="stats"):
    """An endpoint's counters, sent every `stats_interval`."""

    counters: Counters
    rtt_ms: Annotated[float, Meta(ge=0)] | None = None


class Disconnect(Struct, frozen=True, kw_only=True, tag_field="type", tag="disconnect"):
    """Goodbye; the sender closes the connection afterwards."""

    reason: ReasonCode
    """A short code of `a-z 0-9 _ -`, since it is passed on in `peer_left`."""
    message: str
    """For a person."""


Message = Hello | Welcome | Reject | PeerJoined | PeerLeft | Stats | Disconnect

_TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "welcome": Welcome,
    "reject": Reject,
    "peer_joined": PeerJoined,
    "peer_left": PeerLeft,
    "stats": Stats,
    "disconnect": Disconnect,
}


def encode(message: Message) -> bytes:
    """Encode a message as JSON, without its length; optional members that are None are left out."""
    return msgspec.json.encode(message)


def decode(payload: bytes) -> Message | None:
    """Decode and check one message; None for a `type` that we do not know.

    Raises BadMessage, and nothing else, with a code of its own for a hello's version, room and MAC.
    Members that we do not know are ignored; a member given twice is refused, as in I-JSON (RFC 7493
    section 2.3).
    """
    members = _members(payload)
    name = members.get("type")
    if not isinstance(name, str):
        raise BadMessage("a message needs a string member type")
    structure = _TYPES.get(name)
    if structure is None:
        return None
    if structure is Hello:
        _check_version(members)
    try:
        message = msgspec.convert(members, structure)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadMessage(f"{name}: {error}") from None
    if isinstance(message, Hello | Welcome | Reject | PeerJoined):
        message.check()
    return message


def room_ok(room: str) -> bool:
    """Tell whether a room's name is allowed: 1 to 32 characters of `A-Z a-z 0-9 _ -`."""
    return _ROOM.fullmatch(room) is not None


def _members(payload: bytes) -> dict[str, Any]:
    """Parse one JSON object."""
    try:
        # msgspec first: it is the stricter (no NaN, no lone surrogate, no other encoding than UTF-8), and
        # bounds the depth. Only the standard library shows members that are given twice.
        members = msgspec.json.decode(payload)
        json.loads(payload, object_pairs_hook=_refuse_duplicates)
    except RecursionError:
        raise BadMessage("the JSON is nested too deep") from None
    except ValueError as error:
        raise BadMessage(f"not a JSON object: {error}") from None
    if not isinstance(members, dict):
        raise BadMessage("a message is a JSON object")
    return members


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ValueError(f"member {name[:64]} is given twice")
        names.add(name)


def _check_version(members: dict[str, Any]) -> None:
    """Check a hello's version before all else: another version may mean other members."""
    version = members.get("version")
    if type(version) is not int:
        raise BadMessage("hello: version must be an integer")
    if version != PROTOCOL_VERSION:
        raise BadMessage(f"only protocol version {PROTOCOL_VERSION} is spoken here", "unsupported_version")


def _mac_fault(role: Role, mac: str | None) -> str | None:
    """Say why this MAC does not go with this role; who may use universal ones is the relay's decision."""
    if role is Role.GATEWAY:
        return None if mac is None else "a gateway has no mac"
    if mac is None:
        return "a client needs a mac"
    if not _MAC.fullmatch(mac):
        return "a mac is written xx:xx:xx:xx:xx:xx, in lower-case hex"
    fault = identity_fault(bytes.fromhex(mac.replace(":", "")), allow_universal=True)
    return f"mac {mac} cannot be a client's: it is {fault}" if fault else None
