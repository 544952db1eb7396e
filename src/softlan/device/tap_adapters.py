"""The TAP-Windows6 adapters of this machine, as the registry lists them, and which of them to open.

The registry's layout is that of OpenVPN's `tap-windows.h` and of Windows' network classes.
"""

import contextlib
import importlib
import re
from dataclasses import dataclass
from typing import Any, Protocol

from softlan.device.win32 import (
    KEY_ENUMERATE_SUB_KEYS,
    KEY_QUERY_VALUE,
    KEY_SET_VALUE,
    KEY_WOW64_64KEY,
    REG_SZ,
    require_windows,
)
from softlan.errors import HostError, UsageError

_STAGE = "find adapter"
_CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
ADAPTER_KEY = rf"SYSTEM\CurrentControlSet\Control\Class\{_CLASS}"
"""Below HKEY_LOCAL_MACHINE: a subkey `NNNN` for each network adapter, with its driver's settings."""
NETWORK_CONNECTIONS_KEY = rf"SYSTEM\CurrentControlSet\Control\Network\{_CLASS}"
"""Below HKEY_LOCAL_MACHINE: `{GUID}\\Connection` for each adapter, with its name and its device."""
COMPONENT_IDS = ("tap0901", r"root\tap0901")
"""What TAP-Windows6 calls itself, in any case."""

OLDEST_SAFE_DRIVER = (9, 27)
"""Up to 9.26 a local user can overflow a buffer of the driver (CVE-2024-1305)."""

_GUID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")


class Registry(Protocol):
    """HKEY_LOCAL_MACHINE as 64-bit programs see it; paths have no root and no slash around them."""

    def subkeys(self, path: str) -> list[str]:
        """The names of the keys in `path`. Raises OSError."""
        ...

    def value(self, path: str, name: str) -> object | None:
        """A value, or None when the key does not have it. Raises OSError, FileNotFoundError without the key."""
        ...

    def set_text(self, path: str, name: str, text: str) -> None:
        """Write a REG_SZ value into a key that is there. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class TapAdapter:
    """One TAP-Windows6 adapter."""

    instance_id: str
    """Its GUID in braces, NetCfgInstanceId as the registry has it."""
    name: str
    """What Windows calls the connection, such as `Ethernet 3`; the GUID when it has no name."""
    component_id: str
    """`tap0901` or `root\\tap0901`, lower case."""
    driver_version: str | None
    """Such as `9.27.0.0`, where the registry has it."""
    device_id: str | None
    """The device instance, such as `ROOT\\NET\\0000`, by which it is restarted."""
    key: str
    """Where the driver reads its settings, below HKEY_LOCAL_MACHINE."""

    @property
    def path(self) -> str:
        """What to open it by."""
        return rf"\\.\Global\{self.instance_id}.tap"


class WindowsRegistry:
    """A `Registry`: the system's own."""

    def __init__(self) -> None:
        """Raises HostError elsewhere than on Windows."""
        require_windows("TAP-Windows6 adapters")
        self._winreg: Any = importlib.import_module("winreg")

    def subkeys(self, path: str) -> list[str]:
        """The names of the keys in `path`. Raises OSError."""
        with self._open(path, KEY_ENUMERATE_SUB_KEYS | KEY_QUERY_VALUE) as key:
            count, _, _ = self._winreg.QueryInfoKey(key)
            names: list[str] = []
            with contextlib.suppress(OSError):  # one was removed meanwhile
                names.extend(self._winreg.EnumKey(key, index) for index in range(count))
            return names

    def value(self, path: str, name: str) -> object | None:
        """A value, or None when the key does not have it. Raises OSError, FileNotFoundError without the key."""
        with self._open(path, KEY_QUERY_VALUE) as key:
            try:
                value: object = self._winreg.QueryValueEx(key, name)[0]
            except FileNotFoundError:
                return None
            return value

    def set_text(self, path: str, name: str, text: str) -> None:
        """Write a REG_SZ value into a key that is there. Raises OSError."""
        with self._open(path, KEY_SET_VALUE) as key:
            self._winreg.SetValueEx(key, name, 0, REG_SZ, text)

    def _open(self, path: str, access: int) -> Any:
        return self._winreg.OpenKey(self._winreg.HKEY_LOCAL_MACHINE, path, 0, access | KEY_WOW64_64KEY)


