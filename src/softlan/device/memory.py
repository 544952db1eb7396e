"""A device without an operating system under it: the other side's hands are `inject` and `written`."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from softlan.device.base import DeviceCounters, DeviceGone
from softlan.proto.drop import DropReason


class MemoryDevice:
    """A working `TapDevice` for tests and simulations. For use from one event loop's thread.

    `express` is what the next bursts are said to be. `written` holds the frames that were written and not refused.
    `space`, when set, is how many more frames
    it takes before it refuses them as a full queue does. `mac`, `mtu` and `is_up` show how it was set up;
    it carries frames whether up or not, since a network card's device is never brought up by us.
    """

    def __init__(self, name: str = "memory0") -> None:
        self.name = name
        self.counters = DeviceCounters()
        self.written: list[bytes] = []
        self.space: int | None = None
        self.mac: bytes | None = None
        self.mtu: int | None = None
        self.is_up = False
        self.is_closed = False
        self.express = False
        self._pending: deque[bytes] = deque()
        self._is_gone = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_readable: Callable[[], object] | None = None
        self._scheduled: asyncio.Handle | None = None
        self._changed = asyncio.Event()

    def inject(self, *frames: bytes) -> None:
        """Let `frames` arrive from the other side."""
        self._pending.extend(frames)
        self._schedule()

    def vanish(self) -> None:
        """Be gone, as when someone deletes the interface."""
        self._is_gone = True
        self._schedule()

    async def wait_written(self, count: int) -> list[bytes]:
        """Wait until `written` holds at least `count` frames; the caller sets the bound on time."""
        while len(self.written) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.written

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` from `loop` for as long as there are frames to read."""
        self.detach()
        self._loop = loop
        self._on_readable = on_readable
        self._schedule()

    def detach(self) -> None:
        """Stop calling."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._loop = self._on_readable = self._scheduled = None

    def read_burst(self, limit: int = 64) -> list[bytes]:
        """Up to `limit` of the injected frames."""
        self._check()
        pending = self._pending
        frames = [pending.popleft() for _ in range(min(limit, len(pending)))]
        self.counters.reads += 1
        self.counters.frames_in += len(frames)
        return frames

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Keep what there is space for in `written`."""
        self._check()
        taken = len(frames)
        if self.space is not None:
            taken = min(taken, self.space)
            self.space -= taken
        self.written += frames[:taken]
        self.counters.writes += 1
        self.counters.frames_out += taken
        self.counters.drop(DropReason.QUEUE_FULL, len(frames) - taken)
        self._changed.set()
        return taken

    def configure(self, mac: bytes, mtu: int) -> None:
        """Note the address and the MTU."""
        self._check()
        self.mac = mac
        self.mtu = mtu

    def set_mtu(self, mtu: int) -> None:
        """Note the MTU."""
        self._check()
        self.mtu = mtu

    def bring_up(self) -> None:
        """Note that it is up."""
        self._check()
        self.is_up = True

    def close(self) -> None:
        """Detach; every later use says that it is gone."""
        self.detach()
        self.is_closed = True

    def _check(self) -> None:
        if self._is_gone or self.is_closed:
            raise DeviceGone("use interface", f"the interface {self.name} is gone")

    def _schedule(self) -> None:
        # Level-triggered, as a loop's reader on a file descriptor is.
        if self._loop is not None and self._scheduled is None and (self._pending or self._is_gone):
            self._scheduled = self._loop.call_soon(self._call)

    def _call(self) -> None:
        self._scheduled = None
        if self._on_readable is not None:
            self._on_readable()
        self._schedule()
