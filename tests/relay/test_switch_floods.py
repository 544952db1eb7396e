"""Floods: one who sends far more than its rates costs little, is sent away, and takes nothing from the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import TCP, UDP, ipv4, tcp, udp
from tests.support.relay_fakes import QUIET, FakePort, Peer, RelayBench, mac, member, salt, sealed

from softlan.ctrl.messages import Disconnect, PeerLeft
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rates import FLOOD, HEAVY, LanMacs
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode
from softlan.relay.room import Member, Room
from softlan.relay.settings import RoomBook, RoomSettings
from softlan.relay.switch import SealedSwitch, Switch

BROADCAST, LLDP, NOBODY = b"\xff" * 6, bytes.fromhex("0180c200000e"), bytes.fromhex("027700000001")
GATEWAY_ID = 9
IPV4 = b"\x08\x00"
SLOW = Policy(broadcast_rate=10, broadcast_burst=5, unknown_unicast_rate=10, unknown_unicast_burst=5)
GAME, DHCP_OFFER = (IPV4 + ipv4(udp(first, second, bytes(60)), UDP) for first, second in ((4096, 8192), (67, 68)))


def lan_host(number: int) -> bytes:
    return bytes.fromhex("00163e") + number.to_bytes(3, "big")


class Den:
    """A room with clients 1 and 2 and a gateway."""

    def __init__(self, policy: Policy = SLOW, log: FrameLog = QUIET, *, is_sealed: bool = False) -> None:
        self.is_sealed = is_sealed
        self.one, self.two = (member(n, mac(n), policy=policy, sealed=is_sealed) for n in (1, 2))
        self.gateway = member(GATEWAY_ID, None, policy=policy, sealed=is_sealed)
        self.room = Room("den", 1418, None, sealed=is_sealed)
        for each in (self.one, self.two, self.gateway):
            self.room.add(each)
        self.switch = (SealedSwitch if is_sealed else Switch)(self.room, PolicyEngine(policy), log)

    def send(
        self, ingress: Member, *destinations: bytes, rest: bytes = GAME, now: float = 0.0, source: bytes | None = None
    ) -> None:
        """A burst, one frame to each."""
        own = source or ingress.mac or lan_host(0)
        burst = [encode(Kind.ETHERNET, ingress.peer_id, to + own + rest) for to in destinations]
        self.switch.forward(ingress, list(map(sealed, burst)) if self.is_sealed else burst, now)

    def got(self, receiver: Member) -> list[bytes]:
        """The destinations of what it got since the last look."""
        assert isinstance(receiver.port, FakePort)
        datagrams, receiver.port.datagrams = receiver.port.datagrams, []
        return [datagram[4:10] for datagram in datagrams]


both = pytest.mark.parametrize("is_sealed", [False, True], ids=["plain", "sealed"])


@both
def test_while_nothing_is_left_of_a_kind_its_frames_are_dropped_and_all_else_passes(is_sealed: bool) -> None:
    den = Den(is_sealed=is_sealed)
    den.send(den.one, *[BROADCAST, NOBODY, mac(2)] * 50)
    assert den.got(den.two) == [BROADCAST, mac(2)] * 5 + [mac(2)] * 45
    den.send(den.one, *[BROADCAST, NOBODY, mac(2)] * 50, now=0.0625)
    assert den.got(den.two) == [mac(2)] * 50
    den.send(den.one, *[BROADCAST, NOBODY, mac(2)] * 50, now=0.125)
    assert den.got(den.two) == [BROADCAST] + [mac(2)] * 50
    assert den.got(den.gateway) == [BROADCAST, NOBODY] * 5 + [BROADCAST, NOBODY]
    expected = {DropReason.RATE_BROADCAST: 144, DropReason.RATE_UNKNOWN_UNICAST: 144}
    assert den.one.counters.drops == den.room.counters.drops == expected
    assert den.one.counters.frames_in == 450
    size = 14 + len(GAME) - 2 + (24 if is_sealed else 0)
    assert den.one.counters.bytes_in == 450 * size
    assert den.one.allowance.report(1.0) == {reason: (count, count * size) for reason, count in expected.items()}


def test_one_kind_that_is_used_up_says_nothing_of_the_other() -> None:
    den = Den()
    for _ in range(2):
        den.send(den.one, *[BROADCAST] * 20)
    den.send(den.one, *[NOBODY] * 3)
    assert den.got(den.gateway) == [BROADCAST] * 5 + [NOBODY] * 3
    den.send(den.two, *[BROADCAST] * 3)
    assert den.got(den.one) == [BROADCAST] * 3, "and one member's say nothing of another's"


def test_a_host_of_the_lan_is_not_unknown_in_a_flood_either() -> None:
    den = Den()
    den.send(den.gateway, mac(1), source=lan_host(7))
    for _ in range(3):
        den.send(den.one, *[NOBODY] * 20)
    den.got(den.gateway)
    den.send(den.one, *[NOBODY, lan_host(7)] * 20)
    assert den.got(den.gateway) == [lan_host(7)] * 20


@both
def test_probes_and_malformed_datagrams_are_what_they_are_in_a_flood_too(is_sealed: bool) -> None:
    den = Den(is_sealed=is_sealed)
    for _ in range(2):
        den.send(den.one, *[BROADCAST] * 20)
    den.got(den.one)
    frame = BROADCAST + mac(1) + GAME
    odd = [b"", b"\x10", b"\x10\0\0\1" + bytes(13), encode(Kind.ETHERNET, 2, frame), b"\x12\0\0\1" + bytes(40)]
    den.switch.forward(den.one, odd, 0.0)
    assert den.one.malformed == 4
    assert len(den.got(den.one)) == 1, "the probe's echo"


def test_with_a_log_of_drops_each_is_told_with_its_own_reason() -> None:
    records: list[dict[str, Any]] = []
    den = Den(log=FrameLog(FrameLogMode.DROPS, records.append))
    den.send(den.one, *[BROADCAST] * 6)
    den.send(den.one, BROADCAST, rest=DHCP_OFFER)
    den.send(den.one, BROADCAST)
    assert [record["reason"] for record in records] == ["rate_broadcast", "dhcp_server", "rate_broadcast"]


rests = st.sampled_from([GAME, GAME, DHCP_OFFER, b"\x88\xcc" + bytes(50), IPV4 + ipv4(tcp(1, 2), TCP), b"\x08\x06"])
destinations = st.sampled_from([BROADCAST, BROADCAST, NOBODY, NOBODY, LLDP, mac(2), mac(1), lan_host(7), lan_host(8)])
sources = st.sampled_from([None, None, None, mac(2)])
bursts = st.lists(st.tuples(destinations, sources, rests), max_size=12)
pauses = st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0])


@given(st.booleans(), st.lists(st.tuples(pauses, bursts), max_size=12))
def test_who_gets_what_is_the_same_whether_frames_are_looked_at_or_not(
    is_sealed: bool, story: list[tuple[float, list[tuple[bytes, bytes | None, bytes]]]]
) -> None:
    """The one that logs its drops looks at each of them."""
    quick, thorough = dens = [
        Den(is_sealed=is_sealed),
        Den(log=FrameLog(FrameLogMode.DROPS, lambda record: None), is_sealed=is_sealed),
    ]
    for den in dens:
        now = 0.0
        den.send(den.gateway, mac(1), source=lan_host(7))
        for pause, frames in story:
            now += pause
            burst = [encode(Kind.ETHERNET, 1, to + (source or mac(1)) + rest) for to, source, rest in frames]
            den.switch.forward(den.one, list(map(sealed, burst)) if is_sealed else burst, now)
    for ours, theirs in zip(quick.room.members.values(), thorough.room.members.values(), strict=True):
        assert quick.got(ours) == thorough.got(theirs)
        assert sum(ours.counters.drops.values()) == sum(theirs.counters.drops.values())
        assert (ours.counters.frames_in, ours.counters.bytes_in) == (
            theirs.counters.frames_in,
            theirs.counters.bytes_in,
        )


# Frames in all


FEW = Policy(frame_rate=100, frame_burst=50)


@both
@pytest.mark.parametrize("who", ["client", "gateway"])
def test_a_members_frames_in_all_are_limited_by_whole_bursts(who: str, is_sealed: bool) -> None:
    den = Den(FEW, is_sealed=is_sealed)
    sender = den.one if who == "client" else den.gateway
    for _ in range(4):
        den.send(sender, *[mac(2)] * 20)
    assert den.got(den.two) == [mac(2)] * 60
    assert sender.counters.drops == den.room.counters.drops == {DropReason.RATE_TOTAL: 20}
    den.send(sender, *[mac(2)] * 20, now=0.25)
    assert den.got(den.two) == [mac(2)] * 20
    [(reason, (frames, _))] = (sender.allowance.report(1.0) or {}).items()
    assert (reason, frames) == (DropReason.RATE_TOTAL, 20)


def test_what_a_rule_stops_is_work_too() -> None:
    den = Den(FEW)
    den.send(den.one, *[mac(2)] * 60, source=mac(3))
    den.send(den.one, *[mac(2)] * 60)
    assert den.one.counters.drops == {DropReason.INVALID_SOURCE: 60, DropReason.RATE_TOTAL: 60}


def test_datagrams_that_are_nothing_count_as_well() -> None:
    den = Den(FEW)
    den.send(den.one, *[mac(2)] * 60)
    before = den.one.counters.bytes_in
    den.switch.forward(den.one, [b"", b"\x10"], 0.0)
    assert den.one.counters.drops == {DropReason.RATE_TOTAL: 2}
    assert den.one.counters.bytes_in == before


def test_a_copy_is_a_frame() -> None:
    """So a gateway's broadcasts into a full room are no way to make the relay work for nothing else."""
    den = Den(FEW)
    for number in range(3, 8):
        den.room.add(member(number, mac(number)))
    for _ in range(20):
        den.send(den.gateway, BROADCAST)
    assert 7 <= len(den.got(den.two)) <= 9
    assert den.gateway.counters.drops[DropReason.RATE_TOTAL] >= 11


