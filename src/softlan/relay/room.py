"""A room: its members, the table of their MACs, and what is told of it."""

import itertools
from collections.abc import Iterator
from typing import Protocol

from softlan.ctrl.messages import Message, Role, Stats
from softlan.obs.counters import TrafficCounters
from softlan.policy.rates import ClientRates, LanMacs, MemberRates
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, header
from softlan.relay.leavers import Leavers
from softlan.relay.limits import TokenBucket

MAX_FLOWS = 1024
"""Of one member; then all are learned again."""
MAX_REPORTED = 64
"""Counters that are kept of what one member reports."""


class Port(Protocol):
    """A member's connection, as its room sees it: a port of the switch. Nothing of it raises.

    It carries datagrams of the member's budget, until it ends.
    """

    def send_datagram(self, data: bytes) -> bool:
        """Queue one overlay datagram; False if it cannot be carried."""

    def send_datagrams(self, burst: list[bytes]) -> int:
        """Queue several in their order, up to the first that cannot be carried; how many."""

    def send_message(self, message: Message) -> None:
        """Queue one control message."""

    def end(self, reason: str) -> None:
        """End the session; `reason` is a reason of `peer_left`."""


class Member:
    """One endpoint in a room."""

    __slots__ = (
        "address",
        "allowance",
        "budget",
        "counters",
        "effective_mtu",
        "flows",
        "header",
        "joined_at",
        "last_seen",
        "mac",
        "malformed",
        "peer_id",
        "port",
        "probes",
        "rates",
        "reported",
        "resume",
        "role",
        "rtt_ms",
        "seal",
        "software",
        "unknown_messages",
    )

    def __init__(
        self,
        peer_id: int,
        role: Role,
        mac: bytes | None,
        *,
        budget: int,
        effective_mtu: int,
        resume: str,
        software: str | None,
        port: Port,
        probes: TokenBucket,
        rates: MemberRates,
        now: float,
        seal: str | None = None,
        address: str = "",
        malformed: int = 0,
    ) -> None:
        self.peer_id = peer_id
        self.role = role
        self.mac = mac
        self.budget = budget
        """The largest overlay datagram to and from this member, in bytes."""
        self.effective_mtu = effective_mtu
        self.resume = resume
        self.software = software
        self.port = port
        self.seal = seal
        """The salt of its hello in a sealed room."""
        self.address = address
        """Where it joined from, as far as it counts (`limits.prefix`)."""
        self.header = header(Kind.ETHERNET if seal is None else Kind.SEALED, peer_id)
        """What each of its frames must start with: version, kind, flags and peer id in one comparison."""
        self.probes = probes
        self.allowance = rates
        """How many frames it may send, of whatever kind."""
        self.rates = rates if isinstance(rates, ClientRates) else None
        """How much of each kind; None for the gateway, which speaks for a whole LAN."""
        self.flows: dict[bytes, Member] = {}
        """Where its frames with these first bytes go, by the policy and by who is in the room now: plain ones of IPv4,
        sealed ones of any type."""
        self.malformed = malformed
        """In this session and those just before it."""
        self.unknown_messages = 0
        """Control messages of a type that is not known here, and that were ignored."""
        self.counters = TrafficCounters()
        self.joined_at = now
        self.last_seen = now
        self.reported: dict[str, int] | None = None
        """The counters of its last stats message, as many as are kept."""
        self.rtt_ms: float | None = None

    def learn_flow(self, key: bytes, target: "Member") -> None:
        """Remember where frames that begin with `key` go."""
        if len(self.flows) >= MAX_FLOWS:
            self.flows.clear()
        self.flows[key] = target

    def take_stats(self, stats: Stats, now: float) -> None:
        """Keep what it says of itself; of counters that are more than ours can be, or named strangely, not all."""
        self.reported = {
            name: count
            for name, count in itertools.islice(stats.counters.items(), MAX_REPORTED)
            if name.isascii() and name.isidentifier()
        }
        self.rtt_ms = stats.rtt_ms
        self.last_seen = now

    def describe(self) -> str:
        """Who it is, for a log line: ``client 3 (02:00:5e:10:00:01)``."""
        return f"{self.role.value} {self.peer_id}" + (f" ({format_mac(self.mac)})" if self.mac else "")


