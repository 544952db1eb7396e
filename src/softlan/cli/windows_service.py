"""``softlan service``: the client as a service of Windows, from the start of the PC on and without anyone logged in."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cyclopts import App

from softlan.cli.options import (
    DEFAULT_PLAYER,
    NOWHERE,
    LogOptions,
    PlayerOptions,
    RelayOptions,
    StateDir,
    client_config,
    invitation_of,
    state_directory,
)
from softlan.errors import HostError, RemoteError, SoftlanError, UsageError
from softlan.obs.logging import configure, get_logger

if TYPE_CHECKING:
    from softlan.client.service import ClientConfig
    from softlan.host.scm import ServiceControl

service = App(name="service", help="Run the client as a service of Windows (as administrator).")

LOG_NAME = "service.log"
LOG_LIMIT = 4 << 20
"""Bytes from which on a start puts the log aside."""

INVITATION_NAME, ASIDE_NAME = "invitation.txt", "invitation.old"
_READERS = ("*S-1-5-18:F", "*S-1-5-32-544:F")  # the local system, and administrators

RETRY = 15.0  # seconds until the client is tried again after a fault of this machine: at boot the network comes late


@service.command
def install(
    *,
    target: RelayOptions = NOWHERE,
    player: PlayerOptions = DEFAULT_PLAYER,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """Register the service with these flags, to start with Windows, and start it."""
    from softlan.host.scm import SERVICE_NAME
    from softlan.host.scm import install as register

    invitation = invitation_of(target)
    if invitation is not None:
        target = replace(target, invite=invitation.text())
    client_config(target, player, log, None, check_only=True)
    if invitation is None:
        register(command_line(target, player, state_dir, log))
    else:
        path = service_directory(state_dir) / INVITATION_NAME
        with kept_invitation(path, invitation.text()):
            register(command_line(replace(target, invite=f"@{path}"), player, state_dir, log))
    print(f"the service {SERVICE_NAME} is registered and started; its log is {LOG_NAME} in its state directory")


@service.command
def remove(*, state_dir: StateDir = None) -> None:
    """Stop the service and take it off Windows' list, and delete the invitation that it was given."""
    from softlan.host.scm import SERVICE_NAME
    from softlan.host.scm import remove as unregister

    missing: UsageError | None = None
    try:
        unregister()
    except UsageError as error:  # somebody was faster; what they have left goes all the same
        missing = error
    directory = service_directory(state_dir)
    for path in (directory / INVITATION_NAME, directory / ASIDE_NAME):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise HostError(
                "remove", f"the service is removed, but not its invitation {path} ({error.strerror}): delete it"
            ) from error
    if missing is not None:
        raise missing
    print(f"the service {SERVICE_NAME} is removed")


