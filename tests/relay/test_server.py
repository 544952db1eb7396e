import asyncio
import contextlib
import datetime
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.support.aioquic_peer import PATIENCE, connected
from tests.support.live_relay import SERVER_NAME, eventually
from tests.support.softlan_gateway import softlan_gateway
from tests.support.tools import require_tool

from softlan.demo.processes import Process
from softlan.host.privileges import Capability
from softlan.net.address import HostPort
from softlan.obs.logging import get_logger
from softlan.quic.trust import Credentials, development_credentials, load_trust
from softlan.relay import certificates, renewal, server
from softlan.relay.certificates import PemFiles
from softlan.relay.limits import RelayLimits
from softlan.relay.renewal import AcmeConfig
from softlan.relay.server import RelayConfig, Ticker, serve

COMMAND = (sys.executable, "-m", "softlan", "relay", "--listen", "127.0.0.1:0", "--log-format", "json")


def start(directory: Path, *flags: str) -> Process:
    """The command, on a free port of loopback."""
    require_tool("setpriv")
    flags = flags or ("--dev-cert-der-out", str(directory / "relay.der"))
    return Process("relay", [*COMMAND, "--state-dir", str(directory / "state"), *flags], directory / "relay.log")


def make(directory: Path) -> Credentials:
    """A certificate of its own for each directory."""
    return development_credentials(directory, SERVER_NAME, datetime.datetime.now(datetime.UTC))


async def shows(port: int, credentials: Credentials) -> bool:
    """Whether it is this certificate that newcomers are shown."""
    async with connected(port, credentials.chain, server_name=SERVER_NAME) as peer:
        await peer.until(lambda: peer.established or peer.closed)
        return peer.established


@contextlib.asynccontextmanager
async def serving(config: RelayConfig) -> AsyncIterator[tuple[int, list[MutableMapping[str, Any]]]]:
    """`serve` in this loop; its port, and what it logs."""
    with capture_logs() as logs:
        task = asyncio.create_task(serve(config))
        try:
            await eventually(
                lambda: task.done() or any(line["event"] == "relay.listening" for line in logs), "it listens"
            )
            yield next(line["port"] for line in logs if line["event"] == "relay.listening"), logs
            assert not task.done()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


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
            assert (totals["certificate_days_left"], totals["tick_faults"]) == (824, 0)

            relay.send_signal(number)
            await eventually(lambda: lan.welcome is None, "the gateway has heard that the relay goes")
            assert await asyncio.to_thread(relay.finish, PATIENCE) == 0
        assert [event["peers"] for event in relay.events("relay.stopping")] == [1]
        assert "Traceback" not in relay.output()
    finally:
        relay.stop()


async def test_a_new_certificate_is_shown_to_newcomers_and_touches_nobody_else(tmp_path: Path) -> None:
    old, new = make(tmp_path / "old"), make(tmp_path / "new")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(old.chain)
    key.write_bytes(old.key)
    relay = start(tmp_path, "--cert", str(cert), "--key", str(key))
    try:
        await eventually(lambda: relay.events("relay.listening") or relay.status is not None, "the relay listens")
        port = int(str(relay.events("relay.listening")[0]["port"]))
        trust = load_trust(cert, SERVER_NAME, datetime.datetime.now(datetime.UTC))
        async with softlan_gateway(port, trust, tmp_path) as (_, lan):
            first = lan.welcome
            assert first is not None
            cert.write_bytes(new.chain)
            relay.send_signal(signal.SIGHUP)
            await eventually(lambda: relay.events("relay.certificate_refused"), "half a pair is refused")
            assert await shows(port, old)
            key.write_bytes(new.key)
            relay.send_signal(signal.SIGHUP)
            await eventually(lambda: relay.events("relay.certificate_changed"), "the pair is shown")
            assert await shows(port, new)
            assert not await shows(port, old)
            relay.send_signal(signal.SIGUSR1)
            await eventually(lambda: relay.events("room.snapshot"), "a snapshot")
            [room] = relay.events("room.snapshot")
            [member] = room["members"]  # type: ignore[misc]
            assert member["peer"] == first.peer_id
            assert lan.welcome is first, "the gateway's session never ended"
        assert "Traceback" not in relay.output()
    finally:
        relay.stop()


