"""The client as a process: identity, TAP, tunnel, signals."""

import asyncio
import sys
from dataclasses import dataclass

from softlan.client.bridge import Bridge
from softlan.client.platform import open_platform
from softlan.client.player import Player
from softlan.client.running import running
from softlan.client.status import Status, StatusOptions
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.errors import HostError
from softlan.net import loop
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger


@dataclass(frozen=True)
class ClientConfig:
    """Everything that a client process is told. What a system does not know of, it passes over."""

    tunnel: TunnelConfig
    tap_name: str | None = None
    """The TAP's name; None is `softlan0` on Linux, where it is made, and the only adapter on Windows."""
    discovery: bool = True
    """Whether this machine's broadcasts and multicasts go into the room (Linux; on Windows the metric decides)."""
    frame_log: FrameLogMode = FrameLogMode.OFF
    metric: int = 1
    """The TAP's interface metric (Windows); 0 leaves it to the system."""
    tap_instance_id: str | None = None
    """The adapter's GUID (Windows)."""
    allow_inbound: bool = False
    """Whether the firewall lets in what comes by the TAP (Windows)."""
    status: StatusOptions | None = None
    """What is told while it runs."""


async def run_client(config: ClientConfig) -> None:
    """Be in the room until told to stop (`running`). Raises SoftlanError for what ends it otherwise."""
    log = get_logger("client")
    mac = config.tunnel.identity.mac
    assert mac is not None
    platform = open_platform(config, config.tunnel.state_dir)
    for line in platform.recover():
        log.warning("recovered", what=line)

    counters = TrafficCounters()
    async with running() as stop:
        addresses = await resolve(config.tunnel.relay)  # before any interface is touched
        tap, care = platform.open_tap(mac)
        bridge = Bridge(tap, counters, stop.fail)
        player = Player(tap, bridge, platform.network, platform.guard, mac, care)
        status = Status(player, platform.network, counters, tap.counters, room=config.tunnel.identity.room)
        try:
            frame_log = FrameLog(config.frame_log, lambda record: log.info("frame", **record))
            tunnel = Tunnel(config.tunnel, status, counters, addresses, frame_log)
            status.watch(tunnel)
            bridge.send = status.outgoing(tunnel.send_frames)
            status.start(asyncio.get_running_loop(), config.status)
            await tunnel.run(stop.event)
        finally:
            status.stop()
            try:
                player.close()
            finally:
                for line in platform.close():
                    log.warning("restore.failed", reason=line)
        stop.check()
    log.info("stopped", **counters.snapshot())


def unsupported_here(what: str) -> None:
    """Raise HostError on a system that has no packet sockets of the kind we know."""
    if sys.platform != "linux":
        raise HostError("platform", f"unsupported platform: {what} runs on Linux, not on {sys.platform}")


def run(config: ClientConfig) -> None:
    """`run_client` in an event loop of its own."""
    loop.run(run_client(config))
