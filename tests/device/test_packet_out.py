import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from tests.device.cards import Far, offload_nothing
from tests.device.namespaces import Namespace

from softlan.device import packet_out
from softlan.device.packet_out import PacketOut
from softlan.proto.drop import DropReason
from softlan.proto.offload import Gso, segment

pytestmark = pytest.mark.netns

ETHER = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
V4 = IP(src="192.168.7.1", dst="192.168.7.2", id=1)
V6 = IPv6(src="fd00::1", dst="fd00::2")
NETWORKS = pytest.mark.parametrize("network", [V4, V6], ids=["ipv4", "ipv6"])
STREAM = bytes(index * 11 & 0xFF for index in range(60_000))
FRAMES = [bytes(ETHER / V4 / UDP(sport=1, dport=2) / Raw(bytes([index]) * 100)) for index in range(5)]
TOO_LONG = bytes(ETHER / Raw(bytes(1501)))
NO_HEADER = FRAMES[0][:13]


def stream(network: Packet, count: int, *, port: int = 80) -> list[bytes]:
    """`count` segments of 1000 bytes, as a host would send them."""
    whole = bytes(ETHER / network / TCP(sport=port, seq=5, flags="A") / Raw(STREAM[: 1000 * count]))
    frames = segment(whole, kind=Gso.TCP_V4 if network is V4 else Gso.TCP_V6, gso_size=1000)
    assert frames is not None
    return frames


def opened() -> PacketOut:
    return PacketOut.open("lan0", socket.if_nametoindex("lan0"))


@pytest.fixture
def out(box: Namespace) -> Iterator[PacketOut]:
    with box.entered(), closing(opened()) as out:
        yield out


@pytest.mark.parametrize("frame", [*FRAMES[:1], bytes(ETHER / Dot1Q(vlan=5) / Raw(b"x" * 1500)), FRAMES[0][:20]])
def test_frames_go_onto_the_wire_as_they_are(out: PacketOut, far: Far, frame: bytes) -> None:
    assert out.send([frame]) == 1
    received = far.receive()
    if frame[12:14] == b"\x81\x00":
        received = received[:12] + frame[12:16] + received[12:]  # the far kernel took its tag off
    assert received == frame
    assert (out.counters.frames_out, out.counters.writes) == (1, 1)


