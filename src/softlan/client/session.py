"""An endpoint's session with its relay, the same for a player and for a gateway, on every system.

It is the handler of one connection: it finds out what the path carries, says hello, keeps the session alive, and
moves frames. It knows no socket and no clock: what happens comes in by calls with `now`, what it has to say
goes to a `Listener`.
"""

import enum
from dataclasses import dataclass, field
from typing import Protocol

from softlan.client.path import PathProber
from softlan.ctrl.framing import FrameDecoder, encode_frame
from softlan.ctrl.messages import (
    PROTOCOL_VERSION,
    BadMessage,
    Disconnect,
    Hello,
    Message,
    PeerJoined,
    PeerLeft,
    Reject,
    Role,
    Stats,
    Welcome,
    decode,
    encode,
)
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.proto.budget import MAX_BUDGET, MIN_BUDGET, budget_of_payload
from softlan.proto.drop import Action, DropReason
from softlan.proto.ethernet import HEADER_LENGTH as ETHERNET_HEADER
from softlan.proto.ethernet import parse as parse_ethernet
from softlan.proto.mac import format_mac
from softlan.proto.overlay import HEADER_LENGTH, Kind, header, parse, probe_nonce
from softlan.quic.connection import Connection
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.udp import widest_payload

WELCOME_TIMEOUT = 5.0  # seconds from the hello

_REPLACED = "replaced"  # reason of a `disconnect`, and of the close behind it


@dataclass(frozen=True)
class Identity:
    """Who joins what."""

    role: Role
    room: str
    mac: bytes | None
    """A client's virtual MAC; None for a gateway."""
    software: str
    room_token: str | None = field(default=None, repr=False)
    """Proof of the room's secret; None joins an open room."""
    frame_key: bytes | None = field(default=None, repr=False)
    """The room's frame key (`proto.keys`) when frames are to be sealed; None sends and takes plain ones."""


class EndKind(enum.Enum):
    """What can be done about the end of a session."""

    LOST = "lost"
    """The relay or the path is gone: connect again."""
    REJECTED = "rejected"
    """The relay said no; `Ended.reject` says why."""
    UNTRUSTED = "untrusted"
    """The handshake failed: not the relay that was asked for, or not softlan."""
    NARROWED = "narrowed"
    """The path no longer carries our budget: connect again with a smaller one."""
    REPLACED = "replaced"
    """Another process took our place with our resume string: coming back would only throw that one out."""


@dataclass(frozen=True)
class Ended:
    """How a session ended, when it was not us who left."""

    kind: EndKind
    reason: str
    """For a person."""
    reject: Reject | None = None


class Listener(Protocol):
    """Who uses a session. Every call happens inside the endpoint's turn."""

    def session_ready(self, session: "Session") -> None:
        """The path is measured; `say_hello` is next."""

    def session_joined(self, session: "Session", welcome: Welcome) -> None:
        """We are in the room."""

    def session_ended(self, session: "Session", ended: Ended) -> None:
        """The session is over. Not called after our own `leave`."""

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Someone is in the room."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Someone left; `peer` is who it was, if that was known."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """A burst of Ethernet frames from the room."""


class State(enum.Enum):
    """Where a session is: each leads to the next one, or to ENDED."""

    HANDSHAKE = "handshake"
    SIZING = "sizing"
    READY = "ready"
    HELLO = "hello"
    JOINED = "joined"
    ENDED = "ended"


