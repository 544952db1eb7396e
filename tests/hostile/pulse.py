"""A hundred pings a second through the whole party, each with its time: what an attack does to everybody else."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self

from softlan.demo.netns import Namespace

INTERVAL = 0.01  # seconds
SIZES = (56, 1300)  # bytes of payload, in turn: a game's packet and a full one
LATE = 1.0  # seconds after which an answer does not come any more

_ECHO, _ECHO_REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")  # RFC 792: type, code, checksum, identifier, sequence number


@dataclass(frozen=True, slots=True)
class Figures:
    """Round trips of the pings of some time, in milliseconds, and how many of them were not answered."""

    count: int
    p50: float
    p99: float
    loss: float
    """0 to 1."""


class Pulse:
    """Pings an address from a namespace, in a thread of its own, until the block ends."""

    def __init__(self, namespace: Namespace, address: str, cpu: int) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)
        self._socket.connect((address, 0))
        self._cpu = cpu
        self._sent: list[float] = []
        self._answered: dict[int, float] = {}
        self._over = False
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._thread.join()
        self._socket.close()

    def figures(self, start: float, end: float) -> Figures:
        """What became of the pings that were sent between two times of `time.monotonic`."""
        numbers = [number for number, sent in enumerate(list(self._sent)) if start <= sent < end]
        trips = sorted(self._answered[number] - self._sent[number] for number in numbers if number in self._answered)
        if not trips:
            return Figures(len(numbers), float("inf"), float("inf"), 1.0)
        return Figures(
            len(numbers),
            1000 * trips[len(trips) // 2],
            1000 * trips[min(len(trips) - 1, len(trips) * 99 // 100)],
            1 - len(trips) / len(numbers),
        )

    def _run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})  # of this thread
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # a clock does not wait for its turn
        identifier = os.getpid() & 0xFFFF
        due = time.monotonic()
        while not self._over:
            now = time.monotonic()
            if now >= due:
                due = max(due + INTERVAL, now)
                self._send(identifier, len(self._sent))
            if select.select([self._socket], [], [], max(0.0, due - time.monotonic()))[0]:
                self._receive(identifier, time.monotonic())

    def _send(self, identifier: int, number: int) -> None:
        payload = struct.pack("!Q", number).ljust(SIZES[number % len(SIZES)], b".")
        bare = _HEADER.pack(_ECHO, 0, 0, identifier, number & 0xFFFF) + payload
        total = sum(struct.unpack(f"!{len(bare) // 2}H", bare))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        packet = _HEADER.pack(_ECHO, 0, ~total & 0xFFFF, identifier, number & 0xFFFF) + payload
        self._sent.append(time.monotonic())
        with contextlib.suppress(OSError):  # the TAP is down: as good as lost
            self._socket.send(packet)

    def _receive(self, identifier: int, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self._socket.recv(65535)
                start = 4 * (packet[0] & 15)
                kind, _, _, whose, _ = _HEADER.unpack_from(packet, start)
                if kind == _ECHO_REPLY and whose == identifier:
                    (number,) = struct.unpack_from("!Q", packet, start + _HEADER.size)
                    if number < len(self._sent) and now - self._sent[number] < LATE:
                        self._answered.setdefault(number, now)
