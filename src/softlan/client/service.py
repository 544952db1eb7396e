"""The Linux client as a process: identity, TAP, tunnel, signals."""

import sys
from dataclasses import dataclass

from softlan.client.bridge import Bridge
from softlan.client.player import Player
from softlan.client.running import running
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.device.tap_linux import LinuxTap
from softlan.errors import HostError
from softlan.host.guard import HostGuard
from softlan.host.linux import LinuxNetwork
from softlan.net import loop
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger


@dataclass(frozen=True)
class ClientConfig:
    """Everything that a client process is told."""

    tunnel: TunnelConfig
    tap_name: str = "softlan0"
    discovery: bool = True
    """Whether this machine's broadcasts and multicasts go into the room."""
    frame_log: FrameLogMode = FrameLogMode.OFF


async def run_client(config: ClientConfig) -> None:
    """Be in the room until SIGINT or SIGTERM. Raises SoftlanError for what ends it otherwise."""
    log = get_logger("client")
    mac = config.tunnel.identity.mac
    assert mac is not None
    guard = HostGuard(LinuxNetwork(), config.tunnel.state_dir / f"host-{config.tap_name}.json")
    for line in guard.recover():
        log.warning("recovered", what=line)

    counters = TrafficCounters()
    async with running() as stop:
        addresses = await resolve(config.tunnel.relay)  # before any interface is touched
        tap = LinuxTap.open(config.tap_name)
        bridge = Bridge(tap, counters, stop.fail)
        player = Player(tap, bridge, LinuxNetwork(), guard, mac, discovery=config.discovery)
        try:
            frame_log = FrameLog(config.frame_log, lambda record: log.info("frame", **record))
            tunnel = Tunnel(config.tunnel, player, counters, addresses, frame_log)
            bridge.send = tunnel.send_frames
            await tunnel.run(stop.event)
        finally:
            player.close()
        stop.check()
    log.info("stopped", **counters.snapshot())


def unsupported_here(what: str) -> None:
    """Raise HostError on a system that has no TAP or packet sockets of the kind we know."""
    if sys.platform != "linux":
        raise HostError("platform", f"unsupported platform: {what} runs on Linux, not on {sys.platform}")


def run(config: ClientConfig) -> None:
    """`run_client` in an event loop of its own."""
    loop.run(run_client(config))
