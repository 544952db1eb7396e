import asyncio
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from tests.device.cards import Card, Far
from tests.device.namespaces import Namespace, namespaces, unprivileged, wire

from softlan.device import af_packet, packet_ring
from softlan.device.af_packet import PacketSocket
from softlan.device.base import DeviceGone, FrameDevice
from softlan.device.netdev import NetDevice
from softlan.device.packet_ring import PacketRing
from softlan.errors import HostError
from softlan.proto.drop import DropReason
from softlan.proto.offload import Gso

pytestmark = pytest.mark.netns

ETHER = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
V4 = IP(src="192.168.7.1", dst="192.168.7.2", id=1)
V6 = IPv6(src="fd00::1", dst="fd00::2")
STREAM = bytes(index * 11 & 0xFF for index in range(30_000))
SLOTS = 2048
FRAMES = [bytes(ETHER / V4 / UDP(sport=1, dport=2) / Raw(bytes([index]) * 100)) for index in range(5)]


def segment(number: int, network: Packet = V4) -> bytes:
    """Of a TCP stream."""
    return bytes(ETHER / network / TCP(seq=number, flags="A") / Raw(bytes(1000)))


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is now, no queue is found to stand."""
    monkeypatch.setattr(packet_ring, "monotonic", lambda: 0.0)


@pytest.fixture
def device(box: Namespace) -> Iterator[PacketSocket]:
    with box.entered():
        device = PacketSocket.open("lan0")
    with box.entered(), closing(device):
        yield device


async def read(device: FrameDevice, count: int) -> list[bytes]:
    """Wait for `count` frames, and that no more are there then."""
    frames: list[bytes] = []
    done = asyncio.Event()

    def on_readable() -> None:
        frames.extend(device.read_burst())
        if len(frames) >= count:
            done.set()

    device.attach(asyncio.get_running_loop(), on_readable)
    try:
        await asyncio.wait_for(done.wait(), 5)
    finally:
        device.detach()
    return frames


async def test_every_frame_on_the_wire_is_read_as_it_was_sent(device: PacketSocket, far: Far) -> None:
    opened: FrameDevice = device
    sent = [*FRAMES, b"\xff" * 6 + FRAMES[0][6:], b"\x01\x00\x5e" + FRAMES[0][3:], bytes(12) + b"\x88\xb5" + b"x" * 46]
    for frame in sent:
        far.send(frame)
    assert await read(opened, len(sent)) == sent
    assert device.counters.frames_in == len(sent)
    assert device.counters.drops == {}


async def test_a_burst_ends_at_the_limit_or_when_nothing_is_left(device: PacketSocket, far: Far) -> None:
    for frame in FRAMES:
        far.send(frame)
    assert device.read_burst(3) == FRAMES[:3]
    assert device.read_burst(3) == FRAMES[3:]
    assert device.read_burst(3) == []
    assert device.counters.reads == 3


@pytest.mark.parametrize("network", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_game_does_not_wait_behind_a_stream(device: PacketSocket, far: Far, network: Packet) -> None:
    stream = [segment(number, network) for number in range(200)]
    for frame in stream:
        far.send(frame)
    far.send(FRAMES[0])
    assert device.read_burst() == [FRAMES[0]]
    assert device.read_burst() == stream[:64]
    far.send(FRAMES[1])
    assert device.read_burst() == [FRAMES[1]]
    assert device.read_burst() == stream[64:128]
    assert device.read_burst() == stream[128:192]
    far.send(FRAMES[2])
    assert device.read_burst() == [FRAMES[2]]
    assert device.read_burst() == stream[192:]
    assert device.read_burst() == []


def test_under_a_flood_of_others_every_second_burst_is_a_streams(device: PacketSocket, far: Far) -> None:
    others = [bytes(ETHER / V4 / UDP(sport=number)) for number in range(90)]
    for number, frame in enumerate(others):
        far.send(frame)
        if number % 30 == 0:
            far.send(segment(number))
    assert device.read_burst(30) == others[:30]
    assert device.read_burst(30) == [segment(0), segment(30), segment(60)]
    assert device.read_burst(30) == others[30:60]
    far.send(segment(1))
    assert device.read_burst(30) == [segment(1)]
    assert device.read_burst(30) == others[60:]


def test_two_full_queues_take_turns(device: PacketSocket, far: Far) -> None:
    others = [bytes(ETHER / V4 / UDP(sport=number)) for number in range(150)]
    stream = [segment(number) for number in range(130)]
    for frame in others + stream:
        far.send(frame)
    for start in (0, 64, 128):
        assert device.read_burst() == others[start : start + 64]
        assert device.express
        assert device.read_burst() == stream[start : start + 64]
        assert not device.express
    assert device.read_burst() == []
    assert not device.express
    assert (device.counters.frames_in, device.counters.reads) == (280, 7)


async def test_what_waits_in_both_queues_is_handed_over_by_two_calls(device: PacketSocket, far: Far) -> None:
    stream = [segment(number) for number in range(3)]
    for frame in stream + FRAMES:
        far.send(frame)
    bursts: list[list[bytes]] = []
    device.attach(asyncio.get_running_loop(), lambda: bursts.append(device.read_burst()))
    async with asyncio.timeout(5):
        while len(bursts) < 2:
            await asyncio.sleep(0)
    device.detach()
    assert bursts == [FRAMES, stream]


def test_others_alone_do_not_wait_for_a_stream(device: PacketSocket, far: Far) -> None:
    for frame in FRAMES:
        far.send(frame)
    assert [device.read_burst(2) for _ in range(4)] == [FRAMES[:2], FRAMES[2:4], FRAMES[4:], []]
    far.send(segment(0))
    far.send(FRAMES[0])
    assert device.read_burst() == FRAMES[:1], "when there was nothing, nobody has a turn to claim"
    assert device.read_burst() == [segment(0)]


@pytest.mark.parametrize(
    "tags",
    [
        Dot1Q(vlan=7, prio=5),
        Dot1Q(vlan=0),
        Dot1AD(vlan=9) / Dot1Q(vlan=7),
        Dot1Q(vlan=9) / Dot1Q(vlan=7),
    ],
    ids=["802.1Q", "priority", "802.1ad", "stacked"],
)
async def test_tags_that_the_kernel_took_off_are_back(device: PacketSocket, far: Far, tags: Packet) -> None:
    frame = bytes(ETHER / tags / V4 / UDP() / Raw(b"tagged"))
    far.send(frame)
    assert await read(device, 1) == [frame]


@pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=7),), (Dot1AD(vlan=7), Dot1Q(vlan=8))], ids=len)
async def test_a_checksum_that_was_left_to_the_card_is_completed(
    device: PacketSocket, far: Far, tags: tuple[Packet, ...]
) -> None:
    packet = ETHER
    for tag in tags:
        packet = packet / tag
    right = bytes(packet / V4 / UDP(sport=1, dport=2) / Raw(b"payload"))
    start = 34 + 4 * len(tags)
    pseudo_header = sum(struct.unpack(">4H", right[start - 8 : start])) + 17 + len(right) - start
    partial = (pseudo_header & 0xFFFF) + (pseudo_header >> 16)
    left = right[: start + 6] + partial.to_bytes(2, "big") + right[start + 8 :]
    far.send(left, csum_start=start, csum_offset=6)
    assert await read(device, 1) == [right]


async def test_a_checksum_that_we_cannot_complete_is_not_passed_on(device: PacketSocket, far: Far) -> None:
    sctp = bytes(ETHER / IP(proto=132) / Raw(bytes(40)))
    far.send(sctp, csum_start=34, csum_offset=8)
    far.send(FRAMES[0])
    assert await read(device, 1) == FRAMES[:1]
    assert device.counters.drops == {DropReason.UNSUPPORTED_OFFLOAD: 1}


@pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=7),)], ids=["plain", "tagged"])
@pytest.mark.parametrize(
    ("gso", "network", "transport", "header_length", "csum_offset"),
    [
        (Gso.TCP_V4, V4, TCP(seq=5, flags="A"), 40, 16),
        (Gso.TCP_V4 | 0x80, V4, TCP(seq=5, flags="AC"), 40, 16),
        (Gso.TCP_V6, V6, TCP(seq=5, flags="PA"), 60, 16),
        (Gso.UDP_DATAGRAMS, V4, UDP(), 28, 6),
        (Gso.UDP_DATAGRAMS, V6, UDP(), 48, 6),
    ],
    ids=["tcp4", "tcp4 ecn", "tcp6", "udp4", "udp6"],
)
async def test_super_frames_are_split_into_what_the_wire_would_carry(
    device: PacketSocket,
    far: Far,
    gso: int,
    network: Packet,
    transport: Packet,
    header_length: int,
    csum_offset: int,
    tags: tuple[Packet, ...],
) -> None:
    packet = ETHER
    for tag in tags:
        packet = packet / tag
    frame = bytes(packet / network / transport / Raw(STREAM))
    before_ip = 14 + 4 * len(tags)
    transport_length = 20 if csum_offset == 16 else 8
    far.send(
        frame,
        gso=gso,
        gso_size=1400,
        header_length=before_ip + header_length,
        csum_start=before_ip + header_length - transport_length,
        csum_offset=csum_offset,
    )
    frames = await read(device, 22)
    assert len(frames) == 22
    assert device.counters.reads < 22, "the kernel split it, so this shows nothing"
    assert {one[:12] + one[12 : before_ip - 2] for one in frames} == {frame[: before_ip - 2]}
    payloads = []
    for one in frames:
        parsed = Ether(one)
        layer = parsed[TCP] if csum_offset == 16 else parsed[UDP]
        payloads.append(bytes(layer.payload))
        found = layer.chksum
        del layer.chksum
        assert Ether(bytes(parsed))[type(layer)].chksum == found
    assert [len(payload) for payload in payloads] == [1400] * 21 + [600]
    assert b"".join(payloads) == STREAM


async def test_what_the_machine_itself_sends_is_not_captured(box: Namespace, device: PacketSocket, far: Far) -> None:
    with box.entered(), closing(Far("lan0")) as own:
        own.send(FRAMES[0])
    assert device.write_burst([FRAMES[1]]) == 1
    far.send(FRAMES[2])
    assert await read(device, 1) == [FRAMES[2]]


async def test_nor_is_what_is_sent_to_the_machine_itself(box: Namespace, device: PacketSocket, far: Far) -> None:
    with box.entered(), NetDevice("lan0") as card:
        _, own_address = card.hardware()
    far.send(own_address + FRAMES[0][6:])
    far.send(FRAMES[1])
    assert await read(device, 1) == [FRAMES[1]]


async def test_nor_on_a_kernel_that_cannot_leave_it_out(
    box: Namespace, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(af_packet, "_PACKET_IGNORE_OUTGOING", 9999)
    with box.entered(), closing(PacketSocket.open("lan0")) as device, closing(Far("lan0")) as own:
        own.send(FRAMES[0])
        assert device.write_burst([FRAMES[1]]) == 1
        far.send(FRAMES[2])
        assert await read(device, 1) == [FRAMES[2]]


async def test_other_interfaces_are_not_captured_not_even_before_the_bind(
    box: Namespace, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = af_packet._prepare
    wire(box, "other0", box, "other1")
    with box.entered(), closing(Far("other0")) as own:

        def traffic_meanwhile(capture: socket.socket, which: bytes) -> None:
            prepare(capture, which)
            own.send(FRAMES[0])

        monkeypatch.setattr(af_packet, "_prepare", traffic_meanwhile)
        with closing(PacketSocket.open("lan0")) as device:
            own.send(FRAMES[0])
            far.send(FRAMES[1])
            assert await read(device, 1) == [FRAMES[1]]


async def test_may_be_closed_while_attached(box: Namespace, far: Far) -> None:
    with box.entered():
        first = PacketSocket.open("lan0")
        first.attach(asyncio.get_running_loop(), lambda: None)
        first.close()
        with closing(PacketSocket.open("lan0")) as second:  # with the same descriptor
            far.send(FRAMES[0])
            assert await read(second, 1) == FRAMES[:1]


async def test_a_cable_that_was_out_carries_again(box: Namespace, device: PacketSocket, far: Far) -> None:
    box.ip("link", "set", "lan0", "down")
    assert device.read_burst() == []
    assert device.counters.last_error == "receive on lan0: Network is down"
    assert device.write_burst(FRAMES) == 0
    assert device.write_burst(FRAMES * 4) == 0
    assert device.counters.drops == {DropReason.DEVICE_ERROR: 25}
    assert device.counters.last_error == "send on lan0: Network is down"
    box.ip("link", "set", "lan0", "up")
    assert device.write_burst(FRAMES[:1]) == 1
    far.send(FRAMES[1])
    assert await read(device, 1) == [FRAMES[1]]


async def test_says_when_the_interface_was_removed(box: Namespace, device: PacketSocket) -> None:
    gone = asyncio.get_running_loop().create_future()

    def on_readable() -> None:
        try:
            device.read_burst()
        except DeviceGone as error:
            device.detach()
            gone.set_result(str(error))

    device.attach(asyncio.get_running_loop(), on_readable)
    box.ip("link", "del", "lan0")
    assert await asyncio.wait_for(gone, 5) == "the interface lan0 is gone"
    with pytest.raises(DeviceGone):
        device.write_burst(FRAMES)


def test_counts_what_the_kernel_had_no_room_for(device: PacketSocket, far: Far) -> None:
    assert device.kernel_drops() == 0
    sent = 0
    while device.kernel_drops() == 0 and sent < 100_000:
        for _ in range(1000):
            far.send(FRAMES[0])
        sent += 1000
    dropped = device.kernel_drops()
    received = 0
    while burst := device.read_burst():
        received += len(burst)
    assert dropped > 0
    assert received + dropped == sent
    assert device.counters.drops == {DropReason.QUEUE_FULL: dropped}


def test_counts_what_either_ring_had_no_room_for(device: PacketSocket, far: Far) -> None:
    for frame, count in ((FRAMES[0], SLOTS + 5), (segment(0), SLOTS + 7)):
        for _ in range(count):
            far.send(frame)
    assert device.kernel_drops() == 5 + 7
    received = Counter[bytes]()
    while burst := device.read_burst():
        received.update(burst)
    assert received == {FRAMES[0]: SLOTS, segment(0): SLOTS}
    assert device.kernel_drops() == 5 + 7
    assert device.counters.drops == {DropReason.QUEUE_FULL: 5 + 7}


async def test_counts_that_without_being_asked(device: PacketSocket, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(af_packet, "_LOOK", 0.01)
    for _ in range(3000):
        far.send(FRAMES[0])
    device.attach(asyncio.get_running_loop(), lambda: None)
    async with asyncio.timeout(5):
        while DropReason.QUEUE_FULL not in device.counters.drops:
            await asyncio.sleep(0.01)
    device.detach()


@pytest.fixture
def virtual(box: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PacketSocket, Card]]:
    """A device on an interface of ours, and its card: the way to let frames arrive that no cable carries."""
    monkeypatch.setattr(af_packet, "check_wired", lambda *_: None)
    monkeypatch.setattr(af_packet, "_LOOK", 0.01)
    with box.entered(), closing(Card(box, "card0")) as card, closing(PacketSocket.open("card0")) as device:
        yield device, card


async def test_a_stuck_ring_is_made_anew(virtual: tuple[PacketSocket, Card]) -> None:
    device, card = virtual
    card.receive_what_no_header_describes()
    frames: list[bytes] = []
    device.attach(asyncio.get_running_loop(), lambda: frames.extend(device.read_burst()))
    async with asyncio.timeout(5):
        while not frames:
            card.receive(FRAMES[0])
            await asyncio.sleep(0.01)
    device.detach()
    assert set(frames) == set(FRAMES[:1])


async def test_a_stuck_ring_is_made_anew_however_busy_the_other_is(virtual: tuple[PacketSocket, Card]) -> None:
    device, card = virtual
    card.receive_what_no_header_describes()
    received = Counter[bytes]()
    device.attach(asyncio.get_running_loop(), lambda: received.update(device.read_burst()))
    sent = 0
    async with asyncio.timeout(5):
        while not received[FRAMES[0]]:
            for _ in range(20):
                card.receive(segment(0))
                await asyncio.sleep(0.001)
            sent += 20
            card.receive(FRAMES[0])
        while received[segment(0)] < sent:
            await asyncio.sleep(0.001)
    device.detach()
    assert received[segment(0)] == sent


async def test_says_when_it_cannot_be_made_anew(
    virtual: tuple[PacketSocket, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(ring: PacketRing) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(PacketRing, "renew", renew)
    device, card = virtual
    card.receive_what_no_header_describes()
    device.attach(asyncio.get_running_loop(), lambda: None)
    async with asyncio.timeout(5):
        while not device.counters.last_error:
            card.receive(FRAMES[0])
            await asyncio.sleep(0.01)
    with pytest.raises(DeviceGone, match=r"^the ring of card0 cannot be made anew: Cannot allocate memory$"):
        device.read_burst()
    device.detach()


def test_is_promiscuous_only_while_open(box: Namespace) -> None:
    with box.entered():
        device = PacketSocket.open("lan0")
    assert " promiscuity 1 " in box.ip("-d", "link", "show", "lan0")
    device.close()
    device.close()
    assert " promiscuity 0 " in box.ip("-d", "link", "show", "lan0")


@pytest.mark.parametrize(("name", "found"), [("eth9", "there is no interface eth9"), ("lo", "lo is the loopback")])
def test_refuses_what_is_not_wired_ethernet(box: Namespace, name: str, found: str) -> None:
    with box.entered(), pytest.raises(HostError, match=f"^{found}"):
        PacketSocket.open(name)


def test_says_what_privilege_it_needs(box: Namespace) -> None:
    with box.entered(), unprivileged(), pytest.raises(HostError, match=r"^capturing on lan0 needs CAP_NET_RAW; "):
        PacketSocket.open("lan0")


@pytest.fixture
def street() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """Two hosts, 10.8.0.1 and 10.8.0.2, with a box between them that has a card to each and forwards nothing."""
    with namespaces(3) as (box, one, two):
        wire(box, "card1", one, "net0")
        wire(box, "card2", two, "net0")
        for host, number in ((one, 1), (two, 2)):
            host.ip("addr", "add", f"10.8.0.{number}/24", "dev", "net0")
            host.ip("addr", "add", f"fd08::{number}/64", "dev", "net0", "nodad")
        yield box, one, two


@pytest.mark.parametrize("address", ["10.8.0.2", "fd08::2"])
async def test_a_tcp_stream_with_offloads_crosses_two_of_them_whole(
    street: tuple[Namespace, Namespace, Namespace], address: str
) -> None:
    box, one, two = street
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with box.entered():
        cards = [PacketSocket.open("card1"), PacketSocket.open("card2")]
    with two.entered():
        listener = socket.create_server((address, 5001), family=family)
    with one.entered():
        sender = socket.socket(family, socket.SOCK_STREAM)
    listener.setblocking(False)
    sender.setblocking(False)
    longest = 0

    def forward(source: PacketSocket, target: PacketSocket) -> Callable[[], None]:
        def on_readable() -> None:
            nonlocal longest
            frames = source.read_burst()
            longest = max(longest, *map(len, frames), 0)
            target.write_burst(frames)

        return on_readable

    for source, target in (cards, cards[::-1]):
        source.attach(loop, forward(source, target))
    try:
        async with asyncio.timeout(30):
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await loop.sock_connect(sender, (address, 5001))
            receiver, _ = await accepting
            sent = STREAM * 100
            sending = asyncio.ensure_future(loop.sock_sendall(sender, sent))
            received = bytearray()
            with receiver:
                while len(received) < len(sent):
                    received += await loop.sock_recv(receiver, 1 << 20)
            await sending
        assert received == sent
        assert longest == 1514
        assert all(card.counters.drops == {} for card in cards)
        assert cards[0].counters.frames_in > 2 * cards[0].counters.reads, "no super-frames: nothing was shown"
    finally:
        for card in cards:
            card.close()
        listener.close()
        sender.close()