def test_a_log_of_drops_has_those_of_the_total_too() -> None:
    records: list[dict[str, Any]] = []
    den = Den(FEW, FrameLog(FrameLogMode.DROPS, records.append))
    den.send(den.one, *[mac(2)] * 60)
    den.send(den.one, *[mac(2)] * 3)
    assert [(record["action"], record["reason"]) for record in records] == [("rate_limited", "rate_total")] * 3


def test_a_lan_party_that_starts_all_at_once_is_not_limited() -> None:
    """200 hosts behind the gateway, 40 broadcasts each within five seconds, to a full room; and a scan of a /16."""
    den = Den(Policy())
    for number in range(3, 63):
        den.room.add(member(number, mac(number)))
    for tick in range(500):
        for host in range(16):
            den.send(den.gateway, BROADCAST, now=tick / 100, source=lan_host((tick * 16 + host) % 200))
    assert den.gateway.counters.drops == {}
    assert len(den.room.lan_macs) == 200
    for tick in range(1000):
        den.send(den.gateway, BROADCAST, mac(1), now=5 + tick / 1000, source=lan_host(tick % 200))
    assert den.gateway.counters.drops == {}


# A LAN of many MACs


def test_new_macs_of_the_lan_beyond_their_rate_pass_but_are_not_learned() -> None:
    den = Den()
    count = LanMacs.NEW_AT_ONCE + 1000
    for number in range(count):
        den.send(den.gateway, mac(1), source=lan_host(number))
    assert len(den.got(den.one)) == count
    assert lan_host(0) in den.room.lan_macs, "nobody was forgotten for those who came after"
    assert lan_host(count - 1) not in den.room.lan_macs


