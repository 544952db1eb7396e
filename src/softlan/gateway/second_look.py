"""The gateway's own look at what it is about to put on the LAN, by the rules that the relay has for clients.

Defence in depth: the LAN need not trust the relay's filters, nor that it has any. In a sealed room it is the only look
that sees more than addresses.

As at the relay, a frame is judged by the whole policy once for each flow (who sends, to whom, and that it is IPv4);
after that only what plain TCP, UDP and ICMP consist of is looked at. Anything else goes the long way again.
"""

import enum
import struct
from collections import deque

from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.drop import Action, DropReason

MAX_FLOWS = 1024
"""Flows that are remembered; with more, all are forgotten and learned anew."""
MAX_EARLY = 64
"""Frames that wait for the news of their sender."""
EARLY_TIME = 1.0
"""Seconds that they wait. The news is on its way, or it was lost once and is sent again."""

# A flow is the Ethernet header. Behind it: version and IHL, total length, fragment, protocol, ports (RFC 791 section
# 3.1); of these the ports matter only for UDP, where DHCP's are (RFC 2131 section 4.1).
_FLOW_END = 14
_IPV4 = b"\x08\x00"
_HEAD = struct.Struct("!BxHxxHxB10xHH")
_ipv4_head = _HEAD.unpack_from
_HEAD_END = _FLOW_END + _HEAD.size
_PORTLESS = (6, 1)  # TCP, ICMP
_UDP, _DHCP_SERVER, _DHCP_CLIENT = 17, 67, 68


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
        self._flows: set[bytes] = set()
        self._early: deque[tuple[float, bytes]] = deque()
        """Frames of nobody that we know, the oldest first, and until when they wait."""

    def joined(self, room: str, room_mtu: int) -> None:
        """In the room, for the first time or again: who is in it will be said anew."""
        self._room, self._room_mtu = room, room_mtu
        self._macs.clear()
        self._clients.clear()
        self._flows.clear()
        if self._early:
            self._counters.drop(DropReason.INVALID_SOURCE, len(self._early))
            self._early.clear()

    def peer_joined(self, peer_id: int, mac: bytes) -> list[bytes]:
        """A client is in the room: frames may come from its MAC. Returns those that came before this news.

        They are to be looked at (`passed`) as if they came now.
        """
        self.peer_left(peer_id)
        self._macs[peer_id] = mac
        self._clients.add(mac)
        early = [frame for _, frame in self._early if frame[6:12] == mac]
        if early:
            self._early = deque(entry for entry in self._early if entry[1][6:12] != mac)
        return early

    def peer_left(self, peer_id: int) -> None:
        """It left."""
        self._flows.clear()
        mac = self._macs.pop(peer_id, None)
        if mac is not None and mac not in self._macs.values():
            self._clients.discard(mac)

    def passed(self, frames: list[bytes], now: float) -> list[bytes]:
        """The frames of a burst that may go onto the LAN."""
        if self._mode is LookMode.OFF:
            return frames
        onto_lan, clients, flows = self._onto_lan, self._clients, self._flows
        room_mtu = self._room_mtu
        limit = room_mtu + _FLOW_END
        passed: list[bytes] = []
        add = passed.append
        for frame in frames:
            length = len(frame)
            flow = frame[:_FLOW_END]
            if flow in flows and _HEAD_END <= length <= limit:
                first, total, fragment, protocol, source_port, destination_port = _ipv4_head(frame, _FLOW_END)
                if (
                    first == 0x45
                    and not fragment & 0x3FFF
                    and 28 <= total <= length - _FLOW_END
                    and (
                        protocol in _PORTLESS
                        or (protocol == _UDP and source_port != _DHCP_SERVER and destination_port != _DHCP_CLIENT)
                    )
                ):
                    add(frame)
                    continue
            reason = onto_lan(frame, 0, clients, room_mtu)
            if reason is None:
                add(frame)
                if flow.endswith(_IPV4) and length <= limit:
                    if len(flows) >= MAX_FLOWS:
                        flows.clear()
                    flows.add(flow)
            elif self._passes(frame, reason, now):
                add(frame)
        return passed

    def tick(self, now: float) -> None:
        """Drop the frames whose sender nobody told of in time."""
        early = self._early
        while early and now >= early[0][0]:
            self._drop(early.popleft()[1], DropReason.INVALID_SOURCE, now)

    def _passes(self, frame: bytes, reason: DropReason, now: float) -> bool:
        """Whether a frame that the policy does not let pass does so nevertheless."""
        if self._mode is LookMode.LOG:
            self._record(frame, reason, Action.FORWARDED, now)
            return True
        if reason is DropReason.INVALID_SOURCE and not frame[6] & 1 and len(self._early) < MAX_EARLY:
            # A datagram may overtake the control stream, on which its sender is announced.
            self._early.append((now + EARLY_TIME, frame))
            return False
        self._drop(frame, reason, now)
        return False

    def _drop(self, frame: bytes, reason: DropReason, now: float) -> None:
        self._counters.drop(reason)
        self._record(frame, reason, reason.action, now)

    def _record(self, frame: bytes, reason: DropReason, action: Action, now: float) -> None:
        if self._log.drops:
            self._log.record(
                now, frame=frame, action=action, reason=reason, direction="to_lan", room=self._room, peer=None
            )
