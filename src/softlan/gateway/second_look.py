"""The gateway's own look at what it is about to put on the LAN, by the rules that the relay has for clients.

Defence in depth: the LAN need not trust the relay's filters, nor that it has any. In a sealed room it is the only look
that sees more than addresses.
"""

import enum
from collections import deque

from softlan.client.look import Look
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.drop import Action, DropReason

MAX_EARLY = 64
"""Frames that wait for the news of their sender."""
EARLY_TIME = 1.0
"""Seconds that they wait. The news is on its way, or it was lost once and is sent again."""


class LookMode(enum.Enum):
    """What becomes of a frame that the policy does not let pass."""

    OFF = "off"
    """It is not even looked at."""
    ON = "on"
    """It is dropped and counted."""
    LOG = "log"
    """It passes, and is logged: to see what a policy would do."""


class SecondLook(Look):
    """Applies a policy to bursts of frames from the room; those of senders not heard of yet wait for a moment."""

    def __init__(self, mode: LookMode, policy: PolicyEngine, counters: TrafficCounters, frame_log: FrameLog) -> None:
        super().__init__(policy.onto_lan, counters, frame_log, "to_lan")
        self._mode = mode
        self._early: deque[tuple[float, bytes]] = deque()
        """Frames of nobody that we know, the oldest first, and until when they wait."""

    def joined(self, room: str, room_mtu: int) -> None:
        """In the room, for the first time or again: who is in it will be said anew."""
        super().joined(room, room_mtu)
        if self._early:
            self._counters.drop(DropReason.INVALID_SOURCE, len(self._early))
            self._early.clear()

    def peer_joined(self, peer_id: int, mac: bytes) -> list[bytes]:
        """A client is in the room. Returns frames that came before this news, to be looked at as if they came now."""
        super().peer_joined(peer_id, mac)
        early = [frame for _, frame in self._early if frame[6:12] == mac]
        if early:
            self._early = deque(entry for entry in self._early if entry[1][6:12] != mac)
        return early

    def passed(self, frames: list[bytes], now: float) -> list[bytes]:
        """The frames of a burst that may go onto the LAN."""
        return frames if self._mode is LookMode.OFF else super().passed(frames, now)

    def tick(self, now: float) -> None:
        """Drop the frames whose sender nobody told of in time."""
        early = self._early
        while early and now >= early[0][0]:
            self._drop(early.popleft()[1], DropReason.INVALID_SOURCE, now)

    def _passes(self, frame: bytes, reason: DropReason, now: float) -> bool:
        if self._mode is LookMode.LOG:
            self._record(frame, reason, Action.FORWARDED, now)
            return True
        if reason is DropReason.INVALID_SOURCE and not frame[6] & 1 and len(self._early) < MAX_EARLY:
            # A datagram may overtake the control stream, on which its sender is announced.
            self._early.append((now + EARLY_TIME, frame))
            return False
        return super()._passes(frame, reason, now)