def test_flows_are_forgotten_as_often_as_macs_are_learned_and_no_more() -> None:
    den = Den()
    for number in range(LanMacs.NEW_AT_ONCE):
        den.send(den.gateway, mac(1), source=lan_host(number))
    den.send(den.one, mac(2))
    for number in range(50_000, 52_000):
        den.send(den.gateway, mac(1), source=lan_host(number))
    assert len(den.one.flows) == 1
    den.send(den.gateway, mac(1), source=lan_host(60_000), now=1.0)
    assert den.one.flows == {}


def test_who_could_not_be_learned_is_learned_later() -> None:
    """Its frames go the long way until then."""
    den = Den()
    for number in range(LanMacs.NEW_AT_ONCE + 1):
        den.send(den.gateway, mac(1), source=lan_host(number))
    last = lan_host(LanMacs.NEW_AT_ONCE)
    den.send(den.gateway, mac(1), mac(1), source=last)
    assert last not in den.room.lan_macs
    den.send(den.gateway, mac(1), source=last, now=1.0)
    assert last in den.room.lan_macs


# Who is sent away


def bench(policy: Policy | None = None) -> RelayBench:
    return RelayBench(RoomBook(RoomSettings(policy=policy or Policy())))


def flood(room: RelayBench, peer: Peer, own: bytes, frames_a_second: float, seconds: float, to: bytes) -> None:
    """Send so many until the relay has enough of it; the relay ticks twice a second."""
    frame = encode(Kind.ETHERNET, peer.peer_id, to + own + GAME)
    if peer.session.member is not None and peer.session.member.seal is not None:
        frame = sealed(frame)
    for _ in range(round(seconds * 2)):
        for _ in range(10):
            peer.send(*[frame] * round(frames_a_second / 20))
            room.now += 0.05
        room.relay.tick(room.now)
        if peer.connection.closed:
            return


