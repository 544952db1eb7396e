"""Gives a TAP-Windows6 adapter its MAC address, which means to restart it: the driver reads the address only then.

The address stays in the registry when we leave. It is the adapter's own setting and nobody else's, and next time it is
right from the start. How the driver reads it: `adapter.c` of tap-windows6, around `NdisReadNetworkAddress`.
"""

import time
from collections.abc import Callable
from typing import Protocol

from softlan.device.overlapped import Kernel
from softlan.device.tap_adapters import Registry, TapAdapter
from softlan.device.win32 import (
    CR_ACCESS_DENIED,
    CR_NEED_RESTART,
    CR_NO_SUCH_DEVNODE,
    CR_REMOVE_VETOED,
    CR_SUCCESS,
    ERROR_ACCESS_DENIED,
    ERROR_FILE_NOT_FOUND,
    ERROR_GEN_FAILURE,
    ERROR_SUCCESS,
    TAP_WIN_IOCTL_GET_MAC,
)
from softlan.errors import HostError
from softlan.proto.mac import format_mac, identity_fault

_OPEN = "open interface"
_STAGE = "configure interface"

MAC_VALUES = ("NetworkAddress", "MAC")
"""Where the driver looks for its address: drivers of today, and those from before 2018."""
REOPEN_LIMIT = 15.0
"""Seconds that a restarted adapter may take to be there again."""
REOPEN_STEP = 0.1
"""Seconds between two attempts to open it."""
ENABLE_ATTEMPTS = 3

_REASONS = {
    CR_NO_SUCH_DEVNODE: "Windows does not know the device",
    CR_REMOVE_VETOED: "a program that uses the device objected",
    CR_NEED_RESTART: "Windows wants to be restarted first",
    CR_ACCESS_DENIED: "access denied",
}


class DeviceManager(Protocol):
    """What restarts a device; see `win32.Win32DeviceManager`. Values are `CR_*` of cfgmgr32.h."""

    def locate(self, device_id: str) -> tuple[int, int]:
        """The node of a device and CR_SUCCESS, or 0 and the error."""
        ...

    def disable(self, node: int) -> int:
        """Disable it, until the next start of Windows at most, so that a crash of ours does not outlive that."""
        ...

    def enable(self, node: int) -> int:
        """Enable it."""
        ...

    def pnputil(self, action: str, device_id: str) -> str:
        """`/restart-device` or `/enable-device`: "" when it worked, else one line on why not."""
        ...


def open_adapter(adapter: TapAdapter, kernel: Kernel) -> int:
    """A handle of the adapter, for us alone. Raises HostError that says what to do."""
    handle, error = kernel.open(adapter.path)
    if error == ERROR_SUCCESS:
        return handle
    raise _open_error(adapter, error)


def get_mac(adapter: TapAdapter, kernel: Kernel, handle: int) -> bytes:
    """The address that the driver uses, 6 bytes. Raises HostError."""
    error, answer = kernel.control(handle, TAP_WIN_IOCTL_GET_MAC, bytes(6), 6)
    if error:
        raise _open_error(adapter, error)
    return answer


