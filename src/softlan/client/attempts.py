"""One session out of several attempts: all of the relay's addresses, again and again, and the best that answers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from softlan.client.session import Ended, EndKind, Session, State
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.errors import SoftlanError
from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger
from softlan.proto.budget import UDP_PAYLOADS, budget_of_payload
from softlan.quic.configuration import MIN_UDP_PAYLOAD, PACKET_SIZES, client_configuration
from softlan.quic.connection import Connection
from softlan.quic.endpoint import Endpoint
from softlan.quic.trust import Trust
from softlan.quic.udp import plain_host, widest_payload

ATTEMPT_DELAY = 0.25  # seconds between two addresses (RFC 8305, section 5)
AGAIN = 1.5  # seconds until all are tried again: a new handshake is through before a lost one is repeated
PATIENCE = 6.0  # seconds for an answer of any of them
SLOW_PATIENCE = 15.0  # seconds for a handshake that is under way
SECOND_LOOK = 1.0  # seconds for a second handshake where the first one found the narrowest of paths

NARROWEST = budget_of_payload(UDP_PAYLOADS[-1])


class FrameSink(Protocol):
    """The local side of the tunnel: a bridge."""

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """In the room, for the first time or again. Raises HostError if the local side cannot follow."""

    def lost(self) -> None:
        """Out of the room, for now."""

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Someone is in the room."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Someone left the room."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Frames from the room."""

    def tick(self, now: float) -> None:
        """A few times a second while in the room."""