class Session:
    """One session, over one connection."""

    def __init__(
        self,
        connection: Connection,
        identity: Identity,
        listener: Listener,
        counters: TrafficCounters,
        *,
        resume: str | None = None,
        max_budget: int = MAX_BUDGET,
        frame_log: FrameLog | None = None,
        now: float,
    ) -> None:
        self.state = State.HANDSHAKE
        self.connection = connection
        self.welcome: Welcome | None = None
        self.peers: dict[int, PeerJoined] = {}
        """Everyone else in the room, by peer id."""
        self.counters = counters
        self.gateway_present = False
        self.unknown_messages = 0
        widest = budget_of_payload(widest_payload(connection.address))
        self.path = PathProber(connection.send_datagram, min(max_budget, widest), now)
        self._identity = identity
        self._listener = listener
        self._resume = resume
        self._decoder = FrameDecoder()
        self._header = b""
        self._budget = 0
        self._longest = 0
        self._next_stats = 0.0
        self._hello_deadline = float("inf")
        self._log = frame_log or FrameLog.off()
        self._now = now  # of the last tick; near enough for a log's rate

    def say_hello(self, now: float) -> None:
        """Ask to be let in; only once the session is READY."""
        identity = self._identity
        self.state = State.HELLO
        self._hello_deadline = now + WELCOME_TIMEOUT
        self._send(
            Hello(
                version=PROTOCOL_VERSION,
                role=identity.role,
                room=identity.room,
                mac=format_mac(identity.mac) if identity.mac else None,
                datagram_budget=self.path.budget,
                software=identity.software,
                room_token=identity.room_token,
                resume=self._resume,
            )
        )

    def send_frames(self, frames: list[bytes]) -> None:
        """Queue a burst of frames for the room. What cannot go is counted with its reason."""
        counters = self.counters
        if self.state is not State.JOINED:
            if frames:
                counters.drop(DropReason.NOT_CONNECTED, len(frames))
            return
        prefix, budget, longest = self._header, self._budget - HEADER_LENGTH, self._longest
        send, log_all = self.connection.send_datagram, self._log.all
        sent = size = 0
        for frame in frames:
            length = len(frame)
            if length > longest and self._is_jumbo(frame):
                self._refuse(frame, DropReason.JUMBO)
            elif length > budget:
                self._refuse(frame, DropReason.OVER_BUDGET)
            elif length < ETHERNET_HEADER:
                self._refuse(frame, DropReason.RUNT)
            elif send(prefix + frame):
                sent += 1
                size += length
                if log_all:
                    self._record(frame, "to_room", Action.FORWARDED)
            else:
                self._refuse(frame, DropReason.OVER_BUDGET)
        counters.frames_out += sent
        counters.bytes_out += size

    def leave(self, reason: str, message: str) -> None:
        """Say goodbye and close. Best effort: nobody waits for an answer."""
        if self.state is State.ENDED:
            return
        if self.state in (State.HELLO, State.JOINED):
            self._send(Disconnect(reason=reason, message=message))
        self.state = State.ENDED
        self.connection.close(CloseCode.NO_ERROR, reason)

    def tick(self, now: float) -> None:
        """What is due by time; a few times a second."""
        self._now = now
        if self.state is State.SIZING:
            self.connection.refresh_capacity()
            self.path.size(self.connection.capacity, now)
            self._sized(now)
        elif self.state is State.HELLO and now >= self._hello_deadline:
            self._end(EndKind.LOST, "the relay did not answer our hello")
        elif self.state is State.JOINED:
            self.path.keep_alive(now)
            if self.path.silent(now):
                self._end(EndKind.LOST, "the relay has gone silent", resumable=True)
            elif self.path.narrowed:
                reason = f"the path no longer carries datagrams of {self.path.budget} bytes"
                self._end(EndKind.NARROWED, reason, resumable=True)
            elif now >= self._next_stats:
                self._send_stats(now)

    # quic.connection.Handler

    def handshake_completed(self, now: float) -> None:
        """The relay is who it should be: measure the path."""
        if (self.connection.datagram_limit or 0) < MIN_BUDGET:
            self.connection.close(CloseCode.DATAGRAM_UNSUPPORTED, "datagram_unsupported")
            self._end(EndKind.UNTRUSTED, "the other side does not carry datagrams: it is no softlan relay")
            return
        self.state = State.SIZING
        self.path.start(self.connection.capacity, self.connection.rtt, now)

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        """Control messages from the relay."""
        self.path.heard(now)
        try:
            for payload in self._decoder.feed(data):
                if self.state is State.ENDED:
                    return
                self._message(decode(payload), now)
        except BadMessage as error:
            self.connection.close(CloseCode.BAD_MESSAGE, f"bad_message: {error}")
            self._end(EndKind.LOST, f"the relay sent what we do not understand: {error}")
            return
        if end:
            self.connection.close(CloseCode.NO_ERROR, "the control stream ended")
            self._end(EndKind.LOST, "the relay ended the session")

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        """Frames from the room, and our own probes."""
        self.path.heard(now)
        frames: list[bytes] = []
        size = 0
        log_all = self._log.all
        for datagram in datagrams:
            length = len(datagram)
            # Version 1, kind Ethernet, no flags: nearly every datagram.
            if datagram[:2] == b"\x10\x00" and length >= HEADER_LENGTH + ETHERNET_HEADER:
                frames.append(datagram[HEADER_LENGTH:])
                size += length
                if log_all:
                    self._record(frames[-1], "from_room", Action.FORWARDED, peer=datagram[2] << 8 | datagram[3])
            else:
                self._irregular(datagram, now)
        if not frames:
            return
        counters = self.counters
        if self.state is not State.JOINED:
            counters.drop(DropReason.NOT_CONNECTED, len(frames))
            return
        counters.frames_in += len(frames)
        counters.bytes_in += size - HEADER_LENGTH * len(frames)
        self._listener.frames_received(frames, now)

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        """The connection is gone."""
        if self.state is State.HANDSHAKE and cause is not CloseCause.TIMEOUT:  # either side may refuse the other
            self._end(EndKind.UNTRUSTED, f"the relay could not be verified: {reason}")
        elif cause is CloseCause.TIMEOUT:
            self._end(EndKind.LOST, "the relay does not answer")
        elif cause is CloseCause.PEER and reason == _REPLACED:  # the message before it was lost
            self._end(EndKind.REPLACED, reason)
        else:
            self._end(EndKind.LOST, f"the connection ended: {reason}")

    # Inside

    def _message(self, message: Message | None, now: float) -> None:
        match message:
            case None:
                self.unknown_messages += 1
            case Welcome() if self.state is State.HELLO:
                self._welcomed(message, now)
            case Reject() if self.state is State.HELLO:
                self._end(EndKind.REJECTED, message.message, message)
            case PeerJoined() if self.state is State.JOINED:
                self.peers[message.peer_id] = message
                if message.role is Role.GATEWAY:
                    self.gateway_present = True
                self._listener.peer_joined(message, now)
            case PeerLeft() if self.state is State.JOINED:
                peer = self.peers.pop(message.peer_id, None)
                if peer is not None and peer.role is Role.GATEWAY:
                    self.gateway_present = False
                self._listener.peer_left(peer, message, now)
            case Disconnect():
                self.connection.close(CloseCode.NO_ERROR, "goodbye")
                kind = EndKind.REPLACED if message.reason == _REPLACED else EndKind.LOST
                self._end(kind, message.message or message.reason)
            case _:
                raise BadMessage(f"{type(message).__name__.lower()} is out of place")

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        self.state = State.JOINED
        self.welcome = welcome
        self.gateway_present = welcome.gateway_present
        self._header = header(Kind.ETHERNET, welcome.peer_id)
        self._budget = min(welcome.datagram_budget, self.path.budget)
        self._longest = ETHERNET_HEADER + welcome.room_mtu
        self._next_stats = now + welcome.stats_interval
        self.path.joined(welcome.peer_id, now)
        self._listener.session_joined(self, welcome)

    def _irregular(self, datagram: bytes, now: float) -> None:
        parsed = parse(datagram)
        if parsed is None or parsed[0] is not Kind.PROBE:
            self.counters.drop(DropReason.MALFORMED)
            return
        self.path.echoed(probe_nonce(datagram), now)
        if self.state is State.SIZING:
            self._sized(now)

    def _sized(self, now: float) -> None:
        if self.path.done:
            self.state = State.READY
            self.connection.limit_packets(self.path.budget)
            self._listener.session_ready(self)
        elif self.path.failed:
            self._end(EndKind.LOST, "no datagram comes back from the relay; is UDP filtered on the way?")

    def _refuse(self, frame: bytes, reason: DropReason) -> None:
        self.counters.drop(reason)
        if self._log.drops:
            self._record(frame, "to_room", reason.action, reason)

    def _record(
        self, frame: bytes, direction: str, action: Action, reason: DropReason | None = None, peer: int | None = None
    ) -> None:
        self._log.record(
            self._now,
            frame=frame,
            action=action,
            reason=reason,
            direction=direction,
            room=self._identity.room,
            peer=peer,
            budget=self._budget if reason is DropReason.OVER_BUDGET else None,
        )

    def _is_jumbo(self, frame: bytes) -> bool:
        """Whether the payload is above the room's MTU; tags are not payload."""
        view = parse_ethernet(frame)
        tags = len(view.tags) if view is not None else 0
        return len(frame) - 4 * tags > self._longest

    def _send_stats(self, now: float) -> None:
        assert self.welcome is not None
        self._next_stats = now + self.welcome.stats_interval
        self._send(Stats(counters=self.counters.snapshot(), rtt_ms=self.rtt_ms))

    @property
    def rtt_ms(self) -> float | None:
        """The last measured round trip to the relay, in milliseconds."""
        rtt = self.path.rtt
        return None if rtt is None else round(rtt * 1000, 3)

    def _send(self, message: Message) -> None:
        self.connection.send_stream(encode_frame(encode(message)))

    def _end(self, kind: EndKind, reason: str, reject: Reject | None = None, *, resumable: bool = False) -> None:
        """The session is over; if `resumable`, without a word, since a relay that hears of it gives our place away."""
        if self.state is not State.ENDED:
            self.state = State.ENDED
            if not resumable:
                self.connection.close(CloseCode.NO_ERROR, reason)
            self._listener.session_ended(self, Ended(kind, reason, reject))
