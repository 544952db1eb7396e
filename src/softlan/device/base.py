"""What a bridge needs of whatever carries its frames, be it a network card, a TAP interface or a fake."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from softlan.errors import HostError
from softlan.proto.drop import DropReason


class DeviceGone(HostError):
    """The interface was removed, or can never work again; close the device."""


class DeviceCounters:
    """What went through one device. "In" is what was read from it, "out" what was written to it.

    `reads` and `writes` are the system calls that moved something or tried to, or the looks at a ring in shared memory;
    `drops` are frames lost here, by reason; `last_error` is the operating system's latest complaint, one line, empty
    when there was none.
    """

    __slots__ = ("drops", "frames_in", "frames_out", "last_error", "reads", "writes")

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        self.frames_in = 0
        self.frames_out = 0
        self.drops: dict[DropReason, int] = {}
        self.last_error = ""

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count `count` frames that were lost here."""
        if count:
            self.drops[reason] = self.drops.get(reason, 0) + count


class FrameDevice(Protocol):
    """Whole Ethernet frames in and out, in bursts, without preamble and FCS. Never blocks."""

    @property
    def name(self) -> str:
        """The interface's name, for people."""
        ...

    @property
    def counters(self) -> DeviceCounters:
        """What went through, live."""
        ...

    @property
    def express(self) -> bool:
        """Whether the last burst was of a queue that has all but TCP: it is not to wait behind streams on its way."""
        ...

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` from `loop` for as long as there are frames to read, or the device is gone."""
        ...

    def detach(self) -> None:
        """Stop calling; nothing when not attached."""
        ...

    def read_burst(self, limit: int = 64) -> list[bytes]:
        """Up to `limit` of the frames that are there; [] when there are none, or all that was looked at was dropped.

        Where a device has two queues, they are all of one: TCP's only when there are no others, or when the burst
        before was of those. So the others come first, neither queue starves, and who reads again gets the other's.
        A super-frame counts as what it is split into, so the last one may take the list above `limit`.
        Raises `DeviceGone`.
        """
        ...

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Hand `frames` to the system and say how many it took; the others are lost, and counted.

        Raises `DeviceGone`.
        """
        ...

    def close(self) -> None:
        """Detach and release everything; nothing when closed already."""
        ...


class TapDevice(FrameDevice, Protocol):
    """A device that is an interface of this machine's own, made by us and removed by `close`."""

    def configure(self, mac: bytes, mtu: int) -> None:
        """Give it its address (6 bytes) and MTU (bytes of payload). Raises HostError."""
        ...

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU, up or down. Raises HostError."""
        ...

    def bring_up(self) -> None:
        """Let traffic flow. Raises HostError."""
        ...