class Attempts:
    """Handshakes with one relay, over one socket, of which one becomes the session; a `session.Listener`.

    `open_session` makes the session of a new connection; `joined` hears of the one that is in the room.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        targets: Sequence[SocketAddress],
        trust: Trust,
        open_session: Callable[[Connection, "Attempts", float], Session],
        joined: Callable[[Session, Welcome], None],
        sink: FrameSink,
        *,
        relay: str,
        narrow: bool,
        clock: Callable[[], float],
    ) -> None:
        """`targets` are the addresses of `relay` in the form of the socket's family."""
        self.ended: Ended | None = None
        """How it ended: the session, or all attempts."""
        self.winner: Session | None = None
        """The session that said hello."""
        self.joined_at: float | None = None
        """When it was in the room."""
        self.narrow = narrow
        """Whether the path is known to carry no more than the smallest size."""
        self.wake = asyncio.Event()
        """Set when there is news."""
        self._endpoint = endpoint
        self._targets = targets
        self._open_session = open_session
        self._tell_joined = joined
        self._sink = sink
        self._relay = relay
        self._clock = clock
        self._configurations = {size: client_configuration(trust, size) for size in PACKET_SIZES}
        self._sessions: list[Session] = []
        self._tried = 0
        self._started = self._next = clock()
        self._candidate: Session | None = None
        self._candidate_until = 0.0
        self._second_look: Session | None = None
        self._last_failure = None if targets else Ended(EndKind.LOST, f"no usable address for {relay}")
        self._local_failure: SoftlanError | None = None
        self._log = get_logger("tunnel")

    @property
    def lasted(self) -> float:
        """Seconds in the room."""
        return 0.0 if self.joined_at is None else self._clock() - self.joined_at

    def tick(self, now: float) -> None:
        """Do what is due; a few times a second. Raises what the local side complained about."""
        if self._local_failure is not None:
            raise self._local_failure
        if self._is_open() and now >= self._next:
            self._try_next(now)
        for session in list(self._sessions):
            session.tick(now)
        # A second handshake that is through may take the time to measure its path.
        if self._candidate is not None and now >= self._candidate_until and not self._any_in(State.SIZING):
            self._choose(self._candidate, now)
        if self._any_in(State.JOINED):
            self._sink.tick(now)
        elif self.ended is None and self._is_open() and self._is_over(now):
            self.ended = self._last_failure or Ended(EndKind.LOST, f"no answer from {self._relay}")

    def leave(self, reason: str, message: str) -> None:
        """Say goodbye."""
        for session in self._sessions:
            session.leave(reason, message)

    def _is_open(self) -> bool:
        """Whether it is not decided yet which attempt becomes the session."""
        return self.winner is None and self._candidate is None

    def _is_over(self, now: float) -> bool:
        """Whether none of the attempts will become a session."""
        if not self._sessions:
            return self._tried >= len(self._targets)
        if any(session.state is not State.HANDSHAKE for session in self._sessions):
            return False  # it ends by itself
        is_slow = any(session.connection.rtt is not None for session in self._sessions)
        return now >= self._started + (SLOW_PATIENCE if is_slow else PATIENCE)

    def _any_in(self, state: State) -> bool:
        return any(session.state is state for session in self._sessions)

    def _try_next(self, now: float) -> None:
        """Start a handshake with the next address; after the last one all again, until one has answered."""
        count = len(self._targets)
        if self._tried >= count and not all(session.state is State.HANDSHAKE for session in self._sessions):
            return
        if not count:
            return
        address, rounds = self._targets[self._tried % count], self._tried // count
        self._tried += 1
        self._next = now + (ATTEMPT_DELAY if self._tried % count else AGAIN)
        # Now and then a small one: a path that carries the first flight may still lose a large certificate's.
        self._attempt(address, now, small=rounds >= 2 and rounds % 2 == 0)

    def _attempt(self, address: SocketAddress, now: float, *, small: bool = False) -> Session:
        def accept(connection: Connection) -> Session:
            return self._open_session(connection, self, now)

        configuration = self._configurations[MIN_UDP_PAYLOAD if small else widest_payload(address)]
        connection = self._endpoint.connect(configuration, address, accept, now)
        assert isinstance(connection.handler, Session)
        self._sessions.append(connection.handler)
        return connection.handler

    def _choose(self, session: Session, now: float) -> None:
        self.winner, self._candidate = session, None
        self.narrow = session.path.budget == NARROWEST
        for other in self._sessions:
            if other is not session:
                other.leave("quit", "another attempt was better")
        self._sessions = [session]
        session.say_hello(now)

    # session.Listener

    def session_ready(self, session: Session) -> None:
        """The first one wins; one that found the narrowest of paths only if a second look finds no better.

        A single packet lost at the handshake makes the library fall back to the smallest size, and the relay keeps
        to it for the whole connection (`quic.endpoint`): it need not be the path.
        """
        if self.winner is not None:
            return
        now = self._clock()
        candidate = self._candidate
        if candidate is not None:
            if session.path.budget != NARROWEST or session is self._second_look:
                self._choose(max(candidate, session, key=lambda s: s.path.budget), now)
            # else it began as the first one did, and says no more
        elif session.path.budget != NARROWEST or self.narrow:
            self._choose(session, now)
        else:
            self._candidate, self._candidate_until = session, now + SECOND_LOOK
            self._second_look = self._attempt(session.connection.address, now)

    def session_joined(self, session: Session, welcome: Welcome) -> None:
        """In."""
        self.joined_at = self._clock()
        try:
            self._tell_joined(session, welcome)
        except SoftlanError as error:
            self._local_failure = error
        self.wake.set()

    def session_ended(self, session: Session, ended: Ended) -> None:
        """One attempt failed, or the session is over."""
        self._sessions = [s for s in self._sessions if s is not session]
        if session is self._candidate:
            self._candidate = None
        if session is self.winner:
            self.ended = ended
        else:
            if self._last_failure is None or ended.kind is not EndKind.LOST:
                self._last_failure = ended
            if self._tried < len(self._targets):
                self._next = self._clock()
            self._log.debug("attempt.failed", address=plain_host(session.connection.address), reason=ended.reason)
        self.wake.set()

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Pass it on."""
        self._log.info("peer.joined", peer=peer.peer_id, role=peer.role.value, mac=peer.mac)
        self._sink.peer_joined(peer, now)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Pass it on."""
        role, mac = (peer.role.value, peer.mac) if peer else (None, None)
        self._log.info("peer.left", peer=left.peer_id, role=role, mac=mac, reason=left.reason)
        self._sink.peer_left(peer, left, now)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Pass them on."""
        self._sink.frames_received(frames, now)
