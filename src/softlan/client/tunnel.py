"""Keeps a session with the relay: joins, comes back when it was lost, and knows when that is of no use."""

import asyncio
import contextlib
import gc
import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from softlan.client.attempts import Attempts, FrameSink
from softlan.client.reconnect import Backoff
from softlan.client.resume import ResumeFile
from softlan.client.session import Ended, EndKind, Identity, Session
from softlan.ctrl.messages import Reject, RejectCode, Role, Welcome
from softlan.errors import HostError, RemoteError, UsageError
from softlan.net.address import HostPort, SocketAddress, parse_relay
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.obs.logging import get_logger
from softlan.proto.budget import MAX_BUDGET, UDP_PAYLOADS, budget_of_payload
from softlan.proto.drop import DropReason
from softlan.proto.keys import SALT_LENGTH
from softlan.proto.mac import format_mac
from softlan.proto.seal import Opener
from softlan.quic.configuration import IDLE_TIMEOUT
from softlan.quic.connection import Connection
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Trust
from softlan.quic.udp import peer_address, plain_host

TICK = 0.1  # seconds
RESOLVE_TIME = 3.0  # seconds for the name service; it may be out of reach when the relay is not
STEADY = 5.0  # seconds in the room after which the next loss is a new one
GHOST_TIME = IDLE_TIMEOUT + 10.0  # seconds in which the relay may still hold a session that we lost
MAX_REDIRECTS = 4

# These heal by themselves; every other reject ends the program with its message.
_HEALING = frozenset((RejectCode.RELAY_FULL, RejectCode.ROOM_FULL, RejectCode.RATE_LIMITED, RejectCode.SHUTTING_DOWN))
# And these when it was a session of our own that took the place.
_GHOSTLY = frozenset((RejectCode.DUPLICATE_MAC, RejectCode.GATEWAY_EXISTS))


@dataclass(frozen=True)
class TunnelConfig:
    """What a tunnel is told."""

    relay: HostPort
    trust: Trust
    identity: Identity
    state_dir: Path


