"""What the service command makes of its flags, and how the client is kept running."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from softlan.cli.options import LogOptions, PlayerOptions, RelayOptions, client_config
from softlan.cli.windows_service import (
    LOG_LIMIT,
    RETRY,
    command_line,
    install,
    keep_running,
    kept_invitation,
    open_log,
    remove,
    service_directory,
)
from softlan.client import service
from softlan.client.invitation import Invitation
from softlan.client.service import ClientConfig
from softlan.errors import HostError, RemoteError, UsageError
from softlan.host import kernel32, powershell, scm
from softlan.host.powershell import Done
from softlan.host.scm import ServiceControl
from softlan.net.address import HostPort

TARGET = RelayOptions(relay="192.0.2.7", room="DEN")
INVITATION = Invitation(HostPort("192.0.2.7", 443), "DEN", None, bytes(32), bytes(range(32)))


def test_a_command_line_without_flags() -> None:
    line = command_line(TARGET, PlayerOptions(), None, LogOptions())
    assert line == f"{sys.executable} -m softlan service run --relay=192.0.2.7 --room=DEN"


def test_a_command_line_with_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", r"C:\Program Files\softlan\softlan.exe")
    target = RelayOptions(relay="192.0.2.7", room="DEN", relay_ca_cert=Path("relay.der"))
    player = PlayerOptions(tap_name="Ethernet 7", metric=3, discovery=False, allow_inbound=True)
    line = command_line(target, player, Path("state"), LogOptions(log_level="debug"))
    assert line == (
        r'"C:\Program Files\softlan\softlan.exe" service run --relay=192.0.2.7 --room=DEN '
        f"--relay-ca-cert={tmp_path / 'relay.der'} "
        '"--tap-name=Ethernet 7" --metric=3 --no-discovery --allow-inbound --log-level=debug '
        f"--state-dir {tmp_path / 'state'}"
    )


def test_a_command_line_with_an_invitation_names_its_file() -> None:
    target = RelayOptions(invite=r"@C:\party\invitation.txt", no_seal=True)
    line = command_line(target, PlayerOptions(), None, LogOptions())
    assert line.endswith(r"service run --invite=@C:\party\invitation.txt --no-seal")


# The invitation's file


class Icacls:
    """Stands for icacls: notes what it was asked, and what the file had in it at that moment."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self.status = 0

    def __call__(self, argv: list[str], variables: Mapping[str, str]) -> Done:
        self.asked.append((argv, Path(argv[1]).read_text()))
        return Done(self.status, "", "access\r\nis denied\r\n" if self.status else "")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Icacls:
    """As much of Windows as there has to be."""
    icacls = Icacls()
    monkeypatch.setattr(kernel32, "system_directory", lambda: str(tmp_path / "System32"))
    monkeypatch.setattr(powershell, "run_process", icacls)
    monkeypatch.delenv("SOFTLAN_INVITE", raising=False)
    return icacls


def test_only_administrators_and_the_system_may_read_it(windows: Icacls, tmp_path: Path) -> None:
    path = tmp_path / "state" / "invitation.txt"
    with kept_invitation(path, INVITATION.text()):
        assert path.read_text() == f"{INVITATION.text()}\n"
    ((argv, content),) = windows.asked
    # Well-known SIDs: the names of these two are other ones in every language.
    assert argv == [
        str(tmp_path / "System32" / "icacls.exe"),
        str(path),
        *("/inheritance:r", "/grant:r", "*S-1-5-18:F", "*S-1-5-32-544:F"),
    ]
    assert content == ""
    assert [file.name for file in path.parent.iterdir()] == ["invitation.txt"]


def test_a_file_that_cannot_be_protected_is_not_left(windows: Icacls, tmp_path: Path) -> None:
    path = tmp_path / "invitation.txt"
    windows.status = 5
    with (
        pytest.raises(HostError, match=r"cannot protect .*: access is denied"),
        kept_invitation(path, INVITATION.text()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("windows")
def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(HostError, match="run it as administrator"),
        kept_invitation(tmp_path / "file" / "invitation.txt", INVITATION.text()),
    ):
        pass


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command lines of services that were registered."""
    lines: list[str] = []
    monkeypatch.setattr(scm, "install", lines.append)
    return lines


GIVEN: dict[str, Callable[[Path, pytest.MonkeyPatch], RelayOptions]] = {
    "text": lambda path, patch: RelayOptions(invite=INVITATION.text()),
    "file": lambda path, patch: RelayOptions(invite=f"@{path}"),
    "environment": lambda path, patch: patch.setenv("SOFTLAN_INVITE", INVITATION.text()) or RelayOptions(),
}


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("how", GIVEN)
def test_the_registry_gets_no_secret(
    how: str, registered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.invite"
    given.write_text(INVITATION.text())
    install(target=GIVEN[how](given, monkeypatch))
    path = service_directory(None) / "invitation.txt"
    assert path == tmp_path / "System32/config/systemprofile/AppData/Local/softlan/invitation.txt"
    (line,) = registered
    assert f"--invite=@{path}" in line
    assert path.read_text().strip() == INVITATION.text()
    for text in (line, *capsys.readouterr()):
        assert INVITATION.text() not in text


@pytest.mark.usefixtures("windows")
def test_a_service_that_is_there_already_keeps_its_invitation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def exists(line: str) -> None:
        raise UsageError("the service softlan exists already")

    monkeypatch.setattr(scm, "install", exists)
    (tmp_path / "invitation.txt").write_text("the old one")
    with pytest.raises(UsageError, match="exists already"):
        install(target=RelayOptions(invite=INVITATION.text()), state_dir=tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"invitation.txt": "the old one"}


@pytest.mark.usefixtures("windows")
def test_an_invitation_goes_with_its_service(
    registered: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scm, "remove", lambda: None)
    for state_dir in (None, tmp_path / "state"):
        install(target=RelayOptions(invite=INVITATION.text()), state_dir=state_dir)
        path = service_directory(state_dir) / "invitation.txt"
        assert path.exists()
        remove(state_dir=state_dir)
        assert not path.exists()
    remove()


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("is_there", [True, False])
def test_no_invitation_outlives_its_service(is_there: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor one that was put aside, nor where somebody has taken the service off the list already."""

    def gone() -> None:
        raise UsageError("there is no service softlan")

    monkeypatch.setattr(scm, "remove", (lambda: None) if is_there else gone)
    for name in ("invitation.txt", "invitation.old"):
        (tmp_path / name).write_text(INVITATION.text())
    with contextlib.nullcontext() if is_there else pytest.raises(UsageError, match="there is no service"):
        remove(state_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("windows")
def test_a_service_that_cannot_be_removed_keeps_its_invitation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied() -> None:
        raise HostError("service", "cannot open the service: access denied; run it as administrator")

    monkeypatch.setattr(scm, "remove", denied)
    (tmp_path / "invitation.txt").write_text(INVITATION.text())
    with pytest.raises(HostError, match="access denied"):
        remove(state_dir=tmp_path)
    assert (tmp_path / "invitation.txt").exists()


def test_single_flags_need_no_file(registered: list[str]) -> None:
    install(target=TARGET)
    assert "--relay=192.0.2.7 --room=DEN" in registered[0]


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
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="--state-dir"):
        open_log(tmp_path / "file")
