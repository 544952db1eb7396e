"""Tunnels over loopback UDP, with real relays in the same event loop that come and go; all wait less than usual."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_relay import eventually
from tests.support.wire import credentials, trust

from softlan.client import attempts, path, tunnel
from softlan.client.reconnect import Backoff
from softlan.client.session import Identity
from softlan.client.tunnel import Tunnel, TunnelConfig
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role, Welcome
from softlan.errors import HostError, RemoteError
from softlan.net.address import HostPort, SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.obs.logging import get_logger
from softlan.proto.keys import room_keys
from softlan.quic.door import Door
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Trust
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.settings import RoomBook, RoomSettings

MAC, OTHER = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")


class Host:
    """A machine that relays run on, one after the other, at one address."""

    def __init__(self) -> None:
        self.relay: Relay
        self._driver: EndpointDriver | None = None
        self.port = 0

    def start(self, *, room_mtu: int = 1418, **limits: Any) -> None:
        """Start a relay that knows nothing of the one before it."""
        relay = self.relay = Relay(
            RelayLimits(**limits),
            RoomBook(RoomSettings(room_mtu)),
            FrameLog.off(),
            get_logger("relay"),
        )
        sock = open_udp(HostPort("127.0.0.1", self.port))
        self.port = sock.local_address[1]
        side = Door(credentials(), lambda connection: relay.accept(connection, time.monotonic()))
        self._driver = EndpointDriver(Endpoint(sock, side), asyncio.get_running_loop())

    def kill(self) -> None:
        """End it without a word."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def freeze(self) -> None:
        """Hear and say nothing for now, and forget nothing."""
        assert self._driver is not None
        asyncio.get_running_loop().remove_reader(self._driver.endpoint.sock.fileno())

    def thaw(self) -> None:
        """Go on; what came meanwhile was lost on the way."""
        assert self._driver is not None
        while self._driver.endpoint.sock.recv():
            pass
        asyncio.get_running_loop().add_reader(self._driver.endpoint.sock.fileno(), self._driver._readable)

    def flush(self) -> None:
        assert self._driver is not None
        self._driver.flush()

    @property
    def members(self) -> list[int]:
        """The peer ids of those who are in a room."""
        return sorted(session.member.peer_id for session in self.relay.sessions if session.member is not None)


class End:
    """One end of a tunnel: the tunnel, running, and a `FrameSink` that remembers."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        *,
        mac: bytes = MAC,
        secret: bytes | None = None,
        trust: Trust,
        addresses: Any = None,
    ) -> None:
        self.welcomes: list[Welcome] = []
        self.lost_count = 0
        self.frames: list[bytes] = []
        self.came: list[PeerJoined] = []
        self.ticks = 0
        self.refuses: HostError | None = None
        self.stop = asyncio.Event()
        self.counters = TrafficCounters()
        keys = room_keys(secret, "den") if secret is not None else None
        identity = Identity(
            Role.CLIENT, "den", mac, "a test", keys.token if keys else None, keys.frame_key if keys else None
        )
        config = TunnelConfig(HostPort("127.0.0.1", host.port), trust, identity, directory)
        self.tunnel = Tunnel(config, self, self.counters, addresses or [("127.0.0.1", host.port)])
        self.running = asyncio.create_task(self.tunnel.run(self.stop))

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        self.welcomes.append(welcome)
        if self.refuses is not None:
            raise self.refuses

    def lost(self) -> None:
        self.lost_count += 1

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        self.came.append(peer)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None: ...

    def frames_received(self, frames: list[bytes], now: float) -> None:
        self.frames += frames

    def tick(self, now: float) -> None:
        self.ticks += 1

    async def in_room(self, times: int = 1) -> Welcome:
        await eventually(lambda: len(self.welcomes) >= times or self.running.done(), f"in the room, time {times}")
        if self.running.done():
            self.running.result()
        return self.welcomes[times - 1]

    async def end(self) -> None:
        """Ask it to end, and wait for that; raises what it raises."""
        self.stop.set()
        async with asyncio.timeout(2):
            await self.running


class Field:
    """A host, and as many ends as a test wants."""

    def __init__(self, directory: Path) -> None:
        self.host = Host()
        self.ends: list[End] = []
        self._directory = directory

    def end(self, host: Host | None = None, *, pinned: Trust | None = None, **how: Any) -> End:
        directory = self._directory / f"state{len(self.ends)}"
        self.ends.append(End(host or self.host, directory, trust=pinned or trust(), **how))
        return self.ends[-1]


@contextlib.asynccontextmanager
async def tunnel_field(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Field]:
    """A field with a relay that runs."""
    monkeypatch.setattr(path, "QUIET", 0.1)
    monkeypatch.setattr(path, "ASK_AGAIN", 0.1)
    monkeypatch.setattr(path, "SILENT", 0.6)
    monkeypatch.setattr(attempts, "AGAIN", 0.3)
    monkeypatch.setattr(attempts, "PATIENCE", 0.7)
    monkeypatch.setattr(tunnel, "TICK", 0.02)
    monkeypatch.setattr(Backoff, "next", lambda self, random, retry_after=None: 0.02)
    field = Field(directory)
    field.host.start()
    try:
        yield field
    finally:
        for end in field.ends:
            end.stop.set()
        for end in field.ends:
            with contextlib.suppress(RemoteError, HostError):
                async with asyncio.timeout(5):
                    await end.running
        field.host.kill()
