"""Members of a room that send what they may not, or take nothing of what is for them."""

import os
import time

from tests.hostile.attack import Field, attack
from tests.hostile.peer import Peer, datagram_frame, frame, hello

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "02:77:00:00:00:01"
IPV4 = b"\x08\x00" + b"\x45\0\0\x3c\0\0\0\0\x40\x11\0\0\x0a\0\0\1\x0a\0\0\2\x10\0\x20\0\0\x28\0\0" + bytes(32)
SEALED = b"\x08\x00" + bytes(8) + bytes(60)
SALT = "5a" * 16


@attack("frames with somebody else's peer id, unknown kinds and flags, and the hello again when it is thrown out")
def wrong_peer_ids(field: Field) -> None:
    peer = field.joined(field.room, field.mac(1))
    field.begin()
    while field.on("datagrams"):
        own = peer.peer_id
        wrong = [frame(other & 0xFFFF, BROADCAST, field.mac(1), IPV4) for other in (own + 1, 0, 1, 2, own + 256)]
        wrong += [b"", b"\x10", b"\x1f\0" + os.urandom(60), b"\x10\xff" + os.urandom(60), os.urandom(500)]
        for data in wrong:
            field.sent["datagrams"] += peer.send(peer.packet(datagram_frame(data)))
        peer.pump()
        peer = field.kept(peer)
    field.note_end(peer)


@attack("broadcasts and unknown unicast into the party's room, and two members that acknowledge nothing")
def broadcast_storm(field: Field) -> None:
    deaf = [field.joined(field.room, field.mac(number)) for number in (1, 2)]
    loud = field.joined(field.room, field.mac(3))
    field.begin()
    while field.on("frames"):
        for _ in range(16):
            for destination in (BROADCAST, NOBODY):
                _send_eight(field, loud, frame(loud.peer_id, destination, field.mac(3), IPV4))
        loud.pump()
        loud = field.kept(loud)
        _stay(deaf)
    field.note_end(loud)


@attack("one member floods unicast frames at another one that acknowledges nothing")
def never_acknowledges(field: Field) -> None:
    room = field.own_room()
    deaf, loud = field.joined(room, field.mac(1)), field.joined(room, field.mac(2))
    field.begin()
    while field.on("frames"):
        data = datagram_frame(frame(loud.peer_id, field.mac(1), field.mac(2), IPV4 + bytes(600)))
        for _ in range(32):
            field.sent["frames"] += loud.send(loud.packet(data))
        loud.pump()
        loud = field.kept(loud)
        _stay([deaf])
    field.note_end(loud)


@attack("a gateway whose LAN has 65536 MACs, each of them in one frame")
def lan_of_many_macs(field: Field) -> None:
    room = field.own_room()
    player, gateway = field.joined(room, field.mac(1)), field.joined(room, None)
    player_mac = field.mac(1)
    field.begin()
    number = 0
    while field.on("frames"):
        for _ in range(16):
            number = (number + 8) & 0xFFFF
            macs = [f"00:16:3e:00:{(number + n) >> 8 & 255:02x}:{number + n & 255:02x}" for n in range(8)]
            frames = b"".join(datagram_frame(frame(gateway.peer_id, player_mac, mac, IPV4)) for mac in macs)
            if gateway.send(gateway.packet(frames)):
                field.sent["frames"] += 8
        gateway.pump()
        player.pump()
        gateway, player = field.kept(gateway), field.kept(player)
    field.note_end(gateway)


@attack("sealed frames in a plain room, plain ones in a sealed room, and hellos that do not match the room")
def seal_mismatch(field: Field) -> None:
    plain = field.joined(field.own_room("p"), field.mac(1))
    sealed = field.joined(field.own_room("s"), field.mac(1), seal=SALT, room_token="t" * 43)
    # Who only stays, so that the rooms stay what they are when the loud ones are thrown out.
    quiet = (
        field.joined(field.own_room("p"), field.mac(3)),
        field.joined(field.own_room("s"), field.mac(3), seal=SALT, room_token="t" * 43),
    )
    other = (
        hello(field.own_room("p"), field.mac(2), seal=SALT),
        hello(field.own_room("s"), field.mac(2), room_token="t" * 43),
    )
    field.begin()
    newcomer, next_try = field.peer(), 0.0
    while field.on("frames"):
        for _ in range(16):
            _send_eight(field, plain, frame(plain.peer_id, BROADCAST, field.mac(1), SEALED, kind=1))
            _send_eight(field, sealed, frame(sealed.peer_id, BROADCAST, field.mac(1), IPV4))
        for peer in (plain, sealed, *quiet):
            peer.pump()
        plain, sealed = field.kept(plain), field.kept(sealed)
        if time.monotonic() > next_try:
            next_try = time.monotonic() + 0.2
            if newcomer.connect():
                newcomer.say(**other[field.sent["hellos"] % 2])
                field.sent["hellos"] += 1
                newcomer.until(lambda newcomer=newcomer: newcomer.messages, 1.0)
                answer = newcomer.messages[0] if newcomer.messages else {}
                field.saw[str(answer.get("code", answer.get("type", "no answer")))] += 1
            newcomer = field.peer()
    field.note_end(plain, sealed)  # the others stay, and with them the rooms and what these have counted


def _send_eight(field: Field, peer: Peer, data: bytes) -> None:
    """Send a frame eight times in one packet."""
    if peer.send(peer.packet(datagram_frame(data) * 8)):
        field.sent["frames"] += 8


def _stay(deaf: list[Peer]) -> None:
    """Seem alive, by a PING now and then; read nothing, acknowledge nothing."""
    for peer in deaf:
        peer.send(peer.packet(b"\1"))
        while peer.receive() is not None:
            peer.saw["unread"] += 1
