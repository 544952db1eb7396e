"""A real relay on loopback UDP, inside the test's own event loop; only its ticks are the test's to give."""

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.support.aioquic_peer import PATIENCE, AioquicPeer, connected

from softlan.net.address import HostPort
from softlan.obs.frame_log import FrameLog
from softlan.obs.logging import get_logger
from softlan.quic.door import Door
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Credentials, Trust, development_credentials, load_trust, write_der
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.settings import RoomBook, RoomSettings

SERVER_NAME = "lanparty-relay.local"


class LiveRelay:
    """The parts of `softlan.relay.server`, in reach."""

    def __init__(self, credentials: Credentials, limits: RelayLimits, retry_above: int) -> None:
        self.credentials = credentials
        self.relay = Relay(limits, RoomBook(RoomSettings()), FrameLog.off(), get_logger("relay"))
        sock = open_udp(HostPort("127.0.0.1", 0))
        self.port: int = sock.local_address[1]
        server = Door(
            credentials, lambda connection: self.relay.accept(connection, time.monotonic()), retry_above=retry_above
        )
        self.endpoint = Endpoint(sock, server)
        self.driver = EndpointDriver(self.endpoint, asyncio.get_running_loop())

    def peer(self, **how: Any) -> contextlib.AbstractAsyncContextManager[AioquicPeer]:
        """An aioquic peer that connects to it, trusting its certificate; see `aioquic_peer.connected`."""
        return connected(self.port, **{"ca_pem": self.credentials.chain, "server_name": SERVER_NAME} | how)

    def trust(self, directory: Path) -> Trust:
        """What a softlan endpoint makes of its certificate, from a file in DER."""
        write_der(directory / "relay.der", self.credentials)
        return load_trust(directory / "relay.der", SERVER_NAME, datetime.datetime.now(datetime.UTC))

    def tick(self, later: float = 0.0) -> None:
        """The relay's clock strikes, `later` seconds from now."""
        self.relay.tick(time.monotonic() + later)
        self.driver.flush()

    def shut_down(self) -> None:
        """As on SIGTERM, but for the process, which goes on."""
        self.relay.shut_down()
        self.driver.flush()


@contextlib.asynccontextmanager
async def live_relay(state_dir: Path, *, retry_above: int = 64, **limits: Any) -> AsyncIterator[LiveRelay]:
    """Run a relay with a development certificate and these limits."""
    now = datetime.datetime.now(datetime.UTC)
    credentials = development_credentials(state_dir, SERVER_NAME, now)
    live = LiveRelay(credentials, RelayLimits(**limits), retry_above)
    try:
        yield live
    finally:
        live.driver.close()


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that nobody tells us of."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s"
        await asyncio.sleep(0.005)
