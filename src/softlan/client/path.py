"""What the path to the relay carries, and whether it is still there: probes that the relay echoes.

Before the hello, probes of falling sizes go out at once, and the largest that comes back is the budget: both
directions are then known to carry it. Afterwards a small probe keeps the session alive when it is quiet and
measures the round trip, and the largest size is tried again now and then.
"""

from collections.abc import Callable

from softlan.proto.budget import UDP_PAYLOADS, budget_of_payload
from softlan.proto.overlay import encode_probe

SMALL = 64  # bytes of a keep-alive probe
QUIET = 1.5  # seconds without a word from the relay until we ask
SILENT = 5.0  # seconds without a word until we give up
FULL_INTERVAL = 15.0  # seconds between two full-size probes
FULL_LOSSES = 3  # full-size probes lost in a row, small ones having passed, mean a narrower path
ROUNDS = 4  # of probes before the hello

_MIN_WAIT, _MAX_WAIT = 0.2, 2.0  # seconds for one round's echoes


class PathProber:
    """The probes of one session. `send` queues one datagram and says whether it fits a packet."""

    def __init__(self, send: Callable[[bytes], bool], max_budget: int, now: float) -> None:
        self.budget = 0
        """The largest datagram that came back, in bytes."""
        self.done = False
        self.failed = False
        self.narrowed = False
        self.rtt: float | None = None
        """Seconds; None before the first echo."""
        self._send = send
        self._max_budget = max_budget
        self._peer_id = 0
        self._nonce = 0
        self._sent: dict[int, tuple[int, float]] = {}  # nonce: size, time
        self._rounds = 0
        self._round_end = 0.0
        self._wait = _MIN_WAIT
        self._wanted = 0
        self._capacity = 0
        self._heard = now
        self._asked = now
        self._next_full = now + FULL_INTERVAL
        self._full: tuple[int, float] | None = None  # nonce and time of the last full-size probe
        self._full_lost = 0
        self._small_echo = now

    # Before the hello

    def start(self, capacity: int, rtt: float | None, now: float) -> None:
        """Send the first round. `capacity`: the largest datagram that a packet carries now."""
        self._wait = min(_MAX_WAIT, max(_MIN_WAIT, 3.0 * (rtt or 0.0)))
        self._round(capacity, now)

    def size(self, capacity: int, now: float) -> None:
        """When a round's time is over: settle for what came back, or try again."""
        if self.done or now < self._round_end:
            return
        growing = capacity > self._capacity  # the library is still probing its way up
        if self._rounds >= ROUNDS or (self.budget and not growing):
            self.done = bool(self.budget)
            self.failed = not self.done
        else:
            self._round(capacity, now)

    def _round(self, capacity: int, now: float) -> None:
        self._rounds += 1
        self._capacity = capacity
        self._round_end = now + self._wait
        limit = min(capacity, self._max_budget)
        sizes = [size for size in map(budget_of_payload, UDP_PAYLOADS) if self.budget < size <= limit]
        if not sizes and not self.budget:
            sizes = [limit]  # capped below the smallest step
        self._wanted = max(sizes, default=self.budget)
        for size in sizes:
            self._probe(size, now)

    # In the room

    def joined(self, peer_id: int, now: float) -> None:
        """The probes carry our peer id from now on."""
        self._peer_id = peer_id
        self._heard = self._asked = self._small_echo = now
        self._next_full = now + FULL_INTERVAL

    def heard(self, now: float) -> None:
        """Something came from the relay."""
        self._heard = now

    def keep_alive(self, now: float) -> None:
        """Ask when it is quiet, and look now and then whether full-size datagrams still pass."""
        if now - max(self._heard, self._asked) >= QUIET or now - self._asked >= FULL_INTERVAL / 3:
            self._asked = now
            self._probe(SMALL, now)
        if now >= self._next_full:
            self._check_full(now)

    def silent(self, now: float) -> bool:
        """Whether the relay has been asked and has not answered for too long."""
        return now - self._heard >= SILENT

    def _check_full(self, now: float) -> None:
        if self._full is not None and self._small_echo > self._full[1] + QUIET:
            self._full_lost += 1
            if self._full_lost >= FULL_LOSSES:
                self.narrowed = True
                return
        self._full = (self._probe(self.budget, now), now)
        self._asked = now
        self._probe(SMALL, now)
        self._next_full = now + (FULL_INTERVAL if not self._full_lost else 2 * QUIET)

    # Both

    def echoed(self, nonce: int, now: float) -> None:
        """One of our probes came back."""
        sent = self._sent.pop(nonce, None)
        if sent is None:
            return
        size, at = sent
        self.rtt = now - at
        if self._peer_id == 0:
            self.budget = max(self.budget, size)
            if size >= self._wanted and size >= min(budget_of_payload(UDP_PAYLOADS[0]), self._max_budget):
                self.done = True
        elif self._full is not None and nonce == self._full[0]:
            self._full, self._full_lost = None, 0
            self._next_full = now + FULL_INTERVAL
        else:
            self._small_echo = now

    def _probe(self, size: int, now: float) -> int:
        self._nonce += 1
        self._sent[self._nonce] = (size, now)
        if len(self._sent) > 64:
            del self._sent[next(iter(self._sent))]
        self._send(encode_probe(self._peer_id, self._nonce, size))
        return self._nonce
