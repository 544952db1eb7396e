"""One room's forwarding: a burst of datagrams from one member in, queued datagrams at the others' ports out.

This is the relay's hot path. Nothing is made for a frame but slices of it; its bytes go out as they came in. A frame is
judged by the whole policy once for each flow; after that a look-up says where it goes, and of its IP header only what
plain TCP and UDP consist of is looked at. Anything else goes the long way again.

In a sealed room nothing behind the Ethernet header is to be seen, and so every frame with the same one shares a fate.
"""

import struct

from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.budget import SEAL_OVERHEAD
from softlan.proto.drop import Action, DropReason
from softlan.proto.overlay import HEADER_LENGTH, Kind, header, parse
from softlan.relay.room import Member, Room

_MIN_ETHERNET = HEADER_LENGTH + 14
_DESTINATION = slice(HEADER_LENGTH, HEADER_LENGTH + 6)
_SOURCE = slice(HEADER_LENGTH + 6, HEADER_LENGTH + 12)

# A flow is what the overlay header and the Ethernet header say: who sends, to whom, and that it is IPv4 (or, of sealed
# frames, whatever else).
_FLOW_END = _MIN_ETHERNET
_FLOW = slice(_FLOW_END)
_IPV4 = b"\x08\x00"
_NO_FLOWS: dict[bytes, Member] = {}
# Behind them: version and IHL, total length, fragment, protocol, ports (RFC 791 section 3.1).
_HEAD = struct.Struct("!BxHxxHxB10xHH")
_ipv4_head = _HEAD.unpack_from
_HEAD_END = _FLOW_END + _HEAD.size
# TCP, about whose ports no rule says anything; and UDP, where DHCP's are (RFC 2131 section 4.1). ICMP may redirect.
_TCP = 6
_UDP, _DHCP_SERVER, _DHCP_CLIENT = 17, 67, 68
_SEALED = header(Kind.SEALED, 0)[:1]

# By whether the room is sealed: the kind of frame that has no place in it, and what is said of it.
_OTHER_KIND = {
    False: (Kind.SEALED, DropReason.UNEXPECTED_SEAL),
    True: (Kind.ETHERNET, DropReason.NOT_SEALED),
}


_MISFITS = 32
"""As many of these are as bad as one malformed datagram: an endpoint knows what its room is like, and sends none."""


