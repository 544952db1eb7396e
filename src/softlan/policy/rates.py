"""How much a member may send: token buckets in the caller's time, and who is known on the LAN."""

import math

from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason

HEAVY = 10_000.0
"""Frames a second that are stopped of one member, from which on it is a burden to others. No honest program goes on
like this: TCP slows down, and a scan that is so fast has found everyone long before."""
HEAVY_SECONDS = 3
"""How many seconds in a row it may be one."""
FLOOD = 50_000
"""Frames within a second that are stopped of one member, and it goes at once: it could take most of a processor."""


class MemberRates:
    """How much work any member may make, the gateway too, and what was stopped of it.

    Frames are paid for by the burst, which is never cut in two: whoever has something `left` is worked for, and who has
    drawn more than there was waits until it is there again. The caller takes from `left`, so that a burst costs a
    subtraction, and sets `strained` when it is used up.
    """

    __slots__ = (
        "_cut",
        "_frame_burst",
        "_frame_rate",
        "_frames_since",
        "_heavy",
        "_judged",
        "_reported",
        "_stopped",
        "left",
        "strained",
    )

    def __init__(self, policy: Policy, now: float) -> None:
        self._frame_rate, self._frame_burst = _bucket(policy.frame_rate, policy.frame_burst)
        self._frames_since = now
        self.left = self._frame_burst
        """Frames that are left, as of the last look (`has_frames`); below zero when more were drawn than there were."""
        self.strained = False
        """Whether its next burst is to be looked at as a whole first: nothing is left, or a broadcast or unknown
        unicast frame was stopped."""
        self._reported = -math.inf
        self._cut: dict[DropReason, tuple[int, int]] = {}
        self._stopped = self._heavy = 0
        self._judged = now

    def has_frames(self, now: float) -> bool:
        """Whether there is anything left for another burst."""
        if now > self._frames_since:
            self.left = min(self._frame_burst, self.left + (now - self._frames_since) * self._frame_rate)
            self._frames_since = now
        return self.left > 0.0

    def stop(self, reason: DropReason, frames: int, size: int) -> None:
        """Count frames of `size` bytes together that are not let through."""
        before, size_before = self._cut.get(reason, (0, 0))
        self._cut[reason] = (before + frames, size_before + size)
        self._stopped += frames

    def overdraws(self, now: float) -> bool:
        """Tell whether so much had to be stopped, or for so long, that the member had better go.

        To be asked now and then; whole seconds are judged, but for a flood. Who comes back with these rates, and just
        goes on, goes again after a second.
        """
        if self._stopped > FLOOD:
            self._stopped, self._judged = 0, now
            return True
        elapsed = now - self._judged
        if elapsed >= 1.0:
            self._heavy = self._heavy + 1 if self._stopped > HEAVY * elapsed else 0
            self._stopped, self._judged = 0, now
            return self._heavy >= HEAVY_SECONDS
        return False

    def report(self, now: float) -> dict[DropReason, tuple[int, int]] | None:
        """Return the frames and bytes that each rate has stopped since the last report; for a log line.

        None if there is nothing to say, or the last report was less than a second ago.
        """
        if not self._cut or now < self._reported + 1.0:
            return None
        self._reported = now
        return self.last_report()

    def last_report(self) -> dict[DropReason, tuple[int, int]] | None:
        """Return what `report` would, however soon after the last one: the member leaves."""
        cut, self._cut = self._cut, {}
        return cut or None


class ClientRates(MemberRates):
    """One client's three buckets more. A frame that one of them stops takes nothing from the others.

    Filled once a burst, as long as the caller's `now` stands still; a clock that goes back fills nothing. They outlive
    a session: who comes back gets the same ones, so that coming back is no way to new bursts.
    """

    __slots__ = (
        "_broadcast",
        "_broadcast_burst",
        "_broadcast_rate",
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
        super().__init__(policy, now)
        self._broadcast_rate, self._broadcast_burst = _bucket(policy.broadcast_rate, policy.broadcast_burst)
        self._unknown_rate, self._unknown_burst = _bucket(policy.unknown_unicast_rate, policy.unknown_unicast_burst)
        self._total_rate, self._total_burst = _bucket(policy.total_rate, policy.total_burst)
        self._broadcast = self._broadcast_burst
        self._unknown = self._unknown_burst
        self._total = self._total_burst
        self._since = self._total_since = now

    def broadcast(self, length: int, now: float) -> DropReason | None:
        """Take a broadcast or multicast frame of `length` bytes, or say which rate stops it."""
        if now > self._since:
            self._fill(now)
        if self._broadcast < 1.0:
            self.strained = True
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
            self.strained = True
            return self._stop(DropReason.RATE_UNKNOWN_UNICAST, length)
        if self._total < length:
            return self._stop(DropReason.RATE_TOTAL, length)
        self._unknown -= 1.0
        self._total -= length
        return None

    def unicast(self, length: int, now: float) -> DropReason | None:
        """Take a unicast frame to a known MAC, or say that the total stops it."""
        return None if self.unicasts(length, now) else self._stop(DropReason.RATE_TOTAL, length)

    def unicasts(self, size: int, now: float) -> bool:
        """Take several of them, of `size` bytes together; False, and nothing taken, if the total does not let all pass.

        Then some may: `unicast` says which.
        """
        if now > self._total_since:  # as _fill() does, for the one bucket that this is of
            self._total = min(self._total_burst, self._total + (now - self._total_since) * self._total_rate)
            self._total_since = now
        if self._total < size:
            return False
        self._total -= size
        return True

    def dry(self, now: float) -> tuple[bool, bool]:
        """Tell whether nothing is left of broadcast, and of unknown unicast: any such frame would be stopped now."""
        if now > self._since:
            self._fill(now)
        return self._broadcast < 1.0, self._unknown < 1.0

    def _fill(self, now: float) -> None:
        elapsed = now - self._since
        self._since = now
        self._broadcast = min(self._broadcast_burst, self._broadcast + elapsed * self._broadcast_rate)
        self._unknown = min(self._unknown_burst, self._unknown + elapsed * self._unknown_rate)
        if now > self._total_since:
            self._total = min(self._total_burst, self._total + (now - self._total_since) * self._total_rate)
            self._total_since = now

    def _stop(self, reason: DropReason, length: int) -> DropReason:
        self.stop(reason, 1, length)
        return reason


class LanMacs:
    """The source MACs of the LAN's frames, so that unicast to them is not unknown. Bounded: the oldest goes first."""

    NEW_AT_ONCE = 4096
    """How many new ones may come at once: a LAN that is heard for the first time."""
    NEW_RATE = 100.0
    """And then a second. Each may push out another, after which everybody's flows are learned again."""

    __slots__ = ("_capacity", "_macs", "_since", "_spare")

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._macs: dict[bytes, None] = {}
        self._spare = float(self.NEW_AT_ONCE)
        self._since = -math.inf

    def may_learn(self, now: float) -> bool:
        """Take a new one's place in what may be learned, if there is one."""
        if now > self._since:
            self._spare = min(float(self.NEW_AT_ONCE), self._spare + (now - self._since) * self.NEW_RATE)
            self._since = now
        if self._spare < 1.0:
            return False
        self._spare -= 1.0
        return True

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
