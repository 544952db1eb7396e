"""What softlan needs of kernel32.dll beside devices: libraries, processes, files, the console (learn.microsoft.com)."""

import ctypes
import sys
from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_uint32, c_uint64, c_void_p, c_wchar_p
from pathlib import Path
from typing import Any

from softlan.errors import HostError

PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
STILL_ACTIVE = 259
MAX_PATH = 260
MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH = 0x1, 0x8


def load_dll(name: str) -> Any:
    """Open a DLL of Windows. Raises HostError, stage `platform`, on other systems."""
    if sys.platform != "win32":
        raise HostError("platform", f"unsupported platform: {name} is part of Windows, and this is {sys.platform}")
    return ctypes.WinDLL(name, use_last_error=True)


def system_directory() -> str:
    r"""Where Windows' own programs are, as `C:\Windows\System32`. Raises OSError.

    The environment, which tells it too, is whoever's that started us: an administrator should not go by it
    (GetSystemDirectoryW).
    """
    buffer = ctypes.create_unicode_buffer(MAX_PATH + 1)
    if not 0 < _kernel32().GetSystemDirectoryW(buffer, len(buffer)) < len(buffer):
        raise _last_error(Path("System32"))
    return buffer.value


def creation_time(pid: int) -> int | None:
    """When the running process `pid` was made, in units of 100 ns since 1601; None when there is none.

    No two processes have both in common, whatever the boot (GetProcessTimes).
    """
    kernel32 = _kernel32()
    handle = kernel32.OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        return None
    try:
        status, created, other = c_uint32(), c_uint64(), c_uint64()
        times = (byref(created), byref(other), byref(other), byref(other))
        if not kernel32.GetExitCodeProcess(handle, byref(status)) or status.value != STILL_ACTIVE:
            return None  # it has ended, and someone keeps a handle
        return created.value if kernel32.GetProcessTimes(handle, *times) else None
    finally:
        kernel32.CloseHandle(handle)


def move_through(source: Path, target: Path) -> None:
    """Rename `source` to `target`, which it replaces, and return when that is on the disk. Raises OSError."""
    if not _kernel32().MoveFileExW(str(source), str(target), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH):
        raise _last_error(target)


def set_console_handler(handler: Callable[[int], bool]) -> Callable[[], None]:
    """Let `handler` be called, on a thread of its own, with each control event of the console.

    What it returns says whether the event is dealt with. Returns what takes the handler back.
    """
    kernel32 = _kernel32()
    callback = _function_type()(handler)
    kernel32.SetConsoleCtrlHandler(callback, True)

    def take_back() -> None:
        kernel32.SetConsoleCtrlHandler(callback, False)

    return take_back


def _kernel32() -> Any:
    library = load_dll("kernel32.dll")
    library.OpenProcess.argtypes = (c_uint32, c_int32, c_uint32)
    library.OpenProcess.restype = c_void_p
    library.CloseHandle.argtypes = (c_void_p,)
    library.GetExitCodeProcess.argtypes = (c_void_p, POINTER(c_uint32))
    library.GetProcessTimes.argtypes = (c_void_p, *[POINTER(c_uint64)] * 4)
    library.GetSystemDirectoryW.argtypes = (c_wchar_p, c_uint32)
    library.GetSystemDirectoryW.restype = c_uint32
    library.MoveFileExW.argtypes = (c_wchar_p, c_wchar_p, c_uint32)
    library.SetConsoleCtrlHandler.argtypes = (_function_type(), c_int32)
    return library


def _function_type() -> Any:
    return vars(ctypes)["WINFUNCTYPE"](c_int32, c_uint32)  # which other systems do not have


def _last_error(path: Path) -> OSError:
    number = vars(ctypes)["get_last_error"]()
    return OSError(0, vars(ctypes)["FormatError"](number), str(path), number)
