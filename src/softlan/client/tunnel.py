"""Keeps a session with the relay: tries all its addresses, joins, and comes back when it was lost."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from softlan.client.reconnect import Backoff
from softlan.client.resume import ResumeFile
from softlan.client.session import Ended, EndKind, Identity, Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, RejectCode, Role, Welcome
from softlan.errors import HostError, RemoteError
from softlan.net.address import HostPort, SocketAddress, parse_relay
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.logging import get_logger
from softlan.proto.budget import MAX_BUDGET, UDP_PAYLOADS, budget_of_payload
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac
from softlan.quic.configuration import client_configuration
from softlan.quic.connection import Connection
from softlan.quic.endpoint import Endpoint, EndpointDriver
from softlan.quic.trust import Trust
from softlan.quic.udp import open_udp, peer_address, plain_host

TICK = 0.1  # seconds
ATTEMPT_DELAY = 0.25  # seconds between two addresses (RFC 8305, section 5)
ROUND_TIME = 6.0  # seconds for all addresses together
MAX_REDIRECTS = 4

# These heal by themselves; every other reject ends the program with its message.
_HEALING = frozenset((RejectCode.RELAY_FULL, RejectCode.ROOM_FULL, RejectCode.RATE_LIMITED, RejectCode.SHUTTING_DOWN))


@dataclass(frozen=True)
class TunnelConfig:
    """What a tunnel is told."""

    relay: HostPort
    trust: Trust
    identity: Identity
    state_dir: Path


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


class Tunnel:
    """The session's life over many connections. `run` is the whole of it."""

    def __init__(
        self, config: TunnelConfig, sink: FrameSink, counters: TrafficCounters, addresses: list[SocketAddress]
    ) -> None:
        """`addresses` are the relay's, looked up by the caller before it touched an interface."""
        self.session: Session | None = None
        self._config = config
        self._relay = config.relay
        self._sink = sink
        self._counters = counters
        self._log = get_logger("tunnel")
        self._driver: EndpointDriver | None = None
        self._round: _Round | None = None
        self._addresses = addresses
        self._resume = ResumeFile(config.state_dir, config.identity, str(config.relay))
        self._max_budget = MAX_BUDGET
        self._ever_joined = False
        self._redirects = 0

    def send_frames(self, frames: list[bytes]) -> None:
        """Send a burst of frames to the room, at once."""
        if self.session is None:
            if frames:
                self._counters.drop(DropReason.NOT_CONNECTED, len(frames))
            return
        self.session.send_frames(frames)
        if self._driver is not None:
            self._driver.flush()

    async def run(self, stop: asyncio.Event) -> None:
        """Join and stay joined until `stop`; then say goodbye.

        Raises RemoteError for a reject that cannot heal, HostError when the relay cannot be trusted or the
        local side fails.
        """
        backoff = Backoff()
        try:
            while not stop.is_set():
                ended = await self._one_session(stop)
                if ended is None:
                    return
                if self.session is None and ended.kind is not EndKind.LOST:
                    self._settle(ended)
                joined_before = self._round is not None and self._round.joined_once
                if joined_before:
                    backoff.reset()
                retry_after = ended.reject.retry_after if ended.reject else None
                wait = backoff.next(random.random(), retry_after)
                self._log.warning("lost", reason=ended.reason, retry_in=round(wait, 1))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait)
        finally:
            self._close()

    # One session

    async def _one_session(self, stop: asyncio.Event) -> Ended | None:
        """Connect, join, and wait for the end; None when we were told to stop."""
        try:
            if not self._addresses or self._ever_joined:
                self._addresses = await resolve(self._relay)
        except HostError as error:
            if not self._addresses:
                return Ended(EndKind.LOST, str(error))
            self._log.warning("resolve.failed", reason=str(error))  # what we knew may still be right
        sock = open_udp()
        endpoint = Endpoint(sock)
        driver = self._driver = EndpointDriver(endpoint, asyncio.get_running_loop())
        current = self._round = _Round(self, endpoint)
        targets = [a for address in self._addresses if (a := peer_address(address, sock.family)) is not None]
        self._log.info("connecting", relay=str(self._relay), addresses=len(targets))
        started = time.monotonic()
        try:
            while not stop.is_set():
                now = time.monotonic()
                if targets and current.winner is None and now >= started + ATTEMPT_DELAY * len(current.sessions):
                    current.attempt(targets.pop(0), now)
                current.tick(now)
                driver.flush()
                if current.failure is not None:
                    raise current.failure
                if current.ended is not None:
                    return current.ended
                if not current.joined and not current.joined_once and now >= started + ROUND_TIME:
                    return Ended(EndKind.LOST, f"no answer from {self._relay}")
                if not targets and not current.sessions:
                    return current.last_failure or Ended(EndKind.LOST, f"no usable address for {self._relay}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(current.wake.wait(), TICK)
                current.wake.clear()
            current.leave("quit", "the program was ended")
            driver.flush()
            await asyncio.sleep(0.05)  # best effort: the goodbye is in one packet, and nobody waits for the answer
            return None
        finally:
            self.session = None
            self._sink.lost()
            self._close()

    def _close(self) -> None:
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _settle(self, ended: Ended) -> None:
        """Decide what an end means that is not just a lost relay. Raises what cannot heal."""
        if ended.kind is EndKind.NARROWED:
            return
        if ended.kind is EndKind.UNTRUSTED:
            if not self._ever_joined:
                raise HostError("trust", f"{ended.reason}; check --relay, --server-name and --relay-ca-cert")
            return
        if ended.kind is EndKind.REPLACED:
            raise RemoteError(
                "replaced",
                "another softlan with this --state-dir took our place in the room; end it, or give one of them another",
            )
        reject = ended.reject
        assert reject is not None
        if reject.code is RejectCode.REDIRECT and reject.redirect is not None:
            self._redirects += 1
            if self._redirects > MAX_REDIRECTS:
                raise RemoteError("redirect", "the relays send us in circles; ask their operator")
            self._relay, self._addresses = parse_relay(reject.redirect), []
            self._log.info("redirected", relay=str(self._relay))
        elif reject.code not in _HEALING:
            raise RemoteError(reject.code.value, ended.reason)

    # What a round reports

    def joined(self, session: Session, welcome: Welcome) -> None:
        """A session is in."""
        self.session = session
        self._ever_joined = True
        self._redirects = 0
        self._resume.save(welcome.resume)
        address = session.connection.address
        self._log.info(
            "joined",
            room=welcome.room,
            peer=welcome.peer_id,
            mac=format_mac(self._config.identity.mac) if self._config.identity.mac else None,
            mtu=welcome.effective_mtu,
            budget=welcome.datagram_budget,
            gateway=welcome.gateway_present,
            relay=plain_host(address),
            rtt_ms=session.rtt_ms,
        )
        if self._config.identity.role is Role.CLIENT and not welcome.gateway_present:
            self._log.warning("no_gateway", hint="nobody bridges this room to a LAN yet; players see only each other")
        self._sink.joined(welcome, address)

    def session_for(self, connection: Connection, listener: "_Round", now: float) -> Session:
        """The session of a new connection."""
        return Session(
            connection,
            self._config.identity,
            listener,
            self._counters,
            resume=self._resume.load(),
            max_budget=self._max_budget,
            now=now,
        )

    def narrow(self, session: Session) -> None:
        """The next session starts with a smaller budget."""
        smaller = [b for b in map(budget_of_payload, UDP_PAYLOADS) if b < session.path.budget]
        self._max_budget = smaller[0] if smaller else session.path.budget

    @property
    def sink(self) -> FrameSink:
        """Where frames go."""
        return self._sink

    @property
    def trust(self) -> Trust:
        """What is accepted of a relay."""
        return self._config.trust


class _Round:
    """All attempts for one session: the first connection whose path is measured says hello, the others are dropped."""

    def __init__(self, tunnel: Tunnel, endpoint: Endpoint) -> None:
        self.sessions: list[Session] = []
        self.winner: Session | None = None
        self.ended: Ended | None = None
        self.failure: Exception | None = None
        self.last_failure: Ended | None = None
        self.joined = False
        self.joined_once = False
        self.wake = asyncio.Event()
        self._tunnel = tunnel
        self._endpoint = endpoint
        self._configuration = client_configuration(tunnel.trust)
        self._log: Any = get_logger("tunnel")

    def attempt(self, address: SocketAddress, now: float) -> None:
        """Start a handshake with one address."""
        make: Callable[[Connection], Session] = lambda c: self._tunnel.session_for(c, self, now)  # noqa: E731
        connection = self._endpoint.connect(self._configuration, address, make, now)
        assert isinstance(connection.handler, Session)
        self.sessions.append(connection.handler)

    def tick(self, now: float) -> None:
        """Let sessions do what is due."""
        for session in list(self.sessions):
            session.tick(now)
        if self.joined:
            self._tunnel.sink.tick(now)

    def leave(self, reason: str, message: str) -> None:
        """Say goodbye."""
        for session in self.sessions:
            session.leave(reason, message)

    # session.Listener

    def session_ready(self, session: Session) -> None:
        """The first one wins."""
        if self.winner is None:
            self.winner = session
            for other in self.sessions:
                if other is not session:
                    other.leave("quit", "another address answered first")
            self.sessions = [session]
            session.say_hello(time.monotonic())

    def session_joined(self, session: Session, welcome: Welcome) -> None:
        """In."""
        self.joined = self.joined_once = True
        try:
            self._tunnel.joined(session, welcome)
        except HostError as error:
            self.failure = error
        self.wake.set()

    def session_ended(self, session: Session, ended: Ended) -> None:
        """One attempt failed, or the session is over."""
        self.sessions = [s for s in self.sessions if s is not session]
        self.joined = False
        if session is self.winner:
            self.ended = ended
            if ended.kind is EndKind.NARROWED:
                self._tunnel.narrow(session)
        else:
            self.last_failure = ended
            self._log.debug("attempt.failed", address=plain_host(session.connection.address), reason=ended.reason)
        self.wake.set()

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Pass it on."""
        self._log.info("peer.joined", peer=peer.peer_id, role=peer.role.value, mac=peer.mac)
        self._tunnel.sink.peer_joined(peer, now)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Pass it on."""
        self._log.info(
            "peer.left",
            peer=left.peer_id,
            role=peer.role.value if peer else None,
            mac=peer.mac if peer else None,
            reason=left.reason,
        )
        self._tunnel.sink.peer_left(peer, left, now)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Pass them on."""
        self._tunnel.sink.frames_received(frames, now)
