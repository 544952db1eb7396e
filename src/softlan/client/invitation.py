"""Invitations: one string with all that it takes to join a room (docs/reference/cli.md, "Invitations").

``softlan1_``, and base64url without padding (RFC 4648 section 5) of a MessagePack array and the first 4 bytes of its
SHA-256. The array is `[relay, server name or nil, pin or nil, room, secret or nil]`. No shell needs quotes for the
string, and a double click takes all of it.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field

import msgspec

from softlan.ctrl.messages import room_ok
from softlan.errors import UsageError
from softlan.net.address import HostPort, parse_relay
from softlan.proto.keys import SECRET_LENGTH, RoomKeys, room_keys

PIN_LENGTH = 32
MAX_LENGTH = 1024
"""Characters; the longest names of relay and certificate still fit."""

_PREFIX = "softlan1_"
_OTHER_VERSION = re.compile(r"softlan[0-9]+_")
_CHECKSUM_LENGTH = 4
_CHANGED = "the invitation was cut off or changed on the way: copy all of it again, from softlan1_ to its end"
_Fields = tuple[str, str | None, bytes | None, str, bytes | None]


@dataclass(frozen=True)
class Invitation:
    """What an invitation says."""

    relay: HostPort
    room: str
    server_name: str | None = None
    """The name in the relay's certificate; None is the relay's own."""
    pin: bytes | None = None
    """SHA-256 of the relay's certificate, 32 bytes; None leaves it to what the system trusts."""
    secret: bytes | None = field(default=None, repr=False)
    """The room's secret, 32 bytes; None for a room that is open and plain."""

    def text(self) -> str:
        """The string; `parse` is its reverse."""
        fields = (str(self.relay), self.server_name, self.pin, self.room, self.secret)
        payload = msgspec.msgpack.encode(fields)
        return _PREFIX + base64.urlsafe_b64encode(payload + _checksum(payload)).rstrip(b"=").decode()

    def keys(self) -> RoomKeys | None:
        """What the secret opens; None when there is none."""
        return None if self.secret is None else room_keys(self.secret, self.room)


def parse(text: str) -> Invitation:
    """Read an invitation; white space in it and around it does not matter, since mail programs wrap lines.

    Raises UsageError, whose message never shows what was given: it may hold a secret.
    """
    text = "".join(text.split())
    if not text.startswith(_PREFIX):
        if _OTHER_VERSION.match(text):
            raise UsageError("the invitation is of a newer version of softlan: update softlan, and try again")
        raise UsageError(f"this is no invitation: one begins with {_PREFIX}; ask the party's host for it")
    if len(text) > MAX_LENGTH:
        raise UsageError(f"this is no invitation: it is longer than {MAX_LENGTH} characters")
    fields = _decoded(_checked(text.removeprefix(_PREFIX)))
    if fields is None:
        raise UsageError(
            "the invitation holds what this version of softlan does not know: update softlan, and try again"
        )
    relay, server_name, pin, room, secret = fields
    if not room_ok(room):
        raise UsageError("the invitation's room is not 1 to 32 characters of A-Z a-z 0-9 _ and -: ask for another one")
    if pin is not None and len(pin) != PIN_LENGTH:
        raise UsageError(f"the invitation's certificate pin has not {PIN_LENGTH} bytes: ask for another one")
    if secret is not None and len(secret) != SECRET_LENGTH:
        raise UsageError(f"the invitation's secret has not {SECRET_LENGTH} bytes: ask for another one")
    if server_name is not None and not _is_host(server_name):
        raise UsageError("the invitation's server name is not a host name: ask for another one")
    try:
        address = parse_relay(relay)
    except UsageError as error:
        raise UsageError(f"the invitation's relay is wrong ({error}): ask for another one") from error
    if "%" in address.host:
        raise UsageError("the invitation's relay has an interface in its address, which is one machine's own")
    invitation = Invitation(address, room, server_name, pin, secret)
    if invitation.text() != text:  # the same in another spelling: no softlan has written that
        raise UsageError(_CHANGED)
    return invitation


def _checked(encoded: str) -> bytes:
    """The payload, once its checksum is right."""
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError as error:  # of another alphabet, or a length that cannot be
        raise UsageError(_CHANGED) from error
    payload, checksum = data[:-_CHECKSUM_LENGTH], data[-_CHECKSUM_LENGTH:]
    if checksum != _checksum(payload):
        raise UsageError(_CHANGED)
    return payload


def _decoded(payload: bytes) -> _Fields | None:
    """The fields; None when it is something else. No error goes on from here: some keep the bytes, secret and all."""
    try:
        fields: _Fields = msgspec.msgpack.decode(payload, type=_Fields)
        return fields
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM_LENGTH]


def _is_host(name: str) -> bool:
    try:
        return "%" not in name and parse_relay(name).host == name
    except UsageError:
        return False
