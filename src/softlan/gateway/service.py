"""The gateway as a process: the wired interface first, then the tunnel, until a signal."""

from collections.abc import Callable
from dataclasses import dataclass, field

from softlan.client.bridge import Bridge
from softlan.client.running import running
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.gateway.bridge import Lan
from softlan.gateway.cam import CamRefresh
from softlan.gateway.second_look import LookMode, SecondLook
from softlan.host.privileges import drop_privileges, one_thread
from softlan.net import loop
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.obs.logging import get_logger
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that a gateway process is told."""

    tunnel: TunnelConfig
    interface: str
    policy: Policy = field(default_factory=Policy)
    """What may go onto the LAN."""
    look: LookMode = LookMode.ON
    """Whether frames from the room are looked at again."""
    frame_log: FrameLogMode = FrameLogMode.OFF


async def run_gateway(config: GatewayConfig, opened: Callable[[], None] = lambda: None) -> None:
    """Bridge until SIGINT or SIGTERM. Raises SoftlanError for what ends it otherwise.

    The interface is opened before the relay hears of us, so that no room has a gateway that cannot bridge. In between
    `opened` is called.
    """
    from softlan.device.af_packet import PacketSocket  # only now: see `one_thread`

    log = get_logger("gateway")
    counters = TrafficCounters()
    async with running() as stop:
        device = PacketSocket.open(config.interface)
        opened()
        bridge = Bridge(device, counters, stop.fail)
        mode = config.frame_log
        if config.look is LookMode.LOG and mode is FrameLogMode.OFF:
            mode = FrameLogMode.DROPS  # or there would be nothing to see of it
        frame_log = FrameLog(mode, lambda record: log.info("frame", **record))
        look = SecondLook(config.look, PolicyEngine(config.policy), counters, frame_log)
        lan = Lan(bridge, CamRefresh(), look, sealed=config.tunnel.identity.frame_key is not None)
        try:
            addresses = await stop.unless(resolve(config.tunnel.relay))
            if addresses is not None:
                tunnel = Tunnel(config.tunnel, lan, counters, addresses, frame_log)
                bridge.send = tunnel.send_frames
                await tunnel.run(stop.event)
        finally:
            lan.close()
        stop.check()
    log.info("stopped", **counters.snapshot())


def run(config: GatewayConfig) -> None:
    """`run_gateway` in an event loop of its own, as a process that gives up the privileges it no longer needs."""
    one_thread()
    log = get_logger("gateway")
    loop.run(run_gateway(config, lambda: drop_privileges(frozenset(), config.tunnel.state_dir, log)))
