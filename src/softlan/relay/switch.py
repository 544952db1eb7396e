"""One room's forwarding: a burst of datagrams from one member in, queued datagrams at the others' ports out.

This is the relay's hot path. Nothing is made for a frame but slices of it; its bytes go out as they came in.
"""

from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.drop import Action, DropReason
from softlan.proto.overlay import HEADER_LENGTH, Kind, parse
from softlan.relay.room import Member, Room

_MIN_ETHERNET = HEADER_LENGTH + 14
_DESTINATION = slice(HEADER_LENGTH, HEADER_LENGTH + 6)
_SOURCE = slice(HEADER_LENGTH + 6, HEADER_LENGTH + 12)


class Switch:
    """Forwards for one room, by its policy."""

    def __init__(self, room: Room, policy: PolicyEngine, log: FrameLog) -> None:
        self.room = room
        self._verdict = policy.verdict
        self._log = log

    def forward(self, ingress: Member, datagrams: list[bytes], now: float) -> None:
        """Take a burst from `ingress`: each datagram is delivered, or counted with the reason why not."""
        room, log = self.room, self._log
        header, budget, own_mac, room_mtu = ingress.header, ingress.budget, ingress.mac, room.mtu
        by_mac, verdict, log_all = room.by_mac, self._verdict, log.all
        rates, lan_macs = ingress.rates, room.lan_macs
        frames = size = 0
        ingress.last_seen = now
        for datagram in datagrams:
            length = len(datagram)
            if datagram[:HEADER_LENGTH] != header or length < _MIN_ETHERNET or length > budget:
                self._irregular(ingress, datagram, now)
                continue
            frames += 1
            size += length - HEADER_LENGTH
            reason = verdict(datagram, HEADER_LENGTH, own_mac, by_mac, room_mtu)
            if reason is not None:
                self._drop(ingress, datagram, reason, now)
                continue
            if rates is None:
                lan_macs.learn(datagram[_SOURCE])
            if datagram[HEADER_LENGTH] & 1:
                if rates is not None and (reason := rates.broadcast(length - HEADER_LENGTH, now)) is not None:
                    self._drop(ingress, datagram, reason, now)
                    continue
                targets = self._flood(ingress, datagram, now)
            else:
                destination = datagram[_DESTINATION]
                target = by_mac.get(destination)
                if rates is not None:
                    take = rates.unicast if target is not None or destination in lan_macs else rates.unknown_unicast
                    if (reason := take(length - HEADER_LENGTH, now)) is not None:
                        self._drop(ingress, datagram, reason, now)
                        continue
                if target is None:
                    target = room.gateway
                    if target is None or target is ingress:
                        reason = DropReason.NO_GATEWAY if target is None else DropReason.UNKNOWN_UNICAST
                        self._drop(ingress, datagram, reason, now)
                        continue
                elif target is ingress:
                    # A frame of a client to itself is of no use to anyone, and is never reflected.
                    self._drop(ingress, datagram, DropReason.UNKNOWN_UNICAST, now)
                    continue
                targets = self._deliver(ingress, target, datagram, now)
            if targets:
                room.forwarded += 1
                room.copies += targets
            if log_all and (targets or len(room.members) == 1):  # else it was skipped at every port, and recorded there
                self._record(ingress, datagram, Action.FORWARDED, None, now, targets=targets)
        ingress.counters.frames_in += frames
        ingress.counters.bytes_in += size

    def _flood(self, ingress: Member, datagram: bytes, now: float) -> int:
        """Deliver to all others; how many got it."""
        targets = 0
        for member in self.room.members.values():
            if member is not ingress:
                targets += self._deliver(ingress, member, datagram, now)
        return targets

    def _deliver(self, ingress: Member, target: Member, datagram: bytes, now: float) -> int:
        """Queue at one port; 1, or 0 when that member's budget is too small."""
        if len(datagram) > target.budget or not target.port.send_datagram(datagram):
            self._drop(ingress, datagram, DropReason.EGRESS_BUDGET, now, target=target)
            return 0
        counters = target.counters
        counters.frames_out += 1
        counters.bytes_out += len(datagram) - HEADER_LENGTH
        return 1

    def _irregular(self, ingress: Member, datagram: bytes, now: float) -> None:
        """A probe is echoed, within its rate; all else is malformed. One sent before the welcome has peer id 0."""
        parsed = parse(datagram)
        if parsed in ((Kind.PROBE, ingress.peer_id), (Kind.PROBE, 0)) and len(datagram) <= ingress.budget:
            if ingress.probes.take(now):
                ingress.port.send_datagram(datagram)
            else:
                ingress.counters.drop(DropReason.RATE_PROBE)
                self.room.counters.drop(DropReason.RATE_PROBE)
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
            budget=target.budget if target else None,
            malformed=ingress.malformed if reason is DropReason.MALFORMED else None,
        )
