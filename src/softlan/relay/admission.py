"""Who may join: one hello in, a place in a room or a reject out (PROTOCOL: Control stream)."""

import hmac
from dataclasses import dataclass

from softlan.ctrl.messages import Hello, Reject, RejectCode, Role
from softlan.proto.budget import mtu_of_budget
from softlan.proto.mac import identity_fault
from softlan.relay.limits import RelayLimits
from softlan.relay.room import Member, Room
from softlan.relay.settings import RoomBook


@dataclass(frozen=True)
class Place:
    """What an admitted endpoint gets."""

    budget: int
    """The largest overlay datagram both sides will use, in bytes."""
    effective_mtu: int
    replaces: Member | None
    """The session that this one takes over, with its peer id."""


def consider(
    hello: Hello,
    room: Room | None,
    limits: RelayLimits,
    book: RoomBook,
    *,
    capacity: int,
    rooms: int,
    peers: int,
    shutting_down: bool,
) -> Place | Reject:
    """Decide on a well-formed hello.

    `room` is the room asked for, None if nobody is in it yet; `book` says what it would be like then. `capacity` is
    the largest datagram that the relay's side of the connection carries; `rooms` and `peers` are how many the relay
    has now.
    """
    if shutting_down:
        return _reject(RejectCode.SHUTTING_DOWN, "the relay is shutting down; try again in a moment", retry_after=5.0)
    if limits.redirect is not None:
        return Reject(
            code=RejectCode.REDIRECT,
            message=f"this relay sends everyone to {limits.redirect}",
            redirect=limits.redirect,
        )
    locked_out = _locked_out(hello, room, book)
    if locked_out is not None:
        return _reject(RejectCode.UNAUTHORIZED, locked_out)
    sealed = room.sealed if room is not None else book.settings(hello.room).sealed
    if sealed is None:
        sealed = hello.seal is not None
    elif sealed and hello.seal is None:
        return _reject(
            RejectCode.UNAUTHORIZED, f"room {hello.room} is sealed; join with its invitation, and without --no-seal"
        )
    elif not sealed and hello.seal is not None:
        return _reject(RejectCode.UNAUTHORIZED, f"room {hello.room} is not sealed; join with --no-seal")

    mac = hello.mac_bytes
    if mac is not None:
        fault = identity_fault(mac, allow_universal=limits.allow_universal_macs)
        if fault is not None:
            return _reject(RejectCode.BAD_MAC, f"{hello.mac} cannot be a player's address: it is {fault}")

    replaces = resumed(hello, room)
    if replaces is None:
        full = _full(hello, room, limits, rooms, peers)
        if full is not None:
            return full

    room_mtu = room.mtu if room is not None else book.settings(hello.room).mtu
    budget = min(hello.datagram_budget, capacity)
    effective_mtu = min(room_mtu, mtu_of_budget(budget, sealed=sealed))
    floor = min(limits.mtu_floor, room_mtu)
    if effective_mtu < floor:
        return _reject(
            RejectCode.BUDGET_TOO_SMALL,
            f"your path carries datagrams of {budget} bytes, an MTU of {effective_mtu}; "
            f"this relay needs at least {floor}",
        )
    return Place(budget, effective_mtu, replaces)


def opens(hello: Hello, room: Room | None, book: RoomBook) -> bool:
    """Tell whether the hello's token, or that it has none, opens the room that it asks for."""
    return _locked_out(hello, room, book) is None


def resumed(hello: Hello, room: Room | None) -> Member | None:
    """The session that the hello's resume string belongs to, if it is of the same role and MAC."""
    if room is None or hello.resume is None:
        return None
    mac = hello.mac_bytes
    member = room.gateway if mac is None else room.by_mac.get(mac)
    return member if member is not None and _same(member.resume, hello.resume) else None


def _locked_out(hello: Hello, room: Room | None, book: RoomBook) -> str | None:
    """Say why the token does not open the room; None if it does.

    It is the same whether the token is wrong or this relay has no such room.
    """
    name, given = hello.room, hello.room_token
    wanted = book.settings(name).token or (room.token if room is not None else None)
    if given and (not book.has(name) or (wanted is not None and not _same(wanted, given))):
        return f"room {name} needs another room token; ask who invited you"
    if given and room is not None and wanted is None:
        return (
            f"room {name} is open, and was not made with your room token; "
            "choose another room, or join without an invitation"
        )
    if not given and (not book.has(name) or wanted is not None or (room is None and book.require_token)):
        return f"room {name} needs a room token; ask for an invitation"
    return None


def _full(hello: Hello, room: Room | None, limits: RelayLimits, rooms: int, peers: int) -> Reject | None:
    if peers >= limits.max_peers or (room is None and rooms >= limits.max_rooms):
        return _reject(RejectCode.RELAY_FULL, "the relay is full; try again later or use another", retry_after=30.0)
    if room is None:
        return None
    if len(room.members) >= limits.max_room_peers:
        return _reject(RejectCode.ROOM_FULL, f"room {room.name} is full ({limits.max_room_peers})", retry_after=30.0)
    if hello.role is Role.GATEWAY and room.gateway is not None:
        return _reject(RejectCode.GATEWAY_EXISTS, f"room {room.name} already has its gateway; stop that one first")
    if hello.mac_bytes in room.by_mac:
        return _reject(
            RejectCode.DUPLICATE_MAC,
            f"{hello.mac} is already in room {room.name}; is softlan running twice? Else choose another --virtual-mac",
        )
    return None


def _same(secret: str, given: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(secret.encode(), given.encode())


def _reject(code: RejectCode, message: str, retry_after: float | None = None) -> Reject:
    return Reject(code=code, message=message, retry_after=retry_after)
