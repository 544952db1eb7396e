"""Somebody on the player's path, who sends copies of its packets from other addresses before he hands them on.

RFC 9000, section 9.3: such a copy looks like a NAT that has given the player another address. Off the path, copies come
later than the packets and are duplicates; here they come first.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct

from tests.hostile.attack import Field, attack
from tests.hostile.peer import udp_socket

INTERFACE = "detour0"
DETOUR = 66
"""The routing table of the player's packets towards the relay: empty, but for an attack that stands in their way."""

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # Linux, Documentation/networking/tuntap.rst


@attack("copies of the player's packets by twos, before the packets themselves, from one other address", on_path=True)
def copied_packets(field: Field) -> None:
    _copy(field, [udp_socket(field.address())], every=1)


@attack("the same from 100 addresses in turn", on_path=True, variant=True)
def copies_from_many(field: Field) -> None:
    _copy(field, [udp_socket(field.address()) for _ in range(100)], every=1)


@attack("copies of 2 of 50 packets, before the packets themselves, from one other address", on_path=True, variant=True)
def copies_now_and_then(field: Field) -> None:
    _copy(field, [udp_socket(field.address())], every=25)


@attack("copies of all packets, after the packets themselves, from one other address", on_path=True, variant=True)
def late_copies(field: Field) -> None:
    _copy(field, [udp_socket(field.address())], every=1, late=True)


def _copy(field: Field, socks: list[socket.socket], every: int, *, late: bool = False) -> None:
    """Hand on the player's packets by twos: a single one from elsewhere moves nobody. Copy the first two of `every`."""
    tun = _detour(field.inet)
    pairs = 0
    packets: list[bytes] = []
    field.begin()
    while field.on("copies"):
        for sock in socks[:4]:
            with contextlib.suppress(BlockingIOError):
                sock.recv(65535)
                field.saw["answers"] += 1
        if select.select([tun], [], [], 0.05)[0]:
            packets.append(os.read(tun, 65535))
            if len(packets) < 2:
                continue
        if late:
            _hand_on(tun, packets)
        if pairs % every == 0:
            sock = socks[pairs // every % len(socks)]
            for packet in packets:
                start = 4 * (packet[0] & 15)
                length = int.from_bytes(packet[start + 4 : start + 6], "big")
                with contextlib.suppress(OSError):
                    sock.sendto(packet[start + 8 : start + length], field.relay)
                field.sent["copies"] += 1
        if not late:
            _hand_on(tun, packets)
        packets.clear()
        pairs += 1


def _hand_on(tun: int, packets: list[bytes]) -> None:
    for packet in packets:
        os.write(tun, packet)


def _detour(name: str) -> int:
    """Let the player's packets to the relay come to us; written back they go on. It ends with this process."""
    from softlan.demo.netns import Namespace  # netlink takes long to import, and nobody else needs it

    inet = Namespace(name)
    with inet.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), _IFF_TUN | _IFF_NO_PI))
    inet.up(INTERFACE)
    with inet.netlink() as ip:
        index = ip.link_lookup(ifname=INTERFACE)[0]
        ip.route("add", dst="0.0.0.0/0", oif=index, table=DETOUR)
    return tun
