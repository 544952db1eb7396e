"""An endpoint's own look at frames from the room, before they go any further.

As at the relay, a frame is judged by the whole policy once for each flow (who sends, to whom, and that it is IPv4);
after that only what plain TCP and UDP consist of is looked at. Anything else goes the long way again.
"""

import struct
from collections.abc import Callable, Container

from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.proto.drop import Action, DropReason

MAX_FLOWS = 1024
"""Flows that are remembered; with more, all are forgotten and learned anew."""

Judge = Callable[[bytes, int, Container[bytes], int], DropReason | None]
"""Says why the frame in some bytes, from an offset on, must not pass; None if it may. What else it is told are the MACs
of the room's clients, and the room's MTU in bytes. It must decide by the Ethernet header alone, or as strictly as a
client's rules do (`PolicyEngine.verdict`): that is what remembering flows relies on."""

# A flow is the Ethernet header. Behind it: version and IHL, total length, fragment, protocol, ports (RFC 791 section
# 3.1); of these the ports matter only for UDP, where DHCP's are (RFC 2131 section 4.1).
_FLOW_END = 14
_IPV4 = b"\x08\x00"
_HEAD = struct.Struct("!BxHxxHxB10xHH")
_ipv4_head = _HEAD.unpack_from
_HEAD_END = _FLOW_END + _HEAD.size
_TCP = 6  # ICMP may be a redirect
_UDP, _DHCP_SERVER, _DHCP_CLIENT = 17, 67, 68


class Look:
    """Applies rules to bursts of frames from the room, and knows who its clients are."""

    def __init__(self, judge: Judge, counters: TrafficCounters, frame_log: FrameLog, direction: str) -> None:
        """`direction` is where the frames go, for the log's records."""
        self._judge = judge
        self._counters = counters
        self._log = frame_log
        self._direction = direction
        self._room: str | None = None
        self._room_mtu = 0
        self._macs: dict[int, bytes] = {}
        self._clients: set[bytes] = set()
        self._flows: set[bytes] = set()

    def joined(self, room: str, room_mtu: int) -> None:
        """In the room, for the first time or again: who is in it will be said anew."""
        self._room, self._room_mtu = room, room_mtu
        self._macs.clear()
        self._clients.clear()
        self._flows.clear()

    def peer_joined(self, peer_id: int, mac: bytes) -> list[bytes]:
        """A client is in the room. Returns frames that came before this news, to be looked at as if they came now."""
        self.peer_left(peer_id)
        self._macs[peer_id] = mac
        self._clients.add(mac)
        return []

    def peer_left(self, peer_id: int) -> None:
        """It left."""
        self._flows.clear()
        mac = self._macs.pop(peer_id, None)
        if mac is not None and mac not in self._macs.values():
            self._clients.discard(mac)

    def passed(self, frames: list[bytes], now: float) -> list[bytes]:
        """The frames of a burst that may go on."""
        judge, clients, flows = self._judge, self._clients, self._flows
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
                        protocol == _TCP
                        or (protocol == _UDP and source_port != _DHCP_SERVER and destination_port != _DHCP_CLIENT)
                    )
                ):
                    add(frame)
                    continue
            reason = judge(frame, 0, clients, room_mtu)
            if reason is None:
                add(frame)
                if flow.endswith(_IPV4) and length <= limit:
                    if len(flows) >= MAX_FLOWS:
                        flows.clear()
                    flows.add(flow)
            elif self._passes(frame, reason, now):
                add(frame)
        return passed

    def _passes(self, frame: bytes, reason: DropReason, now: float) -> bool:
        """Whether a frame that the rules do not let pass does so nevertheless; if not, it was taken care of."""
        self._drop(frame, reason, now)
        return False

    def _drop(self, frame: bytes, reason: DropReason, now: float) -> None:
        self._counters.drop(reason)
        self._record(frame, reason, reason.action, now)

    def _record(self, frame: bytes, reason: DropReason, action: Action, now: float) -> None:
        if self._log.drops:
            self._log.record(
                now, frame=frame, action=action, reason=reason, direction=self._direction, room=self._room, peer=None
            )
