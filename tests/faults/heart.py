"""A heartbeat through the tunnel: echoes (RFC 792) that go on whatever becomes of the way, each with its times."""

import itertools
import select
import socket
import struct
import threading
import time
from bisect import bisect_right

from softlan.demo.netns import Namespace
from softlan.demo.processes import wait_for
from softlan.proto.sums import word_sum

INTERVAL = 0.05  # seconds
STEADY = 1.0  # seconds without a gap until a party counts as healed
GAP = 0.5  # seconds; a lost echo or two are no gap

_ECHO, _ECHO_REPLY = 8, 0
_idents = itertools.count(0x5A00)


class Heart:
    """Echoes from a namespace to `address`, 20 a second, from a thread of its own. Times are `time.monotonic`."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self._address = address
        self._ident = next(_idents)
        with namespace.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        self._sent: dict[int, float] = {}
        self._answered: list[float] = []  # when the answered echoes were sent: in the order of their answers
        self._arrived: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def still(self, start: float, end: float) -> float:
        """The longest silence from `start` to `end`, in seconds: from one answer to the next."""
        arrived = list(self._arrived)
        first = max(0, bisect_right(arrived, start) - 1)
        times = [*(at for at in arrived[first:] if at <= end), end]
        return max(other - one for one, other in itertools.pairwise(times))

    def answered(self, start: float) -> float:
        """Which part of the echoes since `start` was answered."""
        arrived = list(self._arrived)
        return (len(arrived) - bisect_right(arrived, start)) * INTERVAL / (time.monotonic() - start)

    def wait_for_steady(self, after: float, timeout: float) -> float:
        """Wait until echoes sent after `after` are answered and go on being so; return when the first answer came.

        A first answer with a gap behind it does not count. Errors: HostError after `timeout` seconds.
        """

        def steady() -> float | None:
            now = time.monotonic()
            arrived = list(self._arrived)
            first = bisect_right(arrived, after)
            answers = [at for sent, at in zip(self._answered[first:], arrived[first:], strict=False) if sent >= after]
            if not answers or now - answers[-1] > GAP:
                return None
            begun = answers[0]
            for one, other in itertools.pairwise(answers):
                if other - one > GAP:
                    begun = other
            return begun if now - begun >= STEADY else None

        return wait_for(f"answers of {self._address} to a steady heartbeat", steady, timeout + STEADY)

    def _run(self) -> None:
        sequence, due = 0, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= due:
                due = max(due + INTERVAL, now)
                sequence = sequence + 1 & 0xFFFF
                self._sent[sequence] = now
                try:
                    self._socket.sendto(self._echo(sequence), (self._address, 0))
                except OSError:
                    pass  # no route, no interface, a full queue: as good as lost
            ready, _, _ = select.select([self._socket], [], [], max(0.0, due - time.monotonic()))
            if ready:
                self._take()

    def _echo(self, sequence: int) -> bytes:
        rest = struct.pack(">HH", self._ident, sequence) + bytes(48)
        head = struct.pack(">BBH", _ECHO, 0, 0)
        return struct.pack(">BBH", _ECHO, 0, 0xFFFF ^ word_sum(head + rest)) + rest

    def _take(self) -> None:
        try:
            packet = self._socket.recv(2048)
        except OSError:  # an ICMP error of an earlier echo
            return
        kind, _, _, ident, sequence = struct.unpack_from(">BBHHH", packet, 4 * (packet[0] & 15))
        if kind == _ECHO_REPLY and ident == self._ident:
            sent = self._sent.pop(sequence, None)
            if sent is not None:
                self._answered.append(sent)
                self._arrived.append(time.monotonic())
