import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from tests.device.cards import Card, Far
from tests.device.namespaces import Namespace, namespaces, wire

from softlan.device import packet_ring
from softlan.device.base import DeviceCounters
from softlan.device.packet_ring import PacketRing
from softlan.proto.drop import DropReason
from softlan.proto.offload import Gso

pytestmark = pytest.mark.netns

SLOTS = 2048
INTERVAL = 0.1
LATE = 0.006
LONG = 600
SOL_PACKET, PACKET_STATISTICS = 263, 6
ETHER = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
STREAM = bytes(index * 11 & 0xFF for index in range(30_000))


class Clock:
    """Time as the ring sees it: how long ago what arrives now seems to be, and a clock that stands."""

    def __init__(self) -> None:
        self.behind = 0.0
        self.now = 100.0

    def wall(self) -> float:
        return time.time() + self.behind

    def monotonic(self) -> float:
        return self.now


class Wire:
    """A ring on one end of a cable, what it counts, and the other end."""

    def __init__(self, box: Namespace, lan: Namespace) -> None:
        wire(box, "lan0", lan, "far0")
        for namespace, name in ((box, "lan0"), (lan, "far0")):
            namespace.ip("link", "set", name, "mtu", "9000")
        self.box = box
        with lan.entered():
            self.far = Far("far0")
        with box.entered():
            self.socket = capture_socket()
            self.counters = DeviceCounters()
            self.ring = PacketRing(self.socket, self.counters)
            self.socket.bind(("lan0", 3))

    def close(self) -> None:
        self.ring.close()
        self.socket.close()
        self.far.close()


def capture_socket() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setblocking(False)
    return sock


def kernel_drops(sock: socket.socket) -> int:
    return int(struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])


def frame(number: int, size: int = 60) -> bytes:
    return bytes(ETHER)[:12] + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(size - 18)


def number(one: bytes) -> int:
    return int.from_bytes(one[14:18], "big")


