"""A gateway without a LAN: softlan's own session with a relay, and in the place of the wired interface a list."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.live_relay import eventually

from softlan.client.session import Identity
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role, Welcome
from softlan.net.address import HostPort, SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.quic.trust import Trust


class Lan:
    """The far side of a gateway: what arrives there, and who it knows of."""

    def __init__(self) -> None:
        self.welcome: Welcome | None = None
        self.frames: list[bytes] = []
        self.peers: list[str] = []

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        self.welcome = welcome

    def lost(self) -> None:
        self.welcome = None

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        self.peers.append(f"{peer.mac} came")

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        self.peers.append(f"{peer.mac if peer else '?'} left: {left.reason}")

    def frames_received(self, frames: list[bytes], now: float) -> None:
        self.frames += frames

    def tick(self, now: float) -> None:
        pass


@contextlib.asynccontextmanager
async def softlan_gateway(port: int, trust: Trust, state_dir: Path) -> AsyncIterator[tuple[Tunnel, Lan]]:
    """A gateway in room `den` of the relay at 127.0.0.1, until the end of the context; then it says goodbye."""
    lan, stop = Lan(), asyncio.Event()
    config = TunnelConfig(
        relay=HostPort("127.0.0.1", port),
        trust=trust,
        identity=Identity(Role.GATEWAY, "den", None, "a test"),
        state_dir=state_dir / "gateway",
    )
    tunnel = Tunnel(config, lan, TrafficCounters(), [("127.0.0.1", port)])
    task = asyncio.create_task(tunnel.run(stop))
    try:
        await eventually(lambda: lan.welcome or task.done(), "the gateway is in the room")
        yield tunnel, lan
    finally:
        stop.set()
        await task
