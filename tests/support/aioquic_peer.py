"""An endpoint that shares no code with softlan but the standard library: QUIC by aioquic, the wire by hand.

What it knows of the protocol is written here a second time, from docs/reference/protocol.md.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    HandshakeCompleted,
    QuicEvent,
    StreamDataReceived,
)

PATIENCE = 10.0  # seconds until a condition that has not come is a failure
CONTROL = 0  # the client's first bidirectional stream


class AioquicPeer(QuicConnectionProtocol):
    """One connection. What came is in lists; `until` waits for a condition on them."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.messages: list[dict[str, Any]] = []
        """Control messages in order, decoded from JSON."""
        self.datagrams: list[bytes] = []
        self.closed: ConnectionTerminated | None = None
        self.established = False
        self.narrative: list[str] = []
        """Message types, and `closed` at the end: the order in which the peer learnt of them."""
        self._changed = asyncio.Event()
        self._control = b""

    # Saying

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Raw bytes on the control stream."""
        self._quic.send_stream_data(CONTROL, data, end_stream=end)
        self.transmit()

    def say(self, **members: Any) -> None:
        """One control message."""
        payload = json.dumps(members).encode()
        self.write(len(payload).to_bytes(4, "big") + payload)

    def hello(self, **changes: Any) -> None:
        """A client's hello that would be admitted, with members changed; None leaves one out."""
        members = {
            "type": "hello",
            "version": 1,
            "role": "client",
            "room": "den",
            "mac": "02:00:00:00:00:01",
            "datagram_budget": 1168,
        } | changes
        self.say(**{name: value for name, value in members.items() if value is not None})

    def send_datagram(self, data: bytes) -> None:
        """One overlay datagram."""
        self._quic.send_datagram_frame(data)
        self.transmit()

    def write_elsewhere(self, data: bytes) -> None:
        """Raw bytes on two streams that the protocol does not know, one of each direction."""
        for one_way in (False, True):
            stream = self._quic.get_next_available_stream_id(is_unidirectional=one_way)
            self._quic.send_stream_data(stream, data)
        self.transmit()

    def stop_control(self) -> None:
        """Ask the relay to send nothing more on the control stream (STOP_SENDING, RFC 9000, section 19.5)."""
        self._quic.stop_stream(CONTROL, 0)
        self.transmit()

    def reset_control(self) -> None:
        """Give up our half of the control stream."""
        self._quic.reset_stream(CONTROL, 0)
        self.transmit()

    # Waiting

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for `condition`, which is looked at after everything that arrives."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"it did not come; so far: {self.narrative}, {len(self.datagrams)} datagrams"
            ) from None

    async def message(self, kind: str) -> dict[str, Any]:
        """The first message of this type, now or when it comes."""
        await self.until(lambda: kind in self.narrative)
        return next(message for message in self.messages if message["type"] == kind)

    async def end(self) -> ConnectionTerminated:
        """How the relay closes the connection."""
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    async def join(self, **changes: Any) -> dict[str, Any]:
        """Say hello and be welcome."""
        self.hello(**changes)
        return await self.message("welcome")

    # aioquic's callback

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id == CONTROL:
            self._control += event.data
            while len(self._control) >= 4 and len(self._control) >= (end := 4 + int.from_bytes(self._control[:4])):
                message = json.loads(self._control[4:end])
                self._control = self._control[end:]
                self.messages.append(message)
                self.narrative.append(message["type"])
        elif isinstance(event, DatagramFrameReceived):
            self.datagrams.append(event.data)
        elif isinstance(event, HandshakeCompleted):
            self.established = True
        elif isinstance(event, ConnectionTerminated):
            self.closed = event
            self.narrative.append("closed")
        self._changed.set()

    def hang_up(self) -> None:
        """Stop without a word, as a machine that lost its power."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.close()


@contextlib.asynccontextmanager
async def connected(
    port: int,
    ca_pem: bytes,
    *,
    server_name: str = "lanparty-relay.local",
    datagram_frame_size: int | None = 65535,
    udp_payload: int = 1200,
    alpn: str = "softlan/1",
) -> AsyncIterator[AioquicPeer]:
    """A peer that connects to 127.0.0.1, verifying the relay with `ca_pem`; handed out before the handshake ends."""
    configuration = QuicConfiguration(
        alpn_protocols=[alpn],
        server_name=server_name,
        cadata=ca_pem,
        verify_mode=ssl.CERT_REQUIRED,
        max_datagram_frame_size=datagram_frame_size,
        max_datagram_size=udp_payload,
    )
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: AioquicPeer(QuicConnection(configuration=configuration)), local_addr=("127.0.0.1", 0)
    )
    try:
        peer.connect(("127.0.0.1", port))
        yield peer
        if peer.closed is None:
            peer.close()
    finally:
        peer.hang_up()
        transport.close()