class Switch:
    """Forwards for one room of plain frames, by its policy."""

    def __init__(self, room: Room, policy: PolicyEngine, log: FrameLog) -> None:
        self.room = room
        self._log = log
        self._verdict = policy.verdict
        self._shortest = _MIN_ETHERNET
        self._flow_type = _IPV4
        self._shortest_flow = _HEAD_END
        self._looks_inside = True  # at the IP header of a client's frame, of a known flow too
        self._longest_flow = _FLOW_END + room.mtu  # untagged: a longer one may be a tagged frame, or a jumbo frame

    def forward(self, ingress: Member, datagrams: list[bytes], now: float) -> None:
        """Take a burst from `ingress`: each datagram is delivered, or counted with the reason why not."""
        allowance = ingress.allowance
        if allowance.strained:
            datagrams = self._sifted(ingress, datagrams, now)
        left = allowance.left = allowance.left - len(datagrams)
        if left <= 0.0:
            allowance.strained = True
        flows = _NO_FLOWS if self._log.all else ingress.flows
        limit, longest, shortest = ingress.budget, self._longest_flow, self._shortest_flow
        if limit > longest:
            limit = longest
        looks_inside = ingress.rates is not None and self._looks_inside
        run: list[bytes] = []  # that go the same way, one behind the other
        target: Member | None = None
        ingress.last_seen = now
        for datagram in datagrams:
            flow = flows.get(datagram[_FLOW])
            if flow is not None:
                length = len(datagram)
                if not shortest <= length <= limit:
                    flow = None
                elif looks_inside:
                    first, total, fragment, protocol, source_port, destination_port = _ipv4_head(datagram, _FLOW_END)
                    if (
                        first != 0x45
                        or fragment & 0x3FFF
                        or not 28 <= total <= length - _FLOW_END
                        or (
                            protocol != _TCP
                            and (protocol != _UDP or source_port == _DHCP_SERVER or destination_port == _DHCP_CLIENT)
                        )
                    ):
                        flow = None
            if flow is None or flow is not target:
                if target is not None:
                    self._pass_on(ingress, target, run, now)
                    run = []
                target = flow
                if flow is None:
                    self._forward_other(ingress, datagram, now)
                    continue
            run.append(datagram)
        if target is not None:
            self._pass_on(ingress, target, run, now)

    def _pass_on(self, ingress: Member, target: Member, run: list[bytes], now: float) -> None:
        """Take datagrams of known flows to the same member."""
        counters, rates = ingress.counters, ingress.rates
        size = sum(map(len, run)) - HEADER_LENGTH * len(run)
        counters.frames_in += len(run)
        counters.bytes_in += size
        copies = 0
        if len(run) > 1 and max(map(len, run)) <= target.budget and (rates is None or rates.unicasts(size, now)):
            copies = target.port.send_datagrams(run)
            target.counters.frames_out += copies
            target.counters.bytes_out += sum(map(len, run[:copies])) - HEADER_LENGTH * copies
            run, rates = run[copies:], None
        for datagram in run:
            if rates is not None and (reason := rates.unicast(len(datagram) - HEADER_LENGTH, now)) is not None:
                self._drop(ingress, datagram, reason, now)
            else:
                copies += self._deliver(ingress, target, datagram, now)
        self.room.forwarded += copies
        self.room.copies += copies

    def _forward_other(self, ingress: Member, datagram: bytes, now: float) -> None:
        """Take a datagram of no known flow, by all the rules."""
        length = len(datagram)
        if datagram[:HEADER_LENGTH] != ingress.header or length < self._shortest or length > ingress.budget:
            self._irregular(ingress, datagram, now)
            return
        room, rates = self.room, ingress.rates
        ingress.counters.frames_in += 1
        ingress.counters.bytes_in += length - HEADER_LENGTH
        reason = self._verdict(datagram, HEADER_LENGTH, ingress.mac, room.by_mac, room.mtu)
        if reason is not None:
            self._drop(ingress, datagram, reason, now)
            return
        is_heard = rates is not None or room.heard(datagram[_SOURCE], now)
        if datagram[HEADER_LENGTH] & 1:
            if rates is not None and (reason := rates.broadcast(length - HEADER_LENGTH, now)) is not None:
                self._drop(ingress, datagram, reason, now)
                return
            targets = self._flood(ingress, datagram, now)
        else:
            destination = datagram[_DESTINATION]
            target = room.by_mac.get(destination)
            is_known = target is not None or destination in room.lan_macs
            if rates is not None:
                take = rates.unicast if is_known else rates.unknown_unicast
                if (reason := take(length - HEADER_LENGTH, now)) is not None:
                    self._drop(ingress, datagram, reason, now)
                    return
            if target is None:
                target = room.gateway
            if target is None or target is ingress:
                # Back to where it came from is of no use to anyone, and never done.
                reason = DropReason.NO_GATEWAY if target is None else DropReason.UNKNOWN_UNICAST
                self._drop(ingress, datagram, reason, now)
                return
            if (
                is_known
                and is_heard  # else each of its frames is to be heard, until it is
                and length <= self._longest_flow
                and datagram.startswith(self._flow_type, _FLOW_END - 2)
            ):
                ingress.learn_flow(datagram[_FLOW], target)
            targets = self._deliver(ingress, target, datagram, now)
        if targets:
            room.forwarded += 1
            room.copies += targets
        if self._log.all and (
            targets or len(room.members) == 1
        ):  # else it was skipped at every port, and recorded there
            self._record(ingress, datagram, Action.FORWARDED, None, now, targets=targets)

    def _sifted(self, ingress: Member, datagrams: list[bytes], now: float) -> list[bytes]:
        """What may go on of a burst of one who has been stopped before; the rest is counted and dropped unseen.

        So a flood costs little, and that is the price: what a rule would have stopped may be counted as stopped by a
        rate. With a frame log everything but the total is looked at, as ever.
        """
        allowance, rates, log_drops = ingress.allowance, ingress.rates, self._log.drops
        if not allowance.has_frames(now):
            size = max(0, sum(map(len, datagrams)) - HEADER_LENGTH * len(datagrams))  # some may be shorter than that
            self._stopped(ingress, DropReason.RATE_TOTAL, len(datagrams), size)
            if log_drops:
                for datagram in datagrams:
                    self._record(ingress, datagram, DropReason.RATE_TOTAL.action, DropReason.RATE_TOTAL, now)
            return []
        no_broadcast, no_unknown = rates.dry(now) if rates is not None else (False, False)
        if not (no_broadcast or no_unknown) or log_drops:
            allowance.strained = False
            return datagrams
        header, shortest, budget = ingress.header, self._shortest, ingress.budget
        by_mac, lan_macs = self.room.by_mac, self.room.lan_macs
        broadcasts = broadcast_size = unknown = unknown_size = 0
        others = []
        for datagram in datagrams:
            length = len(datagram)
            if shortest <= length <= budget and datagram.startswith(header):
                if datagram[HEADER_LENGTH] & 1:
                    if no_broadcast:
                        broadcasts += 1
                        broadcast_size += length
                        continue
                elif no_unknown and (to := datagram[_DESTINATION]) not in by_mac and to not in lan_macs:
                    unknown += 1
                    unknown_size += length
                    continue
            others.append(datagram)
        if broadcasts:
            self._stopped(ingress, DropReason.RATE_BROADCAST, broadcasts, broadcast_size - HEADER_LENGTH * broadcasts)
        if unknown:
            self._stopped(ingress, DropReason.RATE_UNKNOWN_UNICAST, unknown, unknown_size - HEADER_LENGTH * unknown)
        return others

    def _stopped(self, ingress: Member, reason: DropReason, frames: int, size: int) -> None:
        """Count what was dropped unseen."""
        ingress.allowance.stop(reason, frames, size)
        ingress.counters.frames_in += frames
        ingress.counters.bytes_in += size
        ingress.counters.drop(reason, frames)
        self.room.counters.drop(reason, frames)

    def _flood(self, ingress: Member, datagram: bytes, now: float) -> int:
        """Deliver to all others; how many got it."""
        targets = 0
        for member in self.room.members.values():
            if member is not ingress:
                targets += self._deliver(ingress, member, datagram, now)
        if targets > 1:
            ingress.allowance.left -= targets - 1  # the frame itself is paid
        return targets

    def _deliver(self, ingress: Member, target: Member, datagram: bytes, now: float) -> int:
        """Queue at one port; 1, or 0 when that member's budget is too small, or its connection about to end."""
        if len(datagram) > target.budget or not target.port.send_datagram(datagram):
            self._undelivered(ingress, target, datagram, now)
            return 0
        counters = target.counters
        counters.frames_out += 1
        counters.bytes_out += len(datagram) - HEADER_LENGTH
        return 1

    def _undelivered(self, ingress: Member, target: Member, datagram: bytes, now: float) -> None:
        # A connection carries whatever its member's budget says, until it ends.
        reason = DropReason.EGRESS_BUDGET if len(datagram) > target.budget else DropReason.NOT_CONNECTED
        self._drop(ingress, datagram, reason, now, target=target)

    def _irregular(self, ingress: Member, datagram: bytes, now: float) -> None:
        """A probe is echoed, within its rate, and a frame of the other kind dropped; all else is malformed.

        A probe that was sent before the welcome has peer id 0.
        """
        parsed = parse(datagram)
        if parsed in ((Kind.PROBE, ingress.peer_id), (Kind.PROBE, 0)) and len(datagram) <= ingress.budget:
            if ingress.probes.take(now):
                ingress.port.send_datagram(datagram)
            else:
                ingress.counters.drop(DropReason.RATE_PROBE)
                self.room.counters.drop(DropReason.RATE_PROBE)
            return
        other = _OTHER_KIND[self.room.sealed]
        if parsed == (other[0], ingress.peer_id) and len(datagram) <= ingress.budget:
            ingress.counters.frames_in += 1
            ingress.counters.bytes_in += len(datagram) - HEADER_LENGTH
            self._drop(ingress, datagram, other[1], now)
            if ingress.counters.drops[other[1]] % _MISFITS == 0:
                ingress.malformed += 1
            return
        ingress.malformed += 1
        self._drop(ingress, datagram, DropReason.MALFORMED, now)

    def _drop(
        self,
        ingress: Member,
        datagram: bytes,
        reason: DropReason,
        now: float,
        *,
        target: Member | None = None,
    ) -> None:
        ingress.counters.drop(reason)
        self.room.counters.drop(reason)
        if self._log.drops:
            self._record(ingress, datagram, reason.action, reason, now, target=target)

    def _record(
        self,
        ingress: Member,
        datagram: bytes,
        action: Action,
        reason: DropReason | None,
        now: float,
        *,
        targets: int = 0,
        target: Member | None = None,
    ) -> None:
        self._log.record(
            now,
            frame=datagram[HEADER_LENGTH:],
            action=action,
            reason=reason,
            direction="ingress",
            room=self.room.name,
            peer=ingress.peer_id,
            targets=targets,
            target=target.peer_id if target else None,
            budget=target.budget if target and reason is DropReason.EGRESS_BUDGET else None,
            malformed=ingress.malformed if reason is DropReason.MALFORMED else None,
            sealed=datagram[:1] == _SEALED,
        )


class SealedSwitch(Switch):
    """Forwards for one room of sealed frames, by as much of its policy as can be seen from outside."""

    def __init__(self, room: Room, policy: PolicyEngine, log: FrameLog) -> None:
        super().__init__(room, policy, log)
        self._verdict = policy.sealed_verdict
        self._shortest = _MIN_ETHERNET + SEAL_OVERHEAD
        self._flow_type = b""  # of any type
        self._longest_flow = _FLOW_END + SEAL_OVERHEAD + room.mtu
        self._shortest_flow = self._shortest
        self._looks_inside = False
