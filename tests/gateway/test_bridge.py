"""The gateway's side: frames onto the wire, and the switches kept aware of who is behind it."""

import asyncio

import pytest
from tests.support.virtual_room import BROADCAST, LAN_HOST, WELCOME, frame

from softlan.client.bridge import Bridge
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role
from softlan.device.base import DeviceGone
from softlan.device.memory import MemoryDevice
from softlan.gateway.bridge import MAX_SILENT, Lan
from softlan.gateway.cam import CamRefresh, refresh_frame
from softlan.gateway.second_look import LookMode, SecondLook
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac

ONE, TWO = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")
RELAY: SocketAddress = ("203.0.113.5", 443)
INTERVAL = 60.0


class Wired:
    """A gateway's LAN, its wire in memory."""

    def __init__(self, *, sealed: bool = False) -> None:
        self.device = MemoryDevice("lan0")
        self.gone: list[DeviceGone] = []
        self.sent: list[bytes] = []
        bridge = Bridge(self.device, TrafficCounters(), self.gone.append)
        bridge.send = lambda frames, _: self.sent.extend(frames)
        self.drops = bridge.counters.drops
        look = SecondLook(LookMode.ON, PolicyEngine(Policy()), bridge.counters, FrameLog.off())
        look.joined("den", 1418)
        self.lan = Lan(bridge, CamRefresh(INTERVAL), look, sealed=sealed)

    def came(self, peer_id: int, mac: bytes, now: float) -> None:
        self.lan.peer_joined(PeerJoined(peer_id=peer_id, role=Role.CLIENT, mac=format_mac(mac)), now)

    def wire(self) -> list[bytes]:
        """What went onto the wire since the last look."""
        written, self.device.written = self.device.written, []
        return written


@pytest.fixture
def wired() -> Wired:
    return Wired()


async def test_the_wire_is_read_once_there_is_a_room_and_through_every_reconnect(wired: Wired) -> None:
    up = frame(ONE, LAN_HOST)
    wired.device.inject(frame(TWO, LAN_HOST))
    await asyncio.sleep(0)
    assert wired.sent == [], "what is heard before there is a room is never sent"
    for count in (1, 2):
        wired.lan.joined(WELCOME, RELAY)
        wired.device.inject(up)
        async with asyncio.timeout(1):
            while len(wired.sent) < count:
                await asyncio.sleep(0)
        wired.lan.lost()
    assert wired.sent == [up, up]


