"""The calls of Windows that a TAP adapter needs: files and events (kernel32), devices (cfgmgr32); ctypes only.

Constants and structures have the names of the Windows SDK, and of `tap-windows.h` for the adapter's own; all are for
64-bit Windows. Importing works anywhere; the DLLs are loaded when `Win32Kernel` and `Win32DeviceManager` are made.
"""

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import Any

from softlan.errors import HostError
from softlan.host.kernel32 import system_directory

GENERIC_READ = 0x80000000
GENERIC_WRITE = 0x40000000
OPEN_EXISTING = 3
FILE_ATTRIBUTE_SYSTEM = 0x4
FILE_FLAG_OVERLAPPED = 0x40000000

INFINITE = 0xFFFFFFFF
WAIT_OBJECT_0 = 0
WAIT_TIMEOUT = 258

ERROR_SUCCESS = 0
ERROR_FILE_NOT_FOUND = 2
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_HANDLE = 6
ERROR_GEN_FAILURE = 31
ERROR_NOT_SUPPORTED = 50
ERROR_INVALID_PARAMETER = 87
ERROR_INSUFFICIENT_BUFFER = 122
ERROR_MORE_DATA = 234
ERROR_OPERATION_ABORTED = 995
ERROR_IO_INCOMPLETE = 996
ERROR_IO_PENDING = 997

TAP_WIN_IOCTL_GET_MAC = 0x220004
TAP_WIN_IOCTL_GET_VERSION = 0x220008
TAP_WIN_IOCTL_GET_MTU = 0x22000C
TAP_WIN_IOCTL_SET_MEDIA_STATUS = 0x220018

REG_SZ = 1
KEY_QUERY_VALUE = 0x1
KEY_SET_VALUE = 0x2
KEY_ENUMERATE_SUB_KEYS = 0x8
KEY_WOW64_64KEY = 0x100

CM_LOCATE_DEVNODE_NORMAL = 0
CM_DISABLE_UI_NOT_OK = 4
CR_SUCCESS = 0
CR_NO_SUCH_DEVNODE = 13
CR_REMOVE_VETOED = 23
CR_NEED_RESTART = 34
CR_ACCESS_DENIED = 51

_INVALID_HANDLE = ctypes.c_void_p(-1).value
_CREATE_NO_WINDOW = 0x08000000
_CONTROL_LIMIT = 5000
"""Milliseconds for one IOCTL; the driver answers at once or it is broken."""


class OVERLAPPED(ctypes.Structure):
    """`OVERLAPPED` of minwinbase.h; must stay where it is until the operation has ended."""

    _fields_ = (
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", ctypes.c_uint32),
        ("OffsetHigh", ctypes.c_uint32),
        ("hEvent", ctypes.c_void_p),
    )


class Operation:
    """A read or a write of one frame, used again and again.

    `buffer` is what a read fills, `frame` what a write sends. Whoever begins one keeps it until it has ended, since
    the system writes into it.
    """

    __slots__ = ("__weakref__", "buffer", "event", "frame", "is_pending", "overlapped", "pointer", "transferred")

    def __init__(self, event: int, size: int = 0) -> None:
        """`event`: one with manual reset, for this operation alone; `size`: of the buffer, in bytes."""
        self.event = event
        self.overlapped = OVERLAPPED()
        self.overlapped.hEvent = event
        self.buffer = ctypes.create_string_buffer(size)
        self.frame = b""
        self.is_pending = False
        self.transferred = ctypes.c_uint32()
        self.pointer = ctypes.byref(self.overlapped)

    def received(self) -> bytes:
        """What a read that has ended put into the buffer."""
        return ctypes.string_at(self.buffer, self.transferred.value)