def open_with_mac(
    adapter: TapAdapter,
    mac: bytes,
    kernel: Kernel,
    registry: Registry,
    manager: DeviceManager,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """A handle of the adapter, whose address is `mac` (6 bytes) then; restarts it for that if it has to.

    A restart takes some seconds, in which this blocks. Raises HostError, and leaves no handle open then.
    """
    fault = identity_fault(mac)
    if fault is not None:  # the driver would ignore it and say nothing
        raise HostError(_STAGE, f"{format_mac(mac)} cannot be the adapter's address: it is {fault}")
    handle = open_adapter(adapter, kernel)
    found = _checked_mac(adapter, kernel, handle)
    for value in MAC_VALUES:
        if found == mac:
            return handle
        kernel.close(handle)  # a device in use cannot be restarted
        _write(adapter, registry, value, mac)
        restart(adapter, manager)
        handle = _reopen(adapter, kernel, clock, sleep)
        found = _checked_mac(adapter, kernel, handle)
    if found == mac:
        return handle
    kernel.close(handle)
    raise HostError(
        _STAGE,
        f"{adapter.name} kept the address {format_mac(found)} instead of {format_mac(mac)} through a restart of"
        " the adapter: restart Windows and try again, or install the TAP-Windows6 driver anew",
    )


def restart(adapter: TapAdapter, manager: DeviceManager) -> None:
    """Restart the device by the configuration manager, or else by pnputil. Raises HostError."""
    device_id = adapter.device_id
    if device_id is None:
        raise HostError(
            _STAGE,
            f"{adapter.name} has to be restarted for its new address, and the registry does not name its device:"
            " disable and enable it in Windows' list of network connections, then try again",
        )
    node, error = manager.locate(device_id)
    if error == CR_SUCCESS:
        error = manager.disable(node)
        if error in (CR_SUCCESS, CR_NEED_RESTART):
            # Even if it is to be disabled only with the next start of Windows: that is taken back here.
            _enable(adapter, device_id, node, manager)
            if error == CR_SUCCESS:
                return
    complaint = manager.pnputil("/restart-device", device_id)
    if complaint:
        reason = _REASONS.get(error, f"configuration manager error {error}")
        advice = (
            "run softlan as administrator"
            if error == CR_ACCESS_DENIED
            else f'try pnputil /restart-device "{device_id}" as administrator, or restart Windows'
        )
        raise HostError(
            _STAGE,
            f"{adapter.name} has to be restarted for its new address, and cannot be ({reason}; {complaint}): {advice}",
        )


def _enable(adapter: TapAdapter, device_id: str, node: int, manager: DeviceManager) -> None:
    """Enable what we disabled, with some obstinacy."""
    error = CR_SUCCESS
    for _ in range(ENABLE_ATTEMPTS):
        error = manager.enable(node)
        if error == CR_SUCCESS:
            return
    complaint = manager.pnputil("/enable-device", device_id)
    if complaint:
        raise HostError(
            _STAGE,
            f"{adapter.name} was disabled and cannot be enabled again (configuration manager error {error};"
            f' {complaint}): run pnputil /enable-device "{device_id}" as administrator, or restart Windows',
        )


def _write(adapter: TapAdapter, registry: Registry, value: str, mac: bytes) -> None:
    try:
        registry.set_text(adapter.key, value, mac.hex().upper())
    except PermissionError as error:
        raise HostError(
            _STAGE, f"no permission to give {adapter.name} its address: run softlan as administrator"
        ) from error
    except OSError as error:
        raise HostError(_STAGE, f"cannot write {value} of {adapter.name} into the registry: {error}") from error


def _reopen(adapter: TapAdapter, kernel: Kernel, clock: Callable[[], float], sleep: Callable[[float], None]) -> int:
    """Open it as soon as it is back."""
    until = clock() + REOPEN_LIMIT
    while True:
        handle, error = kernel.open(adapter.path)
        if error == ERROR_SUCCESS:
            return handle
        if clock() >= until:
            raise HostError(
                _STAGE,
                f"{adapter.name} did not come back within {REOPEN_LIMIT:.0f} s of its restart (error {error}):"
                " look for it in Windows' device manager, or restart Windows",
            )
        sleep(REOPEN_STEP)


def _checked_mac(adapter: TapAdapter, kernel: Kernel, handle: int) -> bytes:
    """`get_mac`; closes the handle if it fails."""
    try:
        return get_mac(adapter, kernel, handle)
    except HostError:
        kernel.close(handle)
        raise


def _open_error(adapter: TapAdapter, error: int) -> HostError:
    if error == ERROR_FILE_NOT_FOUND:
        return HostError(
            _OPEN,
            f"{adapter.name} is not running: enable it in Windows' list of network connections,"
            " or install the TAP-Windows6 driver anew",
        )
    if error == ERROR_GEN_FAILURE:
        return HostError(
            _OPEN,
            f"{adapter.name} is used by another program (another softlan, or OpenVPN):"
            " end that, or take another adapter with --tap-instance-id",
        )
    if error == ERROR_ACCESS_DENIED:
        return HostError(_OPEN, f"no permission to open {adapter.name}: run softlan as administrator")
    return HostError(_OPEN, f"cannot open {adapter.name}: Windows error {error}")