@service.command
def run(
    *,
    target: RelayOptions = NOWHERE,
    player: PlayerOptions = DEFAULT_PLAYER,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """What Windows starts; not for people."""
    from softlan.host.scm import serve

    directory = state_directory(state_dir)

    def work(control: "ServiceControl") -> int:
        with open_log(directory) as stream:
            configure(log.log_format, log.log_level, stream)
            try:
                config = client_config(target, player, log, state_dir)
                return keep_running(config, control)
            except SoftlanError as error:
                get_logger("service").error("ended", reason=str(error))
                return {UsageError: 2, RemoteError: 3}.get(type(error), 1)
            except Exception:  # a service has no terminal: what is not in its log is nowhere
                get_logger("service").exception("fault")
                return 1

    sys.exit(serve(work))


def keep_running(config: "ClientConfig", control: "ServiceControl", retry: float = RETRY) -> int:
    """Be in the room until `control` says stop; returns 0.

    What this machine cannot do now (no network yet, the adapter gone) is tried again every `retry` seconds. Raises
    RemoteError and UsageError, which waiting does not heal.
    """
    from softlan.net import loop

    return loop.run(_keep_running(config, control, retry))


async def _keep_running(config: "ClientConfig", control: "ServiceControl", retry: float) -> int:
    import asyncio

    from softlan.client.service import run_client

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            loop.call_soon_threadsafe(task.cancel)

    control.on_stop(stop)
    try:
        while True:
            try:
                await run_client(config)
            except HostError as error:
                if control.is_stopping:
                    get_logger("service").error("failed", reason=str(error))
                    return 0
                get_logger("service").error("failed", reason=str(error), retry_in=retry)
                await asyncio.sleep(retry)
            else:
                if control.is_stopping:
                    return 0
                # Windows also tells a service of its computer's end as it tells a console program of its own
                # (HandlerRoutine, CTRL_SHUTDOWN_EVENT); only the service manager's word counts here.
                await asyncio.sleep(retry)
    except asyncio.CancelledError:
        if control.is_stopping:
            get_logger("service").info("stopped")
            return 0
        raise


def service_directory(state_dir: Path | None) -> Path:
    """Where the service has its state: by default in the local system's profile. Raises HostError off Windows."""
    if state_dir is not None:
        return state_dir.absolute()
    from softlan.host.kernel32 import system_directory

    return Path(system_directory(), "config", "systemprofile", "AppData", "Local", "softlan")


@contextlib.contextmanager
def kept_invitation(path: Path, text: str) -> Iterator[None]:
    """Write an invitation for the service; if the block fails, the file that was there is back.

    Raises HostError.
    """
    aside = path.with_name(ASIDE_NAME)
    try:
        _write_protected(path, aside, text)
        yield
    except BaseException:  # Ctrl-C too: whatever ended the block, what was there before is back; it is raised again
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            if aside.exists():
                aside.replace(path)
        raise
    with contextlib.suppress(OSError):
        aside.unlink(missing_ok=True)


def _write_protected(path: Path, aside: Path, text: str) -> None:
    """Write what only administrators and the local system may read: anyone can ask for a service's command line.

    The access list is set while the file is empty: it inherits nothing, and has these two by their well-known SIDs
    (learn.microsoft.com: icacls; Well-known SIDs).
    """
    from softlan.host.durable import private_directory
    from softlan.host.kernel32 import system_directory
    from softlan.host.powershell import run_process

    icacls = str(Path(system_directory(), "icacls.exe"))
    try:
        private_directory(path.parent)
        if path.exists():
            path.replace(aside)
        path.touch(mode=0o600)
        done = run_process([icacls, str(path), "/inheritance:r", "/grant:r", *_READERS], {})
        if done.status:
            why = " ".join((done.err or done.out).split()) or f"icacls ended with status {done.status}"
            raise HostError("keep invitation", f"cannot protect {path}: {why}")
        path.write_text(f"{text}\n", encoding="ascii")
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else "icacls does not end"
        raise HostError("keep invitation", f"cannot write {path}: {why}; run it as administrator") from error


def open_log(directory: Path) -> TextIO:
    """The service's log, for appending. Raises HostError."""
    from softlan.host.durable import private_directory

    path = directory / LOG_NAME
    try:
        private_directory(directory)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".old.log"))
        return open(path, "a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise HostError("log", f"cannot write {path}: {error.strerror}; choose a directory with --state-dir") from error


def command_line(target: RelayOptions, player: PlayerOptions, state_dir: Path | None, log: LogOptions) -> str:
    """What Windows is to run: ``softlan service run`` with the same flags, every path from its root on."""
    frozen = getattr(sys, "frozen", False)
    program = [sys.executable] if frozen else [sys.executable, "-m", "softlan"]
    flags = [flag for options in (target, player, log) for flag in _flags(options)]
    if state_dir is not None:
        flags += ["--state-dir", str(state_dir.absolute())]
    return subprocess.list2cmdline([*program, "service", "run", *flags])


def _flags(options: Any) -> list[str]:
    """The flags that differ from their defaults, as they are typed."""
    flags: list[str] = []
    for field in fields(options):
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags.append(f"--{name}={value.absolute() if isinstance(value, Path) else value}")
    return flags
