"""What the service command makes of its flags, and how the client is kept running."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from softlan.cli.options import LogOptions, PlayerOptions, RelayOptions, client_config
from softlan.cli.windows_service import LOG_LIMIT, RETRY, command_line, keep_running, open_log
from softlan.client import service
from softlan.client.service import ClientConfig
from softlan.errors import HostError, RemoteError
from softlan.host.scm import ServiceControl

TARGET = RelayOptions("192.0.2.7", "DEN")


def test_a_command_line_without_flags() -> None:
    line = command_line(TARGET, PlayerOptions(), None, LogOptions())
    assert line == f"{sys.executable} -m softlan service run --relay=192.0.2.7 --room=DEN"


def test_a_command_line_with_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", r"C:\Program Files\softlan\softlan.exe")
    target = RelayOptions("192.0.2.7", "DEN", relay_ca_cert=Path("relay.der"))
    player = PlayerOptions(tap_name="Ethernet 7", metric=3, discovery=False, allow_inbound=True)
    line = command_line(target, player, Path("state"), LogOptions(log_level="debug"))
    assert line == (
        r'"C:\Program Files\softlan\softlan.exe" service run --relay=192.0.2.7 --room=DEN '
        f"--relay-ca-cert={tmp_path / 'relay.der'} "
        '"--tap-name=Ethernet 7" --metric=3 --no-discovery --allow-inbound --log-level=debug '
        f"--state-dir {tmp_path / 'state'}"
    )


@pytest.fixture
def config(tmp_path: Path) -> ClientConfig:
    return client_config(TARGET, PlayerOptions(), LogOptions(), tmp_path)


def test_a_stop_ends_the_client_which_tidies_up(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control, done = ServiceControl(), []

    async def run_client(given: ClientConfig) -> None:
        assert given is config
        threading.Thread(target=control.stop).start()
        try:
            await asyncio.Event().wait()
        finally:
            done.append("tidied")

    monkeypatch.setattr(service, "run_client", run_client)
    assert keep_running(config, control) == 0
    assert done == ["tidied"]


def test_what_this_machine_cannot_do_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control, runs = ServiceControl(), []

    async def run_client(given: ClientConfig) -> None:
        runs.append(given)
        if len(runs) == 3:
            control.stop()
        raise HostError("resolve", "no network yet")

    monkeypatch.setattr(service, "run_client", run_client)
    assert keep_running(config, control, 0.0) == 0
    assert len(runs) == 3


def test_what_fails_at_the_end_does_not_begin_again(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control, runs = ServiceControl(), []

    async def run_client(given: ClientConfig) -> None:
        runs.append(given)
        control.stop()
        try:
            await asyncio.Event().wait()
        finally:
            raise HostError("restore", "could not put it back")

    monkeypatch.setattr(service, "run_client", run_client)
    assert keep_running(config, control, 0.0) == 0
    assert len(runs) == 1


def test_a_stop_that_comes_too_late(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control = ServiceControl()

    async def run_client(given: ClientConfig) -> None:
        raise RemoteError("bad_room", "no such room")

    monkeypatch.setattr(service, "run_client", run_client)
    with pytest.raises(RemoteError):
        keep_running(config, control, 0.0)
    control.stop()


def test_only_the_service_manager_ends_it(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control, runs = ServiceControl(), []

    async def run_client(given: ClientConfig) -> None:
        runs.append(given)  # and ends by itself, as it does when Windows says that it shuts down
        if len(runs) == 3:
            control.stop()

    monkeypatch.setattr(service, "run_client", run_client)
    assert keep_running(config, control, 0.0) == 0
    assert len(runs) == 3


def test_what_ended_by_itself_is_not_begun_again_at_once(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    control, done = ServiceControl(), []

    async def run_client(given: ClientConfig) -> None:
        done.append("ran")

    async def sleep(seconds: float) -> None:
        done.append(f"slept {seconds:.0f} s")
        control.stop()

    monkeypatch.setattr(service, "run_client", run_client)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert keep_running(config, control) == 0
    assert done == ["ran", f"slept {RETRY:.0f} s", "ran"]


def test_what_the_relay_refuses_ends_it(monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
    async def run_client(given: ClientConfig) -> None:
        raise RemoteError("bad_room", "no such room")

    monkeypatch.setattr(service, "run_client", run_client)
    with pytest.raises(RemoteError):
        keep_running(config, ServiceControl(), 0.0)


def test_the_log_is_put_aside_when_it_is_long(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        with open_log(tmp_path / "state") as log:
            log.write(text)
    path = tmp_path / "state" / "service.log"
    assert path.read_text() == "one\ntwo\n"
    path.write_text("x" * (LOG_LIMIT + 1))
    open_log(path.parent).close()
    assert path.read_text() == ""
    assert path.with_suffix(".old.log").stat().st_size == LOG_LIMIT + 1


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="--state-dir"):
        open_log(tmp_path / "file")
