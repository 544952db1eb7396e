"""Longer and longer waits while nothing comes from the peer (RFC 9002, section 6.2.1).

The library does so itself, except until the handshake is confirmed. Then it repeats all that is unacknowledged every
few round trips, with what was added by the repetitions: up to 180 kB a second, which the peer could only take for an
attack (`ledger`). One lost packet right behind the handshake, and a moment without others, are enough.
"""

FIRST = 0.02  # seconds
LONGEST = 1.0  # seconds: an outage that is over is noticed no later than that


class Backoff:
    """When the library's timer may ring again."""

    __slots__ = ("_heard", "_not_before", "_pause")

    def __init__(self) -> None:
        self._heard = -1
        self._pause = self._not_before = 0.0

    def rang(self, heard: int, now: float) -> None:
        """The timer rang, `heard` packets having come so far."""
        self._pause = FIRST if heard != self._heard else min(2 * self._pause, LONGEST)
        self._heard = heard
        self._not_before = now + self._pause

    def put_off(self, timer: float, heard: int) -> float:
        """When it is to ring instead of at `timer`: then, if anything has come since it rang."""
        return timer if heard != self._heard or timer > self._not_before else self._not_before
