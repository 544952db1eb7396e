"""The relay as a process: the socket, the clock, the signals."""

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field

from softlan.net import loop
from softlan.net.address import HostPort
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger
from softlan.quic.connection import Connection
from softlan.quic.door import Door
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.trust import Credentials
from softlan.quic.udp import open_udp
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.session import Session
from softlan.relay.settings import RoomBook, RoomSettings

TICK = 0.5  # seconds
FAREWELL_TIME = 0.5  # seconds for the goodbyes to be acknowledged


@dataclass(frozen=True)
class RelayConfig:
    """Everything that a relay process is told."""

    listen: HostPort
    """Where to listen; host "" is every address, IPv6 and IPv4."""
    credentials: Credentials
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


SNAPSHOT_INTERVAL = 30.0  # seconds
STATS_INTERVAL = 10.0  # seconds


async def serve(config: RelayConfig) -> None:
    """Run a relay until SIGINT or SIGTERM. Raises HostError when it cannot listen."""
    events = asyncio.get_running_loop()
    log = get_logger("relay")
    frame_log = FrameLog(config.frame_log, lambda record: log.info("frame", **record))
    relay = Relay(config.limits, config.rooms, frame_log, log)

    def accept(connection: Connection) -> Session:
        return relay.accept(connection, time.monotonic())

    sock = open_udp(config.listen)
    endpoint = Endpoint(sock, Door(config.credentials, accept, retry_above=config.retry_above))
    driver = EndpointDriver(endpoint, events)
    stop = asyncio.Event()

    def print_snapshot() -> None:
        now = time.monotonic()
        rooms = relay.snapshot(now)
        for room in rooms:
            log.info("room.snapshot", **room)
        log.info(
            "relay.snapshot",
            rooms=len(rooms),
            connections=len(endpoint.connections),
            retries=endpoint.retries_sent,
            ignored=endpoint.ignored,
            **sock.counters.snapshot(),
        )

    handled = {signal.SIGINT: stop.set, signal.SIGTERM: stop.set}
    if hasattr(signal, "SIGUSR1"):
        handled[signal.SIGUSR1] = print_snapshot
    with contextlib.suppress(NotImplementedError):  # a loop without signal handling (Windows): Ctrl-C ends it
        for number, action in handled.items():
            events.add_signal_handler(number, action)

    log.info("relay.listening", address=sock.local_address[0], port=sock.local_address[1])
    stats_at = time.monotonic()
    next_snapshot = stats_at + SNAPSHOT_INTERVAL
    counted = sock.counters.snapshot()
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK)
            now = time.monotonic()
            relay.tick(now)
            driver.flush()
            if config.stats and now >= stats_at + STATS_INTERVAL:
                log.info("relay.stats", **sock.counters.rates(counted, now - stats_at))
                stats_at, counted = now, sock.counters.snapshot()
            if config.snapshots and now >= next_snapshot:
                print_snapshot()
                next_snapshot = now + SNAPSHOT_INTERVAL
        log.info("relay.stopping", peers=sum(session.member is not None for session in relay.sessions))
        relay.shut_down()
        driver.flush()
        await asyncio.sleep(FAREWELL_TIME)
    finally:
        driver.close()


def run(config: RelayConfig) -> None:
    """`serve` in an event loop of its own."""
    loop.run(serve(config))
