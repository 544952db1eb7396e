"""The client as a process: identity, TAP, tunnel, signals."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

from softlan.client.attempts import FrameSink
from softlan.client.bridge import Bridge
from softlan.client.platform import Platform, TapCare, open_platform
from softlan.client.player import Player
from softlan.client.running import running
from softlan.client.screen import Screen
from softlan.client.status import Status, StatusOptions
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.device.base import TapDevice
from softlan.errors import HostError, SoftlanError
from softlan.host.privileges import Capability, drop_privileges
from softlan.net import loop
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy


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


async def run_client(config: ClientConfig, opened: Callable[[], None] = lambda: None) -> None:
    """Be in the room until told to stop (`running`). Raises SoftlanError for what ends it otherwise.

    `opened` is called when the TAP is open, before the relay hears of us.
    """
    log = get_logger("client")
    mac = config.tunnel.identity.mac
    assert mac is not None
    platform = open_platform(config, config.tunnel.state_dir)
    for line in platform.recover():
        log.warning("recovered", what=line)

    counters = TrafficCounters()
    async with running() as stop:
        addresses = await stop.unless(resolve(config.tunnel.relay))  # before any interface is touched
        if addresses is None:
            return
        tap, care = await open_tap(platform, mac)
        bridge = Bridge(tap, counters, stop.fail)
        player = Player(tap, bridge, platform.network, platform.guard, mac, care)
        status = Status(player, platform.network, counters, tap.counters, room=config.tunnel.identity.room)
        try:
            opened()
            frame_log = FrameLog(config.frame_log, lambda record: log.info("frame", **record))
            sink: FrameSink = status
            if config.tunnel.identity.frame_key is not None:
                sink = Screen(status, mac, PolicyEngine(Policy()), counters, frame_log)
            tunnel = Tunnel(config.tunnel, sink, counters, addresses, frame_log)
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


async def open_tap(platform: Platform, mac: bytes) -> tuple[TapDevice, TapCare]:
    """`Platform.open_tap`, in a thread where it is slow; what was opened is given back if this is cancelled.

    Meanwhile the loop hears of a stop, which counts as soon as the TAP is there. Raises SoftlanError.
    """
    if not platform.IS_SLOW_TO_OPEN:
        return platform.open_tap(mac)
    opening = asyncio.ensure_future(asyncio.to_thread(platform.open_tap, mac))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # a thread cannot be cancelled: take over what it opened, and give it back
        with contextlib.suppress(SoftlanError):
            (await opening)[0].close()
        for line in platform.close():
            get_logger("client").warning("restore.failed", reason=line)
        raise


def unsupported_here(what: str) -> None:
    """Raise HostError on a system that has no packet sockets of the kind we know."""
    if sys.platform != "linux":
        raise HostError("platform", f"unsupported platform: {what} runs on Linux, not on {sys.platform}")


def run(config: ClientConfig) -> None:
    """`run_client` in an event loop of its own, as a process that gives up the privileges it no longer needs."""
    needed, log = frozenset((Capability.NET_ADMIN,)), get_logger("client")
    loop.run(run_client(config, lambda: drop_privileges(needed, config.tunnel.state_dir, log)))