class Win32Kernel:
    """A `softlan.device.overlapped.Kernel`: the system itself."""

    def __init__(self) -> None:
        """Load the functions. Raises HostError elsewhere than on Windows."""
        load = _load("kernel32")
        handle, number, pointer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p
        self._last_error: Any = vars(ctypes)["get_last_error"]
        self._create_file = load(
            "CreateFileW", handle, ctypes.c_wchar_p, number, number, pointer, number, number, handle
        )
        self._create_event = load("CreateEventW", handle, pointer, ctypes.c_int, ctypes.c_int, ctypes.c_wchar_p)
        self._set_event = load("SetEvent", ctypes.c_int, handle)
        self._close_handle = load("CloseHandle", ctypes.c_int, handle)
        self._control = load(
            "DeviceIoControl", ctypes.c_int, handle, number, pointer, number, pointer, number, pointer, pointer
        )
        self._cancel = load("CancelIoEx", ctypes.c_int, handle, pointer)
        self._wait = load("WaitForMultipleObjects", number, number, pointer, ctypes.c_int, number)
        self._wait_for_result = load("GetOverlappedResult", ctypes.c_int, handle, pointer, pointer, ctypes.c_int)
        # These never wait, so they keep the GIL. Released, it comes back from a busy event loop only after up to
        # sys.getswitchinterval(), 5 ms, for every frame: 300 frames a second under Wine instead of 1,600.
        load = _load("kernel32", keeps_gil=True)
        self._read_file = load("ReadFile", ctypes.c_int, handle, pointer, number, pointer, pointer)
        self._write_file = load("WriteFile", ctypes.c_int, handle, ctypes.c_char_p, number, pointer, pointer)
        self._result = load("GetOverlappedResult", ctypes.c_int, handle, pointer, pointer, ctypes.c_int)

    def open(self, path: str) -> tuple[int, int]:
        """`CreateFileW` for overlapped reading and writing: the handle and 0, or 0 and the error."""
        access, flags = GENERIC_READ | GENERIC_WRITE, FILE_ATTRIBUTE_SYSTEM | FILE_FLAG_OVERLAPPED
        handle = self._create_file(path, access, 0, None, OPEN_EXISTING, flags, None)
        if handle is None or handle == _INVALID_HANDLE:
            return 0, self._error()
        return handle, ERROR_SUCCESS

    def close(self, handle: int) -> None:
        """`CloseHandle`, of a file or an event."""
        self._close_handle(handle)

    def control(self, handle: int, code: int, data: bytes, size: int) -> tuple[int, bytes]:
        """`DeviceIoControl`: send `data`, wait for at most `size` bytes; the error (0: none) and what came."""
        event = self.create_event()
        operation = Operation(event, max(size, len(data), 1))
        buffer, transferred, pointer = operation.buffer, operation.transferred, operation.pointer
        ctypes.memmove(buffer, data, len(data))
        try:
            error = ERROR_SUCCESS
            if not self._control(handle, code, buffer, len(data), buffer, size, None, pointer):
                error = self._error()
            if error not in (ERROR_SUCCESS, ERROR_IO_PENDING):
                return error, b""
            if self.wait((event,), _CONTROL_LIMIT) is None:
                self._cancel(handle, pointer)
            if not self._wait_for_result(handle, pointer, ctypes.byref(transferred), True):
                return self._error(), b""
            return ERROR_SUCCESS, buffer.raw[: min(transferred.value, size)]
        finally:
            self.close(event)

    def create_event(self) -> int:
        """`CreateEventW`: with manual reset, not set. Raises OSError."""
        event = self._create_event(None, True, False, None)
        if not event:
            raise OSError(self._error(), "cannot create an event")
        return int(event)

    def set_event(self, event: int) -> None:
        """`SetEvent`."""
        self._set_event(event)

    def read(self, handle: int, operation: Operation) -> int:
        """`ReadFile` into the operation's buffer: 0, ERROR_IO_PENDING, or the error that it failed with."""
        buffer = operation.buffer
        if self._read_file(handle, buffer, len(buffer), None, operation.pointer):
            return ERROR_SUCCESS
        return self._error()

    def write(self, handle: int, operation: Operation, frame: bytes) -> int:
        """`WriteFile` of `frame`, which the operation keeps: 0, ERROR_IO_PENDING, or the error that it failed with."""
        operation.frame = frame
        if self._write_file(handle, frame, len(frame), None, operation.pointer):
            return ERROR_SUCCESS
        return self._error()

    def result(self, handle: int, operation: Operation) -> int:
        """`GetOverlappedResult` without waiting: 0 with `transferred` set, ERROR_IO_INCOMPLETE, or what it ended with.

        Only for an operation whose beginning gave 0 or ERROR_IO_PENDING.
        """
        if self._result(handle, operation.pointer, ctypes.byref(operation.transferred), False):
            return ERROR_SUCCESS
        return self._error()

    def wait(self, events: Sequence[int], milliseconds: int = INFINITE) -> int | None:
        """`WaitForMultipleObjects` for any of `events`: the first one's index, None in time. Raises OSError."""
        count = len(events)
        answer = int(self._wait(count, (ctypes.c_void_p * count)(*events), False, milliseconds))
        if answer == WAIT_TIMEOUT:
            return None
        if answer >= WAIT_OBJECT_0 + count:
            raise OSError(self._error(), "cannot wait for an event")
        return answer - WAIT_OBJECT_0

    def cancel(self, handle: int) -> None:
        """`CancelIoEx` of all that is pending on `handle`, whichever thread began it."""
        self._cancel(handle, None)

    def _error(self) -> int:
        # Never 0, which would read as success.
        return int(self._last_error()) or ERROR_GEN_FAILURE


