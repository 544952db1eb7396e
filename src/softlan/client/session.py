"""An endpoint's session with its relay, the same for a player and for a gateway, on every system.

It is the handler of one connection: it finds out what the path carries, says hello, keeps the session alive, and
moves frames. It knows no socket and no clock: what happens comes in by calls with `now`, what it has to say
goes to a `Listener`.
"""

import enum
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from softlan.client.frames import PlainFrames, SealedFrames
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
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, parse, probe_nonce
from softlan.proto.seal import Opener
from softlan.quic.connection import Connection
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.udp import widest_payload

WELCOME_TIMEOUT = 5.0  # seconds from the hello
LONGEST_REASON = 300  # characters of what the other side says about an end

_WRONG_PIN = "Fingerprints did not match"  # the library's words, with two hashes behind them
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
    UNLIKE = "unlike"
    """The room is sealed and we are not, or the reverse: nothing was sent, and nothing is to be."""


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
        salt: bytes | None = None,
        opener: Opener | None = None,
        now: float,
    ) -> None:
        """A sealed room needs `salt`, of this session alone (`proto.keys`), and `opener`, which outlives it."""
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
        self._next_stats = 0.0
        self._hello_deadline = float("inf")
        self._now = now  # of the last tick; near enough for a log's rate
        where = (connection.send_datagrams, counters, frame_log or FrameLog.off(), identity.room)
        if identity.frame_key is None:
            self._frames = PlainFrames(*where)
        else:
            self._frames = SealedFrames(*where, identity.frame_key, identity.mac, salt, opener)

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
                seal=self._frames.salt,
            )
        )

    def send_frames(self, frames: list[bytes]) -> None:
        """Queue a burst of frames for the room. What cannot go is counted with its reason."""
        if self.state is State.JOINED:
            self._frames.send(frames, self._now)
        elif frames:
            self.counters.drop(DropReason.NOT_CONNECTED, len(frames))

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
            self._frames.tick(now)
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
        joined = self.state is State.JOINED
        frames, others = self._frames.received(datagrams, now) if joined else ([], datagrams)
        for datagram in others:
            self._other(datagram, now)
        if frames:
            self._listener.frames_received(frames, now)

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        """The connection is gone."""
        if self.state is State.HANDSHAKE and cause is not CloseCause.TIMEOUT:  # either side may refuse the other
            if reason.startswith(_WRONG_PIN):
                reason = "it shows another certificate than the one that is pinned (another fingerprint)"
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
                if frames := self._frames.peer_joined(message, now):
                    self._listener.frames_received(frames, now)
            case PeerLeft() if self.state is State.JOINED:
                peer = self.peers.pop(message.peer_id, None)
                if peer is not None and peer.role is Role.GATEWAY:
                    self.gateway_present = False
                self._frames.peer_left(message.peer_id)
                self._listener.peer_left(peer, message, now)
            case Disconnect():
                self.connection.close(CloseCode.NO_ERROR, "goodbye")
                kind = EndKind.REPLACED if message.reason == _REPLACED else EndKind.LOST
                self._end(kind, message.message or message.reason)
            case _:
                raise BadMessage(f"{type(message).__name__.lower()} is out of place")

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        if welcome.sealed != (self._identity.frame_key is not None):
            how = "sealed; join with its invitation, and without --no-seal"
            if not welcome.sealed:
                how = "not sealed; join with --no-seal only if its relay may read all that is sent"
            self._end(EndKind.UNLIKE, f"room {self._identity.room} is {how}")
            return
        self.state = State.JOINED
        self.welcome = welcome
        self.gateway_present = welcome.gateway_present
        self._frames.joined(welcome.peer_id, min(welcome.datagram_budget, self.path.budget), welcome.room_mtu)
        self._next_stats = now + welcome.stats_interval
        self.path.joined(welcome.peer_id, now)
        self._listener.session_joined(self, welcome)

    def _other(self, datagram: bytes, now: float) -> None:
        """Take what is no frame of our kind of room: a probe of ours, or to be counted."""
        parsed = parse(datagram)
        if parsed is None:
            self.counters.drop(DropReason.MALFORMED)
        elif parsed[0] is Kind.PROBE:
            self.path.echoed(probe_nonce(datagram), now)
            if self.state is State.SIZING:
                self._sized(now)
        elif self.state is not State.JOINED:
            self.counters.drop(DropReason.NOT_CONNECTED)
        else:
            self.counters.drop(DropReason.UNEXPECTED_SEAL if parsed[0] is Kind.SEALED else DropReason.NOT_SEALED)

    def _sized(self, now: float) -> None:
        if self.path.done:
            self.state = State.READY
            self.connection.limit_packets(self.path.budget)
            self._listener.session_ready(self)
        elif self.path.failed:
            self._end(EndKind.LOST, "no datagram comes back from the relay; is UDP filtered on the way?")

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
        """The session is over; if `resumable`, without a word, since a relay that hears of it gives our place away.

        `reason` goes to people, and to their terminals; some of it was written by the other side, known or not.
        """
        if self.state is not State.ENDED:
            self.state = State.ENDED
            reason = "".join(letter if letter.isprintable() else "?" for letter in reason[:LONGEST_REASON])
            if reject is not None:
                reject = msgspec.structs.replace(reject, message=reason)
            if not resumable:
                self.connection.close(CloseCode.NO_ERROR, reason)
            self._listener.session_ended(self, Ended(kind, reason, reject))
