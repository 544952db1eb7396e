"""A TAP-Windows6 adapter as a device: the driver's interface of `tap-windows.h`, over overlapped I/O."""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence

from softlan.device.base import DeviceCounters, DeviceGone
from softlan.device.overlapped import BURST, FramePump, Kernel
from softlan.device.tap_adapters import Registry, TapAdapter, WindowsRegistry
from softlan.device.tap_restart import DeviceManager, get_mac, open_with_mac
from softlan.device.win32 import (
    ERROR_FILE_NOT_FOUND,
    ERROR_SUCCESS,
    TAP_WIN_IOCTL_GET_MTU,
    TAP_WIN_IOCTL_GET_VERSION,
    TAP_WIN_IOCTL_SET_MEDIA_STATUS,
    Win32DeviceManager,
    Win32Kernel,
)
from softlan.errors import HostError
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac

_STAGE = "configure interface"
WAITING = 4096
"""Frames that wait to be read by the loop; what comes on top is lost, and counted."""


class WindowsTap:
    """A `TapDevice`. The adapter stays when it is closed; its cable is pulled, so to speak.

    For use from one event loop's thread, but for `open`.
    """

    express = False
    """There is one queue, and TCP is in it as well."""

    def __init__(self, adapter: TapAdapter, kernel: Kernel, handle: int, set_mtu: Callable[[int], None]) -> None:
        """For `open`. Raises HostError, and the handle stays the caller's then."""
        self.adapter = adapter
        self.counters = DeviceCounters()
        self.mac = get_mac(adapter, kernel, handle)
        version = self._ask(kernel, handle, TAP_WIN_IOCTL_GET_VERSION, 12)
        self.version: tuple[int, int, int] = struct.unpack("<3I", version)
        """The driver's: major, minor, and whether it is a debug build."""
        self.driver_mtu: int = struct.unpack("<I", self._ask(kernel, handle, TAP_WIN_IOCTL_GET_MTU, 4))[0]
        """What the driver carries at most, 1500 as a rule; the tunnel's MTU is the host's setting."""
        self._kernel = kernel
        self._handle: int | None = handle
        self._set_mtu = set_mtu
        self._pump: FramePump | None = None
        self._waiting: deque[bytes] = deque()
        self._gone: DeviceGone | None = None
        self._is_closed = False
        self._is_woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_readable: Callable[[], object] | None = None

    @classmethod
    def open(
        cls,
        adapter: TapAdapter,
        mac: bytes,
        set_mtu: Callable[[int], None],
        *,
        kernel: Kernel | None = None,
        registry: Registry | None = None,
        manager: DeviceManager | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "WindowsTap":
        """Open the adapter with `mac` (6 bytes) as its address, its medium still disconnected. Raises HostError.

        `set_mtu` makes the host's stack keep to an MTU on this interface. An adapter with another address is
        restarted, which takes some seconds: call this in a thread. What is not given is the system's own.
        """
        kernel = Win32Kernel() if kernel is None else kernel
        registry = WindowsRegistry() if registry is None else registry
        manager = Win32DeviceManager() if manager is None else manager
        handle = open_with_mac(adapter, mac, kernel, registry, manager, clock=clock, sleep=sleep)
        try:
            return cls(adapter, kernel, handle, set_mtu)
        except HostError:
            kernel.close(handle)
            raise

    @property
    def name(self) -> str:
        """The connection's name, such as `Ethernet 3`."""
        return self.adapter.name

    def configure(self, mac: bytes, mtu: int) -> None:
        """See that the address is `mac`, which `open` made it, and set the MTU."""
        if mac != self.mac:
            raise HostError(_STAGE, f"{self.name} was opened as {format_mac(self.mac)}, not as {format_mac(mac)}")
        self.set_mtu(mtu)

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU of the host's stack on this interface."""
        self._check()
        self._set_mtu(mtu)

    def bring_up(self) -> None:
        """Connect the medium, and begin to read; nothing when it is up."""
        self._check()
        if self._pump is not None:
            return
        assert self._handle is not None
        error = self._set_media(self._handle, True)
        if error:
            raise HostError(_STAGE, f"{self.name}: the driver does not connect its medium (error {error})")
        try:
            self._pump = FramePump(
                self._kernel, self._handle, self, f"tap {self.name}", self._disconnect, self._is_present
            )
        except OSError as fault:
            raise HostError(_STAGE, f"{self.name}: {fault.strerror}") from fault
        self._handle = None  # the pump's from now on
        self._pump.start()

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` from `loop` while frames are waiting, or the adapter is gone."""
        self.detach()
        self._on_readable = on_readable
        self._loop = loop
        self._wake()

    def detach(self) -> None:
        """Stop calling."""
        self._loop = self._on_readable = None
        self._is_woken = False

    def read_burst(self, limit: int = BURST) -> list[bytes]:
        """Up to `limit` frames that this machine sends; [] when there are none."""
        waiting = self._waiting
        if not waiting:
            self._check()
        frames = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        self.counters.frames_in += len(frames)
        return frames

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Let this machine receive `frames`; returns how many will be handed to the driver.

        What the driver refuses then is counted later. It takes frames of 14 to 1514 bytes, and pads to 60.
        """
        self._check()
        taken = 0 if self._pump is None else self._pump.put(frames)
        self.counters.drop(DropReason.QUEUE_FULL, len(frames) - taken)
        return taken

    def close(self) -> None:
        """Detach, disconnect the medium and give the adapter back."""
        self.detach()
        self._is_closed = True
        if self._pump is not None:
            self._pump.stop()
        elif self._handle is not None:
            self._set_media(self._handle, False)
            self._kernel.close(self._handle)
        self._handle = None
        self._waiting.clear()

    # overlapped.FrameSink, in its threads

    def arrived(self, frames: list[bytes], calls: int) -> None:
        """Queue frames for the loop, and wake it once."""
        lost = calls - len(frames)
        if lost:
            self._book(DropReason.DEVICE_ERROR, lost, "read: frames larger than any that the driver should know")
        room = WAITING - len(self._waiting)
        if len(frames) > room:
            self._book(DropReason.QUEUE_FULL, len(frames) - room, "")
            del frames[room:]
        self._waiting.extend(frames)
        self.counters.reads += calls
        self._wake()

    def written(self, sent: int, errors: list[int]) -> None:
        """Count what the driver took and what it refused."""
        self.counters.writes += sent + len(errors)
        self.counters.frames_out += sent
        if errors:
            self._book(DropReason.DEVICE_ERROR, len(errors), f"write on {self.name}: Windows error {errors[-1]}")

    def ended(self, error: int | str) -> None:
        """Note that the adapter is gone, and wake the loop."""
        what = f"Windows error {error}" if isinstance(error, int) else error
        self._gone = DeviceGone("use interface", f"the adapter {self.name} is gone: disabled or removed ({what})")
        self._wake()

    # Inside

    def _wake(self) -> None:
        """Have `_call` run in the loop once; from any thread."""
        loop = self._loop
        if loop is None or self._is_woken or not (self._waiting or self._gone):
            return
        self._is_woken = True
        try:
            loop.call_soon_threadsafe(self._call)
        except RuntimeError:  # the loop was closed: nobody is there to read
            self._loop = None

    def _call(self) -> None:
        self._is_woken = False  # before the look, so that what comes after it wakes again
        if self._on_readable is not None:
            self._on_readable()
        self._wake()

    def _book(self, reason: DropReason, count: int, complaint: str) -> None:
        """Count losses in the loop's thread, where the counters are read; from the pump's threads."""

        def book() -> None:
            self.counters.drop(reason, count)
            if complaint:
                self.counters.last_error = complaint

        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(book)
                return
        except RuntimeError:
            pass
        book()

    def _check(self) -> None:
        if self._gone is not None:
            raise self._gone
        if self._is_closed:
            raise DeviceGone("use interface", f"the adapter {self.name} is closed")

    def _ask(self, kernel: Kernel, handle: int, code: int, size: int) -> bytes:
        error, answer = kernel.control(handle, code, bytes(size), size)  # as OpenVPN asks
        if error or len(answer) != size:
            raise HostError(_STAGE, f"{self.name}: the driver does not answer as TAP-Windows6 does (error {error})")
        return answer

    def _set_media(self, handle: int, connected: bool) -> int:
        return self._kernel.control(handle, TAP_WIN_IOCTL_SET_MEDIA_STATUS, struct.pack("<I", connected), 4)[0]

    def _is_present(self) -> bool:
        """Whether the adapter is there, asleep or not: it has one opener, us, and so refuses another one.

        What can be opened is not ours any more: it went and came back.
        """
        handle, error = self._kernel.open(self.adapter.path)
        if error == ERROR_SUCCESS:
            self._kernel.close(handle)
        return error not in (ERROR_SUCCESS, ERROR_FILE_NOT_FOUND)

    def _disconnect(self, handle: int) -> None:
        self._set_media(handle, False)
