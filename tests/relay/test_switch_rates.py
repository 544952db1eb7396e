"""Rates at the relay: who sends too much is cut, in that alone, and the log says by how much."""

from typing import Any

import pytest
from tests.support.relay_fakes import QUIET, FakePort, Peer, RelayBench, mac, member

from softlan.ctrl.messages import Disconnect, Welcome
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.room import Member, Room
from softlan.relay.settings import RoomBook, RoomSettings
from softlan.relay.switch import Switch

BROADCAST, MULTICAST = b"\xff" * 6, bytes.fromhex("01005e7ffffa")
LAN_HOST, ANOTHER_LAN_HOST = bytes.fromhex("001b21000009"), bytes.fromhex("001b2100000a")
GATEWAY_ID = 9
SLOW = Policy(broadcast_rate=10, broadcast_burst=5, unknown_unicast_rate=10, unknown_unicast_burst=5)
ATTIC = Policy(broadcast_burst=8, switch_control=False)
PAYLOAD = 46
FRAME = 14 + PAYLOAD


class Den:
    """A room with clients 1 and 2 and a gateway."""

    def __init__(self, policy: Policy = SLOW, log: FrameLog = QUIET) -> None:
        self.one = member(1, mac(1), policy=policy)
        self.two = member(2, mac(2), policy=policy)
        self.gateway = member(GATEWAY_ID, None)
        self.room = Room("den", 1418, None)
        for each in (self.one, self.two, self.gateway):
            self.room.add(each)
        self._switch = Switch(self.room, PolicyEngine(policy), log)

    def send(self, ingress: Member, *destinations: bytes, now: float = 0.0, source: bytes | None = None) -> None:
        """A burst, one frame to each."""
        source = source or ingress.mac or LAN_HOST
        frames = [destination + source + b"\x88\xb5" + bytes(PAYLOAD) for destination in destinations]
        self._switch.forward(ingress, [encode(Kind.ETHERNET, ingress.peer_id, frame) for frame in frames], now)

    def got(self, receiver: Member) -> list[bytes]:
        """The destinations of what it got since the last look."""
        assert isinstance(receiver.port, FakePort)
        datagrams, receiver.port.datagrams = receiver.port.datagrams, []
        return [datagram[4:10] for datagram in datagrams]


@pytest.fixture
def den() -> Den:
    return Den()


@pytest.mark.parametrize("group", [BROADCAST, MULTICAST], ids=["broadcast", "multicast"])
def test_who_is_over_its_broadcast_rate_is_cut_and_its_unicast_keeps_flowing(den: Den, group: bytes) -> None:
    den.send(den.one, *[group, mac(2)] * 100)
    assert den.got(den.two) == [group, mac(2)] * 5 + [mac(2)] * 95
    assert den.got(den.gateway) == [group] * 5
    assert den.one.counters.drops == den.room.counters.drops == {DropReason.RATE_BROADCAST: 95}


def test_broadcast_and_multicast_are_of_one_rate(den: Den) -> None:
    den.send(den.one, *[BROADCAST, MULTICAST] * 10)
    assert den.got(den.two) == [BROADCAST, MULTICAST] * 2 + [BROADCAST]


def test_after_the_burst_comes_the_rate(den: Den) -> None:
    den.send(den.one, *[BROADCAST] * 50)
    den.got(den.two)
    for quarter in range(1, 41):  # ten seconds
        den.send(den.one, *[BROADCAST] * 50, now=quarter / 4)
    assert len(den.got(den.two)) == 100


def test_the_others_are_not_cut_for_one(den: Den) -> None:
    den.send(den.one, *[BROADCAST] * 100)
    den.send(den.two, *[BROADCAST] * 3)
    assert den.got(den.one) == [BROADCAST] * 3
    assert den.two.counters.drops == {}


def test_unicast_to_nobody_known_is_limited_until_the_lan_has_been_heard(den: Den) -> None:
    den.send(den.one, *[LAN_HOST] * 20)
    assert den.got(den.gateway) == [LAN_HOST] * 5
    den.send(den.gateway, mac(1), source=LAN_HOST)
    den.send(den.one, *[LAN_HOST, ANOTHER_LAN_HOST] * 20)
    assert den.got(den.gateway) == [LAN_HOST] * 20, "its neighbour has not been heard"
    assert den.one.counters.drops == {DropReason.RATE_UNKNOWN_UNICAST: 35}


def test_one_host_of_the_lan_is_known_to_all_clients(den: Den) -> None:
    den.send(den.gateway, BROADCAST, source=LAN_HOST)
    for client in (den.one, den.two):
        den.send(client, *[LAN_HOST] * 20)
    assert den.got(den.gateway) == [LAN_HOST] * 40


def test_what_the_policy_stops_teaches_nothing(den: Den) -> None:
    den.send(den.gateway, bytes.fromhex("0180c2000000"), source=LAN_HOST)  # spanning tree
    den.send(den.one, *[LAN_HOST] * 20)
    assert den.got(den.gateway) == [LAN_HOST] * 5