@pytest.mark.parametrize("to", [BROADCAST, NOBODY], ids=["broadcast", "unknown"])
@both
def test_who_overdraws_for_seconds_is_sent_away(is_sealed: bool, to: bytes) -> None:
    room = bench()
    seals = {"seal": salt(1), "room_token": "t" * 43} if is_sealed else {}
    quiet, loud = (room.join(number, **seals) for number in (1, 2))
    quiet.read()
    room.log.events.clear()
    peer_id, start = loud.peer_id, room.now
    flood(room, loud, mac(2), 3 * HEAVY, 60.0, to)
    assert loud.connection.closed is not None
    assert 3.0 <= room.now - start <= 5.0
    assert [message for message in loud.read() if isinstance(message, Disconnect)] == [
        Disconnect(reason="rate_limited", message="far too many frames or control messages; slow down")
    ]
    assert quiet.read() == [PeerLeft(peer_id=peer_id, reason="protocol_error")]
    assert quiet.connection.closed is None
    [line] = room.log.named("session.overdrawn")
    assert line == {"room": "den", "who": f"client {peer_id} ({'02:00:00:00:00:02'})"}
    assert loud.session not in room.relay.sessions


def test_a_flood_is_over_at_the_next_tick() -> None:
    room = bench()
    quiet, loud, start = room.join(1), room.join(2), room.now
    flood(room, loud, mac(2), 6 * FLOOD, 60.0, BROADCAST)
    assert loud.connection.closed is not None
    assert room.now - start <= 1.0
    assert quiet.connection.closed is None


def test_who_sends_very_many_frames_that_have_no_place_in_the_room_goes_as_if_they_were_malformed() -> None:
    room = bench()
    quiet, loud = (room.join(number, seal=salt(number), room_token="t" * 43) for number in (1, 2))
    plain = encode(Kind.ETHERNET, loud.peer_id, BROADCAST + mac(2) + GAME)
    loud.send(*[plain] * 1000)
    assert loud.connection.closed is None
    loud.send(*[plain] * 100)
    assert loud.connection.closed is not None
    assert quiet.connection.closed is None


def test_a_gateway_may_be_sent_away_too() -> None:
    room = bench(Policy(frame_rate=1000, frame_burst=1000))
    client, gateway = room.join(1), room.join(None)
    flood(room, gateway, lan_host(1), 3 * HEAVY, 60.0, mac(1))
    assert gateway.connection.closed is not None
    assert client.connection.closed is None


def test_who_comes_back_to_go_on_is_borne_no_longer_than_a_second() -> None:
    room = bench()
    room.join(1)
    flood(room, room.join(2), mac(2), 3 * HEAVY, 60.0, BROADCAST)
    again, start = room.join(2), room.now
    flood(room, again, mac(2), 3 * HEAVY, 60.0, BROADCAST)
    assert again.connection.closed is not None
    assert room.now - start <= 1.5


def test_a_storm_of_a_broken_game_is_only_cut() -> None:
    """Ten times its rate of broadcasts, for a minute."""
    room = bench()
    room.join(1)
    loud = room.join(2)
    flood(room, loud, mac(2), 2500, 60.0, BROADCAST)
    assert loud.connection.closed is None


def test_a_quick_scan_of_a_large_network_is_only_cut() -> None:
    """65536 ARP requests in eight seconds: arp-scan at 4 Mbit/s."""
    room = bench()
    room.join(1)
    scanner = room.join(2)
    flood(room, scanner, mac(2), 8192, 8.0, BROADCAST)
    assert scanner.connection.closed is None
