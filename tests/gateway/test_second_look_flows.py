"""Flows are a short way to the same place: a look that has learned some decides as one that never learns any.

The oracle is the second look itself, made to forget before each frame; and the policy, asked about each frame.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support import packets
from tests.support.flows import edges, ip_packets, rests
from tests.support.oracle import many
from tests.support.packets import TCP, UDP, dot1q, ether, ipv4, kind, tcp, udp
from tests.support.relay_fakes import mac

from softlan.client.look import MAX_FLOWS
from softlan.gateway.second_look import EARLY_TIME, LookMode, SecondLook
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason

IPV4 = kind(packets.IPV4)
MTU = 300
LAN_HOST = bytes.fromhex("001b21000001")
INNOCENT = LAN_HOST + mac(1) + IPV4 + ipv4(tcp(1, 2), TCP)


class Look:
    """A second look, with what can be seen of it from outside."""

    def __init__(self, mtu: int, policy: Policy, mode: LookMode = LookMode.ON, *, forgets: bool = False) -> None:
        self.counters = TrafficCounters()
        self.records: list[dict[str, Any]] = []
        self.look = SecondLook(
            mode, PolicyEngine(policy), self.counters, FrameLog(FrameLogMode.DROPS, self.records.append)
        )
        self.look.joined("den", mtu)
        self.passed: list[bytes] = []
        self.flows_used = False
        self._forgets = forgets

    def takes(self, frames: list[bytes], now: float) -> None:
        self.flows_used = self.flows_used or bool(self.look._flows)
        if not self._forgets:
            self.passed += self.look.passed(frames, now)
            return
        for frame in frames:
            self.look._flows.clear()
            self.passed += self.look.passed([frame], now)

    def joins(self, peer_id: int, address: bytes, now: float) -> None:
        self.takes(self.look.peer_joined(peer_id, address), now)

    def outcome(self) -> dict[str, Any]:
        return {"passed": self.passed, "drops": self.counters.drops, "records": self.records}


# What may happen


@dataclass(frozen=True)
class Joins:
    peer_id: int
    who: int


@dataclass(frozen=True)
class Leaves:
    peer_id: int


@dataclass(frozen=True)
class Enters:
    """A new session, and perhaps another MTU."""

    mtu: int


@dataclass(frozen=True)
class Frames:
    frames: list[bytes]
    later: float


addresses = st.sampled_from(
    [LAN_HOST, LAN_HOST, mac(1), mac(2), packets.BROADCAST, packets.group("224.0.0.251"), packets.group("1.2.3.4")]
)
sources = st.sampled_from([mac(1), mac(1), mac(1), mac(2), mac(2), mac(3), LAN_HOST, bytes(6), packets.BROADCAST])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    whole = draw(addresses) + draw(sources) + draw(rests())
    return whole[: draw(st.sampled_from([None] * 12 + [0, 6, 13, 14, 15, 33, 34, 37, 38, 39, 41, 42, 43]))]


@st.composite
def bursts(draw: st.DrawFn) -> Frames:
    """Frames of all kinds, many of them between the same two, since flows are about what comes again."""
    some = draw(st.lists(frames(), min_size=1, max_size=5))
    again = [
        frame[:12] + IPV4 + draw(ip_packets()) if draw(st.booleans()) else frame
        for frame in draw(st.lists(st.sampled_from(some), max_size=10))
    ]
    return Frames(some + again, draw(st.sampled_from([0.0, 0.1, EARLY_TIME])))


events = st.one_of(
    bursts(),
    bursts(),
    bursts(),
    st.builds(Joins, st.integers(1, 3), st.integers(1, 3)),
    st.builds(Leaves, st.integers(1, 3)),
    st.builds(Enters, st.sampled_from([MTU, 1418])),
)
policies = st.sampled_from(
    [
        Policy(),
        Policy(jumbo=False),
        Policy(invalid_source=False, ambiguous=False, dhcp_server=False),
        Policy(ethertypes=frozenset((0x0806, 0x86DD))),
        Policy(refused_ethertypes=frozenset((0x0800,))),
    ]
)


@dataclass
class Story:
    """Two looks at the same, one of them without a memory."""

    policy: Policy
    mode: LookMode
    now: float = 0.0
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.looks = [Look(MTU, self.policy, self.mode, forgets=forgets) for forgets in (False, True)]

    def happens(self, what: Joins | Leaves | Enters | Frames) -> None:
        if isinstance(what, Frames):
            self.now += what.later
        for each in self.looks:
            each.look.tick(self.now)
            if isinstance(what, Joins):
                each.joins(what.peer_id, mac(what.who), self.now)
            elif isinstance(what, Leaves):
                each.look.peer_left(what.peer_id)
            elif isinstance(what, Enters):
                each.look.joined("den", what.mtu)
            else:
                each.takes(what.frames, self.now)
        learned, forgetful = self.looks
        assert learned.outcome() == forgetful.outcome()


@settings(parent=many, max_examples=many.max_examples // 4)
@given(policies, st.sampled_from([LookMode.ON, LookMode.ON, LookMode.LOG]), st.lists(events, min_size=1, max_size=8))
def test_what_was_learned_changes_nothing(policy: Policy, mode: LookMode, story: list[Any]) -> None:
    both = Story(policy, mode)
    for number in (1, 2):
        both.happens(Joins(number, number))
    for what in story:
        both.happens(what)
    event("a flow was there to be used" if both.looks[0].flows_used else "no flow")


@settings(parent=many, max_examples=many.max_examples // 2)
@given(st.lists(ip_packets(), min_size=1, max_size=12), policies)
def test_one_flow_and_packets_of_all_kinds(carried: list[bytes], policy: Policy) -> None:
    """The densest case: all between the same two, behind an innocent packet."""
    both = Story(policy, LookMode.ON)
    both.happens(Joins(1, 1))
    both.happens(Frames([INNOCENT, *[INNOCENT[:14] + packet for packet in carried]], 0.0))
    both.happens(Frames([INNOCENT[:14] + packet for packet in carried], 0.0))


def test_every_edge_of_a_header_is_seen_on_the_short_way_too() -> None:
    """Packet by packet between the same two, so that a flow is always there; the policy says what is right."""
    policy = Policy()
    engine = PolicyEngine(policy)
    look = Look(MTU, policy)
    look.joins(1, mac(1), 0.0)
    look.takes([INNOCENT], 0.0)
    passing = refused = 0
    for name, packet in edges():
        frame = INNOCENT[:14] + packet
        look.passed.clear()
        look.counters.drops.clear()
        reason = engine.onto_lan(frame, 0, {mac(1)}, MTU)
        look.takes([frame], 0.0)
        assert look.look._flows == {INNOCENT[:14]}
        assert (look.passed, look.counters.drops) == (([frame], {}) if reason is None else ([], {reason: 1})), name
        passing, refused = passing + (reason is None), refused + (reason is not None)
    assert passing > 1000
    assert refused > 1000


# What a flow is not


def watched(policy: Policy | None = None, *peers: int) -> tuple[Look, list[bytes]]:
    """A look with these peers, and the frames that the policy was asked about."""
    look = Look(MTU, policy or Policy())
    for peer in peers or (1,):
        look.joins(peer, mac(peer), 0.0)
    asked: list[bytes] = []
    slow = look.look._judge

    def asking(data: bytes, offset: int, clients: Any, room_mtu: int) -> Any:
        asked.append(data)
        return slow(data, offset, clients, room_mtu)

    look.look._judge = asking
    return look, asked


def test_a_flow_is_asked_about_once() -> None:
    look, asked = watched()
    look.takes([INNOCENT] * 5, 0.0)
    look.takes([INNOCENT] * 5, 0.0)
    assert (len(look.passed), len(asked)) == (10, 1)


def test_who_comes_or_goes_makes_all_flows_forgotten() -> None:
    look, asked = watched()
    look.takes([INNOCENT] * 2, 0.0)
    assert len(asked) == 1
    look.joins(2, mac(2), 0.0)
    look.takes([INNOCENT] * 2, 0.0)
    assert len(asked) == 2
    look.look.peer_left(2)
    look.takes([INNOCENT] * 2, 0.0)
    assert len(asked) == 3
    look.look.joined("den", MTU)
    look.joins(1, mac(1), 0.0)
    look.takes([INNOCENT] * 2, 0.0)
    assert len(asked) == 4


def test_one_who_left_is_a_stranger_on_the_short_way_too() -> None:
    look, _ = watched()
    look.takes([INNOCENT], 0.0)
    look.look.peer_left(1)
    look.takes([INNOCENT], 0.0)
    assert look.passed == [INNOCENT]


@pytest.mark.parametrize(
    "frame",
    [
        ether(kind(packets.IPV6), packets.ipv6(udp(1, 2)), src=mac(1)),
        ether(kind(packets.ARP), packets.arp(mac(1)), src=mac(1)),
        ether(dot1q(5), IPV4, ipv4(tcp(1, 2), TCP), src=mac(1)),
    ],
    ids=["IPv6", "ARP", "tagged"],
)
def test_other_than_plain_ipv4_is_looked_at_each_time(frame: bytes) -> None:
    look, asked = watched()
    look.takes([frame] * 3, 0.0)
    assert (look.passed, len(asked)) == ([frame] * 3, 3)


def test_dhcp_is_looked_at_each_time() -> None:
    look, asked = watched()
    look.takes([INNOCENT], 0.0)
    for source, destination in ((67, 68), (67, 1), (1, 68)):
        look.takes([INNOCENT[:14] + ipv4(udp(source, destination), UDP)], 0.0)
    assert (len(look.passed), len(asked)) == (1, 4)


def test_a_frame_above_the_mtu_is_none_though_its_flow_is_known() -> None:
    look, asked = watched()
    largest, too_large = (INNOCENT[:14] + ipv4(bytes(size - 20), TCP) for size in (MTU, MTU + 1))
    look.takes([INNOCENT, largest, too_large], 0.0)
    assert look.passed == [INNOCENT, largest]
    assert asked == [INNOCENT, too_large]
    assert look.counters.drops == {DropReason.JUMBO: 1}


def test_broadcasts_are_flows_too() -> None:
    look, asked = watched()
    look.takes([packets.BROADCAST + INNOCENT[6:]] * 4, 0.0)
    assert (len(look.passed), len(asked)) == (4, 1)


def test_the_memory_is_bounded() -> None:
    look, _ = watched(replace(Policy()))
    for number in range(MAX_FLOWS + 10):
        look.takes([b"\x06" + number.to_bytes(5) + INNOCENT[6:]], 0.0)
    assert len(look.passed) == MAX_FLOWS + 10
    assert len(look.look._flows) == 10