def test_a_client_teaches_nothing_of_the_lan(den: Den) -> None:
    den.send(den.two, BROADCAST, source=LAN_HOST)
    den.send(den.one, *[LAN_HOST] * 20)
    assert den.got(den.gateway) == [LAN_HOST] * 5


def test_with_another_gateway_the_lan_has_to_be_heard_again(den: Den) -> None:
    den.send(den.gateway, BROADCAST, source=LAN_HOST)
    den.room.remove(den.gateway)
    another = member(GATEWAY_ID + 1, None)
    den.room.add(another)
    den.send(den.one, *[LAN_HOST] * 20)
    assert den.got(another) == [LAN_HOST] * 5


def test_unknown_unicast_has_a_rate_of_its_own(den: Den) -> None:
    den.send(den.one, *[BROADCAST] * 20)
    den.send(den.one, *[LAN_HOST] * 20)
    assert den.got(den.gateway) == [BROADCAST] * 5 + [LAN_HOST] * 5


def test_the_total_is_in_bytes_of_frames_and_over_all() -> None:
    den = Den(Policy(total_rate=FRAME * 10, total_burst=65536))
    most = 65536 // FRAME
    assert most > 1000
    den.send(den.one, *[mac(2)] * (most + 10))
    assert len(den.got(den.two)) == most
    den.send(den.one, BROADCAST, LAN_HOST)
    assert den.got(den.gateway) == []
    assert den.one.counters.drops == {DropReason.RATE_TOTAL: 12}
    den.send(den.one, *[mac(2)] * 50, now=1.0)
    assert len(den.got(den.two)) == 10


def test_what_a_rule_stops_costs_nothing(den: Den) -> None:
    den.send(den.one, *[bytes.fromhex("0180c2000000")] * 100)
    den.send(den.one, *[BROADCAST] * 100, source=mac(3))
    den.send(den.one, *[BROADCAST] * 5)
    assert den.got(den.two) == [BROADCAST] * 5


def test_the_gateway_speaks_for_a_whole_lan_and_has_no_rate(den: Den) -> None:
    den.send(den.gateway, *[BROADCAST, mac(1)] * 2000)
    assert den.got(den.one) == [BROADCAST, mac(1)] * 2000
    assert den.gateway.counters.drops == {}


def test_a_rate_of_zero_is_no_limit() -> None:
    den = Den(Policy(broadcast_rate=0, unknown_unicast_rate=0, total_rate=0))
    den.send(den.one, *[BROADCAST, LAN_HOST] * 2000)
    assert den.got(den.gateway) == [BROADCAST, LAN_HOST] * 2000


def test_frame_logs_call_it_rate_limited() -> None:
    records: list[dict[str, Any]] = []
    den = Den(log=FrameLog(FrameLogMode.DROPS, records.append))
    den.send(den.one, *[BROADCAST] * 6)
    [record] = records
    assert (record["action"], record["reason"], record["peer"]) == ("rate_limited", "rate_broadcast", 1)


# The relay: rooms of their own policy, and the log


class Limited(RelayBench):
    """A relay where rooms are slow, but for the attic."""

    def __init__(self) -> None:
        super().__init__()
        book = RoomBook(RoomSettings(policy=SLOW), {"attic": RoomSettings(1300, ATTIC)})
        self.relay = Relay(RelayLimits(), book, QUIET, self.log)

    def cut(self) -> list[dict[str, Any]]:
        """What has been logged of cuts since the last look, after a tick."""
        self.log.events.clear()
        self.relay.tick(self.now)
        return list(self.log.named("rate_limited"))


def storm(peer: Peer, number: int, count: int) -> None:
    frame = BROADCAST + mac(number) + b"\x88\xb5" + bytes(PAYLOAD)
    peer.send(*[encode(Kind.ETHERNET, peer.peer_id, frame)] * count)


def test_the_log_says_once_a_second_how_much_was_cut() -> None:
    bench = Limited()
    client = bench.join(1)
    assert bench.cut() == []
    storm(client, 1, 25)
    line = {"room": "den", "who": "client 1 (02:00:00:00:00:01)", "limit": "rate_broadcast"}
    assert bench.cut() == [{**line, "frames": 20, "bytes": 20 * FRAME}]
    assert bench.cut() == []
    storm(client, 1, 10)
    bench.now += 0.5
    assert bench.cut() == [], "within the same second"
    bench.now += 0.5
    assert bench.cut() == [{**line, "frames": 10, "bytes": 10 * FRAME}]
    bench.now += 1
    storm(client, 1, 5)
    assert bench.cut() == [], "all of it passed"


