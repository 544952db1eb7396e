"""A sealed room: the relay sees addresses, a type and a size, and decides by these as it would by the whole frame."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.relay_fakes import QUIET, FakePort, mac, member, sealed

from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode, encode_probe
from softlan.relay.room import Member, Room
from softlan.relay.switch import SealedSwitch, Switch

BROADCAST, LAN_HOST, ANOTHER_LAN_HOST = b"\xff" * 6, bytes.fromhex("001b21000009"), bytes.fromhex("001b2100000a")
STP_GROUP = bytes.fromhex("0180c2000000")
IPV4, TAG, EXPERIMENT, LACP = b"\x08\x00", b"\x81\x00", b"\x88\xb5", b"\x88\x09"
ROOM_MTU = 300
GATEWAY_ID = 9


class Den:
    """A sealed room with clients 1 and 2 and a gateway, whose LAN has a host that was heard."""

    def __init__(self, policy: Policy | None = None, log: FrameLog = QUIET) -> None:
        policy = policy or Policy()
        self.one, self.two = (member(n, mac(n), policy=policy, sealed=True) for n in (1, 2))
        self.gateway = member(GATEWAY_ID, None, sealed=True)
        self.room = Room("den", ROOM_MTU, None, sealed=True)
        for each in (self.one, self.two, self.gateway):
            self.room.add(each)
        self.switch = SealedSwitch(self.room, PolicyEngine(policy), log)
        self.send(self.gateway, mac(1), source=LAN_HOST)
        self.got(self.one)

    def send(
        self,
        ingress: Member,
        *destinations: bytes,
        kind: bytes = IPV4,
        size: int = 46,
        source: bytes | None = None,
        now: float = 0.0,
    ) -> None:
        """A burst, one frame to each."""
        source = source or ingress.mac or LAN_HOST
        frames = [to + source + kind + bytes(size) for to in destinations]
        burst = [sealed(encode(Kind.ETHERNET, ingress.peer_id, frame)) for frame in frames]
        self.switch.forward(ingress, burst, now)

    def got(self, receiver: Member) -> list[bytes]:
        """The destinations of what it got since the last look."""
        assert isinstance(receiver.port, FakePort)
        datagrams, receiver.port.datagrams = receiver.port.datagrams, []
        return [datagram[4:10] for datagram in datagrams]


def test_the_very_bytes_go_to_whom_they_are_for() -> None:
    den = Den()
    assert isinstance(den.two.port, FakePort)
    datagram = sealed(encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(range(46))))
    for _ in range(3):
        den.switch.forward(den.one, [datagram], 0.0)
    assert [arrived is datagram for arrived in den.two.port.datagrams] == [True] * 3
    assert den.got(den.gateway) == []
    den.send(den.one, BROADCAST, LAN_HOST)
    assert den.got(den.gateway) == [BROADCAST, LAN_HOST]


def test_a_plain_frame_has_no_place_in_it_and_32_are_as_bad_as_one_malformed() -> None:
    records: list[dict[str, Any]] = []
    den = Den(log=FrameLog(FrameLogMode.DROPS, records.append))
    plain = encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(46))
    den.switch.forward(den.one, [plain] * 100, 0.0)
    assert den.got(den.two) == []
    assert den.one.counters.drops == den.room.counters.drops == {DropReason.NOT_SEALED: 100}
    assert (den.one.malformed, den.one.counters.frames_in) == (100 // 32, 100)
    assert {(record["action"], record["reason"]) for record in records} == {("dropped", "not_sealed")}


def test_nor_has_a_sealed_frame_in_a_plain_room() -> None:
    one, two = member(1, mac(1)), member(2, mac(2))
    room = Room("den", ROOM_MTU, None)
    room.add(one)
    room.add(two)
    datagram = sealed(encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(46)))
    Switch(room, PolicyEngine(Policy()), QUIET).forward(one, [datagram] * 100, 0.0)
    assert isinstance(two.port, FakePort)
    assert two.port.datagrams == []
    assert one.counters.drops == {DropReason.UNEXPECTED_SEAL: 100}
    assert one.malformed == 100 // 32


@pytest.mark.parametrize(
    "datagram",
    [
        sealed(encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4))[:41],  # not even an empty seal
        sealed(encode(Kind.ETHERNET, 2, mac(2) + mac(1) + IPV4 + bytes(46))),  # another's peer id
        encode(Kind.ETHERNET, 2, mac(2) + mac(1) + IPV4 + bytes(46)),
        encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(46))[:17],
        b"\x11\x01" + sealed(encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(46)))[2:],  # a flag
        sealed(encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(1399))),  # over the budget
        encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + bytes(1423)),
        b"",
    ],
)
def test_malformed_is_what_is_no_frame_of_the_senders(datagram: bytes) -> None:
    den = Den()
    den.send(den.one, mac(2))
    den.switch.forward(den.one, [datagram], 0.0)
    assert den.got(den.two) == [mac(2)]
    assert den.one.counters.drops == {DropReason.MALFORMED: 1}
    assert den.one.malformed == 1


def test_probes_are_echoed_as_in_any_room() -> None:
    den = Den()
    probe = encode_probe(1, 7, 1440)
    den.switch.forward(den.one, [probe], 0.0)
    assert isinstance(den.one.port, FakePort)
    assert den.one.port.datagrams == [probe]


@pytest.mark.parametrize("known", [False, True], ids=["first", "flow"])
@pytest.mark.parametrize(
    ("kind", "size", "passes"),
    [
        (IPV4, 0, True),
        (IPV4, ROOM_MTU, True),
        (IPV4, ROOM_MTU + 1, False),
        (TAG, ROOM_MTU + 4, True),
        (TAG, ROOM_MTU + 8, True),  # there may be another tag inside
        (TAG, ROOM_MTU + 129, False),  # but not more than anyone follows
        (b"\x00\x2e", ROOM_MTU, True),
        (b"\x00\x2e", ROOM_MTU + 1, False),
    ],
)
def test_a_jumbo_frame_is_told_by_its_size(known: bool, kind: bytes, size: int, passes: bool) -> None:
    den = Den()
    if known:
        den.send(den.one, mac(2), kind=kind)
        den.got(den.two)
        assert den.one.flows
    den.send(den.one, mac(2), kind=kind, size=size)
    assert den.got(den.two) == ([mac(2)] if passes else [])
    assert den.one.counters.drops == ({} if passes else {DropReason.JUMBO: 1})


def test_frames_of_every_type_have_flows() -> None:
    den = Den()
    kinds = [IPV4, b"\x86\xdd", b"\x08\x06", EXPERIMENT, TAG, b"\x00\x2e"]
    for kind in kinds:
        den.send(den.one, mac(2), mac(2), LAN_HOST, kind=kind)
    assert len(den.one.flows) == 2 * len(kinds)
    assert den.got(den.two) == [mac(2)] * 2 * len(kinds)


def test_a_flow_is_asked_for_its_rate_too() -> None:
    den = Den(Policy(total_rate=1000, total_burst=65536))
    den.send(den.one, *[mac(2)] * 2000)
    frame = 14 + 46 + 24
    assert len(den.got(den.two)) == 65536 // frame
    den.send(den.one, *[mac(2)] * 100, now=1.0)
    assert len(den.got(den.two)) == (65536 % frame + 1000) // frame


def test_broadcast_and_unknown_unicast_have_their_rates() -> None:
    den = Den(Policy(broadcast_rate=10, broadcast_burst=5, unknown_unicast_rate=10, unknown_unicast_burst=3))
    den.send(den.one, *[BROADCAST, ANOTHER_LAN_HOST, LAN_HOST] * 20)
    assert Counter(den.got(den.gateway)) == {BROADCAST: 5, ANOTHER_LAN_HOST: 3, LAN_HOST: 20}


def test_each_room_has_the_policy_of_its_own_as_far_as_it_can_be_seen() -> None:
    den = Den(Policy(ethertypes=frozenset((0x0800, 0x0806)), switch_control=False))
    for kind in (IPV4, EXPERIMENT, LACP, TAG, b"\x00\x2e"):
        den.send(den.one, mac(2), kind=kind)
    assert len(den.got(den.two)) == 3
    assert den.one.counters.drops == {DropReason.ETHERTYPE: 2}


def test_a_member_whose_budget_is_too_small_is_skipped() -> None:
    den = Den()
    den.two.budget = 18 + 24 + 100
    den.send(den.one, mac(2), mac(2), BROADCAST, size=101)
    assert den.got(den.gateway) == [BROADCAST]
    den.send(den.one, mac(2), mac(2), BROADCAST, size=100)
    assert den.got(den.two) == [mac(2), mac(2), BROADCAST]
    assert den.one.counters.drops == {DropReason.EGRESS_BUDGET: 3}


# What must happen, straight from docs/reference/protocol.md.

ADDRESSES = [mac(1), mac(2), mac(7), LAN_HOST, ANOTHER_LAN_HOST, BROADCAST, STP_GROUP, bytes(6)]
frames = st.tuples(
    st.sampled_from([1, 2, GATEWAY_ID]),
    st.sampled_from(ADDRESSES),
    st.none() | st.sampled_from(ADDRESSES),
    st.sampled_from([IPV4, TAG, EXPERIMENT, LACP, b"\x88\x63", b"\x05\xdc"]),
    st.sampled_from([0, 46, ROOM_MTU, ROOM_MTU + 1, ROOM_MTU + 4, ROOM_MTU + 129]),
    st.booleans(),
)


def fate(den: Den, sender: Member, to: bytes, source: bytes, kind: bytes, size: int) -> DropReason | list[int]:
    """Why the frame is dropped, else the ids of all to whom it is to go."""
    clients = {mac(1): 1, mac(2): 2}
    if source[0] & 1 or source == bytes(6) or (source in clients if sender is den.gateway else source != sender.mac):
        return DropReason.INVALID_SOURCE
    if size > ROOM_MTU + (128 if kind == TAG else 0):
        return DropReason.JUMBO
    if to == STP_GROUP or kind == LACP:
        return DropReason.SWITCH_CONTROL
    if kind == b"\x88\x63":
        return DropReason.ETHERTYPE
    if to == BROADCAST:
        return [peer for peer in (1, 2, GATEWAY_ID) if peer != sender.peer_id]
    target = clients.get(to, GATEWAY_ID)
    return DropReason.UNKNOWN_UNICAST if target == sender.peer_id else [target]


@given(st.lists(frames, max_size=40))
def test_every_frame_is_delivered_as_the_protocol_says_or_counted_once(
    story: list[tuple[int, bytes, bytes | None, bytes, int, bool]],
) -> None:
    den = Den()
    delivered: dict[int, list[bytes]] = {1: [], 2: [], GATEWAY_ID: []}
    drops: Counter[DropReason] = Counter()
    for who, to, spoofed, kind, size, is_plain in story:
        sender = den.room.members[who]
        source = spoofed or sender.mac or LAN_HOST
        if is_plain:
            plain = encode(Kind.ETHERNET, who, to + source + kind + bytes(size))
            den.switch.forward(sender, [plain], 0.0)
            drops[DropReason.NOT_SEALED] += 1
            continue
        den.send(sender, to, source=source, kind=kind, size=size)
        outcome = fate(den, sender, to, source, kind, size)
        if isinstance(outcome, DropReason):
            drops[outcome] += 1
        else:
            for peer in outcome:
                delivered[peer].append(to)
    assert {peer: den.got(den.room.members[peer]) for peer in delivered} == delivered
    assert den.room.counters.drops == dict(drops)