class Tunnel:
    """The session's life over many connections. `run` is the whole of it."""

    def __init__(
        self,
        config: TunnelConfig,
        sink: FrameSink,
        counters: TrafficCounters,
        addresses: list[SocketAddress],
        frame_log: FrameLog | None = None,
    ) -> None:
        """`addresses` are the relay's, looked up by the caller before it touched an interface."""
        self.session: Session | None = None
        self._config = config
        self._relay = config.relay
        self._sink = sink
        self._counters = counters
        self._frame_log = frame_log
        self._log = get_logger("tunnel")
        self._driver: EndpointDriver | None = None
        self._known = {config.relay: addresses}
        self._is_fresh = True
        key = config.identity.frame_key
        self._opener = Opener(key) if key is not None else None
        self._resume = ResumeFile(config.state_dir, config.identity, str(config.relay))
        self._max_budget = MAX_BUDGET
        self._narrow = False
        self._ever_joined = False
        self._redirects = 0
        # A run before this one had a session, and may have been killed; its string may be another session's by now.
        self._ghost_until = time.monotonic() + GHOST_TIME if self._resume.load() is not None else 0.0

    def send_frames(self, frames: list[bytes], express: bool = False) -> None:
        """Send a burst of frames to the room, at once; `express`, without waiting behind streams on the way."""
        if self.session is None:
            if frames:
                self._counters.drop(DropReason.NOT_CONNECTED, len(frames))
            return
        self.session.send_frames(frames)
        if self._driver is not None:
            self._driver.flush(express=express)

    async def run(self, stop: asyncio.Event) -> None:
        """Join and stay joined until `stop`; then say goodbye.

        Raises RemoteError for a reject that cannot heal, HostError when the relay cannot be trusted or the
        local side fails.
        """
        backoff = Backoff()
        while not stop.is_set():
            attempts = await self._one_session(stop)
            if attempts is None:
                return
            ended = attempts.ended
            assert ended is not None
            if self._settle(ended, attempts):
                continue
            if attempts.lasted >= STEADY:
                backoff.reset()
            del attempts
            gc.collect()  # what has ended is full of cycles, and nobody plays now; `net.loop` would let it pile up
            wait = backoff.next(random.random(), ended.reject.retry_after if ended.reject else None)
            self._log.warning("lost", reason=ended.reason, retry_in=round(wait, 1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)

    # One session

    async def _one_session(self, stop: asyncio.Event) -> Attempts | None:
        """Connect, join, and wait for the end; None when we were told to stop."""
        addresses = await self._look_up()
        sock = open_udp(is_alone=self._config.identity.role is Role.CLIENT)
        endpoint = Endpoint(sock)
        driver = self._driver = EndpointDriver(endpoint, asyncio.get_running_loop())
        targets = [target for address in addresses if (target := peer_address(address, sock.family)) is not None]
        attempts = Attempts(
            endpoint,
            targets,
            self._config.trust,
            self._open_session,
            self._joined,
            self._sink,
            relay=str(self._relay),
            narrow=self._narrow,
            clock=time.monotonic,
        )
        self._log.info("connecting", relay=str(self._relay), addresses=len(targets))
        try:
            while not stop.is_set():
                attempts.tick(time.monotonic())
                driver.flush()
                if attempts.ended is not None:
                    return attempts
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK):
                        await attempts.wake.wait()
                attempts.wake.clear()
            return None
        finally:
            self.session = None
            attempts.leave("quit", "the program was ended")
            driver.flush()  # best effort: the goodbye is in one packet, and nobody waits for the answer
            driver.close()
            self._driver = None
            self._sink.lost()

    async def _look_up(self) -> list[SocketAddress]:
        """The relay's addresses: the first time those that are known, later what the name service says by then."""
        known = self._known.get(self._relay, [])
        if not (known and self._is_fresh):
            try:
                async with asyncio.timeout(RESOLVE_TIME):
                    known = self._known[self._relay] = await resolve(self._relay)
            except (HostError, TimeoutError) as error:  # what we knew may still be right
                self._log.warning("resolve.failed", reason=str(error) or f"no answer for {self._relay.host}")
        self._is_fresh = False
        return known

    def _open_session(self, connection: Connection, attempts: Attempts, now: float) -> Session:
        return Session(
            connection,
            self._config.identity,
            attempts,
            self._counters,
            resume=self._resume.load(),
            max_budget=self._max_budget,
            frame_log=self._frame_log,
            salt=secrets.token_bytes(SALT_LENGTH) if self._opener is not None else None,
            opener=self._opener,
            now=now,
        )

    def _joined(self, session: Session, welcome: Welcome) -> None:
        self.session = session
        self._ever_joined = True
        self._resume.save(welcome.resume)
        identity, address = self._config.identity, session.connection.address
        self._log.info(
            "joined",
            room=welcome.room,
            peer=welcome.peer_id,
            mac=format_mac(identity.mac) if identity.mac else None,
            mtu=welcome.effective_mtu,
            budget=welcome.datagram_budget,
            gateway=welcome.gateway_present,
            sealed=welcome.sealed,
            relay=plain_host(address),
            rtt_ms=session.rtt_ms,
        )
        if identity.role is Role.CLIENT and not welcome.gateway_present:
            self._log.warning("no_gateway", hint="nobody bridges this room to a LAN yet; players see only each other")
        self._sink.joined(welcome, address)

    # What an end means

    def _settle(self, ended: Ended, attempts: Attempts) -> bool:
        """Draw the consequences of an end; whether to go on at once. Raises what cannot heal."""
        self._narrow = attempts.narrow
        if ended.reject is not None:
            return self._settle_reject(ended.reject)
        self._redirects = 0
        if ended.kind is EndKind.UNTRUSTED and not self._ever_joined:
            raise HostError(
                "trust", f"{ended.reason}; ask for a new invitation, or check --server-name and --relay-ca-cert"
            )
        if ended.kind is EndKind.REPLACED:
            raise RemoteError(
                "replaced",
                "another softlan with this --state-dir took our place in the room; end it, or give one of them another",
            )
        if ended.kind is EndKind.UNLIKE:
            raise RemoteError("unauthorized", ended.reason)
        session = attempts.winner
        if session is not None:
            self._ghost_until = time.monotonic() + GHOST_TIME
        if session is not None and ended.kind is EndKind.NARROWED:
            smaller = [budget for budget in map(budget_of_payload, UDP_PAYLOADS) if budget < session.path.budget]
            self._max_budget = smaller[0] if smaller else session.path.budget
        elif attempts.joined_at is not None:
            self._max_budget = MAX_BUDGET  # that path is gone, and the next one may be wider
        else:
            self._relay = self._config.relay  # if that sent us elsewhere, it may know better by now
        return False

    def _settle_reject(self, reject: Reject) -> bool:
        if reject.redirect is not None:
            self._redirects += 1
            if self._redirects > MAX_REDIRECTS:
                raise RemoteError("redirect", "the relays send us in circles; ask their operator")
            try:
                self._relay = parse_relay(reject.redirect)
            except UsageError as error:
                raise RemoteError("redirect", f"the relay sends us nowhere ({error}); ask its operator") from error
            self._log.info("redirected", relay=str(self._relay))
            return True
        ours = reject.code in _GHOSTLY and time.monotonic() < self._ghost_until
        if reject.code not in _HEALING and not ours:
            raise RemoteError(reject.code.value, reject.message)
        return False
