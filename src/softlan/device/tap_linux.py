"""A TAP interface of our own: Linux's tun driver (Documentation/networking/tuntap.rst).

A virtio header goes before each frame (`IFF_VNET_HDR`), so that a burst of one TCP stream can be written as a
super-frame: one trip through the kernel's receive path, and one acknowledgement. Super-frames are not asked for in
the other direction: splitting one here costs what the kernel's own segmentation and a read for each segment cost, and
the driver's queue, which counts frames, would hold 45 times as many bytes.

The interface has two queues (`IFF_MULTI_QUEUE`), TCP's and one for all else, so that a game does not wait behind a
download: neither here, nor in a burst, which is all of one queue. Where the kernel takes no program that sorts frames
into them (`tap_steering`), there is one.
"""

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from softlan.device.base import DeviceCounters, DeviceGone
from softlan.device.netdev import IFF_UP, NetDevice, name_fault
from softlan.device.tap_steering import steer
from softlan.errors import HostError
from softlan.net.loop import add_express_reader
from softlan.proto.coalesce import PLAIN, coalesce
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac

_STAGE = "create interface"
_CLONE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x0100, 0x1000, 0x4000, 0x8000
_FLAGS = _IFF_TAP | _IFF_MULTI_QUEUE | _IFF_NO_PI | _IFF_VNET_HDR
_HEADER_LENGTH = len(PLAIN)
_LARGEST = _HEADER_LENGTH + 16384
"""A longer frame is cut, and still too long for any room; a larger buffer makes each read cost a third more."""
_QUEUE_LENGTH = 1000
"""Frames that the driver keeps for us in each queue: room for a flood of small ones while we are not scheduled."""
_IPV6_MIN_MTU = 1280
"""Below it Linux takes IPv6, and its settings, off the interface."""
_GONE = (errno.EBADFD, errno.EBADF, errno.ENODEV, errno.ENXIO)


