"""Looks at the running client every few seconds, and says what is new: in the log, and on a status line."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from softlan.client.attempts import FrameSink
from softlan.client.diagnostics import Diagnosis, Level, Snapshot, broadcast_flow, diagnose, total_drops
from softlan.client.session import Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.device.base import DeviceCounters
from softlan.errors import HostError
from softlan.host.base import IPInterface
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.logging import get_logger
from softlan.proto.mac import BROADCAST
from softlan.quic.udp import plain_host

LOOK = 1.0  # seconds between two updates of the status line


@dataclass(frozen=True)
class StatusOptions:
    """What is told, and how often."""

    interval: float = 5.0
    """Seconds between two full looks: the addresses of the TAP, and a line in the log."""
    show: Callable[[str], None] | None = None
    """Takes a new status line each second; None where nobody watches."""


class LocalSide(FrameSink, Protocol):
    """The player, as the status sees it."""

    @property
    def interface(self) -> str:
        """The TAP's name, for people."""
        ...

    @property
    def interface_id(self) -> str:
        """By what `AddressBook` knows it."""
        ...

    @property
    def mtu(self) -> int | None:
        """The TAP's MTU in bytes; None before it is up."""
        ...

    @property
    def pin(self) -> str | None:
        """The pinned route to the relay, in words."""
        ...

    @property
    def needs_pin(self) -> bool:
        """Whether a route has to be pinned at all."""
        ...


class AddressBook(Protocol):
    """The host's addresses."""

    def addresses(self, interface: str) -> list[IPInterface]:
        """The unicast addresses of an interface, with their prefix. Raises HostError."""
        ...


class Source(Protocol):
    """The tunnel, as the status sees it."""

    session: Session | None


class Status:
    """A `FrameSink` around the player: it passes everything on, and notes what it sees."""

    def __init__(
        self,
        player: LocalSide,
        network: AddressBook,
        counters: TrafficCounters,
        device: DeviceCounters,
        *,
        room: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._player = player
        self._network = network
        self._counters = counters
        self._device = device
        self._room = room
        self._clock = clock
        self._tunnel: Source | None = None
        self._options = StatusOptions()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_look = 0.0
        self._addresses: tuple[str, ...] = ()
        self._is_joined = self._was_joined = False
        self._seeks_in = self._seeks_out = True  # whether a broadcast of this second is still to be seen
        self._last_in: float | None = None
        self._last_out: float | None = None
        self._last: Diagnosis | None = None
        self._log = get_logger("status")

    def watch(self, tunnel: Source) -> None:
        """Read the session of `tunnel`."""
        self._tunnel = tunnel

    def outgoing(self, send: Callable[[list[bytes], bool], None]) -> Callable[[list[bytes], bool], None]:
        """`send`, with an eye on this machine's broadcasts: one a second is enough, so a busy link costs nothing."""

        def watched(frames: list[bytes], express: bool) -> None:
            if self._seeks_out:
                self._seeks_out = not _has_broadcast(frames)
            send(frames, express)

        return watched

    def start(self, loop: asyncio.AbstractEventLoop, options: StatusOptions | None = None) -> None:
        """Look from now on."""
        self._loop = loop
        self._options = options or StatusOptions()
        self._next_look = self._clock()
        self._timer = loop.call_later(LOOK, self._due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def snapshot(self, now: float) -> Snapshot:
        """The client at this moment; the addresses are those of the last full look."""
        session = self._tunnel.session if self._tunnel is not None else None
        player = self._player
        joined = session is not None and self._is_joined
        return Snapshot(
            room=self._room,
            was_joined=self._was_joined,
            relay=plain_host(session.connection.address) if session is not None and joined else None,
            gateway=session.gateway_present if session is not None else False,
            rtt_ms=session.rtt_ms if session is not None else None,
            budget=session.path.budget if session is not None else None,
            needs_pin=player.needs_pin,
            pin=player.pin,
            interface=player.interface,
            mtu=player.mtu,
            addresses=self._addresses,
            broadcast_in=None if self._last_in is None else now - self._last_in,
            broadcast_out=None if self._last_out is None else now - self._last_out,
            counters=self._counters.snapshot(),
            device_drops={reason.value: count for reason, count in self._device.drops.items()},
        )

    def look(self, now: float) -> Diagnosis:
        """One look: the status line always, addresses and log when their time has come."""
        if not self._seeks_in:
            self._last_in = now
        if not self._seeks_out:
            self._last_out = now
        self._seeks_in = self._seeks_out = True
        is_full = now >= self._next_look
        if is_full:
            self._next_look = now + self._options.interval
            self._addresses = self._read_addresses()
        snapshot = self.snapshot(now)
        diagnosis = diagnose(snapshot)
        if is_full:
            self._tell(snapshot, diagnosis)
        if self._options.show is not None:
            self._options.show(diagnosis.line)
        return diagnosis

    # client.attempts.FrameSink

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """In the room."""
        self._player.joined(welcome, relay)
        self._is_joined = self._was_joined = True
        self._next_look = 0.0

    def lost(self) -> None:
        """Out of it."""
        self._is_joined = False
        self._next_look = 0.0
        self._player.lost()

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Pass it on."""
        self._next_look = 0.0
        self._player.peer_joined(peer, now)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Pass it on."""
        self._next_look = 0.0
        self._player.peer_left(peer, left, now)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Pass them on."""
        if self._seeks_in:
            self._seeks_in = not _has_broadcast(frames)
        self._player.frames_received(frames, now)

    def tick(self, now: float) -> None:
        """Pass it on."""
        self._player.tick(now)

    # Inside

    def _due(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(LOOK, self._due)
        self.look(self._clock())

    def _read_addresses(self) -> tuple[str, ...]:
        if self._player.mtu is None:
            return ()
        try:
            return tuple(str(address) for address in self._network.addresses(self._player.interface_id))
        except HostError as error:
            self._log.debug("addresses.failed", reason=str(error))
            return self._addresses

    def _tell(self, snapshot: Snapshot, diagnosis: Diagnosis) -> None:
        """What is new as a sentence, the figures at debug; with news the figures are worth a line, too."""
        news = diagnosis.news(self._last)
        self._last = diagnosis
        for sentence in news:
            log = self._log.warning if sentence.level is Level.BAD else self._log.info
            log(sentence.topic, says=sentence.text)
        figures = self._log.info if news else self._log.debug
        figures(
            "status",
            relay=snapshot.relay,
            gateway=snapshot.gateway,
            pinned=snapshot.pin is not None,
            budget=snapshot.budget,
            rtt_ms=None if snapshot.rtt_ms is None else round(snapshot.rtt_ms, 1),
            interface=snapshot.interface,
            mtu=snapshot.mtu,
            addresses=list(snapshot.addresses),
            broadcasts=broadcast_flow(snapshot),
            frames_in=snapshot.counters.get("frames_in", 0),
            frames_out=snapshot.counters.get("frames_out", 0),
            drops=total_drops(snapshot.counters, snapshot.device_drops),
        )


def _has_broadcast(frames: list[bytes]) -> bool:
    """Whether one of these is a broadcast. Multicasts say nothing: IPv6 sends some by itself all the time."""
    for frame in frames:  # noqa: SIM110 - a generator would cost as much as the rest
        if frame[:6] == BROADCAST:
            return True
    return False
