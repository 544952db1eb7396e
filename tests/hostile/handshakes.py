"""Handshakes that are begun and not ended, or take long to make sense of."""

import os
import socket
import struct
import time

from aioquic import tls
from aioquic.quic.crypto import CryptoPair
from tests.hostile.attack import Field, attack
from tests.hostile.peer import Peer, udp_socket, varint
from tests.hostile.strangers import anywhere, drain, send_from

VERSION = 1


class Initials:
    """Initial packets by the thousand, of one ClientHello: only their keys are made anew (RFC 9001, section 5.2)."""

    def __init__(self, field: Field) -> None:
        peer = Peer(field.relay, field.address())
        peer.quic.connect(field.relay, time.monotonic())
        self.client_hello = bytes(peer.quic._crypto_streams[tls.Epoch.INITIAL].sender._buffer)
        self._source = peer.quic.host_cid
        peer.sock.close()

    def packet(self, cid: bytes, frames: bytes, number: int = 0, token: bytes = b"") -> bytes:
        """A packet to the relay's connection `cid`; with PADDING inside, as large as a datagram that may begin one."""
        keys = CryptoPair()
        keys.setup_initial(cid, is_client=True, version=VERSION)
        start = b"\xc3" + struct.pack(">I", VERSION) + bytes((len(cid),)) + cid
        start += bytes((len(self._source),)) + self._source + varint(len(token)) + token
        room = max(1280 - len(start) - 6, len(frames) + 20)
        header = start + struct.pack(">HI", 0x4000 | room, number)
        return keys.encrypt_packet(header, frames.ljust(room - 20, b"\0"), number)

    def first(self, cid: bytes, token: bytes = b"") -> bytes:
        """A first packet with the whole ClientHello."""
        return self.packet(cid, crypto_frame(0, self.client_hello), token=token)


def crypto_frame(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame (RFC 9000, section 19.6)."""
    return b"\x06" + varint(offset) + varint(len(data)) + data


@attack("whole ClientHellos, each of another connection and from a spoofed address; never a second packet")
def half_open(field: Field) -> None:
    initials, sock = Initials(field), anywhere()
    field.begin()
    while field.on("client hellos"):
        cid = os.urandom(8)
        field.sent["client hellos"] += send_from(sock, field, initials.first(cid), cid[0], cid[1])
        field.saw["answers"] += drain(sock)


@attack("the same from 250 real addresses of a /24, with the token of each Retry sent back; never more than that")
def half_open_validated(field: Field) -> None:
    _begin_and_leave(field, [udp_socket(field.address()) for _ in range(250)])


@attack("the same from 250 real addresses in as many /24s", variant=True)
def half_open_everywhere(field: Field) -> None:
    _begin_and_leave(field, [udp_socket(f"{field.prefix}{network}.77") for network in range(250)])


@attack("one Retry token, sent again from 250 addresses and with other connection IDs", count=200_000, variant=True)
def token_replay(field: Field) -> None:
    initials = Initials(field)
    # Padding behind the packet asks for a Retry, however few handshakes are pending.
    probe, token = udp_socket(field.address()), b""
    socks = [udp_socket(field.address()) for _ in range(250)]
    deadline = time.monotonic() + 5
    while not token and time.monotonic() < deadline:
        probe.sendto(initials.first(os.urandom(8)) + bytes(16), field.relay)
        time.sleep(0.05)
        for answer in _answers(probe):
            if (retry := _read_retry(answer)) is not None:
                token = retry[1]
    if not token:
        raise SystemExit("token-replay: the relay sends no Retry")
    packets = [initials.first(os.urandom(8), token) for _ in range(64)]
    field.begin()
    while field.on("packets"):
        for number, sock in enumerate(socks):
            field.sent["packets"] += _sent(sock, packets[number % 64], field)
            field.saw["answers"] += drain(sock)


@attack(
    "ClientHellos in single bytes, every second one missing, up to an offset of 64 KiB", count=400_000, variant=True
)
def crypto_gaps(field: Field) -> None:
    initials = Initials(field)
    socks = [udp_socket(field.address()) for _ in range(32)]
    cids = [os.urandom(8) for _ in socks]
    offsets = [2] * len(socks)
    number = 0
    field.begin()
    while field.on("frames"):
        number += 1
        for index, sock in enumerate(socks):
            frames = b""
            for _ in range(150):
                frames += crypto_frame(offsets[index], b"\1")
                offsets[index] += 2
            if _sent(sock, initials.packet(cids[index], frames, number), field):
                field.sent["frames"] += 150
            drain(sock)
            if offsets[index] > 65536:
                offsets[index], cids[index] = 2, os.urandom(8)


def _begin_and_leave(field: Field, socks: list[socket.socket]) -> None:
    initials = Initials(field)
    field.begin()
    while field.on("client hellos"):
        for sock in socks:
            if not field.on("client hellos"):
                break
            field.sent["client hellos"] += _sent(sock, initials.first(os.urandom(8)), field)
            for answer in _answers(sock):
                if (retry := _read_retry(answer)) is not None:
                    field.sent["tokens"] += _sent(sock, initials.first(*retry), field)
                else:
                    field.saw["handshake packets"] += 1


def _read_retry(packet: bytes) -> tuple[bytes, bytes] | None:
    """The connection ID and the token of a Retry packet (RFC 9000, section 17.2.5); None if it is another packet."""
    if packet[0] & 0xF0 != 0xF0:
        return None
    start = 7 + packet[5]
    end = start + packet[start - 1]
    return packet[start:end], packet[end:-16]


def _sent(sock: socket.socket, data: bytes, field: Field) -> bool:
    try:
        sock.sendto(data, field.relay)
    except OSError:
        return False
    return True


def _answers(sock: socket.socket) -> list[bytes]:
    found: list[bytes] = []
    try:
        while True:
            found.append(sock.recv(2048))
    except BlockingIOError:
        return found
