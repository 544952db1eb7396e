"""What a player's client does differently on Linux and on Windows, behind two small protocols."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from softlan.device.base import TapDevice
from softlan.errors import HostError
from softlan.host.base import HostNetwork, HostRoute
from softlan.host.guard import HostGuard


class TapCare(Protocol):
    """What a system wants done about the TAP, beyond the device itself."""

    interface: str
    """What `HostRoute.interface` calls the TAP."""

    def pin_holds(self, pin: HostRoute) -> bool:
        """Whether the relay's route is there, and along the way that is the host's now. Raises HostError."""
        ...

    def other_way(self, pin: HostRoute) -> HostRoute | None:
        """Once the session is lost: the host's usual way to the relay if that is another by now. Raises HostError."""
        ...

    def came_up(self) -> None:
        """After the TAP was brought up, before frames pass. Raises HostError when it must not be used so."""
        ...

    def keep(self) -> None:
        """Every few seconds: see that all is still as it should be. Raises nothing."""
        ...

    def goes_down(self) -> None:
        """Before the TAP is closed, however far it came. Raises nothing."""
        ...


class Platform(Protocol):
    """One system's ways."""

    IS_SLOW_TO_OPEN: bool
    """Whether `open_tap` may take seconds, and so wants a thread. Linux's needs the caller's: a thread may be in a
    network namespace of its own (setns(2))."""
    network: HostNetwork
    guard: HostGuard

    def recover(self) -> list[str]:
        """Undo what a run that did not end properly has left, and say so, one line each. Raises HostError."""
        ...

    def open_tap(self, mac: bytes) -> tuple[TapDevice, TapCare]:
        """The TAP, not in use yet. It may take some seconds to have it with this address. Raises SoftlanError."""
        ...

    def close(self) -> list[str]:
        """Undo what `open_tap` did beside the TAP, after that was closed; complaints, one line each."""
        ...


class PlatformOptions(Protocol):
    """What is read of the client's config."""

    @property
    def tap_name(self) -> str | None:
        """The TAP's name; None is `softlan0` on Linux, and the only adapter on Windows."""

    @property
    def tap_instance_id(self) -> str | None:
        """The adapter's GUID (Windows)."""

    @property
    def discovery(self) -> bool:
        """Whether broadcasts and multicasts of this machine go into the room (Linux)."""

    @property
    def metric(self) -> int:
        """The TAP's interface metric (Windows)."""

    @property
    def allow_inbound(self) -> bool:
        """Whether the firewall lets in what comes by the TAP (Windows)."""


def open_platform(options: PlatformOptions, state_dir: Path) -> Platform:
    """The ways of this system; its modules are imported here. Raises HostError on one that we do not know."""
    opener = _OPENERS.get(sys.platform)
    if opener is None:
        raise HostError(
            "platform", f"unsupported platform: the client runs on Linux and Windows, not on {sys.platform}"
        )
    return opener(options, state_dir)


def _linux(options: PlatformOptions, state_dir: Path) -> Platform:
    from softlan.client.platform_linux import LinuxPlatform

    return LinuxPlatform(options.tap_name or "softlan0", state_dir, discovery=options.discovery)


def _windows(options: PlatformOptions, state_dir: Path) -> Platform:
    from softlan.client.platform_windows import WindowsPlatform

    return WindowsPlatform(options, state_dir)


_OPENERS: dict[str, Callable[[PlatformOptions, Path], Platform]] = {"linux": _linux, "win32": _windows}
