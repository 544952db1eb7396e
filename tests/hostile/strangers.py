"""Datagrams from nobody: noise, sizes that no packet has, first packets that lead nowhere."""

import os
import socket
import struct

from tests.hostile.attack import Field, attack
from tests.hostile.peer import udp_socket

IP_PKTINFO = 8  # ip(7); the standard library has no name for it
BURST = 64  # datagrams between two looks at the clock


@attack("random bytes of 1 to 1400, a quarter with a short header, a quarter with a long one")
def noise(field: Field) -> None:
    start = (bytes, lambda data: b"\x40" + data, lambda data: b"\xc0\0\0\0\1\x08" + data, bytes)
    datagrams = [start[number % 4](os.urandom(1 + number * 47 % 1390)) for number in range(256)]
    socks = [udp_socket(field.address()) for _ in range(8)]
    field.begin()
    while field.on("datagrams"):
        for sock in socks:
            _throw(field, sock, datagrams, BURST)


@attack("UDP datagrams without a byte, and of 65507 bytes (in fragments)", count=400_000)
def odd_sizes(field: Field) -> None:
    sock = udp_socket(field.address())
    datagrams = [b""] * 15 + [os.urandom(65507)]
    field.begin()
    while field.on("datagrams"):
        _throw(field, sock, datagrams, 16)


@attack("Initials of 1250 bytes that no key opens, each from another address and port")
def initial_flood(field: Field) -> None:
    sock = anywhere()
    body = os.urandom(1250 - 31)
    field.begin()
    while field.on("initials"):
        for _ in range(BURST):
            cids = os.urandom(16)
            header = b"\xc3\0\0\0\1\x08" + cids[:8] + b"\x08" + cids[8:] + b"\0" + struct.pack(">H", 0x4000 | 1226)
            field.sent["initials"] += send_from(sock, field, header + body, cids[0], cids[1])


@attack("packets of versions that nobody speaks, each from another address", count=400_000, variant=True)
def unknown_versions(field: Field) -> None:
    sock = anywhere()
    body = os.urandom(1230)
    field.begin()
    while field.on("packets"):
        for _ in range(BURST):
            cids = os.urandom(16)
            packet = b"\xc0\x0a\x0a\x0a\x0a\x08" + cids[:8] + b"\x08" + cids[8:] + body
            field.sent["packets"] += send_from(sock, field, packet, cids[0], cids[1])
        field.saw["answers"] += drain(sock)


def _throw(field: Field, sock: socket.socket, datagrams: list[bytes], count: int) -> None:
    sent = field.sent["datagrams"]
    for number in range(count):
        try:
            sock.sendto(datagrams[(sent + number) % len(datagrams)], field.relay)
        except OSError:
            continue
        field.sent["datagrams"] += 1


def anywhere() -> socket.socket:
    """A socket that is at all of the attacker's addresses, and hears what comes to any of them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", 0))
    return sock


def send_from(sock: socket.socket, field: Field, data: bytes, one: int, two: int) -> bool:
    """Send a datagram from ``<prefix><one>.<two>`` (IP_PKTINFO, ip(7))."""
    source = socket.inet_aton(f"{field.prefix}{one}.{two}")
    try:
        sock.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, source))], 0, field.relay)
    except OSError:
        return False
    return True


def drain(sock: socket.socket) -> int:
    """Throw away what has come; how many datagrams that was."""
    count = 0
    try:
        while True:
            sock.recv(2048)
            count += 1
    except BlockingIOError:
        return count
