"""The relay as a process: the socket, the clock, the signals, the certificate."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from softlan.client.running import Stop, running
from softlan.host.privileges import Capability, drop_privileges
from softlan.net import loop
from softlan.net.address import HostPort
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger
from softlan.quic.connection import Connection
from softlan.quic.door import Door
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Credentials
from softlan.relay.certificates import Certificates, PemFiles
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.renewal import AcmeConfig, Renewal
from softlan.relay.session import Session
from softlan.relay.settings import RoomBook, RoomSettings

TICK = 0.5  # seconds
FAREWELL_TIME = 0.5  # seconds for the goodbyes to be acknowledged
SNAPSHOT_INTERVAL = 30.0  # seconds
STATS_INTERVAL = 10.0  # seconds


@dataclass(frozen=True)
class RelayConfig:
    """Everything that a relay process is told."""

    listen: HostPort
    """Where to listen; host "" is every address, IPv6 and IPv4."""
    credentials: Credentials | None
    """What to show from the start; None with `acme`, whose certificate is then waited for."""
    limits: RelayLimits = field(default_factory=RelayLimits)
    rooms: RoomBook = field(default_factory=lambda: RoomBook(RoomSettings()))
    """MTU and policy of rooms."""
    frame_log: FrameLogMode = FrameLogMode.OFF
    retry_above: int = 64
    """With more handshakes pending than this, addresses are validated by Retry first."""
    stats: bool = False
    """Log what the socket does, every `STATS_INTERVAL`."""
    snapshots: bool = False
    """Log a snapshot of every room now and then (at debug level); SIGUSR1 does it at any time."""
    certificate_files: PemFiles | None = None
    """Where `credentials` come from, to be read anew when they change."""
    acme: AcmeConfig | None = None
    """Whose certificate to get and renew by ACME."""


async def serve(config: RelayConfig, settled: Callable[[], None] = lambda: None) -> None:
    """Run a relay until SIGINT or SIGTERM. Raises HostError when it cannot listen.

    `settled` is called when all is open that takes a privilege; with ACME at the start, since its threads inherit ours.
    """
    async with running() as stop:
        if config.acme is not None:
            settled()
        renewal = Renewal(config.acme, get_logger("relay")) if config.acme is not None else None
        credentials = config.credentials
        if credentials is None and renewal is not None:
            credentials = renewal.kept() or await _first(config, renewal, stop)
        if credentials is not None:
            server = _Server(config, credentials, renewal)
            if config.acme is None:
                settled()
            await server.run(stop)


def run(config: RelayConfig) -> None:
    """`serve` in an event loop of its own, as a process that gives up the privileges it no longer needs."""
    loop.run(serve(config, lambda: _give_up_privileges(config)))


def _give_up_privileges(config: RelayConfig) -> None:
    log, files, acme = get_logger("relay"), config.certificate_files, config.acme
    if acme is None:
        drop_privileges(frozenset(), None, log, read_again=(files.cert, files.key) if files is not None else ())
    else:
        again = (acme.authorities,) if acme.authorities is not None else ()
        drop_privileges(frozenset((Capability.NET_BIND_SERVICE,)), acme.directory_path, log, read_again=again)


class _Server:
    def __init__(self, config: RelayConfig, credentials: Credentials, renewal: Renewal | None) -> None:
        self._config = config
        self._log = get_logger("relay")
        frame_log = FrameLog(config.frame_log, lambda record: self._log.info("frame", **record))
        self._relay = Relay(config.limits, config.rooms, frame_log, self._log)
        self._sock = open_udp(config.listen)
        self._door = Door(
            credentials,
            self._accept,
            retry_above=config.retry_above,
            # Twice as many, for those that begin and those that are on their way out.
            max_connections=2 * max(config.limits.max_peers, RelayLimits.max_peers),
        )
        self._endpoint = Endpoint(self._sock, self._door)
        self._renewal = renewal
        self._certificates = Certificates(
            credentials, self._door.use, self._log, files=config.certificate_files, advice=_advice(config)
        )
        self._ticker = Ticker(self._log)
        self._stats_at = time.monotonic()
        self._counted = self._sock.counters.snapshot()
        self._next_snapshot = self._stats_at + SNAPSHOT_INTERVAL

    async def run(self, stop: Stop) -> None:
        """Serve until `stop`, and say goodbye."""
        driver = EndpointDriver(self._endpoint, asyncio.get_running_loop())
        self._ticker.parts = {
            "relay": self._relay.tick,
            "flush": lambda _: driver.flush(),
            "certificate": self._certificates.tick,
            "figures": self._tell_figures,
        }
        with contextlib.ExitStack() as stack:
            stack.callback(driver.close)
            stack.enter_context(_on_signal("SIGUSR1", lambda: self._tell_snapshot(time.monotonic())))
            stack.enter_context(_on_signal("SIGHUP", self._hang_up))
            if self._renewal is not None:
                task = asyncio.create_task(self._keep_renewing(self._renewal), name="acme")
                stack.callback(task.cancel)
            address, port, *_ = self._sock.local_address
            self._log.info(
                "relay.listening", address=address, port=port, certificate_days_left=self._certificates.days_left
            )
            while not stop.event.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.event.wait(), TICK)
                self._ticker.tick(time.monotonic())
            self._log.info("relay.stopping", peers=sum(session.member is not None for session in self._relay.sessions))
            self._relay.shut_down()
            driver.flush()
            await asyncio.sleep(FAREWELL_TIME)

    def _accept(self, connection: Connection) -> Session:
        return self._relay.accept(connection, time.monotonic())

    async def _keep_renewing(self, renewal: Renewal) -> None:
        try:
            await renewal.keep(self._certificates.shown, self._certificates.show)
        except Exception:  # the party goes on with the certificate that it has, and is warned before its end
            self._log.exception("acme.ended")

    def _hang_up(self) -> None:
        """SIGHUP: somebody has new certificates for us, or the terminal that we were started in is gone."""
        if self._renewal is not None:
            self._renewal.hurry()
        self._certificates.reload()

    def _tell_figures(self, now: float) -> None:
        if self._config.stats and now >= self._stats_at + STATS_INTERVAL:
            self._log.info(
                "relay.stats",
                **self._sock.counters.rates(self._counted, now - self._stats_at),
                **self._endpoint.snapshot(),
                certificate_days_left=self._certificates.days_left,
            )
            self._stats_at, self._counted = now, self._sock.counters.snapshot()
        if self._config.snapshots and now >= self._next_snapshot:
            self._next_snapshot = now + SNAPSHOT_INTERVAL
            self._tell_snapshot(now)

    def _tell_snapshot(self, now: float) -> None:
        rooms = self._relay.snapshot(now)
        for room in rooms:
            self._log.info("room.snapshot", **room)
        self._log.info(
            "relay.snapshot",
            rooms=len(rooms),
            certificate_days_left=self._certificates.days_left,
            tick_faults=self._ticker.faults,
            **self._endpoint.snapshot(),
            **self._sock.counters.snapshot(),
        )


class Ticker:
    """Calls the parts of a relay that go by the clock. One that fails is said once, and the others go on."""

    def __init__(self, log: Any) -> None:
        self.parts: dict[str, Callable[[float], None]] = {}
        self.faults = 0
        self._log = log
        self._told: set[str] = set()

    def tick(self, now: float) -> None:
        """Call each part with `now`."""
        for name, part in self.parts.items():
            try:
                part(now)
            except Exception:  # one part's fault must not end everyone's party
                self.faults += 1
                if name not in self._told:
                    self._told.add(name)
                    with contextlib.suppress(OSError):  # what the log goes into may be what is broken
                        self._log.exception("relay.tick_failed", part=name)


async def _first(config: RelayConfig, renewal: Renewal, stop: Stop) -> Credentials | None:
    """The very first certificate; None when we are stopped before it is there.

    The relay does not listen meanwhile: without an answer endpoints try again, with a certificate that nobody knows
    they would give up.
    """
    open_udp(config.listen).close()  # a port that cannot be had is said now
    with _on_signal("SIGHUP", renewal.hurry):
        getting = asyncio.create_task(renewal.first(), name="acme")
        stopping = asyncio.create_task(stop.event.wait(), name="stop")
        try:
            await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            stopping.cancel()


@contextlib.contextmanager
def _on_signal(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` at this signal for the length of the block, where the system has it."""
    number = getattr(signal, name, None)
    if number is None:
        yield
        return
    events = asyncio.get_running_loop()
    if name == "SIGHUP" and sys.stderr.isatty():
        action = functools.partial(_unless_alone, action)
    events.add_signal_handler(number, action)
    try:
        yield
    finally:
        events.remove_signal_handler(number)


def _unless_alone(action: Callable[[], None]) -> None:
    """SIGHUP has two meanings: read your files anew; and, for who was started in a terminal, it is gone, so end."""
    if os.isatty(sys.stderr.fileno()):
        action()
    else:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGHUP)


def _advice(config: RelayConfig) -> str:
    if config.acme is not None:
        return "see the lines of acme.failed"
    if config.certificate_files is not None:
        return f"put a new one into {config.certificate_files.cert}; it is read while the relay runs"
    return "start the relay anew, and give everyone the new certificate"
