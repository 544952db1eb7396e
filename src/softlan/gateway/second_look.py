"""The gateway's own look at what it is about to put on the LAN, by the rules that the relay has for clients.

Defence in depth: the LAN need not trust the relay's filters, nor that it has any.
"""

import enum

from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.drop import Action


class LookMode(enum.Enum):
    """What becomes of a frame that the policy does not let pass."""

    OFF = "off"
    """It is not even looked at."""
    ON = "on"
    """It is dropped and counted."""
    LOG = "log"
    """It passes, and is logged: to see what a policy would do."""


class SecondLook:
    """Applies a policy to bursts of frames from the room."""

    def __init__(self, mode: LookMode, policy: PolicyEngine, counters: TrafficCounters, frame_log: FrameLog) -> None:
        self._mode = mode
        self._onto_lan = policy.onto_lan
        self._counters = counters
        self._log = frame_log
        self._room: str | None = None
        self._room_mtu = 0
        self._macs: dict[int, bytes] = {}
        self._clients: set[bytes] = set()

    def joined(self, room: str, room_mtu: int) -> None:
        """In the room, for the first time or again: who is in it will be said anew."""
        self._room, self._room_mtu = room, room_mtu
        self._macs.clear()
        self._clients.clear()

    def peer_joined(self, peer_id: int, mac: bytes) -> None:
        """A client is in the room: frames may come from its MAC."""
        self.peer_left(peer_id)
        self._macs[peer_id] = mac
        self._clients.add(mac)

    def peer_left(self, peer_id: int) -> None:
        """It left."""
        mac = self._macs.pop(peer_id, None)
        if mac is not None and mac not in self._macs.values():
            self._clients.discard(mac)

    def passed(self, frames: list[bytes], now: float) -> list[bytes]:
        """The frames of a burst that may go onto the LAN."""
        if self._mode is LookMode.OFF:
            return frames
        onto_lan, clients, room_mtu = self._onto_lan, self._clients, self._room_mtu
        passed: list[bytes] = []
        for frame in frames:
            reason = onto_lan(frame, 0, clients, room_mtu)
            if reason is None or self._mode is LookMode.LOG:
                passed.append(frame)
            else:
                self._counters.drop(reason)
            if reason is not None and self._log.drops:
                action = reason.action if self._mode is LookMode.ON else Action.FORWARDED
                self._log.record(
                    now, frame=frame, action=action, reason=reason, direction="to_lan", room=self._room, peer=None
                )
        return passed
