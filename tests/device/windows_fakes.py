"""Windows as far as a TAP adapter needs it, in memory: a driver, the kernel's I/O, the registry, the device manager.

The driver behaves as TAP-Windows6 does: one opener, media gating, reads served in the order that they came in, an
address that is only read when the device starts. The kernel knows operations by weak references, and is strict about
everything that would corrupt memory, hang or leak on Windows.
"""

import ctypes
import struct
import threading
import weakref
from collections import deque
from collections.abc import Sequence

from softlan.device.tap_adapters import ADAPTER_KEY, NETWORK_CONNECTIONS_KEY, TapAdapter
from softlan.device.win32 import (
    CR_NO_SUCH_DEVNODE,
    CR_SUCCESS,
    ERROR_FILE_NOT_FOUND,
    ERROR_GEN_FAILURE,
    ERROR_INSUFFICIENT_BUFFER,
    ERROR_INVALID_HANDLE,
    ERROR_IO_INCOMPLETE,
    ERROR_IO_PENDING,
    ERROR_MORE_DATA,
    ERROR_NOT_SUPPORTED,
    ERROR_OPERATION_ABORTED,
    ERROR_SUCCESS,
    INFINITE,
    TAP_WIN_IOCTL_GET_MAC,
    TAP_WIN_IOCTL_GET_MTU,
    TAP_WIN_IOCTL_GET_VERSION,
    TAP_WIN_IOCTL_SET_MEDIA_STATUS,
    Operation,
)

GUID = "{AB0C1D2E-0001-4000-8000-00000000000A}"
KEY = rf"{ADAPTER_KEY}\0007"
ADAPTER = TapAdapter(GUID, "Ethernet 3", r"root\tap0901", "9.27.0.0", r"ROOT\NET\0000", KEY)
BOUND = 10.0
"""Seconds that a test waits for a condition at most."""


class MemoryRegistry:
    """A `Registry`. Paths in `forbidden` may not be read, those in `read_only` not be written."""

    def __init__(self, keys: dict[str, dict[str, object]] | None = None) -> None:
        self.keys = {ADAPTER_KEY: {}, KEY: {}} if keys is None else keys
        self.forbidden: set[str] = set()
        self.read_only: set[str] = set()

    def add(self, number: str, guid: str, name: str | None, component: str = "tap0901", **values: object) -> None:
        """An adapter as an installer leaves it."""
        self.keys[rf"{ADAPTER_KEY}\{number}"] = {"ComponentId": component, "NetCfgInstanceId": guid, **values}
        if name is not None:
            connection = {"Name": name, "PnpInstanceID": rf"ROOT\NET\{number}"}
            self.keys[rf"{NETWORK_CONNECTIONS_KEY}\{guid}\Connection"] = {**connection}

    def subkeys(self, path: str) -> list[str]:
        self._check(path, self.forbidden)
        return [key.rpartition("\\")[2] for key in self.keys if key.rpartition("\\")[0] == path]

    def value(self, path: str, name: str) -> object | None:
        self._check(path, self.forbidden)
        return self.keys[path].get(name)

    def set_text(self, path: str, name: str, text: str) -> None:
        self._check(path, self.forbidden | self.read_only)
        self.keys[path][name] = text

    def _check(self, path: str, forbidden: set[str]) -> None:
        if path in forbidden:
            raise PermissionError(5, "Access is denied")
        if path not in self.keys:
            raise FileNotFoundError(2, "The system cannot find the file specified")