def test_each_limit_and_each_client_has_a_line_of_its_own() -> None:
    bench = Limited()
    one, two = bench.join(1), bench.join(2)
    storm(one, 1, 7)
    storm(two, 2, 6)
    unknown = LAN_HOST + mac(1) + b"\x88\xb5" + bytes(PAYLOAD)
    one.send(*[encode(Kind.ETHERNET, one.peer_id, unknown)] * 6)
    assert {(line["who"].split()[1], line["limit"], line["frames"]) for line in bench.cut()} == {
        ("1", "rate_broadcast", 2),
        ("1", "rate_unknown_unicast", 1),
        ("2", "rate_broadcast", 1),
    }


def test_a_named_room_has_its_own_rates_mtu_and_rules() -> None:
    bench = Limited()
    slow, attic = bench.join(1), bench.join(1, "attic")
    for peer in (slow, attic):
        storm(peer, 1, 10)
    assert {line["room"]: line["frames"] for line in bench.cut()} == {"den": 5, "attic": 2}
    assert {room["room"]: room["mtu"] for room in bench.relay.snapshot(bench.now)} == {"den": 1418, "attic": 1300}
    large, lldp = (LAN_HOST + mac(1) + rest for rest in (b"\x88\xb5" + bytes(1301), b"\x88\xcc" + bytes(PAYLOAD)))
    for peer in (slow, attic):
        peer.send(*(encode(Kind.ETHERNET, peer.peer_id, frame) for frame in (large, lldp)))
    assert {room["room"]: room["drops"] for room in bench.relay.snapshot(bench.now)} == {
        "den": {"rate_broadcast": 5, "no_gateway": 1, "switch_control": 1},
        "attic": {"rate_broadcast": 2, "jumbo": 1, "no_gateway": 1},
    }


def test_the_gateway_of_a_room_is_never_limited() -> None:
    bench = Limited()
    gateway, client = bench.join(None), bench.join(1)
    frame = BROADCAST + LAN_HOST + b"\x88\xb5" + bytes(PAYLOAD)
    gateway.send(*[encode(Kind.ETHERNET, gateway.peer_id, frame)] * 1000)
    assert len(client.connection.datagrams) == 1000
    assert bench.cut() == []


def test_who_comes_back_has_no_new_burst_under_whatever_mac() -> None:
    bench = Limited()
    witness = bench.join(None, host="198.51.100.7")
    for number in (1, 1, 2, 3):
        peer = bench.join(number)
        storm(peer, number, 25)
        peer.say(Disconnect(reason="quit", message=""))
    assert len(witness.connection.datagrams) == 5
    elsewhere = bench.join(4, host="203.0.113.5")
    storm(elsewhere, 4, 25)
    assert len(witness.connection.datagrams) == 10, "somebody else's are full"
    bench.now += 1
    again = bench.join(1)
    storm(again, 1, 25)
    assert len(witness.connection.datagrams) == 15, "and full again after a while"


def test_a_resumed_session_goes_on_with_its_rates() -> None:
    bench = Limited()
    witness, old = bench.join(None, host="198.51.100.7"), bench.join(1)
    resume = next(message.resume for message in old.read() if isinstance(message, Welcome))
    storm(old, 1, 25)
    new = bench.join(1, resume=resume, host="203.0.113.5")
    storm(new, 1, 25)
    assert len(witness.connection.datagrams) == 5


@pytest.mark.parametrize("resumes", [False, True])
def test_nor_has_a_gateway_a_new_burst_when_it_comes_back(resumes: bool) -> None:
    """It has no rates but that of all its frames."""
    bench = RelayBench(RoomBook(RoomSettings(policy=Policy(frame_rate=100, frame_burst=50))))
    gateway, client = bench.join(None), bench.join(1)
    frame = BROADCAST + LAN_HOST + b"\x88\xb5" + bytes(PAYLOAD)
    for _ in range(3):
        gateway.send(*[encode(Kind.ETHERNET, gateway.peer_id, frame)] * 60)
        assert len(client.connection.datagrams) == 60, "one burst, which is never cut in two"
        resume = None
        if resumes:
            resume = next(message.resume for message in gateway.read() if isinstance(message, Welcome))
        else:
            gateway.say(Disconnect(reason="quit", message=""))
        gateway = bench.join(None, resume=resume)
    bench.now += 1
    gateway.send(encode(Kind.ETHERNET, gateway.peer_id, frame))
    assert len(client.connection.datagrams) == 61, "and full again after a while"


def test_who_floods_and_leaves_at_once_is_told_of() -> None:
    bench = Limited()
    bench.join(None)
    peer = bench.join(1)
    storm(peer, 1, 25)
    assert bench.cut() != []
    storm(peer, 1, 30)
    assert bench.cut() == [], "within the same second"
    peer.say(Disconnect(reason="quit", message=""))
    [line] = bench.log.named("rate_limited")
    assert (line["limit"], line["frames"], line["bytes"]) == ("rate_broadcast", 30, 30 * FRAME)