def adapters(registry: Registry | None = None) -> list[TapAdapter]:
    """All TAP-Windows6 adapters, in the registry's order; keys that we may not read are passed over.

    Without a registry the system's own is read. Raises HostError: not Windows, or no list of adapters at all.
    """
    registry = WindowsRegistry() if registry is None else registry
    try:
        names = registry.subkeys(ADAPTER_KEY)
    except OSError as error:
        raise HostError(_STAGE, f"cannot read the network adapters in the registry: {error}") from error
    found = []
    for name in names:
        # "Properties" is for the system alone; others may go while we look.
        with contextlib.suppress(OSError):
            adapter = _read(registry, rf"{ADAPTER_KEY}\{name}")
            if adapter is not None:
                found.append(adapter)
    return found


def choose(found: list[TapAdapter], instance_id: str | None = None, name: str | None = None) -> TapAdapter:
    """The adapter with that GUID (braces and case do not matter) and that name, or the only one.

    Raises HostError when there is none at all, UsageError when the choice is not clear; both list what there is.
    """
    if not found:
        raise HostError(
            _STAGE,
            "there is no TAP-Windows6 adapter: install the TAP-Windows6 driver (OpenVPN's installer has it),"
            " and look with --list-tap-adapters",
        )
    there = "there is " + ", ".join(f"{adapter.name!r} {adapter.instance_id}" for adapter in found)
    wanted = found
    if instance_id is not None:
        guid = _GUID.fullmatch(instance_id.strip())
        if guid is None:
            raise UsageError(f"--tap-instance-id {instance_id[:60]!r} is not an adapter's GUID; {there}")
        wanted = [adapter for adapter in wanted if adapter.instance_id[1:-1].upper() == guid[1].upper()]
    if name is not None:
        wanted = [adapter for adapter in wanted if adapter.name.casefold() == name.strip().casefold()]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        asked = [f"--tap-instance-id {instance_id}"] if instance_id is not None else []
        asked += [f"--tap-name {name!r}"] if name is not None else []
        raise UsageError(f"no TAP-Windows6 adapter is meant by {' and '.join(asked)}; {there}")
    raise UsageError(
        f"{len(wanted)} TAP-Windows6 adapters could be meant, so say which with --tap-instance-id"
        f" or --tap-name; {there}"
    )


def driver_warning(version: tuple[int, ...]) -> str | None:
    """One line on a driver that should be replaced, or None; `version` is major, minor and whatever follows."""
    if version[:2] >= OLDEST_SAFE_DRIVER:
        return None
    shown = ".".join(map(str, version[:2]))
    return f"the TAP-Windows6 driver {shown} has a known hole (CVE-2024-1305): install 9.27 or later"


def parse_version(text: str) -> tuple[int, ...] | None:
    """`9.27.0.0` as numbers; None when it is no version."""
    parts = text.strip().split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(map(int, parts))


def _read(registry: Registry, key: str) -> TapAdapter | None:
    """The adapter of a class key; None when it is something else."""
    component = _text(registry, key, "ComponentId")
    if component is None or component.lower() not in COMPONENT_IDS:
        return None
    guid = _GUID.fullmatch(_text(registry, key, "NetCfgInstanceId") or "")
    if guid is None:
        return None
    instance_id = f"{{{guid[1]}}}"
    connection = rf"{NETWORK_CONNECTIONS_KEY}\{instance_id}\Connection"
    return TapAdapter(
        instance_id=instance_id,
        name=_text(registry, connection, "Name") or instance_id,
        component_id=component.lower(),
        driver_version=_text(registry, key, "DriverVersion"),
        device_id=_text(registry, connection, "PnpInstanceID"),
        key=key,
    )


def _text(registry: Registry, key: str, name: str) -> str | None:
    """A value that is a text and not empty; None without it, or where it cannot be read."""
    try:
        value = registry.value(key, name)
    except OSError:
        return None
    return value if isinstance(value, str) and value else None
