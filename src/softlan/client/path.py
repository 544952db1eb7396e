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
ASK_AGAIN = 0.5  # seconds without an answer until we ask again: one lost packet in ten must not look like silence
SILENT = 5.0  # seconds without a word, or without an answer whatever else is heard, until we give up
ASK = 3.0  # seconds between two measurements of the round trip, however busy the path is
FULL_INTERVAL = 10.0  # seconds between two full-size probes
FULL_AGAIN = 0.7  # seconds until a full-size probe that was lost is followed by another
FULL_LOSSES = 10  # in a row, small ones having passed, mean a narrower path; five are soon lost by chance at 20 % loss
TRIES = 3  # rounds in vain before a size is given up, or the path
SIZING_TIME = 3.0  # seconds for all of them: the relay waits 5 for the hello

_MIN_WAIT, _MAX_WAIT = 0.2, 1.5  # seconds for one round's echoes
_WIDEST = budget_of_payload(UDP_PAYLOADS[0])


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
        self._wait = _MIN_WAIT
        self._round_end = self._sizing_end = 0.0
        self._in_vain = 0  # rounds in which nothing larger came back, and nothing larger could be tried
        self._before = (0, 0)  # budget and capacity at the start of the round
        self._heard = now
        self._asked = now
        self._waiting: float | None = None  # since when no probe has come back
        self._small_echo = now
        self._next_full = now
        self._full: float | None = None  # when the last full-size probe was sent, until one comes back
        self._full_lost = 0

    # Before the hello

    def start(self, capacity: int, rtt: float | None, now: float) -> None:
        """Send the first round. `capacity`: the largest datagram that a packet carries now."""
        self._wait = min(_MAX_WAIT, max(_MIN_WAIT, 0.1 + 1.5 * (rtt or 0.0)))
        self._sizing_end = now + SIZING_TIME
        self._round(capacity, now)

    def size(self, capacity: int, now: float) -> None:
        """When a round's time is over: settle for what came back, or try what is larger again.

        Probes are lost by chance, too, and the library's own probing lets `capacity` grow meanwhile.
        """
        if self.done or now < self._round_end:
            return
        self._in_vain = 0 if (self.budget, capacity) > self._before else self._in_vain + 1
        if now >= self._sizing_end or self._in_vain >= (TRIES - 1 if self.budget else TRIES):
            self.done = bool(self.budget)
            self.failed = not self.done
        else:
            self._round(capacity, now)

    def _round(self, capacity: int, now: float) -> None:
        self._before = (self.budget, capacity)
        self._round_end = now + self._wait
        limit = min(capacity, self._max_budget)
        sizes = [size for size in map(budget_of_payload, UDP_PAYLOADS) if self.budget < size <= limit]
        if not sizes and not self.budget:
            sizes = [limit]  # capped below the smallest step
        for size in sizes:
            self._probe(size, now)

    # In the room

    def joined(self, peer_id: int, now: float) -> None:
        """The probes carry our peer id from now on."""
        self._peer_id = peer_id
        self._heard = self._asked = self._small_echo = now
        self._waiting = None
        self._next_full = now + FULL_INTERVAL

    def heard(self, now: float) -> None:
        """Something came from the relay."""
        self._heard = now

    def keep_alive(self, now: float) -> None:
        """Ask when it is quiet, and look now and then whether full-size datagrams still pass."""
        asked = now - self._asked
        if (
            asked >= ASK
            or (asked >= ASK_AGAIN and (now - self._heard >= QUIET or self._waits(QUIET, now)))
            # Behind a full-size probe, at a later tick: in one batch, a router that segments would drop both.
            or (self._full is not None and self._asked <= self._full)
        ):
            self._ask(now)
        elif now >= self._next_full:
            self._check_full(now)

    def silent(self, now: float) -> bool:
        """Whether the relay has been asked and has not answered for too long.

        What it sends us is no answer: frames of the room may come for as long as the relay does not miss us, while
        nothing of ours gets out.
        """
        return now - self._heard >= SILENT or self._waits(SILENT, now)

    def _waits(self, seconds: float, now: float) -> bool:
        return self._waiting is not None and now - self._waiting >= seconds

    def _ask(self, now: float) -> None:
        self._asked = now
        self._probe(SMALL, now)

    def _check_full(self, now: float) -> None:
        """Send a full-size probe, to be followed by a small one, whose echo alone speaks against the size."""
        if self._full is not None and self._small_echo >= self._full:
            self._full_lost += 1
            if self._full_lost >= FULL_LOSSES:
                self.narrowed = True
                return
        self._full = now
        self._probe(self.budget, now)
        self._next_full = now + FULL_AGAIN

    # Both

    def echoed(self, nonce: int, now: float) -> None:
        """One of our probes came back."""
        sent = self._sent.pop(nonce, None)
        if sent is None:
            return
        size, at = sent
        self.rtt = now - at
        self._waiting = None
        if self._peer_id == 0:
            self.budget = max(self.budget, size)
            self.done = self.done or self.budget >= min(_WIDEST, self._max_budget)
        elif size >= self.budget:
            self._full, self._full_lost = None, 0
            self._next_full = now + FULL_INTERVAL
        else:
            self._small_echo = now

    def _probe(self, size: int, now: float) -> None:
        self._nonce += 1
        self._sent[self._nonce] = (size, now)
        if self._waiting is None:
            self._waiting = now
        if len(self._sent) > 64:
            del self._sent[next(iter(self._sent))]
        self._send(encode_probe(self._peer_id, self._nonce, size))