class FakeWindows:
    """A `Kernel` and a `DeviceManager` with one adapter, `ADAPTER`. `steps` tells what was done, in order."""

    def __init__(self, registry: MemoryRegistry | None = None) -> None:
        self.registry = MemoryRegistry() if registry is None else registry
        self.steps: list[str] = []
        self.handles: dict[int, str] = {}
        """What is open: it must be empty in the end."""
        # The driver
        self.mac_values: tuple[str, ...] = ("NetworkAddress",)
        self.default_mac = bytes.fromhex("00ffab0c1d2e")
        self.version = (9, 27, 0)
        self.mtu = 1500
        self.control_error = ERROR_SUCCESS
        self.controls_left = 1000
        """IOCTLs that it answers before it knows none any more."""
        self.open_errors: list[int] = []
        """Answers of the next attempts to open."""
        self.is_connected = False
        self.written: list[bytes] = []
        self.holds_writes = False
        self.is_asleep = False
        """In a power state below D0: what is begun is refused, what is pending stays."""
        self.is_stuck = False
        """Cancelled operations are never given back."""
        self.wait_fault: OSError | None = None
        self.event_limit = 1000
        """How many may be there at a time."""
        # The device manager
        self.failures: dict[str, int] = {}
        self.pnputil_works = True
        self.delay = 0
        """Attempts to open a restarted device that come too early."""

        self._changed = threading.Condition(threading.RLock())
        self._events: dict[int, bool] = {}
        self._next = 100
        self._is_present = True
        self._mac = self.default_mac
        self._frames: deque[bytes] = deque()
        self._pending: deque[weakref.ref[Operation]] = deque()
        self._held: deque[weakref.ref[Operation]] = deque()
        self._results: weakref.WeakKeyDictionary[Operation, tuple[int, int]] = weakref.WeakKeyDictionary()
        self._start_device()

    # The test's hands

    def send(self, *frames: bytes) -> None:
        """The host's stack sends `frames`; those that no read waits for are queued."""
        assert not self.is_asleep
        with self._changed:
            for frame in frames:
                operation = self._pending.popleft()() if self._pending else None
                if operation is None:
                    self._frames.append(frame)
                else:
                    self._fill(operation, frame)

    def fall_asleep_with(self, frames: Sequence[bytes]) -> None:
        """Fall asleep, with `frames` as the last ones that reads got."""
        with self._changed:
            self.send(*frames)
            self.is_asleep = True

    def release(self, count: int = 1, error: int = ERROR_SUCCESS) -> None:
        """Let the driver be through with the first `count` writes that it holds."""
        with self._changed:
            for _ in range(count):
                self._end_write(self._held.popleft(), error)

    def remove(self) -> None:
        """The device is disabled or pulled out."""
        with self._changed:
            self._is_present = False
            self._abort()

    def wait_for(self, what: str, count: int) -> None:
        """Wait until so many operations are `pending` or `held`, or frames `written`."""
        where: dict[str, Sequence[object]]
        where = {"pending": self._pending, "held": self._held, "written": self.written}
        found = where[what]
        with self._changed:
            assert self._changed.wait_for(lambda: len(found) >= count, BOUND), f"only {len(found)} {what}"

    @property
    def pending(self) -> int:
        return len(self._pending)

    # softlan.device.overlapped.Kernel

    def open(self, path: str) -> tuple[int, int]:
        assert path == rf"\\.\Global\{GUID}.tap"
        with self._changed:
            self.steps.append("open")
            if self.open_errors and (error := self.open_errors.pop(0)):
                return 0, error
            if not self._is_present:
                return 0, ERROR_FILE_NOT_FOUND
            if "device" in self.handles.values():
                return 0, ERROR_GEN_FAILURE
            return self._handle("device"), ERROR_SUCCESS

    def close(self, handle: int) -> None:
        with self._changed:
            kind = self.handles.pop(handle)  # twice is a fault: the number may be someone else's by then
            if kind == "device":
                self.steps.append("close")
                self.is_connected = False
                if not self.is_stuck:
                    self._abort()
            else:
                del self._events[handle]

    def control(self, handle: int, code: int, data: bytes, size: int) -> tuple[int, bytes]:
        with self._changed:
            assert self.handles[handle] == "device"
            if self.control_error:
                return self.control_error, b""
            self.controls_left -= 1
            if self.controls_left < 0:
                return ERROR_NOT_SUPPORTED, b""
            if code == TAP_WIN_IOCTL_SET_MEDIA_STATUS:
                self.is_connected = data == b"\1\0\0\0"
                self.steps.append("connect" if self.is_connected else "disconnect")
                return 0, b""
            answer = {
                TAP_WIN_IOCTL_GET_MAC: self._mac,
                TAP_WIN_IOCTL_GET_VERSION: struct.pack("<3I", *self.version),
                TAP_WIN_IOCTL_GET_MTU: struct.pack("<I", self.mtu),
            }[code]
            return (0, answer) if size >= len(answer) else (ERROR_INSUFFICIENT_BUFFER, b"")

    def create_event(self) -> int:
        with self._changed:
            if len(self._events) >= self.event_limit:
                raise OSError(8, "cannot create an event")
            event = self._handle("event")
            self._events[event] = False
            return event

    def set_event(self, event: int) -> None:
        with self._changed:
            self._events[event] = True
            self._changed.notify_all()

    def read(self, handle: int, operation: Operation) -> int:
        with self._changed:
            error = self._begin(handle, operation)
            if error:
                return error
            if self._frames:
                self._fill(operation, self._frames.popleft())
                return ERROR_SUCCESS
            self._pending.append(weakref.ref(operation))
            self._changed.notify_all()
            return ERROR_IO_PENDING

    def write(self, handle: int, operation: Operation, frame: bytes) -> int:
        with self._changed:
            error = self._begin(handle, operation)
            if error:
                return error
            if len(frame) < 14:
                return self._refuse(operation, ERROR_INSUFFICIENT_BUFFER)
            operation.frame = frame
            self._held.append(weakref.ref(operation))
            self._changed.notify_all()
            if self.holds_writes:
                return ERROR_IO_PENDING
            self._end_write(self._held.popleft(), ERROR_SUCCESS)
            return ERROR_SUCCESS

    def result(self, handle: int, operation: Operation) -> int:
        with self._changed:
            error, length = self._results[operation]  # GetOverlappedResult would hang for one that was not begun
            operation.transferred.value = length
            return error

    def wait(self, events: Sequence[int], milliseconds: int = INFINITE) -> int | None:
        def first() -> int | None:
            return next((index for index, event in enumerate(events) if self._events[event]), None)

        with self._changed:
            if self.wait_fault is not None and len(events) == 2:
                raise self.wait_fault
            if milliseconds != INFINITE:
                self._changed.wait_for(lambda: first() is not None, 0 if self.is_stuck else milliseconds / 1000)
                return first()
            assert self._changed.wait_for(lambda: first() is not None, BOUND), "the test was to end this"
            return first()

    def cancel(self, handle: int) -> None:
        with self._changed:
            assert self.handles[handle] == "device"
            if not self.is_stuck:
                self._abort()

    # softlan.device.tap_restart.DeviceManager

    def locate(self, device_id: str) -> tuple[int, int]:
        self.steps.append("locate")
        error = self.failures.get("locate", CR_SUCCESS if device_id == ADAPTER.device_id else CR_NO_SUCH_DEVNODE)
        return (0, error) if error else (17, CR_SUCCESS)

    def disable(self, node: int) -> int:
        self.steps.append("disable")
        assert node == 17
        assert "device" not in self.handles.values(), "a device in use cannot be disabled"
        error = self.failures.get("disable", CR_SUCCESS)
        if not error:
            self._is_present = False
        return error

    def enable(self, node: int) -> int:
        self.steps.append("enable")
        assert node == 17
        error = self.failures.get("enable", CR_SUCCESS)
        if not error and not self._is_present:
            self._start_device()
        return error

    def pnputil(self, action: str, device_id: str) -> str:
        self.steps.append(f"pnputil {action}")
        assert device_id == ADAPTER.device_id
        if not self.pnputil_works:
            return f"pnputil {action} ended with 1"
        self._start_device()
        return ""

    # Inside

    def _start_device(self) -> None:
        """Read the address, as the driver does."""
        self._is_present = True
        self._mac = self.default_mac
        for name in self.mac_values:
            text = self.registry.keys[KEY].get(name)
            if isinstance(text, str):
                self._mac = bytes.fromhex(text)
        self.open_errors = [ERROR_FILE_NOT_FOUND] * self.delay

    def _handle(self, kind: str) -> int:
        self._next += 4
        self.handles[self._next] = kind
        return self._next

    def _begin(self, handle: int, operation: Operation) -> int:
        if self.handles.get(handle) != "device":
            return ERROR_INVALID_HANDLE
        assert operation.overlapped.hEvent == operation.event
        assert self._results.get(operation, (0, 0))[0] != ERROR_IO_INCOMPLETE, "it is in use"
        if self.is_asleep or not (self._is_present and self.is_connected):
            return self._refuse(operation, ERROR_OPERATION_ABORTED)
        self._events[operation.event] = False
        self._results[operation] = (ERROR_IO_INCOMPLETE, 0)
        return ERROR_SUCCESS

    def _refuse(self, operation: Operation, error: int) -> int:
        self._results.pop(operation, None)
        return error

    def _fill(self, operation: Operation, frame: bytes) -> None:
        if len(frame) > len(operation.buffer):
            self._end(operation, ERROR_MORE_DATA, 0)
            return
        ctypes.memmove(operation.buffer, frame, len(frame))
        self._end(operation, ERROR_SUCCESS, len(frame))

    def _end_write(self, reference: weakref.ref[Operation], error: int) -> None:
        operation = reference()
        assert operation is not None, "its memory was freed while the system still used it"
        if not error:
            self.written.append(operation.frame.ljust(60, b"\0"))
        self._end(operation, error, len(operation.frame))

    def _end(self, operation: Operation, error: int, length: int) -> None:
        self._results[operation] = (error, length)
        self._events[operation.event] = True
        self._changed.notify_all()

    def _abort(self) -> None:
        for references in (self._pending, self._held):
            while references:
                operation = references.popleft()()
                assert operation is not None, "its memory was freed while the system still used it"
                self._end(operation, ERROR_OPERATION_ABORTED, 0)
