"""What a player's client lets out of a sealed room: a player's frames by a client's rules, others by the LAN's."""

from typing import Any

import pytest
from tests.support import packets
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU, Evasion
from tests.support.packets import BROADCAST, CLIENT, LAN_HOST, OTHER_CLIENT, ROUTER, ether, ipv4, kind, tcp, udp
from tests.support.virtual_room import WELCOME, frame

from softlan.client.screen import Screen
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role, Welcome
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac

NOW = 100.0
RELAY: SocketAddress = ("203.0.113.5", 443)
IPV4 = kind(packets.IPV4)
OFFER = IPV4 + ipv4(udp(67, 68, packets.dhcp(2)))
ADVERTISEMENT = kind(packets.IPV6) + packets.ipv6(packets.router_advertisement(), packets.ICMPV6)


class Recorder:
    """A `FrameSink` that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.frames: list[bytes] = []

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        self.told.append((welcome, relay))

    def lost(self) -> None:
        self.told.append("lost")

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        self.told.append((peer, now))

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        self.told.append((peer, left, now))

    def frames_received(self, frames: list[bytes], now: float) -> None:
        assert frames, "for nothing it is not called"
        self.frames += frames

    def tick(self, now: float) -> None:
        self.told.append(now)


def news(peer_id: int, mac: bytes | None) -> PeerJoined:
    role = Role.GATEWAY if mac is None else Role.CLIENT
    return PeerJoined(peer_id=peer_id, role=role, mac=format_mac(mac) if mac else None)


class Bench:
    """OTHER_CLIENT's computer, in a room with CLIENT as peer 3 and the gateway as peer 1."""

    def __init__(self) -> None:
        self.counters = TrafficCounters()
        self.records: list[dict[str, Any]] = []
        self.sink = Recorder()
        log = FrameLog(FrameLogMode.DROPS, self.records.append)
        self.screen = Screen(self.sink, OTHER_CLIENT, PolicyEngine(Policy()), self.counters, log)
        self.screen.joined(WELCOME, RELAY)
        self.screen.peer_joined(news(1, None), NOW)
        self.screen.peer_joined(news(3, CLIENT), NOW)

    def passes(self, *frames: bytes) -> list[bytes]:
        self.sink.frames.clear()
        self.screen.frames_received(list(frames), NOW)
        return self.sink.frames


# Another player's


@pytest.mark.parametrize("case", [case for case in EVASIONS if case.frame[6:12] == CLIENT], ids=lambda case: case.name)
def test_it_stops_what_the_relay_stops_in_other_rooms(case: Evasion) -> None:
    assert WELCOME.room_mtu == ROOM_MTU
    bench = Bench()
    assert bench.passes(case.frame) == []
    assert bench.counters.drops == {case.reason: 1}


def test_it_passes_what_players_need() -> None:
    bench = Bench()
    frames = [case.frame for case in LEGITIMATE]
    assert len(frames) > 20
    assert bench.passes(*frames) == frames
    assert bench.counters.drops == {}


def test_each_drop_is_logged_with_its_reason() -> None:
    bench = Bench()
    bench.passes(ether(OFFER, dst=BROADCAST), frame(BROADCAST, CLIENT))
    [record] = bench.records
    assert {key: record[key] for key in ("direction", "room", "src", "dst", "action", "reason")} == {
        "direction": "to_host",
        "room": "den",
        "src": format_mac(CLIENT),
        "dst": "ff:ff:ff:ff:ff:ff",
        "action": "filtered",
        "reason": "dhcp_server",
    }


def test_a_flow_that_was_learned_from_a_player_hides_no_dhcp() -> None:
    bench = Bench()
    game = ether(IPV4, ipv4(udp(27015, 27015)), dst=OTHER_CLIENT)
    assert bench.passes(game, ether(OFFER, dst=OTHER_CLIENT), game) == [game, game]


# The LAN's


@pytest.mark.parametrize("source", [LAN_HOST, ROUTER], ids=bytes.hex)
def test_the_lan_may_serve_dhcp_and_route(source: bytes) -> None:
    bench = Bench()
    frames = [
        ether(OFFER, src=source, dst=BROADCAST),
        ether(OFFER, src=source, dst=OTHER_CLIENT),
        ether(ADVERTISEMENT, src=source, dst=packets.ALL_NODES),
        ether(kind(packets.ARP), packets.arp(ROUTER), src=source, dst=BROADCAST),  # a proxy of some kind
        ether(IPV4, ipv4(tcp(1, 2), packets.TCP), src=source, dst=OTHER_CLIENT),
    ]
    assert bench.passes(*frames, *frames) == frames * 2


@pytest.mark.parametrize("source", [OTHER_CLIENT, bytes(6), BROADCAST], ids=["our own", "nobody", "a group"])
def test_nothing_comes_from_the_lan_as_us_or_as_nobody(source: bytes) -> None:
    bench = Bench()
    assert bench.passes(frame(BROADCAST, source)) == []
    assert bench.counters.drops == {DropReason.INVALID_SOURCE: 1}


def test_switches_talk_to_nobody_here() -> None:
    bench = Bench()
    assert bench.passes(ether(kind(0x88CC), bytes(46), src=ROUTER, dst=bytes.fromhex("0180c200000e"))) == []
    assert bench.counters.drops == {DropReason.SWITCH_CONTROL: 1}


# Who is a player


def test_who_comes_is_judged_as_a_player_from_then_on_and_who_left_is_none() -> None:
    bench = Bench()
    stranger = bytes.fromhex("020000000009")
    plain = ether(IPV4, ipv4(udp(1, 2)), src=stranger, dst=OTHER_CLIENT)
    offer = ether(OFFER, src=stranger, dst=OTHER_CLIENT)
    assert bench.passes(plain, offer) == [plain, offer]
    bench.screen.peer_joined(news(4, stranger), NOW)
    assert bench.passes(plain, offer) == [plain]
    bench.screen.peer_left(None, PeerLeft(peer_id=4, reason="timeout"), NOW)
    assert bench.passes(plain, offer) == [plain, offer]


def test_who_becomes_the_gateway_is_no_player_any_more() -> None:
    bench = Bench()
    bench.screen.peer_joined(news(3, None), NOW)
    offer = ether(OFFER, dst=OTHER_CLIENT)
    assert bench.passes(offer) == [offer]


def test_a_new_session_knows_only_those_whom_it_is_told_of() -> None:
    bench = Bench()
    bench.screen.joined(WELCOME, RELAY)
    offer = ether(OFFER, dst=OTHER_CLIENT)
    assert bench.passes(offer) == [offer]
    bench.screen.peer_joined(news(5, CLIENT), NOW)
    assert bench.passes(offer) == []


def test_all_else_is_passed_on() -> None:
    bench = Bench()
    left = PeerLeft(peer_id=3, reason="timeout")
    bench.screen.peer_left(news(3, CLIENT), left, NOW)
    bench.screen.tick(NOW + 1)
    bench.screen.lost()
    assert bench.sink.told == [
        (WELCOME, RELAY),
        (news(1, None), NOW),
        (news(3, CLIENT), NOW),
        (news(3, CLIENT), left, NOW),
        NOW + 1,
        "lost",
    ]
