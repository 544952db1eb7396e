from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.relay_fakes import QUIET, FakePort, mac, member

from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode, encode_probe
from softlan.relay.room import Member, Room
from softlan.relay.switch import Switch

BROADCAST, MULTICAST = b"\xff" * 6, bytes.fromhex("01005e7ffffa")
LAN_HOST, ANOTHER_LAN_HOST, STP_GROUP = (bytes.fromhex(x) for x in ("001b21000009", "001b2100000a", "0180c2000000"))
ROOM_MTU = 300
GATEWAY_ID = 9


def port(of: Member) -> FakePort:
    assert isinstance(of.port, FakePort)
    return of.port


def make_switch(*members: Member, log: FrameLog = QUIET) -> Switch:
    room = Room("den", ROOM_MTU, None)
    for one in members:
        room.add(one)
    return Switch(room, PolicyEngine(Policy()), log)


def frame(destination: bytes, source: bytes, payload: bytes = bytes(46)) -> bytes:
    return destination + source + b"\x88\xb5" + payload


# What may happen: a room, and who sends what in it. Budgets are about the size of the frames.

ADDRESSES = [*map(mac, range(1, 5)), mac(7), LAN_HOST, ANOTHER_LAN_HOST, BROADCAST, MULTICAST, STP_GROUP, bytes(6)]


@dataclass
class Sent:
    """One datagram, and who sends it (a number that is reduced to the members)."""

    who: int
    datagram: bytes
    as_self: bool
    """Whether peer id and source address are made the sender's own."""


sent = st.builds(
    lambda who, flaw, destination, source, size, as_self: Sent(
        who, flaw + encode(Kind.ETHERNET, 1, frame(destination, source, bytes(size)))[len(flaw) :], as_self
    ),
    st.integers(0, 9),
    # Mostly none; then another version, a sealed frame, an unknown kind, a flag, someone else's peer id.
    st.sampled_from([b""] * 12 + [b"\x20", b"\x11", b"\x1f", b"\x10\x01", b"\x10\x00\x00\x63"]),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.sampled_from([0, 46, 282, 283, 300, 301, 310]),
    st.sampled_from([True] * 4 + [False]),
) | st.builds(
    Sent,
    st.integers(0, 9),
    st.binary(max_size=30).filter(lambda datagram: datagram[:1] != b"\x12"),  # probes have tests of their own
    st.just(False),
)

budgets = st.lists(st.sampled_from([300, 301, 318, 319, 330, 1440]), min_size=1, max_size=4)


def own(one: Sent, ingress: Member) -> bytes:
    if not one.as_self:
        return one.datagram
    source = ingress.mac or LAN_HOST
    data = one.datagram
    return data[:2] + ingress.peer_id.to_bytes(2) + data[4:10] + source + data[16:]


# What must happen, straight from docs/reference/protocol.md.


def fate(room: Room, ingress: Member, datagram: bytes) -> tuple[DropReason | None, list[int]]:
    """Why the frame is dropped at its ingress, else the ids of all to whom it is to go."""
    clients = {m.mac: m.peer_id for m in room.members.values() if m.mac}
    if (
        42 <= len(datagram) <= ingress.budget
        and datagram[:2] == b"\x11\0"
        and int.from_bytes(datagram[2:4]) == ingress.peer_id
    ):
        return DropReason.UNEXPECTED_SEAL, []
    if (
        len(datagram) < 18
        or datagram[0] != 0x10
        or datagram[1] != 0
        or int.from_bytes(datagram[2:4]) != ingress.peer_id
        or len(datagram) > ingress.budget
    ):
        return DropReason.MALFORMED, []
    destination, source = datagram[4:10], datagram[10:16]
    if source in (BROADCAST, MULTICAST, STP_GROUP, bytes(6)):
        return DropReason.INVALID_SOURCE, []
    if source != ingress.mac if ingress.mac else source in clients:
        return DropReason.INVALID_SOURCE, []
    if len(datagram) > 4 + 14 + ROOM_MTU:
        return DropReason.JUMBO, []
    if destination == STP_GROUP:
        return DropReason.SWITCH_CONTROL, []
    if destination in (BROADCAST, MULTICAST):
        return None, [peer for peer in room.members if peer != ingress.peer_id]
    if destination in clients:
        target = clients[destination]
        return (DropReason.UNKNOWN_UNICAST, []) if target == ingress.peer_id else (None, [target])
    if ingress.mac is None:
        return DropReason.UNKNOWN_UNICAST, []
    return (None, [GATEWAY_ID]) if room.gateway else (DropReason.NO_GATEWAY, [])


@given(budgets, st.none() | st.sampled_from([300, 1440]), st.lists(sent, max_size=40))
def test_every_frame_is_delivered_as_the_protocol_says_or_counted_once(
    client_budgets: list[int], gateway_budget: int | None, traffic: list[Sent]
) -> None:
    members = [member(n, mac(n), budget=budget) for n, budget in enumerate(client_budgets, 1)]
    if gateway_budget is not None:
        members.append(member(GATEWAY_ID, None, budget=gateway_budget))
    switch = make_switch(*members)
    room = switch.room

    delivered: dict[int, list[bytes]] = {m.peer_id: [] for m in members}
    drops: dict[int, Counter[DropReason]] = {m.peer_id: Counter() for m in members}
    forwarded = copies = 0
    bursts: list[tuple[Member, list[bytes]]] = []
    for one in traffic:
        ingress = members[one.who % len(members)]
        datagram = own(one, ingress)
        if bursts and bursts[-1][0] is ingress:
            bursts[-1][1].append(datagram)
        else:
            bursts.append((ingress, [datagram]))
        reason, targets = fate(room, ingress, datagram)
        if reason is not None:
            drops[ingress.peer_id][reason] += 1
            continue
        fits = [peer for peer in targets if len(datagram) <= room.members[peer].budget]
        drops[ingress.peer_id][DropReason.EGRESS_BUDGET] += len(targets) - len(fits)
        for peer in fits:
            delivered[peer].append(datagram)
        forwarded += bool(fits)
        copies += len(fits)
    for ingress, datagrams in bursts:
        switch.forward(ingress, datagrams, 1.0)

    for one_member in members:
        peer, counters = one_member.peer_id, one_member.counters
        # The very bytes, in order: also of frames from different members.
        assert port(one_member).datagrams == delivered[peer]
        assert counters.frames_out == len(delivered[peer])
        assert counters.bytes_out == sum(len(datagram) - 4 for datagram in delivered[peer])
        assert counters.drops == {reason: n for reason, n in drops[peer].items() if n}
        assert one_member.malformed == drops[peer][DropReason.MALFORMED]
        whole = [d for m, burst in bursts for d in burst if m is one_member]
        assert counters.frames_in == len(whole) - one_member.malformed
    assert room.counters.drops == {k: n for k, n in sum(drops.values(), Counter[DropReason]()).items() if n}
    assert (room.forwarded, room.copies) == (forwarded, copies)


def test_nothing_is_copied_on_the_way() -> None:
    sender, receiver = member(1, mac(1)), member(2, mac(2))
    switch = make_switch(sender, receiver)
    datagram = encode(Kind.ETHERNET, 1, frame(mac(2), mac(1)))
    switch.forward(sender, [datagram], 1.0)
    assert port(receiver).datagrams[0] is datagram


def test_a_member_whose_budget_is_too_small_is_skipped_and_the_others_get_it() -> None:
    sender, narrow, wide = member(1, mac(1)), member(2, mac(2), budget=317), member(3, mac(3), budget=318)
    records: list[dict[str, Any]] = []
    switch = make_switch(sender, narrow, wide, log=FrameLog(FrameLogMode.DROPS, records.append))
    datagram = encode(Kind.ETHERNET, 1, frame(BROADCAST, mac(1), bytes(300)))
    switch.forward(sender, [datagram], 1.0)
    assert (port(narrow).datagrams, port(wide).datagrams) == ([], [datagram])
    assert sender.counters.drops == {DropReason.EGRESS_BUDGET: 1}
    [record] = records
    # The ingress peer, the target peer, the encoded length and the budget.
    assert {key: record[key] for key in ("peer", "target", "encoded", "budget", "reason")} == {
        "peer": 1,
        "target": 2,
        "encoded": 318,
        "budget": 317,
        "reason": "egress_budget",
    }


def test_a_connection_that_is_about_to_end_has_no_budget_that_is_too_small() -> None:
    sender, closing = member(1, mac(1)), member(2, mac(2), port=FakePort(capacity=100))
    switch = make_switch(sender, closing)
    switch.forward(sender, [encode(Kind.ETHERNET, 1, frame(BROADCAST, mac(1), bytes(100)))], 1.0)
    assert sender.counters.drops == {DropReason.NOT_CONNECTED: 1}
    assert (closing.counters.frames_out, switch.room.forwarded) == (0, 0)


