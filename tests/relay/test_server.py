import asyncio
import contextlib
import datetime
import signal
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.support.aioquic_peer import PATIENCE, connected
from tests.support.live_relay import SERVER_NAME, eventually
from tests.support.softlan_gateway import softlan_gateway
from tests.support.tools import require_tool

from softlan.demo.processes import Process
from softlan.net.address import HostPort
from softlan.quic.trust import development_credentials, load_trust
from softlan.relay import server
from softlan.relay.limits import RelayLimits
from softlan.relay.server import RelayConfig, serve


def start(directory: Path) -> Process:
    """The command, on a free port of loopback."""
    require_tool("setpriv")
    command = [sys.executable, "-m", "softlan", "relay", "--listen", "127.0.0.1:0", "--log-format", "json"]
    command += ["--state-dir", str(directory / "state"), "--dev-cert-der-out", str(directory / "relay.der")]
    return Process("relay", command, directory / "relay.log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_serves_shows_its_rooms_and_says_goodbye(tmp_path: Path, number: signal.Signals) -> None:
    relay = start(tmp_path)
    try:
        await eventually(lambda: relay.events("relay.listening") or relay.status is not None, "the relay listens")
        [listening] = relay.events("relay.listening")
        assert listening["address"] == "127.0.0.1"
        port = int(str(listening["port"]))
        trust = load_trust(tmp_path / "relay.der", SERVER_NAME, datetime.datetime.now(datetime.UTC))

        async with softlan_gateway(port, trust, tmp_path) as (_, lan):
            assert lan.welcome is not None
            relay.send_signal(signal.SIGUSR1)
            await eventually(lambda: relay.events("relay.snapshot"), "a snapshot")
            [room], [totals] = relay.events("room.snapshot"), relay.events("relay.snapshot")
            assert (room["room"], room["mtu"]) == ("den", 1418)
            [member] = room["members"]
            assert (member["peer"], member["role"], member["software"]) == (lan.welcome.peer_id, "gateway", "a test")
            assert member["last_seen"] >= 0
            assert (totals["rooms"], totals["connections"]) == (1, 1)

            relay.send_signal(number)
            await eventually(lambda: lan.welcome is None, "the gateway has heard that the relay goes")
            assert await asyncio.to_thread(relay.finish, PATIENCE) == 0
        assert [event["peers"] for event in relay.events("relay.stopping")] == [1]
        assert "Traceback" not in relay.output()
    finally:
        relay.stop()


async def test_its_clock_ends_who_says_nothing(tmp_path: Path) -> None:
    credentials = development_credentials(tmp_path, SERVER_NAME, datetime.datetime.now(datetime.UTC))
    limits = RelayLimits(hello_timeout=0.05)
    config = RelayConfig(HostPort("127.0.0.1", 0), credentials, limits, retry_above=0)
    with capture_logs() as logs:
        task = asyncio.create_task(serve(config))
        try:
            await eventually(
                lambda: task.done() or any(line["event"] == "relay.listening" for line in logs), "it listens"
            )
            port = next(line["port"] for line in logs if line["event"] == "relay.listening")
            async with connected(port, credentials.chain, server_name=SERVER_NAME) as peer:
                assert (await peer.end()).reason_phrase == "hello_timeout: say hello within 0.05 s of the handshake"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_with_stats_it_says_what_its_socket_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STATS_INTERVAL", 0.0)
    monkeypatch.setattr(server, "TICK", 0.01)
    credentials = development_credentials(tmp_path, SERVER_NAME, datetime.datetime.now(datetime.UTC))
    config = RelayConfig(listen=HostPort("127.0.0.1", 0), credentials=credentials, stats=True)
    with capture_logs() as events:
        task = asyncio.create_task(serve(config))
        await eventually(lambda: sum(event["event"] == "relay.stats" for event in events) >= 2, "two lines of figures")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    line = next(event for event in events if event["event"] == "relay.stats")
    assert line["in_a_call"] == line["datagrams_in_s"] == 0.0