def read_all(ring: PacketRing) -> list[bytes]:
    frames = []
    while not ring.is_empty():
        frames += ring.read(64)
    return frames


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(packet_ring, "time", clock.wall)
    monkeypatch.setattr(packet_ring, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def cable(clock: Clock) -> Iterator[Wire]:
    with namespaces(2) as (box, lan):
        for namespace in (box, lan):
            with namespace.entered(), open("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "w") as setting:
                setting.write("1")
        with closing(Wire(box, lan)) as cable:
            yield cable


@pytest.mark.parametrize("may_read_ahead", [False, True])
def test_frames_come_in_their_order_round_and_round(
    cable: Wire, monkeypatch: pytest.MonkeyPatch, may_read_ahead: bool
) -> None:
    monkeypatch.setattr(packet_ring, "_MAY_READ_AHEAD", may_read_ahead)
    for start in range(0, 3 * SLOTS, 100):
        sent = [frame(index, 60 + index % 1400) for index in range(start, start + 100)]
        for one in sent:
            cable.far.send(one)
        assert cable.ring.read(64) + cable.ring.read(64) == sent
    assert cable.ring.read(64) == []
    assert cable.counters.drops == {}


def test_a_full_ring_keeps_the_oldest_and_goes_on_when_there_is_room(cable: Wire) -> None:
    for index in range(SLOTS + 5):
        cable.far.send(frame(index))
    assert kernel_drops(cable.socket) == 5
    assert [number(one) for one in read_all(cable.ring)] == list(range(SLOTS))
    cable.far.send(frame(7))
    assert cable.ring.read(64) == [frame(7)]


@pytest.mark.parametrize("size", [1518, 1971, 1972, 1973, 2048, 9014])
def test_frames_that_no_slot_has_room_for_are_whole_and_in_their_place(cable: Wire, size: int) -> None:
    tagged = bytes(ETHER / Dot1Q(vlan=3) / Raw(bytes(size - 18)))
    sent = [frame(0), frame(1, size), frame(2), tagged, frame(3, size)]
    for one in sent:
        cable.far.send(one)
    assert cable.ring.read(64) == sent
    assert cable.counters.drops == {}


def test_of_those_only_some_wait_and_the_others_are_counted(cable: Wire) -> None:
    for index in range(1000):
        cable.far.send(frame(index, 9000))
    cable.far.send(frame(1000))
    received = [number(one) for one in read_all(cable.ring)]
    lost = 1001 - len(received)
    assert lost > 0
    assert cable.counters.drops == {DropReason.QUEUE_FULL: lost}
    assert received == [*range(1000 - lost), 1000]


def test_they_are_read_although_the_interface_went_down_meanwhile(cable: Wire) -> None:
    cable.far.send(frame(1, 9000))
    cable.box.ip("link", "set", "lan0", "down")
    assert cable.ring.read(64) == [frame(1, 9000)]
    failure = cable.ring.failure()
    assert failure is not None
    assert failure.strerror == "Network is down"
    assert cable.ring.failure() is None


def test_a_super_frame_ends_the_burst_above_the_limit(cable: Wire) -> None:
    segments = bytes(ETHER / IP(src="192.168.7.1", dst="192.168.7.2") / TCP(flags="A") / Raw(STREAM))
    offload = {"gso": Gso.TCP_V4, "gso_size": 1400, "header_length": 54, "csum_start": 34, "csum_offset": 16}
    cable.far.send(segments, **offload)
    cable.far.send(frame(1))
    assert len(cable.ring.read(4)) == 22
    assert cable.ring.read(4) == [frame(1)]


def test_frames_whose_checksums_were_left_to_the_card_are_complete_and_in_their_place(cable: Wire) -> None:
    """In one burst with others, of several lengths and protocols, and with one that we cannot complete."""
    datagrams = [(UDP(sport=index, dport=9), 6, 40 + index // 8) for index in range(20)]
    segments = [(TCP(seq=index, flags="A"), 16, 1000) for index in range(20)]
    expected = []
    for index, pair in enumerate(zip(datagrams, segments, strict=True)):
        for layer, offset, length in pair:
            right = bytes(ETHER / IP(src="192.168.7.1", dst="192.168.7.2") / layer / Raw(STREAM[:length]))
            pseudo_header = sum(struct.unpack(">4H", right[26:34])) + right[23] + len(right) - 34
            partial = (pseudo_header & 0xFFFF) + (pseudo_header >> 16)
            place = 34 + offset
            left = right[:place] + partial.to_bytes(2, "big") + right[place + 2 :]
            cable.far.send(left, csum_start=34, csum_offset=offset)
            expected.append(right)
        cable.far.send(frame(index))
        expected.append(frame(index))
    sctp = bytes(ETHER / IP(proto=132) / Raw(bytes(40)))
    cable.far.send(sctp, csum_start=34, csum_offset=8)
    cable.far.send(frame(20))
    expected.append(frame(20))
    assert cable.ring.read(64) == expected
    assert cable.counters.drops == {DropReason.UNSUPPORTED_OFFLOAD: 1}


def test_a_queue_that_stands_loses_its_oldest_frame(cable: Wire, clock: Clock) -> None:
    clock.behind = LATE
    for index in range(20):
        cable.far.send(frame(index, LONG))
    assert [number(one) for one in cable.ring.read(5)] == [0, 1, 2, 3, 4]
    clock.now += INTERVAL
    assert [number(one) for one in cable.ring.read(5)] == [6, 7, 8, 9]
    clock.now += INTERVAL
    assert [number(one) for one in cable.ring.read(5)] == [11, 12, 13, 14]
    assert cable.counters.drops == {DropReason.QUEUE_FULL: 2}


def test_it_does_not_lose_short_frames(cable: Wire, clock: Clock) -> None:
    clock.behind = LATE
    for one in (frame(0, LONG), frame(1, LONG - 1), frame(2), frame(3, LONG), frame(4)):
        cable.far.send(one)
    assert [number(one) for one in cable.ring.read(1)] == [0]
    clock.now += INTERVAL
    assert [number(one) for one in cable.ring.read(64)] == [1, 2, 4]


def test_one_that_was_empty_meanwhile_loses_nothing(cable: Wire, clock: Clock) -> None:
    clock.behind = LATE
    for _ in range(100):
        clock.now += 2 * INTERVAL
        cable.far.send(frame(1, LONG))
        assert cable.ring.read(64) == [frame(1, LONG)]


def test_of_a_super_frame_only_the_first_segment_is_lost(cable: Wire, clock: Clock) -> None:
    stream = bytes(ETHER / IP(src="192.168.7.1", dst="192.168.7.2") / UDP() / Raw(STREAM))
    offload = {"gso": Gso.UDP_DATAGRAMS, "gso_size": 1400, "header_length": 42, "csum_start": 34, "csum_offset": 6}
    clock.behind = LATE
    cable.far.send(frame(0, LONG))
    cable.far.send(stream, **offload)
    assert cable.ring.read(1) == [frame(0, LONG)]
    clock.now += INTERVAL
    segments = cable.ring.read(64)
    assert b"".join(one[42:] for one in segments) == STREAM[1400:]
    assert cable.counters.drops == {DropReason.QUEUE_FULL: 1}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_was_set_loses_nothing(cable: Wire, clock: Clock, step: float) -> None:
    clock.behind = step
    for index in range(100):
        cable.far.send(frame(index, LONG))
        assert cable.ring.read(64) == [frame(index, LONG)]
        clock.now += INTERVAL
    assert cable.counters.drops == {}


def test_a_stuck_ring_works_again_when_made_anew(clock: Clock) -> None:
    with namespaces(1) as (box,), box.entered(), closing(Card(box, "card0")) as card, capture_socket() as sock:
        ring = PacketRing(sock, DeviceCounters())
        sock.bind(("card0", 3))
        card.receive(frame(1))
        assert ring.read(64) == [frame(1)]
        card.receive_what_no_header_describes()
        assert kernel_drops(sock) == 1
        ring.renew()
        card.receive(frame(2))
        card.receive(frame(3, 1400))
        assert ring.read(64) == [frame(2), frame(3, 1400)]
        ring.close()
        assert ring.is_empty()
        assert ring.read(64) == []
