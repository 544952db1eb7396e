"""Moves frames between a local device and the tunnel, in bursts, and keeps the books."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from softlan.device.base import DeviceGone, FrameDevice
from softlan.obs.counters import TrafficCounters
from softlan.obs.logging import get_logger

# Frames read from the device in one go: a burst is worth one flush, and the tunnel's own turn must not wait. So many
# full ones are what one call of the kernel sends (GSO).
BURST = 45

# From so many on, a burst may have left something in its queue: a ring that stands drops some of what was looked at.
FULL_BURST = 32

# Bursts that a device may have kept from before the start: more than any socket's buffer holds.
STALE_BURSTS = 256


class Bridge:
    """A device on one side, `send` on the other: a burst of frames into the tunnel, and whether it is express."""

    def __init__(self, device: FrameDevice, counters: TrafficCounters, gone: Callable[[DeviceGone], None]) -> None:
        self.device = device
        self.counters = counters
        self.send: Callable[[list[bytes], bool], None]
        self._gone = gone
        self._log = get_logger("bridge")
        self._reported: Counter[str] = Counter()
        self._next_report = 0.0
        self._told = ""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read the device from now on."""
        self.device.attach(loop, self._readable)

    def forget_waiting(self) -> None:
        """Throw away what has waited in a device that nobody read, in all of its queues: it is of the past."""
        try:
            for _ in range(STALE_BURSTS):
                if not self.device.read_burst(BURST):
                    return
        except DeviceGone as error:
            self._gone(error)

    def stop(self) -> None:
        """Read it no more."""
        self.device.detach()

    def deliver(self, frames: Sequence[bytes]) -> None:
        """Write a burst of frames to the device; what it does not take is counted there."""
        try:
            self.device.write_burst(frames)
        except DeviceGone as error:
            self._gone(error)

    def report(self, now: float) -> None:
        """Once in a while, one line on what was dropped since the last one, and one on a complaint that is new."""
        if now < self._next_report:
            return
        self._next_report = now + 10.0
        drops: Counter[str] = Counter()
        for source in (self.counters.drops, self.device.counters.drops):
            drops.update({reason.value: count for reason, count in source.items()})
        news = drops - self._reported
        self._reported = drops
        if news:
            self._log.info("drops", **news)
        complaint = self.device.counters.last_error
        if complaint and complaint != self._told:
            self._told = complaint
            self._log.info("device", says=complaint)

    def _readable(self) -> int:
        """Take a burst of one queue; how many frames there were, as a negative number if it may have more.

        Another queue has a descriptor, and a call, of its own.
        """
        try:
            frames = self.device.read_burst(BURST)
        except DeviceGone as error:
            self.device.detach()
            self._gone(error)
            return 0
        if frames:
            self.send(frames, self.device.express)
        return len(frames) if len(frames) < FULL_BURST else -len(frames)
