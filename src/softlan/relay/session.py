"""One connection at the relay, from its handshake to its end."""

import enum
from typing import TYPE_CHECKING

from softlan.ctrl.framing import FrameDecoder, encode_frame
from softlan.ctrl.messages import (
    BadMessage,
    Disconnect,
    Hello,
    Message,
    Reject,
    RejectCode,
    Stats,
    decode,
    encode,
)
from softlan.net.address import SocketAddress
from softlan.proto.overlay import Kind, parse
from softlan.quic.connection import Connection
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.udp import plain_host
from softlan.relay.limits import TokenBucket
from softlan.relay.room import Member
from softlan.relay.switch import Switch

if TYPE_CHECKING:
    from softlan.relay.relay import Relay


class State(enum.Enum):
    """Where a session is."""

    HANDSHAKE = "handshake"
    AWAIT_HELLO = "await_hello"
    JOINED = "joined"
    CLOSED = "closed"


class Session:
    """Handler of one connection, and the port of its member once it has one.

    HANDSHAKE -> AWAIT_HELLO -> JOINED -> CLOSED; every state can go to CLOSED, and nothing leaves it.
    """

    def __init__(self, relay: "Relay", connection: Connection, now: float) -> None:
        self.state = State.HANDSHAKE
        self.connection = connection
        self.send_datagram, self.send_datagrams = connection.send_datagram, connection.send_datagrams
        self.member: Member | None = None
        self.switch: Switch | None = None
        self._relay = relay
        self._given_up = False
        self._decoder = FrameDecoder()
        limits = relay.limits
        self._probes = TokenBucket(limits.probes_per_second, limits.probes_per_second, now)
        self._messages = TokenBucket(limits.messages_per_second, limits.messages_burst, now)
        self._control = TokenBucket(limits.control_rate, limits.control_burst, now)

    @property
    def address(self) -> SocketAddress:
        """Where the peer is."""
        return self.connection.address

    # quic.connection.Handler

    def handshake_completed(self, now: float) -> None:
        """The hello is due."""
        if self.connection.datagram_limit is None:
            self._close(CloseCode.DATAGRAM_UNSUPPORTED, "datagram_unsupported")
            return
        if not self._relay.await_hello(self, now):
            self._close(CloseCode.REJECTED, "relay_full: too many are about to join; try again in a moment")
            return
        self.state = State.AWAIT_HELLO

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        """Control messages."""
        if not self._control.take(now, len(data)):
            self._flooded()
            return
        try:
            for payload in self._decoder.feed(data):
                if self.state is State.CLOSED:
                    return
                if not self._messages.take(now):
                    self._flooded()
                    return
                self._message(decode(payload), now)
        except BadMessage as error:
            self._bad_message(error, now)
            return
        if end and self.state is not State.CLOSED:
            self._relay.leave(self, "disconnect:closed")
            self._close(CloseCode.NO_ERROR, "the control stream ended")

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        """Frames and probes; before the hello only probes are of use."""
        if self.switch is not None and self.member is not None:
            self.switch.forward(self.member, datagrams, now)
            if self.member.malformed > self._relay.limits.malformed_threshold:
                self._relay.leave(self, "malformed")
                self._close(CloseCode.MALFORMED, "malformed: too many malformed datagrams")
            return
        for datagram in datagrams:
            parsed = parse(datagram)
            if parsed is not None and parsed[0] is Kind.PROBE and self._probes.take(now):
                self.connection.send_datagram(datagram)

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        """The connection is gone."""
        left = {
            CloseCause.PEER: "disconnect:closed",
            CloseCause.TIMEOUT: "timeout",
            CloseCause.ERROR: "protocol_error",
        }[cause]
        self._relay.log.debug("session.closed", cause=cause.value, reason=reason, **self._who())
        self._relay.leave(self, left)
        self.state = State.CLOSED

    # room.Port. These are called in the turns of other members, who must not pay for what this peer's connection
    # refuses: nothing may be raised here.

    def send_message(self, message: Message) -> None:
        """Queue one control message; a peer that does not read them is given up."""
        if self.state is State.CLOSED or self._given_up:
            return
        try:
            self.connection.send_stream(encode_frame(encode(message)))
            unsent = self.connection.unsent_stream_bytes
        except Exception as error:  # none is known: what the library refuses, it refuses when the connection is flushed
            self._give_up(str(error))
            return
        if unsent > self._relay.limits.control_backlog:
            self._give_up(f"{unsent} bytes of control messages wait to be read")

    def end(self, reason: str) -> None:
        """End the session; its room has let go of the member already."""
        code = CloseCode.REPLACED if reason == "replaced" else CloseCode.DISCONNECT
        self.send_message(Disconnect(reason=reason, message=_FAREWELLS.get(reason, reason)))
        self.member = self.switch = None
        self._close(code, reason)

    # What the relay calls

    def hello_overdue(self) -> None:
        """No hello in time."""
        timeout = self._relay.limits.hello_timeout
        self._close(CloseCode.HELLO_TIMEOUT, f"hello_timeout: say hello within {timeout:g} s of the handshake")

    # Inside

    def _message(self, message: Message | None, now: float) -> None:
        if self.state is State.AWAIT_HELLO:
            if not isinstance(message, Hello):
                raise BadMessage("the first message must be a hello")
            outcome = self._relay.admit(self, message, self._probes, now)
            if isinstance(outcome, Reject):
                self._reject(outcome)
            else:
                self.state = State.JOINED
        elif message is None:
            if self.member is not None:
                self.member.unknown_messages += 1
        elif isinstance(message, Stats):
            if self.member is not None:
                self.member.take_stats(message, now)
        elif isinstance(message, Disconnect):
            self._relay.leave(self, f"disconnect:{message.reason}")
            self._close(CloseCode.NO_ERROR, "goodbye")
        else:
            raise BadMessage(f"an endpoint does not send {type(message).__name__.lower()} here")

    def _bad_message(self, error: BadMessage, now: float) -> None:
        """Before the welcome the answer is a reject; in both cases the connection ends."""
        if self.state is State.AWAIT_HELLO:
            reject = self._relay.attempt(self, now)
            self._reject(reject or Reject(code=RejectCode(error.code), message=str(error)))
            return
        self._relay.leave(self, "protocol_error")
        self._close(CloseCode.BAD_MESSAGE, f"bad_message: {error}")

    def _flooded(self) -> None:
        """More control messages than anyone has to say: nobody decodes them any longer."""
        limits = self._relay.limits
        self._relay.log.warning(
            "session.flooded", messages=limits.messages_per_second, bytes=limits.control_rate, **self._who()
        )
        self._relay.leave(self, "protocol_error")
        self.end("rate_limited")

    def _reject(self, reject: Reject) -> None:
        self._relay.log.info("session.rejected", code=reject.code.value, message=reject.message, **self._who())
        self.send_message(reject)
        code = CloseCode.BAD_MESSAGE if reject.code is RejectCode.BAD_MESSAGE else CloseCode.REJECTED
        self._close(code, f"{reject.code.value}: {reject.message}")

    def _give_up(self, why: str) -> None:
        """Send no more messages, and end the session at the next tick: its room may be in the middle of a list."""
        self._given_up = True
        self._relay.log.warning("session.given_up", why=why, **self._who())
        self._relay.drop_later(self, "protocol_error")

    def _close(self, code: CloseCode, reason: str) -> None:
        self.state = State.CLOSED
        self._relay.forget(self)
        self.connection.close(code, reason)

    def _who(self) -> dict[str, object]:
        return {
            "address": f"{plain_host(self.address)} {self.address[1]}",
            "peer": self.member.peer_id if self.member else None,
        }


_FAREWELLS = {
    "replaced": "another connection of yours took over",
    "relay_shutdown": "the relay is shutting down",
    "rate_limited": "far too many frames or control messages; slow down",
}