def left(relay: Process) -> set[int]:
    """What its threads may do, as the kernel tells it (proc_pid_status(5))."""
    found = set()
    for task in Path(f"/proc/{relay.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("CapPrm", "CapEff", "CapBnd"):
                found.add(int(value, 16) if key != "CapBnd" or os.geteuid() == 0 else 0)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
async def test_once_it_listens_it_has_no_privilege_and_reads_new_files_all_the_same(tmp_path: Path) -> None:
    old, new = make(tmp_path / "old"), make(tmp_path / "new")
    bundle = tmp_path / "bundle.pem"
    bundle.touch(mode=0o600)
    bundle.write_bytes(old.key + old.chain)
    relay = start(tmp_path, "--cert", str(bundle), "--key", str(bundle))
    try:
        await eventually(lambda: relay.events("relay.listening") or relay.status is not None, "the relay listens")
        [said] = relay.events("privileges")
        kept = {name for name in str(said["kept"]).split(",") if name != "none"}
        assert kept <= {"dac_read_search"}, "that one only where Python itself is closed to others"
        assert left(relay) <= {0, sum(1 << Capability[name.upper()] for name in kept)}
        bundle.write_bytes(new.key + new.chain)
        relay.send_signal(signal.SIGHUP)
        await eventually(lambda: relay.events("relay.certificate_changed"), "the new one is shown")
    finally:
        relay.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
async def test_with_acme_it_may_have_low_ports_and_nothing_else(tmp_path: Path) -> None:
    directory = "https://127.0.0.1:1/directory"  # nobody answers there
    relay = start(tmp_path, "--acme", "relay.example", "--acme-directory", directory, "--acme-http-listen", "0")
    try:
        await eventually(lambda: relay.events("acme.failed") or relay.status is not None, "an attempt has failed")
        [failed] = relay.events("acme.failed")
        assert str(failed["why"]).startswith(f"cannot reach {directory}: "), "its account could be kept"
        [said] = relay.events("privileges")
        kept = {name for name in str(said["kept"]).split(",") if name not in ("none", "dac_read_search")}
        assert kept == ({"net_bind_service"} if os.geteuid() == 0 else set())
        for capabilities in left(relay):
            assert not capabilities & ~(1 << Capability.NET_BIND_SERVICE | 1 << Capability.DAC_READ_SEARCH)
    finally:
        relay.stop()


async def test_changed_files_are_seen_without_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(server, "TICK", 0.01)
    old, new = make(tmp_path / "old"), make(tmp_path / "new")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.key + old.chain)
    config = RelayConfig(HostPort("127.0.0.1", 0), old, certificate_files=PemFiles(bundle, bundle))
    async with serving(config) as (port, logs):
        bundle.write_bytes(new.key + new.chain)
        await eventually(lambda: any(line["event"] == "relay.certificate_changed" for line in logs), "it is seen")
        assert await shows(port, new)