class Win32DeviceManager:
    """A `softlan.device.tap_restart.DeviceManager`: the configuration manager, and pnputil."""

    def __init__(self) -> None:
        """Load the functions. Raises HostError elsewhere than on Windows."""
        load = _load("cfgmgr32")
        number = ctypes.c_uint32
        self._locate = load("CM_Locate_DevNodeW", number, ctypes.c_void_p, ctypes.c_wchar_p, number)
        self._disable = load("CM_Disable_DevNode", number, number, number)
        self._enable = load("CM_Enable_DevNode", number, number, number)

    def locate(self, device_id: str) -> tuple[int, int]:
        """`CM_Locate_DevNodeW`: the device's node and CR_SUCCESS, or 0 and the `CR_*` error."""
        node = ctypes.c_uint32()
        error = int(self._locate(ctypes.byref(node), device_id, CM_LOCATE_DEVNODE_NORMAL))
        return (node.value, CR_SUCCESS) if error == CR_SUCCESS else (0, error)

    def disable(self, node: int) -> int:
        """`CM_Disable_DevNode`, until the next start of Windows at most; a `CR_*` value."""
        return int(self._disable(node, CM_DISABLE_UI_NOT_OK))

    def enable(self, node: int) -> int:
        """`CM_Enable_DevNode`; a `CR_*` value."""
        return int(self._enable(node, 0))

    def pnputil(self, action: str, device_id: str) -> str:
        """Run `pnputil ACTION DEVICE_ID`; "" when it worked, else one line on why not."""
        try:
            # By its full path: an elevated process must not take a pnputil from the current directory.
            program = PureWindowsPath(system_directory(), "pnputil.exe")
            done = subprocess.run(
                [str(program), action, device_id],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
                creationflags=_CREATE_NO_WINDOW,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"pnputil {action}: {type(error).__name__}"
        return "" if done.returncode == 0 else f"pnputil {action} ended with {done.returncode}"


def require_windows(what: str) -> None:
    """Raise the HostError `unsupported platform` when this is not Windows; `what` is a plural."""
    if sys.platform != "win32":
        raise HostError("platform", f"unsupported platform: {what} exist on Windows, not on {sys.platform}")


def _load(library: str, *, keeps_gil: bool = False) -> Any:
    """A function that finds functions of `library`: name, type of the result, types of the arguments."""
    require_windows("TAP-Windows6 adapters")
    kind: Any = ctypes.PyDLL if keeps_gil else vars(ctypes)["WinDLL"]  # the same calling convention on 64 bits
    dll = kind(library, use_last_error=True)

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = getattr(dll, name)
        found.restype, found.argtypes = result, arguments
        return found

    return function
