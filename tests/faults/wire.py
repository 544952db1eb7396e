"""A cable that loses, repeats and reorders packets: two TAP interfaces and a thread that carries frames between them.

In user space, since not every kernel has netem, and seeded, since chance must be repeatable.
"""

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass

from softlan.demo.netns import Namespace
from softlan.demo.userns import TUN

_TUNSETIFF = 0x400454CA  # if_tun.h
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_LONGEST = 65536
_BURST = 64


@dataclass(frozen=True)
class Weather:
    """What happens to packets, as probabilities and seconds; the same in both directions."""

    loss: float = 0.0
    duplicates: float = 0.0
    reordered: float = 0.0
    """How many wait up to `delay`, so that those behind them come first."""
    delay: float = 0.02


class Wire:
    """A cable between two (namespace, interface) ends, which it makes. Good weather until `weather` is set."""

    def __init__(self, one: tuple[Namespace, str], other: tuple[Namespace, str], seed: int) -> None:
        self.weather = Weather()
        self.carried = self.lost = 0
        self._chance = random.Random(seed)
        self._ends = [_open_tap(namespace, name) for namespace, name in (one, other)]
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when, tie-breaker, end, frame
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take it away, with both interfaces."""
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _run(self) -> None:
        while not self._stop.is_set():
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, end, frame = heapq.heappop(self._waiting)
                self._put(end, frame)
            wait = min(0.1, self._waiting[0][0] - now) if self._waiting else 0.1
            ready, _, _ = select.select(self._ends, [], [], wait)
            for descriptor in ready:
                other = self._ends[1] if descriptor == self._ends[0] else self._ends[0]
                for _ in range(_BURST):
                    try:
                        frame = os.read(descriptor, _LONGEST)
                    except OSError:  # nothing more, or the interface is down
                        break
                    self._carry(other, frame)

    def _carry(self, end: int, frame: bytes) -> None:
        weather, chance = self.weather, self._chance.random
        if chance() < weather.loss:
            self.lost += 1
            return
        self.carried += 1
        for _ in range(2 if chance() < weather.duplicates else 1):
            if chance() < weather.reordered:
                self._number += 1
                heapq.heappush(self._waiting, (time.monotonic() + chance() * weather.delay, self._number, end, frame))
            else:
                self._put(end, frame)

    def _put(self, end: int, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # its queue is full, or the interface is down
            os.write(end, frame)


def _open_tap(namespace: Namespace, name: str) -> int:
    with namespace.entered():
        descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor
