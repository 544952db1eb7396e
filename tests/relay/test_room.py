import json

from hypothesis import given
from hypothesis import strategies as st
from tests.support.relay_fakes import mac, member

from softlan.ctrl.messages import Stats
from softlan.obs.counters import TrafficCounters
from softlan.proto.drop import DropReason
from softlan.relay.room import MAX_REPORTED, Room


def test_a_client_is_found_by_its_address_and_the_gateway_as_such() -> None:
    room = Room("den", 1418, None)
    client, gateway = member(1, mac(1)), member(2, None)
    room.add(client)
    room.add(gateway)
    assert room.members == {1: client, 2: gateway}
    assert room.by_mac == {mac(1): client}
    assert room.gateway is gateway
    assert list(room.others(client)) == [gateway]

    room.remove(client)
    assert (room.members, room.by_mac, room.gateway) == ({2: gateway}, {}, gateway)
    room.remove(gateway)
    assert (room.members, room.gateway) == ({}, None)


def test_who_has_been_replaced_cannot_take_out_who_replaced_it() -> None:
    room = Room("den", 1418, None)
    for old, new in ((member(1, mac(1)), member(1, mac(1))), (member(2, None), member(2, None))):
        room.add(old)
        room.remove(old)
        room.add(new)
        room.remove(old)
        assert room.members[new.peer_id] is new
    assert room.by_mac[mac(1)] is room.members[1]
    assert room.gateway is room.members[2]


def test_peer_ids_go_up_and_are_not_given_again_soon() -> None:
    room = Room("den", 1418, None)
    given_out = []
    for number in range(5):
        newcomer = member(room.next_peer_id(), mac(number))
        room.add(newcomer)
        room.remove(newcomer)
        given_out.append(newcomer.peer_id)
    assert given_out == [1, 2, 3, 4, 5]


def test_peer_ids_go_round_past_those_that_are_taken() -> None:
    room = Room("den", 1418, None)
    for peer_id in (1, 2, 65534):
        room.add(member(peer_id, mac(peer_id % 250)))
    for _ in range(65531):
        room.next_peer_id()
    assert [room.next_peer_id() for _ in range(3)] == [65535, 3, 4]


@given(st.lists(st.integers(0, 7), max_size=60))
def test_tables_agree_with_the_members_whoever_comes_and_goes(turns: list[int]) -> None:
    room = Room("den", 1418, None)
    present: dict[int, int] = {}  # who, 0 the gateway: peer id
    for who in turns:
        if who in present:
            room.remove(room.members[present.pop(who)])
        else:
            present[who] = room.next_peer_id()
            room.add(member(present[who], mac(who) if who else None))
        assert sorted(room.members) == sorted(present.values())
        assert {address: m.peer_id for address, m in room.by_mac.items()} == {
            mac(who): peer_id for who, peer_id in present.items() if who
        }
        assert (room.gateway.peer_id if room.gateway else None) == present.get(0)


def test_the_snapshot_has_last_seen_and_stats() -> None:
    room = Room("den", 1400, "secret")
    client, gateway = member(1, mac(1)), member(2, None, budget=1168)
    room.add(client)
    room.add(gateway)
    room.forwarded, room.copies = 7, 9
    room.counters.drop(DropReason.JUMBO, 2)
    client.last_seen, client.malformed, client.unknown_messages = 40.0, 3, 2
    client.counters.frames_in = 7
    client.counters.drop(DropReason.JUMBO, 2)
    client.take_stats(Stats(counters={"frames_out": 7}, rtt_ms=12.5), 40.0)

    snapshot = room.snapshot(42.5)
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert "secret" not in json.dumps(snapshot)
    assert "resume" not in json.dumps(snapshot)
    members = snapshot.pop("members")
    assert snapshot == {
        "room": "den",
        "mtu": 1400,
        "sealed": False,
        "forwarded": 7,
        "copies": 9,
        "drops": {"jumbo": 2},
    }
    assert members == [
        {
            "peer": 1,
            "role": "client",
            "mac": "02:00:00:00:00:01",
            "budget": 1440,
            "effective_mtu": 1418,
            "software": "test 1.0",
            "joined": 42.5,
            "last_seen": 2.5,
            "rtt_ms": 12.5,
            "malformed": 3,
            "unknown_messages": 2,
            "counters": {"frames_in": 7, "frames_out": 0, "bytes_in": 0, "bytes_out": 0, "drop_jumbo": 2},
            "reported": {"frames_out": 7},
        },
        {
            "peer": 2,
            "role": "gateway",
            "mac": None,
            "budget": 1168,
            "effective_mtu": 1146,
            "software": "test 1.0",
            "joined": 42.5,
            "last_seen": 42.5,
            "rtt_ms": None,
            "malformed": 0,
            "unknown_messages": 0,
            "counters": {"frames_in": 0, "frames_out": 0, "bytes_in": 0, "bytes_out": 0},
            "reported": None,
        },
    ]


def test_of_what_a_member_reports_no_more_is_kept_than_ours_can_be() -> None:
    client = member(1, mac(1))
    ours = TrafficCounters()
    for reason in DropReason:
        ours.drop(reason)
    client.take_stats(Stats(counters=ours.snapshot()), 1.0)
    assert client.reported == ours.snapshot()
    client.take_stats(Stats(counters={f"{'x' * 60}{n}": 2**63 - 1 for n in range(256)}), 2.0)
    assert client.reported is not None
    assert len(client.reported) == MAX_REPORTED
    client.take_stats(Stats(counters={"two\nlines": 1, "": 2, "d\u00e9j\u00e0": 3, "frames_in": 4}), 3.0)
    assert client.reported == {"frames_in": 4}


def test_who_seals_sends_frames_of_another_kind() -> None:
    assert member(7, mac(1)).header == b"\x10\x00\x00\x07"
    assert member(7, mac(1), sealed=True).header == b"\x11\x00\x00\x07"


def test_a_member_is_described_in_a_few_words() -> None:
    assert member(3, mac(1)).describe() == "client 3 (02:00:00:00:00:01)"
    assert member(4, None).describe() == "gateway 4"