class LinuxTap:
    """A `TapDevice`: it exists from `open` to `close`, or until the process ends, however it ends."""

    __slots__ = ("_loop", "_mac", "_merges", "_queues", "counters", "express", "name")

    def __init__(self, name: str, queues: list[int]) -> None:
        """For `open`, which makes the interface; `queues` are the descriptors for TCP and for the rest, or one."""
        self.name = name
        self.counters = DeviceCounters()
        self._queues = queues
        self.express = False
        self._merges = True
        self._mac: bytes | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(cls, name: str = "softlan0") -> "LinuxTap":
        """Make the interface, down and without an address. Raises HostError."""
        fault = name_fault(name)
        if fault is not None:
            raise HostError(_STAGE, f"{name!a} cannot be an interface's name: it is {fault}")
        tap = cls(name, [])
        try:
            # TUN_EXCL: an existing interface, persistent and someone else's, is not taken over.
            tap._add_queue(_FLAGS | _IFF_TUN_EXCL)
            try:
                steer(tap._queues[0])
            except OSError as error:
                tap.counters.last_error = f"{name} has one queue: {error.strerror}"
            else:
                tap._add_queue(_FLAGS)
        except HostError:
            tap.close()
            raise
        try:
            with NetDevice(name) as device:
                device.set_queue_length(_QUEUE_LENGTH)
        except OSError as error:  # the driver's own is half of it
            tap.counters.last_error = f"set the length of {name}'s queues: {error.strerror}"
        return tap

    def configure(self, mac: bytes, mtu: int) -> None:
        """Set the address (6 bytes; read back, since drivers and udev have their own ideas) and the MTU.

        Routers of the LAN must not become this machine's default route, so the kernel is told to take none
        from router advertisements; addresses and on-link prefixes it still takes.
        """
        self._mac = mac
        self._set_mac()
        self.set_mtu(mtu)

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU, up or down."""
        try:
            with NetDevice(self.name) as device:
                device.set_mtu(mtu)
        except OSError as error:
            raise self._error(f"set the MTU to {mtu}", error) from error
        # IPv6 comes back with the defaults when the MTU rises above its minimum.
        if mtu >= _IPV6_MIN_MTU:
            self._refuse_default_routes()

    def bring_up(self) -> None:
        """Bring the interface up, with the configured address even if udev set its own meanwhile."""
        if self._mac is not None:
            self._set_mac()
        try:
            with NetDevice(self.name) as device:
                device.set_flags(device.flags() | IFF_UP)
        except OSError as error:
            raise self._error("bring it up", error) from error

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` from `loop` while frames are waiting."""
        self.detach()
        self._loop = loop
        loop.add_reader(self._queues[0], on_readable)
        for fd in self._queues[1:]:
            add_express_reader(loop, fd, on_readable)

    def detach(self) -> None:
        """Stop calling."""
        if self._loop is not None:
            for fd in self._queues:
                self._loop.remove_reader(fd)
            self._loop = None

    def read_burst(self, limit: int = 64) -> list[bytes]:
        """Up to `limit` frames that this machine sends, of one queue; [] when there are none in either.

        The others' come before TCP's. When both queues have frames, they take turns.
        """
        if not self._queues:
            raise DeviceGone("read", f"the interface {self.name} is closed")
        frames: list[bytes] = []
        queues = self._queues
        order = queues if self.express else queues[::-1]
        self.express = False
        for fd in order:
            self._read(fd, limit, frames)
            if frames:
                self.express = fd != queues[0]
                break
        self.counters.frames_in += len(frames)
        return frames

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Let this machine receive `frames`; returns how many the kernel took.

        It may see segments of one TCP stream as one, and those of different streams in another order.
        """
        if not self._queues:
            raise DeviceGone("write", f"the interface {self.name} is closed")
        writev = os.writev
        fd = self._queues[0]
        writes = coalesce(frames) if self._merges and len(frames) > 1 else [[PLAIN, frame] for frame in frames]
        taken = 0
        for buffers in writes:
            try:
                writev(fd, buffers)
                taken += len(buffers) - 1
            except BlockingIOError:
                self.counters.drop(DropReason.QUEUE_FULL, len(buffers) - 1)
            except OSError as error:
                if error.errno == errno.EINVAL and len(buffers) > 2:
                    self._merges = False  # this kernel takes no super-frames; TCP sends these again
                self._failed("write", error)
                self.counters.drop(DropReason.DEVICE_ERROR, len(buffers) - 1)
        self.counters.writes += len(writes)
        self.counters.frames_out += taken
        return taken

    def close(self) -> None:
        """Detach and remove the interface."""
        self.detach()
        while self._queues:
            os.close(self._queues.pop())

    def _add_queue(self, flags: int) -> None:
        try:
            fd = os.open(_CLONE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _open_error(error) from error
        self._queues.append(fd)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", self.name.encode(), flags))
        except OSError as error:
            raise _create_error(self.name, error) from error

    def _read(self, fd: int, limit: int, frames: list[bytes]) -> None:
        """Add what waits in one queue, at most `limit`."""
        add = frames.append
        read = os.read
        calls = 0
        try:
            while calls < limit:
                calls += 1
                # Without TUNSETOFFLOAD the kernel finishes every frame itself: its virtio header says nothing.
                add(read(fd, _LARGEST)[_HEADER_LENGTH:])
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed("read", error)
        self.counters.reads += calls

    def _set_mac(self) -> None:
        assert self._mac is not None
        wanted = format_mac(self._mac)
        try:
            with NetDevice(self.name) as device:
                if device.hardware()[1] != self._mac:
                    device.set_mac(self._mac)
                found = device.hardware()[1]
        except OSError as error:
            raise self._error(f"set the address {wanted}", error) from error
        if found != self._mac:
            raise HostError(
                "configure interface", f"{self.name} kept the address {format_mac(found)} instead of {wanted}"
            )

    def _refuse_default_routes(self) -> None:
        # /proc/sys/net is that of the namespace that the thread is in.
        setting = Path("/proc/sys/net/ipv6/conf", self.name, "accept_ra_defrtr")
        try:
            if setting.read_text().strip() != "0":
                setting.write_text("0\n")
        except FileNotFoundError:
            return  # without IPv6 there are no router advertisements
        except OSError as error:
            raise self._error(
                f"write {setting}, and a router of the LAN could take over the default route", error
            ) from error

    def _error(self, attempt: str, error: OSError) -> HostError:
        hint = "; run it as root, or with CAP_NET_ADMIN" if error.errno in (errno.EPERM, errno.EACCES) else ""
        return HostError("configure interface", f"{self.name}: cannot {attempt}: {error.strerror}{hint}")

    def _failed(self, attempt: str, error: OSError) -> None:
        self.counters.last_error = f"{attempt} on {self.name}: {error.strerror}"
        if error.errno in _GONE:
            raise DeviceGone(attempt, f"the interface {self.name} is gone") from error


def _open_error(error: OSError) -> HostError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(_STAGE, f"no permission to open {_CLONE}: run it as root, or with CAP_NET_ADMIN")
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return HostError(_STAGE, f"there is no {_CLONE}: load the driver with modprobe tun")
    return HostError(_STAGE, f"cannot open {_CLONE}: {error.strerror}")


def _create_error(name: str, error: OSError) -> HostError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(_STAGE, f"making {name} needs CAP_NET_ADMIN; run it as root, or with it")
    if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
        # EINVAL is what an existing interface of another kind answers.
        return HostError(_STAGE, f"{name} exists already: choose another name, or remove that interface")
    return HostError(_STAGE, f"cannot make the interface {name}: {error.strerror}")
