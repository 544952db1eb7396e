"""The relay itself: its rooms, and what happens when someone joins or leaves one.

Everything here happens inside a turn of the QUIC endpoint or of the relay's own clock; nothing waits.
"""

import math
import secrets
from collections.abc import Callable
from typing import Any

from softlan.ctrl.messages import PROTOCOL_VERSION, Hello, PeerJoined, PeerLeft, Reject, RejectCode, Role, Welcome
from softlan.obs.frame_log import FrameLog
from softlan.policy.rates import ClientRates
from softlan.proto.mac import format_mac
from softlan.quic.connection import Connection
from softlan.quic.udp import plain_host
from softlan.relay.admission import consider
from softlan.relay.limits import AddressLimiter, RelayLimits, TokenBucket
from softlan.relay.room import Member, Room
from softlan.relay.session import Session, State
from softlan.relay.settings import RoomBook
from softlan.relay.switch import Switch


class Relay:
    """Rooms and sessions. `log` is a structlog logger; `now` is always given."""

    def __init__(
        self,
        limits: RelayLimits,
        rooms: RoomBook,
        frame_log: FrameLog,
        log: Any,
        new_resume: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        self.limits = limits
        self.log = log
        self.sessions: set[Session] = set()
        self._rooms = rooms
        self._frame_log = frame_log
        self._new_resume = new_resume
        self._switches: dict[str, Switch] = {}
        self._peers = 0
        self._shutting_down = False
        self._hellos = AddressLimiter(limits.hellos_per_minute / 60.0, limits.hellos_per_minute)
        self._to_drop: list[tuple[Session, str]] = []

    def accept(self, connection: Connection, now: float) -> Session:
        """A new connection."""
        session = Session(self, connection, now)
        self.sessions.add(session)
        return session

    def admit(self, session: Session, hello: Hello, probes: TokenBucket, now: float) -> Member | Reject:
        """Let a session into its room, or say why not."""
        wait = self._hellos.retry_after(plain_host(session.address), now)
        if wait is not None:
            return Reject(
                code=RejectCode.RATE_LIMITED,
                message=f"too many attempts from your address; try again in {math.ceil(wait)} s",
                retry_after=wait,
            )
        switch = self._switches.get(hello.room)
        room = switch.room if switch is not None else None
        place = consider(
            hello,
            room,
            self.limits,
            capacity=session.connection.capacity,
            room_mtu=room.mtu if room is not None else self._rooms.settings(hello.room).mtu,
            rooms=len(self._switches),
            peers=self._peers,
            shutting_down=self._shutting_down,
        )
        if isinstance(place, Reject):
            return place
        if switch is None:
            room = Room(hello.room, self._rooms.settings(hello.room).mtu, hello.room_token)
            switch = self._switches[hello.room] = Switch(room, self._rooms.engine(hello.room), self._frame_log)
        room = switch.room
        peer_id = place.replaces.peer_id if place.replaces else room.next_peer_id()
        if place.replaces is not None:
            self._take_out(room, place.replaces, "replaced")
            place.replaces.port.end("replaced")
        member = Member(
            peer_id,
            hello.role,
            hello.mac_bytes,
            budget=place.budget,
            effective_mtu=place.effective_mtu,
            resume=self._new_resume(),
            software=hello.software,
            port=session,
            probes=probes,
            rates=ClientRates(self._rooms.settings(room.name).policy, now) if hello.role is Role.CLIENT else None,
            now=now,
        )
        session.connection.limit_packets(place.budget)
        self._put_in(switch, session, member)
        return member

    def leave(self, session: Session, reason: str) -> None:
        """A session ends; `reason` is one of `peer_left`. Fine for one that never joined."""
        self.sessions.discard(session)
        member, switch = session.member, session.switch
        session.member = session.switch = None
        if member is not None and switch is not None:
            self._take_out(switch.room, member, reason)

    def drop_later(self, session: Session, reason: str) -> None:
        """End a session at the next tick: its room may be in the middle of telling everyone something."""
        self._to_drop.append((session, reason))

    def tick(self, now: float) -> None:
        """Once a second or so: what is due by time."""
        for session in [s for s in self.sessions if now >= s.hello_deadline]:
            session.hello_overdue()
        dropping, self._to_drop = self._to_drop, []
        for session, reason in dropping:
            if session.state is not State.CLOSED:
                self.leave(session, reason)
                session.end(reason)
        for switch in self._switches.values():
            for member in switch.room.members.values():
                self._report_rates(switch.room, member, now)

    def _report_rates(self, room: Room, member: Member, now: float) -> None:
        """Say once a second what a member's rates have stopped."""
        cut = member.rates.report(now) if member.rates is not None else None
        for limit, (frames, size) in (cut or {}).items():
            self.log.warning(
                "rate_limited", room=room.name, who=member.describe(), limit=limit.value, frames=frames, bytes=size
            )

    def shut_down(self) -> None:
        """Tell every member, and refuse newcomers from now on."""
        self._shutting_down = True
        for session in list(self.sessions):
            if session.member is not None:
                session.end("relay_shutdown")
        self._switches.clear()
        self._peers = 0

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """Every room, as plain values."""
        return [switch.room.snapshot(now) for switch in self._switches.values()]

    def _put_in(self, switch: Switch, session: Session, member: Member) -> None:
        room = switch.room
        room.add(member)
        self._peers += 1
        session.member, session.switch = member, switch
        session.send_message(
            Welcome(
                version=PROTOCOL_VERSION,
                mode="ethernet",
                peer_id=member.peer_id,
                room=room.name,
                room_mtu=room.mtu,
                effective_mtu=member.effective_mtu,
                datagram_budget=member.budget,
                gateway_present=room.gateway is not None and room.gateway is not member,
                resume=member.resume,
                stats_interval=self.limits.stats_interval,
            )
        )
        news = _joined(member)
        for other in room.others(member):
            session.send_message(_joined(other))
            other.port.send_message(news)
        self.log.info(
            "peer.joined",
            room=room.name,
            peer=member.peer_id,
            role=member.role.value,
            mac=format_mac(member.mac) if member.mac else None,
            budget=member.budget,
            mtu=member.effective_mtu,
            address=plain_host(session.address),
            software=member.software,
        )

    def _take_out(self, room: Room, member: Member, reason: str) -> None:
        if room.members.get(member.peer_id) is not member:
            return
        room.remove(member)
        self._peers -= 1
        news = PeerLeft(peer_id=member.peer_id, reason=reason)
        for other in room.members.values():
            other.port.send_message(news)
        self.log.info("peer.left", room=room.name, peer=member.peer_id, who=member.describe(), reason=reason)
        if not room.members and reason != "replaced":
            self._switches.pop(room.name, None)


def _joined(member: Member) -> PeerJoined:
    return PeerJoined(peer_id=member.peer_id, role=member.role, mac=format_mac(member.mac) if member.mac else None)
