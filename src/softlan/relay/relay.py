"""The relay itself: its rooms, and what happens when someone joins or leaves one.

Everything here happens inside a turn of the QUIC endpoint or of the relay's own clock; nothing waits. What fails for
one session (which is a fault of ours) ends that session: the room is changed first, and all others hear of it.
"""

import math
import secrets
from collections.abc import Callable
from typing import Any

from softlan.ctrl.messages import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    PeerJoined,
    PeerLeft,
    Reject,
    RejectCode,
    Role,
    Welcome,
)
from softlan.obs.frame_log import FrameLog
from softlan.policy.rates import ClientRates, MemberRates
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac
from softlan.quic.connection import Connection
from softlan.quic.udp import plain_host
from softlan.relay.admission import consider, opens, resumed
from softlan.relay.guesses import TokenGuesses
from softlan.relay.limits import AddressLimiter, RelayLimits, TokenBucket, prefix
from softlan.relay.room import Member, Room
from softlan.relay.session import Session, State
from softlan.relay.settings import RoomBook
from softlan.relay.sparing_log import SparingLog
from softlan.relay.switch import SealedSwitch, Switch


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
        self.log = SparingLog(log, limits.log_lines)
        self.sessions: set[Session] = set()
        self._rooms = rooms
        self._frame_log = frame_log
        self._new_resume = new_resume
        self._switches: dict[str, Switch] = {}
        self._peers = 0
        self._shutting_down = False
        self._hellos = AddressLimiter(limits.hellos_per_minute / 60.0, limits.hellos_per_minute)
        self._guesses = TokenGuesses(limits.wrong_tokens_per_minute)
        self._waiting: dict[Session, float] = {}  # for their hello, until then; who waits longest comes first
        self._to_drop: dict[Session, str] = {}
        self._now = 0.0  # of the last call that said it: near enough for what is kept for minutes

    def accept(self, connection: Connection, now: float) -> Session:
        """A new connection."""
        self._now = now
        session = Session(self, connection, now)
        self.sessions.add(session)
        return session

    def await_hello(self, session: Session, now: float) -> bool:
        """Give a session its time to say hello; False if too many are waiting already."""
        if len(self._waiting) >= self.limits.max_waiting:
            return False
        self._waiting[session] = now + self.limits.hello_timeout
        return True

    def attempt(self, session: Session, now: float) -> Reject | None:
        """Count a hello, good or bad, of the session's address; a reject if there were too many."""
        self._waiting.pop(session, None)
        wait = self._hellos.retry_after(plain_host(session.address), now)
        return None if wait is None else _too_many("attempts from your address", wait)

    def admit(self, session: Session, hello: Hello, probes: TokenBucket, now: float) -> Member | Reject:
        """Let a session into its room, or say why not."""
        self._now = now
        address = plain_host(session.address)
        switch = self._switches.get(hello.room)
        room = switch.room if switch is not None else None
        if reject := self.attempt(session, now) or self._guessed(hello, room, address, now):
            return reject
        place = consider(
            hello,
            room,
            self.limits,
            self._rooms,
            capacity=session.connection.capacity,
            rooms=len(self._switches),
            peers=self._peers,
            shutting_down=self._shutting_down,
        )
        if isinstance(place, Reject):
            return place
        session.connection.limit_packets(place.budget)
        switch = switch or self._new_switch(hello)
        room = switch.room
        peer_id = place.replaces.peer_id if place.replaces else room.next_peer_id()
        if place.replaces is not None:
            self._take_out(room, place.replaces, "replaced")
            self._end(place.replaces, "replaced")
        rates, malformed = room.leavers.back(hello.mac_bytes, prefix(address), now)
        new_rates = ClientRates if hello.role is Role.CLIENT else MemberRates
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
            rates=rates or new_rates(self._rooms.settings(room.name).policy, now),
            now=now,
            seal=hello.seal,
            address=prefix(address),
            malformed=malformed,
        )
        self._put_in(switch, session, member)
        return member

    def leave(self, session: Session, reason: str) -> None:
        """A session ends; `reason` is one of `peer_left`. Fine for one that never joined."""
        self.forget(session)
        member, switch = session.member, session.switch
        session.member = session.switch = None
        if member is not None and switch is not None:
            self._take_out(switch.room, member, reason)

    def forget(self, session: Session) -> None:
        """Its connection has been closed and says nothing more. A member is taken out of its room by `leave`."""
        self.sessions.discard(session)
        self._waiting.pop(session, None)
        self._to_drop.pop(session, None)

    def drop_later(self, session: Session, reason: str) -> None:
        """End a session at the next tick: its room may be in the middle of telling everyone something."""
        self._to_drop.setdefault(session, reason)

    def tick(self, now: float) -> None:
        """Twice a second: what is due by time."""
        self._now = now
        overdue = []
        for session, deadline in self._waiting.items():
            if now < deadline:
                break
            overdue.append(session)
        for session in overdue:
            self._guarded(session, session.hello_overdue)
        dropping, self._to_drop = self._to_drop, {}
        for session, reason in dropping.items():
            self._guarded(session, self._drop, session, reason)
        overdrawn = []
        for switch in self._switches.values():
            for member in switch.room.members.values():
                self._report_rates(switch.room, member, member.allowance.report(now))
                if member.allowance.overdraws(now):
                    overdrawn.append((switch.room, member))
        for room, member in overdrawn:
            self.log.warning("session.overdrawn", room=room.name, who=member.describe())
            self._take_out(room, member, "protocol_error")
            self._end(member, "rate_limited")
        self.log.renew()

    def shut_down(self) -> None:
        """Tell every member, and refuse newcomers from now on."""
        self._shutting_down = True
        for session in list(self.sessions):
            if session.member is not None:
                self._guarded(session, session.end, "relay_shutdown")
        self._switches.clear()
        self._peers = 0

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """Every room, as plain values."""
        return [switch.room.snapshot(now) for switch in self._switches.values()]

    # Inside

    def _guessed(self, hello: Hello, room: Room | None, address: str, now: float) -> Reject | None:
        """A reject for one who may be guessing at a room's token."""
        if hello.room_token is None:
            return None
        is_right = opens(hello, room, self._rooms)
        if is_right and resumed(hello, room) is not None:
            return None
        wait = self._guesses.retry_after(address, hello.room, hello.room_token, is_right, now)
        return None if wait is None else _too_many(f"wrong tokens for room {hello.room} from your address", wait)

    def _new_switch(self, hello: Hello) -> Switch:
        """A room as its settings, or its first member, will have it."""
        sealed = hello.seal is not None  # as the settings have it, and so is the token: admission has seen to that
        room = Room(hello.room, self._rooms.settings(hello.room).mtu, hello.room_token or None, sealed=sealed)
        return (SealedSwitch if sealed else Switch)(room, self._rooms.engine(hello.room), self._frame_log)

    def _put_in(self, switch: Switch, session: Session, member: Member) -> None:
        room = switch.room
        self._switches[room.name] = switch
        room.add(member)
        self._peers += 1
        session.member, session.switch = member, switch
        self._tell(
            member,
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
                sealed=room.sealed,
            ),
        )
        news = _joined(member)
        for other in room.others(member):
            self._tell(member, _joined(other))
            self._tell(other, news)
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
        malformed = min(member.malformed, self.limits.malformed_threshold)  # one more is the end again
        room.leavers.left(member.mac, member.address, member.allowance, malformed, self._now)
        if not room.members and reason != "replaced":
            self._switches.pop(room.name, None)
        news = PeerLeft(peer_id=member.peer_id, reason=reason)
        for other in room.members.values():
            self._tell(other, news)
        self._report_rates(room, member, member.allowance.last_report())
        self.log.info("peer.left", room=room.name, peer=member.peer_id, who=member.describe(), reason=reason)

    def _report_rates(self, room: Room, member: Member, cut: dict[DropReason, tuple[int, int]] | None) -> None:
        """Say what a member's rates have stopped; once a second, and when it leaves."""
        for limit, (frames, size) in (cut or {}).items():
            self.log.warning(
                "rate_limited", room=room.name, who=member.describe(), limit=limit.value, frames=frames, bytes=size
            )

    def _drop(self, session: Session, reason: str) -> None:
        if session.state is not State.CLOSED:
            self.leave(session, reason)
            session.end(reason)

    # Barriers. Ports raise nothing; were one to, its peer would go, and everyone else would still be served.

    def _tell(self, member: Member, message: Message) -> None:
        try:
            member.port.send_message(message)
        except Exception:  # see above
            self._faulted(member)

    def _end(self, member: Member, reason: str) -> None:
        try:
            member.port.end(reason)
        except Exception:  # see above
            self._faulted(member)

    def _faulted(self, member: Member) -> None:
        self.log.warning("session.fault", who=member.describe(), exc_info=True)
        if isinstance(member.port, Session):
            self.drop_later(member.port, "protocol_error")

    def _guarded(self, session: Session, deed: Callable[..., None], *arguments: object) -> None:
        """Do what is due to one session; if that fails, let go of it."""
        try:
            deed(*arguments)
        except Exception:  # see above
            self.log.warning("session.fault", address=plain_host(session.address), exc_info=True)
            self.leave(session, "protocol_error")


def _too_many(what: str, wait: float) -> Reject:
    return Reject(
        code=RejectCode.RATE_LIMITED,
        message=f"too many {what}; try again in {math.ceil(wait)} s",
        retry_after=wait,
    )


def _joined(member: Member) -> PeerJoined:
    return PeerJoined(
        peer_id=member.peer_id,
        role=member.role,
        mac=format_mac(member.mac) if member.mac else None,
        seal=member.seal,
    )