@pytest.mark.parametrize("count", [8, 9, 64, 128])
def test_a_burst_goes_out_in_its_order_with_few_system_calls(out: PacketOut, far: Far, count: int) -> None:
    burst = [bytes(ETHER / V4 / UDP(sport=index) / Raw(bytes(index))) for index in range(count)]
    assert out.send(burst) == count
    assert [far.receive() for _ in burst] == burst
    assert out.counters.writes == (count if count == 8 else -(-count // 64))


@pytest.mark.parametrize("more", [0, 30], ids=["few", "many"])
def test_a_frame_above_the_interfaces_mtu_is_counted_and_the_rest_goes_on(out: PacketOut, far: Far, more: int) -> None:
    rest = FRAMES[1:2] * (more + 1)
    assert out.send([TOO_LONG, FRAMES[0], TOO_LONG, TOO_LONG, *rest, TOO_LONG]) == 2 + more
    assert [far.receive() for _ in range(2 + more)] == [FRAMES[0], *rest]
    assert out.counters.drops == {DropReason.OVER_BUDGET: 4}


@pytest.mark.parametrize("more", [0, 30], ids=["few", "many"])
def test_a_frame_that_the_kernel_finds_wrong_is_counted_and_the_rest_goes_on(
    out: PacketOut, far: Far, more: int
) -> None:
    rest = FRAMES[1:2] * (more + 1)
    assert out.send([FRAMES[0], NO_HEADER, *rest]) == 2 + more
    assert [far.receive() for _ in range(2 + more)] == [FRAMES[0], *rest]
    assert out.counters.drops == {DropReason.DEVICE_ERROR: 1}
    assert out.counters.last_error == "send on lan0: Invalid argument"


@NETWORKS
def test_a_stream_goes_to_the_card_in_one_piece(out: PacketOut, far: Far, network: Packet) -> None:
    frames = stream(network, 60)
    assert out.send(frames) == 60
    virtio, whole = far.receive_with_header()
    _, kind, _, gso_size, start, offset = struct.unpack("=BBHHHH", virtio)
    assert (gso_size, start, offset) == (1000, 34 if network is V4 else 54, 16)
    assert segment(whole, kind=kind, gso_size=gso_size) == frames
    assert (out.counters.frames_out, out.counters.writes) == (60, 1)


@NETWORKS
def test_on_the_wire_it_is_what_it_was(box: Namespace, out: PacketOut, far: Far, network: Packet) -> None:
    with box.entered():
        offload_nothing("lan0")
    frames = [FRAMES[0], *stream(network, 60), FRAMES[1], *stream(network, 3, port=81), *stream(network, 1, port=82)]
    assert out.send(frames) == 66
    received = [far.receive() for _ in frames]
    assert Counter(received) == Counter(frames)
    for port in (80, 81, 82):
        flow = [frame for frame in frames if TCP in Ether(frame) and Ether(frame)[TCP].sport == port]
        assert [frame for frame in received if frame in flow] == flow
    assert out.counters.drops == {}


def test_a_damaged_segment_is_not_made_right(out: PacketOut, far: Far) -> None:
    frames = stream(V4, 20)
    frames[7] = frames[7][:500] + b"\xff" + frames[7][501:]
    assert out.send(frames) == 0
    assert out.counters.drops == {DropReason.MALFORMED: 20}
    assert out.send(FRAMES) == 5
    assert [far.receive() for _ in FRAMES] == FRAMES


def test_segments_above_the_interfaces_mtu_are_not_hidden_in_a_super_frame(
    box: Namespace, out: PacketOut, far: Far
) -> None:
    box.ip("link", "set", "lan0", "mtu", "900")
    with box.entered():
        out.look()
    assert out.send([*stream(V4, 20), *FRAMES]) == 5
    assert [far.receive() for _ in FRAMES] == FRAMES
    assert out.counters.drops == {DropReason.OVER_BUDGET: 20}


def test_an_interface_that_takes_none_is_given_none(out: PacketOut, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = struct.pack("=BBHHHH", 1, 0x42, 54, 1000, 34, 16)
    monkeypatch.setattr(packet_out, "for_card", lambda buffers: [unknown, *buffers[1:]])
    frames = stream(V4, 20)
    assert out.send(frames + stream(V6, 20)) == 0
    assert out.counters.drops == {DropReason.DEVICE_ERROR: 40}
    assert out.send(frames) == 20
    assert [far.receive() for _ in frames] == frames


def test_without_numpy_each_segment_is_sent_by_itself(
    box: Namespace, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_out, "IS_FAST", False)
    frames = stream(V4, 20)
    with box.entered(), closing(opened()) as out:
        assert out.send(frames) == 20
        assert [far.receive() for _ in frames] == frames


@pytest.fixture
def slow(box: Namespace) -> Iterator[tuple[PacketOut, socket.socket]]:
    """Sends to a socket that nobody reads, and that one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    with box.entered(), theirs, closing(PacketOut("lan0", socket.if_nametoindex("lan0"), ours, None)) as out:
        yield out, theirs


@pytest.mark.parametrize("burst", [1, 5, 9, 64, 1000])
def test_a_full_queue_loses_the_rest_of_the_burst(slow: tuple[PacketOut, socket.socket], burst: int) -> None:
    out, theirs = slow
    sent = taken = 0
    while DropReason.QUEUE_FULL not in out.counters.drops:
        assert taken == sent < 100_000
        taken += out.send((FRAMES * 200)[:burst])
        sent += burst
    assert sent - burst <= taken < sent
    assert out.counters.drops == {DropReason.QUEUE_FULL: sent - taken}
    assert out.counters.frames_out == taken
    received = [theirs.recv(2000) for _ in range(taken)]
    assert received == ((FRAMES * 200)[:burst] * taken)[:taken]
