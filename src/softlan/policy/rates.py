"""How much a client may send: token buckets in the caller's time, and who is known on the LAN."""

import math

from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason


class ClientRates:
    """One client's three buckets. A frame that one of them stops takes nothing from the others.

    Filled once a burst, as long as the caller's `now` stands still; a clock that goes back fills nothing. They outlive
    a session: who comes back gets the same ones, so that coming back is no way to new bursts.
    """

    __slots__ = (
        "_broadcast",
        "_broadcast_burst",
        "_broadcast_rate",
        "_cut",
        "_reported",
        "_since",
        "_total",
        "_total_burst",
        "_total_rate",
        "_total_since",
        "_unknown",
        "_unknown_burst",
        "_unknown_rate",
    )

    def __init__(self, policy: Policy, now: float) -> None:
        self._broadcast_rate, self._broadcast_burst = _bucket(policy.broadcast_rate, policy.broadcast_burst)
        self._unknown_rate, self._unknown_burst = _bucket(policy.unknown_unicast_rate, policy.unknown_unicast_burst)
        self._total_rate, self._total_burst = _bucket(policy.total_rate, policy.total_burst)
        self._broadcast = self._broadcast_burst
        self._unknown = self._unknown_burst
        self._total = self._total_burst
        self._since = self._total_since = now
        self._reported = -math.inf
        self._cut: dict[DropReason, tuple[int, int]] = {}

    def broadcast(self, length: int, now: float) -> DropReason | None:
        """Take a broadcast or multicast frame of `length` bytes, or say which rate stops it."""
        if now > self._since:
            self._fill(now)
        if self._broadcast < 1.0:
            return self._stop(DropReason.RATE_BROADCAST, length)
        if self._total < length:
            return self._stop(DropReason.RATE_TOTAL, length)
        self._broadcast -= 1.0
        self._total -= length
        return None

    def unknown_unicast(self, length: int, now: float) -> DropReason | None:
        """Take a unicast frame to a MAC that nobody has been seen with, or say which rate stops it."""
        if now > self._since:
            self._fill(now)
        if self._unknown < 1.0:
            return self._stop(DropReason.RATE_UNKNOWN_UNICAST, length)
        if self._total < length:
            return self._stop(DropReason.RATE_TOTAL, length)
        self._unknown -= 1.0
        self._total -= length
        return None

    def unicast(self, length: int, now: float) -> DropReason | None:
        """Take a unicast frame to a known MAC, or say that the total stops it."""
        total = self._total
        if now > self._total_since:  # as _fill() does, for the one bucket and without the call: this is every frame's
            total = min(self._total_burst, total + (now - self._total_since) * self._total_rate)
            self._total_since = now
        if total < length:
            self._total = total
            return self._stop(DropReason.RATE_TOTAL, length)
        self._total = total - length
        return None

    def report(self, now: float) -> dict[DropReason, tuple[int, int]] | None:
        """Return the frames and bytes that each rate has stopped since the last report; for a log line.

        None if there is nothing to say, or the last report was less than a second ago.
        """
        if not self._cut or now < self._reported + 1.0:
            return None
        self._reported = now
        return self.last_report()

    def last_report(self) -> dict[DropReason, tuple[int, int]] | None:
        """Return what `report` would, however soon after the last one: the client leaves."""
        cut, self._cut = self._cut, {}
        return cut or None

    def _fill(self, now: float) -> None:
        elapsed = now - self._since
        self._since = now
        self._broadcast = min(self._broadcast_burst, self._broadcast + elapsed * self._broadcast_rate)
        self._unknown = min(self._unknown_burst, self._unknown + elapsed * self._unknown_rate)
        if now > self._total_since:
            self._total = min(self._total_burst, self._total + (now - self._total_since) * self._total_rate)
            self._total_since = now

    def _stop(self, reason: DropReason, length: int) -> DropReason:
        frames, size = self._cut.get(reason, (0, 0))
        self._cut[reason] = (frames + 1, size + length)
        return reason


class LanMacs:
    """The source MACs of the LAN's frames, so that unicast to them is not unknown. Bounded: the oldest goes first."""

    __slots__ = ("_capacity", "_macs")

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._macs: dict[bytes, None] = {}

    def learn(self, source: bytes) -> bool:
        """Remember the source of a frame from the gateway; only 6 bytes that passed the policy.

        Tells whether another one had to be forgotten for it.
        """
        if source in self._macs:
            return False
        is_full = len(self._macs) >= self._capacity
        if is_full:
            del self._macs[next(iter(self._macs))]
        self._macs[source] = None
        return is_full

    def clear(self) -> None:
        """Forget them all: the gateway left."""
        self._macs.clear()

    def __contains__(self, mac: object) -> bool:
        return mac in self._macs

    def __len__(self) -> int:
        return len(self._macs)


def _bucket(rate: float, burst: int) -> tuple[float, float]:
    """Tokens a second and at most; a rate of 0 is no limit."""
    return (rate, float(burst)) if rate else (math.inf, math.inf)