class Room:
    """The members of one room. It exists while it has any."""

    def __init__(self, name: str, mtu: int, token: str | None, *, sealed: bool = False) -> None:
        self.name = name
        self.mtu = mtu
        """The room's MTU, fixed before the first frame flows."""
        self.token = token
        """What the first member gave; the others must give the same."""
        self.sealed = sealed
        """Whether its frames are sealed: all of them, or none."""
        self.members: dict[int, Member] = {}
        self.by_mac: dict[bytes, Member] = {}
        self.gateway: Member | None = None
        self.lan_macs = LanMacs()
        """Who was heard from the LAN: unicast to anyone else is unknown."""
        self.leavers = Leavers()
        self.counters = TrafficCounters()
        self.forwarded = 0
        """Frames that were delivered to at least one member."""
        self.copies = 0
        """Datagrams sent: a broadcast to three members counts three."""
        self._last_id = 0

    def next_peer_id(self) -> int:
        """A free peer id; ids go round, so that one that left is not mistaken for one that came."""
        for _ in range(65535):
            self._last_id = self._last_id % 65535 + 1
            if self._last_id not in self.members:
                return self._last_id
        raise AssertionError("a room has far fewer members than ids")

    def add(self, member: Member) -> None:
        """Let a member in; admission has seen to it that neither its MAC nor a gateway is there."""
        self.forget_flows()
        self.members[member.peer_id] = member
        if member.mac is not None:
            self.by_mac[member.mac] = member
        else:
            self.gateway = member

    def remove(self, member: Member) -> None:
        """Take a member out of the room and its tables; one that is no longer there is fine."""
        if self.members.get(member.peer_id) is not member:
            return
        del self.members[member.peer_id]
        self.forget_flows()
        member.flows.clear()
        if member.mac is not None:
            del self.by_mac[member.mac]
        else:
            self.gateway = None
            self.lan_macs.clear()

    def heard(self, source: bytes, now: float) -> bool:
        """Remember a source MAC of the LAN's; False if so many were new of late that this one has to wait."""
        if source in self.lan_macs:
            return True
        if not self.lan_macs.may_learn(now):
            return False
        if self.lan_macs.learn(source):
            self.forget_flows()  # some may be from or to the MAC that was forgotten for this one
        return True

    def others(self, member: Member) -> Iterator[Member]:
        """Everyone but `member`."""
        return (other for other in self.members.values() if other is not member)

    def snapshot(self, now: float) -> dict[str, object]:
        """The room as plain values, for logs and pages. Ages are in seconds."""
        return {
            "room": self.name,
            "mtu": self.mtu,
            "sealed": self.sealed,
            "forwarded": self.forwarded,
            "copies": self.copies,
            "drops": {reason.value: count for reason, count in self.counters.drops.items()},
            "members": [
                {
                    "peer": member.peer_id,
                    "role": member.role.value,
                    "mac": format_mac(member.mac) if member.mac else None,
                    "budget": member.budget,
                    "effective_mtu": member.effective_mtu,
                    "software": member.software,
                    "joined": round(now - member.joined_at, 1),
                    "last_seen": round(now - member.last_seen, 1),
                    "rtt_ms": member.rtt_ms,
                    "malformed": member.malformed,
                    "unknown_messages": member.unknown_messages,
                    "counters": member.counters.snapshot(),
                    "reported": member.reported,
                }
                for member in self.members.values()
            ],
        }

    def forget_flows(self) -> None:
        """Let everyone's frames be judged by all the rules again: who is where has changed."""
        for member in self.members.values():
            member.flows.clear()