async def test_a_renewed_certificate_is_shown_and_none_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is waited for, with the port left alone; the next one is there while it listens."""
    monkeypatch.setattr(renewal, "CALENDAR", 0.01)
    made, due = [make(tmp_path / "first"), make(tmp_path / "second")], [False]
    monkeypatch.setattr(renewal, "_by_acme", lambda config, answers: made[int(due[0])])
    monkeypatch.setattr(renewal, "renewal_due", lambda shown, now: due[0] and shown != made[1])
    acme = AcmeConfig(SERVER_NAME, tmp_path / "state", listen=HostPort("127.0.0.1", 0))
    async with serving(RelayConfig(HostPort("127.0.0.1", 0), None, acme=acme)) as (port, logs):
        assert await shows(port, made[0])
        due[0] = True
        await eventually(lambda: any(line["event"] == "relay.certificate_changed" for line in logs), "it is renewed")
        assert await shows(port, made[1])


async def test_waiting_for_the_first_certificate_can_be_ended(tmp_path: Path) -> None:
    directory = "https://127.0.0.1:1/directory"  # nobody answers there
    relay = start(
        tmp_path, "--acme", "relay.example", "--acme-directory", directory, "--acme-http-listen", "127.0.0.1:0"
    )
    try:
        await eventually(lambda: relay.events("acme.failed") or relay.status is not None, "an attempt has failed")
        [failed] = relay.events("acme.failed")
        assert str(failed["why"]).startswith(f"cannot reach {directory}: ")
        relay.send_signal(signal.SIGHUP)
        await eventually(lambda: len(relay.events("acme.failed")) == 2, "it tries at once when it is told to")
        relay.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(relay.finish, PATIENCE) == 0
        assert not relay.events("relay.listening")
        assert "Traceback" not in relay.output()
    finally:
        relay.stop()


async def test_an_acme_server_that_never_answers_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        directory = f"https://127.0.0.1:{silent.getsockname()[1]}/directory"
        flags = ("--acme", "relay.example", "--acme-directory", directory, "--acme-http-listen", "127.0.0.1:0")
        relay = start(tmp_path, *flags)
        try:
            call, _ = await asyncio.to_thread(silent.accept)
            with call:
                relay.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(relay.finish, PATIENCE) == 0
            assert "Traceback" not in relay.output()
        finally:
            relay.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
async def test_in_a_terminal_that_is_gone_it_ends(tmp_path: Path) -> None:
    """As a program does that knows nothing of SIGHUP; in one that is there it looks at its files."""
    terminal, stderr = os.openpty()
    command = [*COMMAND, "--state-dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stderr=stderr, start_new_session=True)
    os.close(stderr)
    said = b""
    try:
        while b"relay.listening" not in said:
            said += await asyncio.to_thread(os.read, terminal, 4096)
        process.send_signal(signal.SIGHUP)
        while b"relay.certificate_kept" not in said:
            said += await asyncio.to_thread(os.read, terminal, 4096)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGHUP
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_part_that_fails_is_said_once_and_the_others_go_on() -> None:
    calls: list[tuple[str, float]] = []

    def broken(now: float) -> None:
        calls.append(("broken", now))
        raise ZeroDivisionError

    ticker = Ticker(get_logger("relay"))
    ticker.parts = {"broken": broken, "sound": lambda now: calls.append(("sound", now))}
    with capture_logs() as logs:
        for now in (1.0, 2.0, 3.0):
            ticker.tick(now)
    assert calls == [(name, now) for now in (1.0, 2.0, 3.0) for name in ("broken", "sound")]
    assert ticker.faults == 3
    assert [(line["event"], line["part"], line["exc_info"]) for line in logs] == [("relay.tick_failed", "broken", True)]


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    class FullDisk:
        def exception(self, event: str, **members: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def broken(now: float) -> None:
        raise ZeroDivisionError

    ticker = Ticker(FullDisk())
    ticker.parts = {"broken": broken}
    ticker.tick(1.0)
    assert ticker.faults == 1


async def test_its_clock_ends_who_says_nothing(tmp_path: Path) -> None:
    credentials = make(tmp_path)
    limits = RelayLimits(hello_timeout=0.05)
    config = RelayConfig(HostPort("127.0.0.1", 0), credentials, limits, retry_above=0)
    async with (
        serving(config) as (port, _),
        connected(port, credentials.chain, server_name=SERVER_NAME) as peer,
    ):
        assert (await peer.end()).reason_phrase == "hello_timeout: say hello within 0.05 s of the handshake"


async def test_with_stats_it_says_what_its_socket_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STATS_INTERVAL", 0.0)
    monkeypatch.setattr(server, "TICK", 0.01)
    config = RelayConfig(listen=HostPort("127.0.0.1", 0), credentials=make(tmp_path), stats=True)
    async with serving(config) as (_, logs):
        await eventually(lambda: sum(line["event"] == "relay.stats" for line in logs) >= 2, "two lines of figures")
    line = next(line for line in logs if line["event"] == "relay.stats")
    assert line["in_a_call"] == line["datagrams_in_s"] == 0.0
    assert line["certificate_days_left"] == 824
