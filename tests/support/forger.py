"""A hostile peer on a `World`'s wire: aioquic's handshake and keys, and any frames that one likes.

    forger = Forger(world)
    world.run(lambda: forger.ready)
    forger.send(crypto_frame(1000, bytes(900)))      # one packet, made by hand

Between the packets made by hand it behaves as aioquic does, unless it is told to be `mute`.
"""

import ssl
import struct

from aioquic import tls
from aioquic.buffer import encode_uint_var as varint
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, HandshakeCompleted
from tests.support.segments import apart
from tests.support.wire import RELAY, SERVER_NAME, WireSocket, World

from softlan.net.address import SocketAddress

ONE_RTT, HANDSHAKE, INITIAL = tls.Epoch.ONE_RTT, tls.Epoch.HANDSHAKE, tls.Epoch.INITIAL


def crypto_frame(offset: int, data: bytes) -> bytes:
    """RFC 9000, section 19.6."""
    return b"\x06" + varint(offset) + varint(len(data)) + data


def stream_frame(stream: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    """RFC 9000, section 19.8, with offset and length."""
    return bytes((0x0E | fin,)) + varint(stream) + varint(offset) + varint(len(data)) + data


def new_cid_frame(sequence: int, retire_prior_to: int) -> bytes:
    """RFC 9000, section 19.15; the connection ID and the token are made of the sequence number."""
    return b"\x18" + varint(sequence) + varint(retire_prior_to) + b"\x08" + struct.pack("!QQQ", sequence, 1, sequence)


def ack_frame(largest: int, *ranges: int) -> bytes:
    """RFC 9000, section 19.3: the first range's length less one, then gaps and lengths in turn, each less one."""
    numbers = (largest, 0, len(ranges) // 2, *ranges)
    return b"\x02" + b"".join(map(varint, numbers))


class Forger:
    """One client connection. It lives in `world` like an endpoint."""

    def __init__(self, world: World, *, sock: WireSocket | None = None, is_mute: bool = False) -> None:
        self.world = world
        self.sock = sock or world.sock()
        self.is_mute = is_mute
        """It sends only what is made by hand."""
        self.ready = False
        self.end: ConnectionTerminated | None = None
        self.datagrams: list[bytes] = []
        self.quic = QuicConnection(
            configuration=QuicConfiguration(
                alpn_protocols=["softlan/1"],
                server_name=SERVER_NAME,
                verify_mode=ssl.CERT_NONE,
                max_datagram_frame_size=65535,
            )
        )
        self.quic.connect(RELAY, world.now)
        world.turns[self] = 0  # type: ignore[index]
        self.flush(world.now)

    # What a World asks of an endpoint

    def receive(self, now: float) -> bool:
        for data, source in apart(self.sock.recv()):
            self.quic.receive_datagram(data, source, now)
        self._look()
        return False

    def run_timers(self, now: float) -> None:
        self.quic.handle_timer(now)
        self._look()

    def next_deadline(self) -> float | None:
        return None if self.is_mute else self.quic.get_timer()

    def flush(self, now: float) -> None:
        if not self.is_mute:
            for data, address in self.quic.datagrams_to_send(now):
                self.sock.send([data], address)

    # By hand

    def packet(self, frames: bytes, epoch: tls.Epoch = ONE_RTT, keys: CryptoContext | None = None) -> bytes:
        """One packet under the connection's keys, or others; an Initial's datagram is filled up."""
        quic = self.quic
        number = quic._packet_number
        quic._packet_number += 1
        keys = keys or quic._cryptos[epoch].send
        if epoch is ONE_RTT:
            header = bytes((0x43 | keys.key_phase << 2,)) + quic._peer_cid.cid
        else:
            if epoch is INITIAL:
                frames = frames.ljust(1170, b"\0")
            kind = 0xC3 if epoch is INITIAL else 0xE3
            token = b"\0" if epoch is INITIAL else b""
            header = bytes((kind,)) + b"\0\0\0\1"
            header += bytes((len(quic._peer_cid.cid),)) + quic._peer_cid.cid + bytes((len(quic.host_cid),))
            header += quic.host_cid + token + varint(len(frames.ljust(4, b"\0")) + 20)
        packet: bytes = keys.encrypt_packet(header + number.to_bytes(4, "big"), frames.ljust(4, b"\0"), number)
        return packet

    def send(self, *packets: bytes, epoch: tls.Epoch = ONE_RTT, source: SocketAddress | None = None) -> None:
        """Send packets with these frames, and let the relay take them at once."""
        for frames in packets:
            self.world.wire.inject(self.packet(frames, epoch), source or self.sock.public, RELAY)
        self.world.run(lambda: True)
        self.world.run(within=0.0005)

    def _look(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.ready = True
            elif isinstance(event, DatagramFrameReceived):
                self.datagrams.append(event.data)
            elif isinstance(event, ConnectionTerminated):
                self.end = event