def test_malformed_datagrams_are_counted_and_logged_with_how_many_there_were() -> None:
    sender = member(1, mac(1))
    records: list[dict[str, Any]] = []
    switch = make_switch(sender, log=FrameLog(FrameLogMode.DROPS, records.append))
    switch.forward(sender, [b"", b"\x10", encode(Kind.ETHERNET, 2, frame(BROADCAST, mac(1)))], 1.0)
    assert sender.malformed == 3
    assert sender.counters.frames_in == 0
    assert [(record["reason"], record["malformed"]) for record in records] == [("malformed", n) for n in (1, 2, 3)]


def test_the_log_of_all_frames_says_once_what_became_of_each() -> None:
    sender, narrow, wide = member(1, mac(1)), member(2, mac(2), budget=300), member(3, mac(3))
    records: list[dict[str, Any]] = []
    switch = make_switch(sender, narrow, wide, log=FrameLog(FrameLogMode.ALL, records.append))

    def outcomes(destination: bytes, size: int = 46) -> list[tuple[Any, Any, Any]]:
        records.clear()
        switch.forward(sender, [encode(Kind.ETHERNET, 1, frame(destination, mac(1), bytes(size)))], 1.0)
        return [(record["action"], record.get("reason"), record["targets"]) for record in records]

    assert outcomes(BROADCAST) == [("forwarded", None, 2)]
    assert outcomes(mac(3)) == [("forwarded", None, 1)]
    assert outcomes(BROADCAST, 290) == [("dropped", "egress_budget", 0), ("forwarded", None, 1)]
    assert outcomes(mac(2), 290) == [("dropped", "egress_budget", 0)]
    assert outcomes(LAN_HOST) == [("dropped", "no_gateway", 0)]
    assert outcomes(STP_GROUP) == [("filtered", "switch_control", 0)]
    switch.room.remove(narrow)
    switch.room.remove(wide)
    assert outcomes(BROADCAST) == [("forwarded", None, 0)], "alone in the room: nobody was skipped"


@pytest.mark.parametrize("peer_id", [5, 0])  # 0: sent before the welcome was there
def test_a_probe_is_echoed_unchanged_and_goes_to_nobody_else(peer_id: int) -> None:
    sender, other, gateway = member(5, mac(5)), member(6, mac(6)), member(GATEWAY_ID, None)
    switch = make_switch(sender, other, gateway)
    probe = encode_probe(peer_id, 0x0123456789ABCDEF, 1440)
    switch.forward(sender, [probe], 1.0)
    assert port(sender).datagrams == [probe]
    assert port(other).datagrams == port(gateway).datagrams == []
    assert (sender.malformed, sender.counters.frames_in, sender.counters.drops) == (0, 0, {})
    assert sender.last_seen == 1.0


@pytest.mark.parametrize(
    "datagram",
    [
        encode_probe(6, 1, 64),  # another's peer id
        encode_probe(5, 1, 1441),  # over the budget
        encode_probe(5, 1, 12)[:11],  # without its whole nonce
        b"\x12\x01" + encode_probe(5, 1, 64)[2:],  # a flag
    ],
)
def test_what_is_no_probe_of_the_senders_is_malformed(datagram: bytes) -> None:
    sender, other = member(5, mac(5)), member(6, mac(6))
    switch = make_switch(sender, other)
    switch.forward(sender, [datagram], 1.0)
    assert port(sender).datagrams == port(other).datagrams == []
    assert sender.counters.drops == {DropReason.MALFORMED: 1}


def test_probes_are_echoed_twenty_times_a_second_and_no_more() -> None:
    sender = member(1, mac(1), probes=20.0)
    switch = make_switch(sender)
    probe = encode_probe(1, 1, 12)
    switch.forward(sender, [probe] * 100, 0.0)
    assert len(port(sender).datagrams) == 20
    for tenth in range(1, 101):  # ten seconds of 1000 a second
        switch.forward(sender, [probe] * 100, tenth / 10)
    assert len(port(sender).datagrams) == 20 + 200
    assert sender.counters.drops == {DropReason.RATE_PROBE: 10100 - 220}
    assert switch.room.counters.drops == sender.counters.drops
