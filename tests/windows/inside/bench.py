"""What the tests play with: the adapter of the bed, the network stack behind it, and the host it belongs to.

The figures are those of `bed/c/tap_bed.h` and `bed/windows.reg`.
"""

import contextlib
import ctypes
import importlib
import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from softlan.device.tap_adapters import ADAPTER_KEY
from softlan.device.win32 import ERROR_IO_PENDING, ERROR_SUCCESS, Operation, Win32Kernel
from softlan.host.base import IPInterface
from softlan.host.winapi import socket_address

GUID = "{5AFE1A40-0001-4000-8000-534F46544C41}"
NAME = "Ethernet 7"
KEY = rf"{ADAPTER_KEY}\0007"
PERMANENT_MAC = bytes.fromhex("00ff5afe1a40")  # 00:FF and the GUID's first bytes: the driver's own choice

TAP, STACK, BENCH = (rf"\\.\Global\{GUID}.{end}" for end in ("tap", "tapos", "bench"))

CABLE, WIFI, TAP_INDEX = 4, 5, 7
CABLE_GUID = "{5AFE1A40-0004-4000-8000-4341424C4500}"
WIFI_GUID = "{5AFE1A40-0005-4000-8000-574946490000}"

_REMOVE, _INSERT, _STATE, _VERSION = (0x22 << 16 | function << 2 for function in (0x801, 0x802, 0x803, 0x804))

PATIENCE = 5000
"""Milliseconds for what takes a moment."""


@dataclass(frozen=True)
class AdapterState:
    """What the driver knows of its adapter."""

    inserted: bool
    opened: bool
    media: bool
    reading: int
    """Reads that wait for a frame."""
    dropped: int
    """Frames for which there was no room, or no medium."""
    mac: bytes


class Adapter:
    """The adapter, as a hand sees it that pulls it out."""

    def __init__(self, kernel: Win32Kernel) -> None:
        self._kernel = kernel

    def remove(self) -> None:
        """Pull it out, used or not."""
        self._control(_REMOVE)

    def insert(self) -> None:
        """Put it in; it takes its MAC from the registry. Nothing when it is in."""
        self._control(_INSERT)

    def claim_version(self, major: int, minor: int) -> None:
        """Let the driver say that it is of this version."""
        self._control(_VERSION, struct.pack("<2I", major, minor))

    def state(self) -> AdapterState:
        state = struct.unpack("<5I6s2x", self._control(_STATE, size=28))
        inserted, opened, media, reading, dropped, mac = state
        return AdapterState(bool(inserted), bool(opened), bool(media), reading, dropped, mac)

    def _control(self, code: int, data: bytes = b"", size: int = 0) -> bytes:
        handle, error = self._kernel.open(BENCH)
        assert error == ERROR_SUCCESS, f"the bed's driver is not there: error {error}"
        try:
            error, answer = self._kernel.control(handle, code, data, size)
            assert error == ERROR_SUCCESS, f"the bed's driver refuses: error {error}"
            return answer
        finally:
            self._kernel.close(handle)


class End:
    """One end of the adapter, opened for one frame at a time: nothing but the system's calls."""

    def __init__(self, kernel: Win32Kernel, path: str) -> None:
        self._kernel = kernel
        self.handle, error = kernel.open(path)
        assert error == ERROR_SUCCESS, f"{path}: error {error}"
        self._event = kernel.create_event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._kernel.close(self.handle)
        self._kernel.close(self._event)

    def control(self, code: int, data: bytes, size: int) -> tuple[int, bytes]:
        """One IOCTL: the error, and what came."""
        return self._kernel.control(self.handle, code, data, size)

    def begin_read(self, size: int = 2048) -> tuple[Operation, int]:
        """A read that has begun, and what the call said."""
        operation = Operation(self._kernel.create_event(), size)
        return operation, self._kernel.read(self.handle, operation)

    def end_of(self, operation: Operation, milliseconds: int = PATIENCE) -> int | None:
        """What a read ended with; None when it has not."""
        if self._kernel.wait((operation.event,), milliseconds) is None:
            return None
        return self._kernel.result(self.handle, operation)

    def read(self, size: int = 2048) -> bytes:
        """The next frame. Raises OSError with the error that the read ended with."""
        operation, error = self.begin_read(size)
        try:
            ended = self.end_of(operation) if error in (ERROR_SUCCESS, ERROR_IO_PENDING) else error
            assert ended is not None, "no frame came"
            if ended:
                raise OSError(ended, "read")
            return operation.received()
        finally:
            self._kernel.close(operation.event)

    def write(self, frame: bytes) -> int:
        """The error that a write ended with, or 0."""
        operation = Operation(self._event)
        error = self._kernel.write(self.handle, operation, frame)
        if error == ERROR_IO_PENDING:
            assert self._kernel.wait((self._event,), PATIENCE) is not None, "the write did not end"
            error = self._kernel.result(self.handle, operation)
        return error


class Host:
    """What happens to the bed's host from outside; see the Bench calls of `bed/c/ip_helper.c`."""

    def __init__(self) -> None:
        self._calls: Any = ctypes.WinDLL("iphlpapi.dll")

    def reset(self) -> None:
        """As it was at first."""
        self._calls.BenchReset()

    def plug(self, index: int, connected: bool) -> None:
        """Connect an interface to its network, or tear it off, with all its routes and addresses."""
        self._calls.BenchPlug(index, connected)

    def family(self, index: int, family: int, has: bool) -> None:
        """Let an interface have IPv4 or IPv6, or not."""
        self._calls.BenchFamily(index, family, has)

    def address(self, index: int, address: IPInterface) -> None:
        """Give an interface an address."""
        self._calls.BenchAddress(index, ctypes.byref(socket_address(address.ip)), address.network.prefixlen)


def set_value(name: str, value: str, key: str = KEY) -> None:
    """Write a text into the registry, below HKEY_LOCAL_MACHINE, making the key."""
    winreg: Any = importlib.import_module("winreg")
    with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, key) as handle:
        winreg.SetValueEx(handle, name, 0, winreg.REG_SZ, value)


def get_value(name: str, key: str = KEY) -> tuple[object, int] | None:
    """A value and its type, or None."""
    winreg: Any = importlib.import_module("winreg")
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle, contextlib.suppress(FileNotFoundError):
        value: object
        value, kind = winreg.QueryValueEx(handle, name)
        return value, kind
    return None


def delete_value(name: str, key: str = KEY) -> None:
    """Delete a value; nothing when it is not there."""
    winreg: Any = importlib.import_module("winreg")
    access = winreg.KEY_SET_VALUE
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, access) as handle, contextlib.suppress(FileNotFoundError):
        winreg.DeleteValue(handle, name)


@contextlib.contextmanager
def registry_keys(*keys: str) -> Iterator[None]:
    """Delete these keys, below HKEY_LOCAL_MACHINE, at the end."""
    winreg: Any = importlib.import_module("winreg")
    try:
        yield
    finally:
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, key)


def frame(number: int, size: int = 60) -> bytes:
    """A frame that can be told from all others, of the local experimental EtherType."""
    return (b"\xff" * 6 + b"\x02\x5e\x10\x00\x00\x02" + b"\x88\xb5" + struct.pack(">I", number)).ljust(size, b"\0")


def number_of(received: bytes) -> int:
    """The number of a `frame`."""
    return int.from_bytes(received[14:18], "big")


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, by its text."""
    return ipaddress.ip_address(text)
