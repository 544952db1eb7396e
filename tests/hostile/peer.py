"""A hostile peer's QUIC: aioquic without its event loop, and packets made by hand with its keys.

It shares no code with softlan. One `Peer` is one connection on a socket of its own; many of them are driven in turns
by one loop, which is all that an attacker needs. What a well-behaved library would never send goes out by
`Peer.packet`: any frames, in any packet, under the connection's own keys.
"""

import copy
import json
import select
import socket
import ssl
import time
from collections import Counter
from typing import Any

from aioquic import tls
from aioquic.buffer import encode_uint_var as varint
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoContext, next_key_phase
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, HandshakeCompleted, StreamDataReceived

Address = tuple[str, int]

CONTROL = 0  # the client's first bidirectional stream
PATIENCE = 5.0  # seconds for a handshake or a welcome; an attacker that is refused goes on without


def stream_frame(stream: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    """A STREAM frame with offset and length (RFC 9000, section 19.8)."""
    return bytes((0x0E | fin,)) + varint(stream) + varint(offset) + varint(len(data)) + data


def datagram_frame(data: bytes) -> bytes:
    """A DATAGRAM frame with its length (RFC 9221, section 4)."""
    return b"\x31" + varint(len(data)) + data


def message(**members: Any) -> bytes:
    """A control message, framed."""
    payload = json.dumps({name: value for name, value in members.items() if value is not None}).encode()
    return len(payload).to_bytes(4, "big") + payload


def udp_socket(source: str) -> socket.socket:
    """A socket at any of the attacker's addresses, which does not wait."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((source, 0))
    return sock


class Peer:
    """One connection to the relay, from `source`. What came is counted in `saw`; messages are kept in `messages`."""

    def __init__(self, relay: Address, source: str, *, alpn: str = "softlan/1") -> None:
        configuration = QuicConfiguration(
            alpn_protocols=[alpn],
            server_name="lanparty-relay.local",
            verify_mode=ssl.CERT_NONE,
            max_datagram_frame_size=65535,
            idle_timeout=30.0,
        )
        self.quic = QuicConnection(configuration=configuration)
        self.sock = udp_socket(source)
        self.established = False
        self.closed: str | None = None
        """Why the relay closed the connection."""
        self.messages: list[dict[str, Any]] = []
        self.saw: Counter[str] = Counter()
        self.heard_at = time.monotonic()
        self.hello: tuple[str, str | None, dict[str, Any]] = ("", None, {})
        """How it joined: room, MAC, and what else was in its hello."""
        self.number = 0
        """Of the next packet made by hand."""
        self._relay = relay
        self._control = b""
        self._keys: CryptoContext | None = None

    def start(self) -> None:
        """Send the first flight."""
        self.quic.connect(self._relay, time.monotonic())
        self.transmit()

    def connect(self) -> bool:
        """Handshake to its end; False when the relay does not want us."""
        self.start()
        return self.until(lambda: self.established)

    def pump(self) -> None:
        """Take what has come, and answer as QUIC does."""
        now = time.monotonic()
        while (data := self.receive()) is not None:
            self.saw["packets"] += 1
            self.heard_at = now
            self.quic.receive_datagram(data, self._relay, now)
        timer = self.quic.get_timer()
        if timer is not None and now >= timer:
            self.quic.handle_timer(now)
        self._events()
        self.transmit()

    def until(self, condition: Any, seconds: float = PATIENCE) -> bool:
        """Pump until `condition()`; False when the time is over, or the connection is, before that."""
        end = time.monotonic() + seconds
        while not condition():
            if self.closed is not None or time.monotonic() > end:
                return False
            select.select([self.sock], [], [], 0.01)
            self.pump()
        return True

    def say(self, **members: Any) -> None:
        """One control message."""
        self.write(message(**members))

    def write(self, data: bytes) -> None:
        """Bytes on the control stream."""
        self.quic.send_stream_data(CONTROL, data)
        self.transmit()

    def join(self, room: str, mac: str | None, **changes: Any) -> bool:
        """Connect, say hello, be welcome; False when one of these does not come."""
        self.hello = room, mac, changes
        if not self.connect():
            return False
        self.say(**hello(room, mac, **changes))
        self.until(lambda: self.messages)
        return bool(self.messages) and self.messages[0]["type"] == "welcome"

    @property
    def peer_id(self) -> int:
        """What the relay's welcome called us; 0 before it."""
        return int(self.messages[0].get("peer_id", 0)) if self.messages else 0

    def transmit(self) -> int:
        """Send what aioquic has to send; how many datagrams that were."""
        out = self.quic.datagrams_to_send(time.monotonic())
        return sum(self.send(data) for data, _ in out)

    def send(self, data: bytes) -> bool:
        """Send a UDP datagram; False when the kernel had no room for it."""
        try:
            self.sock.sendto(data, self._relay)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Take one UDP datagram off the socket."""
        try:
            return self.sock.recv(65535)
        except OSError:
            return None

    # By hand

    def packet(self, frames: bytes) -> bytes:
        """A 1-RTT packet with these frames and the next number (`number`), whatever aioquic thinks of it."""
        if self._keys is None:
            self._keys = copy.copy(self.quic._cryptos[tls.Epoch.ONE_RTT].send)  # aioquic throws its own away at the end
            self.number = self.quic._packet_number
        number = self.number
        self.number = self.quic._packet_number = number + 1
        header = bytes((0x43 | self._keys.key_phase << 2,)) + self.quic._peer_cid.cid + number.to_bytes(4, "big")
        return self._keys.encrypt_packet(header, frames.ljust(4, b"\0"), number)

    def next_keys(self) -> None:
        """Update the keys of what we send, as often as we like (RFC 9001, section 6, allows it after an answer)."""
        self.packet(b"\1")
        assert self._keys is not None
        following = next_key_phase(self._keys)
        following.hp = self._keys.hp
        self._keys = following

    def _events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived) and event.stream_id == CONTROL:
                self._control += event.data
                while len(self._control) >= 4 and len(self._control) >= (end := 4 + int.from_bytes(self._control[:4])):
                    self.messages.append(json.loads(self._control[4:end]))
                    self._control = self._control[end:]
            elif isinstance(event, DatagramFrameReceived):
                self.saw["datagrams"] += 1
            elif isinstance(event, HandshakeCompleted):
                self.established = True
            elif isinstance(event, ConnectionTerminated):
                self.closed = event.reason_phrase or f"error {event.error_code:#x}"


def hello(room: str, mac: str | None, **changes: Any) -> dict[str, Any]:
    """The members of a hello that would be admitted, with some changed."""
    role = "client" if mac else "gateway"
    return {"type": "hello", "version": 1, "role": role, "room": room, "mac": mac, "datagram_budget": 1168} | changes


def frame(peer_id: int, destination: str, source: str, payload: bytes, *, kind: int = 0) -> bytes:
    """An overlay datagram with an Ethernet frame in it (docs/reference/protocol.md)."""
    header = bytes((0x10 | kind, 0)) + peer_id.to_bytes(2, "big")
    return header + bytes.fromhex((destination + source).replace(":", "")) + payload