def test_a_newcomer_is_shown_to_the_switches_before_it_says_anything(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    assert wired.wire() == [refresh_frame(ONE)]
    wired.came(4, TWO, 101.0)
    assert wired.wire() == [refresh_frame(TWO)]


def test_another_gateway_has_no_mac_to_show(wired: Wired) -> None:
    wired.lan.peer_joined(PeerJoined(peer_id=1, role=Role.GATEWAY, mac=None), 100.0)
    assert wired.wire() == []


def test_quiet_ones_are_shown_again_and_again(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    wired.wire()
    shown = []
    for tenth in range(2000):
        wired.lan.tick(100.0 + tenth / 10)
        if wired.wire():
            shown.append(tenth / 10)
    assert shown == [60.0, 120.0, 180.0]


def test_who_speaks_needs_no_introduction(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    wired.came(4, TWO, 100.0)
    wired.wire()
    said = frame(BROADCAST, ONE)
    wired.lan.frames_received([said, said], 150.0)
    assert wired.wire() == [said, said]
    wired.lan.tick(165.0)
    assert wired.wire() == [refresh_frame(TWO)]
    wired.lan.tick(211.0)
    assert wired.wire() == [refresh_frame(ONE)]


def test_frames_that_overtook_the_news_of_their_sender_follow_its_introduction(wired: Wired) -> None:
    early = [frame(BROADCAST, ONE), frame(LAN_HOST, ONE)]
    wired.lan.frames_received(early, 100.0)
    assert wired.wire() == []
    wired.came(3, ONE, 100.4)
    assert wired.wire() == [refresh_frame(ONE), *early]


def test_a_strangers_frames_are_given_up_in_time(wired: Wired) -> None:
    wired.lan.frames_received([frame(LAN_HOST, ONE)], 100.0)
    wired.lan.tick(101.0)
    wired.came(3, ONE, 101.1)
    assert wired.wire() == [refresh_frame(ONE)]
    assert wired.drops == {DropReason.INVALID_SOURCE: 1}


def test_who_left_is_shown_no_more(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    wired.wire()
    wired.lan.peer_left(None, PeerLeft(peer_id=3, reason="timeout"), 101.0)
    wired.lan.peer_left(None, PeerLeft(peer_id=99, reason="timeout"), 101.0)
    wired.lan.tick(1000.0)
    assert wired.wire() == []


def test_while_the_tunnel_is_down_nobody_is_behind_us(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    wired.wire()
    wired.lan.lost()
    wired.lan.tick(1000.0)
    assert wired.wire() == []
    wired.came(3, ONE, 1001.0)
    assert wired.wire() == [refresh_frame(ONE)], "and after a reconnect everyone is shown anew"


def test_a_player_that_came_back_under_another_id_is_one_player(wired: Wired) -> None:
    wired.came(3, ONE, 100.0)
    wired.came(9, ONE, 101.0)
    wired.lan.peer_left(None, PeerLeft(peer_id=3, reason="timeout"), 102.0)
    wired.wire()
    wired.lan.tick(170.0)
    assert wired.wire() == [refresh_frame(ONE)]


# In a sealed room, where only frames prove who is there


def test_who_is_only_said_to_be_there_is_not_shown() -> None:
    """A relay could name the LAN's router, and so draw what is for it to us."""
    wired = Wired(sealed=True)
    wired.came(3, ONE, 100.0)
    for tenth in range(2000):
        wired.lan.tick(100.0 + tenth / 10)
    assert wired.wire() == []


def test_who_has_spoken_is_shown_again_and_again_until_it_leaves() -> None:
    wired = Wired(sealed=True)
    wired.came(3, ONE, 100.0)
    wired.came(4, TWO, 100.0)
    said = frame(BROADCAST, ONE)
    wired.lan.frames_received([said, said], 110.0)
    assert wired.wire() == [said, said]
    for now in (169.9, 170.0, 200.0, 230.0):
        wired.lan.tick(now)
    assert wired.wire() == [refresh_frame(ONE)] * 2
    wired.lan.peer_left(None, PeerLeft(peer_id=3, reason="timeout"), 231.0)
    wired.lan.tick(1000.0)
    assert wired.wire() == []


@pytest.mark.parametrize("how", ["left", "lost"])
def test_what_it_was_told_of_who_never_spoke_is_forgotten(how: str) -> None:
    wired = Wired(sealed=True)
    wired.came(3, ONE, 100.0)
    wired.came(4, TWO, 100.0)
    if how == "left":
        wired.lan.peer_left(None, PeerLeft(peer_id=3, reason="timeout"), 101.0)
        assert wired.lan._silent == {TWO: 4}
    else:
        wired.lan.lost()
        assert wired.lan._silent == {}


def test_no_more_are_remembered_than_so_many() -> None:
    wired = Wired(sealed=True)
    for number in range(MAX_SILENT + 10):
        wired.came(number + 1, b"\x02\0\0\0" + number.to_bytes(2), 100.0)
    assert len(wired.lan._silent) == MAX_SILENT
    for number in range(10):
        wired.came(1, b"\x06\0\0\0" + number.to_bytes(2), 100.0)
    assert sum(peer_id == 1 for peer_id in wired.lan._silent.values()) == 1


def test_an_interface_that_is_gone_is_told(wired: Wired) -> None:
    wired.device.vanish()
    wired.lan.frames_received([frame(LAN_HOST, ONE)], 100.0)
    assert [type(error) for error in wired.gone] == [DeviceGone]


async def test_closing_lets_go_of_the_interface(wired: Wired) -> None:
    wired.lan.joined(WELCOME, RELAY)
    wired.lan.close()
    assert wired.device.is_closed
