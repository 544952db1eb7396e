import struct
from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from softlan.proto.coalesce import PLAIN, coalesce
from softlan.proto.offload import Gso, complete_checksums, for_card, segment

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
V4 = IP(src="192.168.7.1", dst="192.168.7.2", id=77, ttl=9, flags="DF")
V6 = IPv6(src="fd00::1", dst="fd00::2", hlim=9)
STAMP = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
NETWORKS = pytest.mark.parametrize("network", [V4, V6], ids=["ipv4", "ipv6"])
DAMAGES = given(
    index=st.integers(0, 9),
    place=st.integers(0, 10_000),
    flip=st.integers(1, 255),
    size=st.sampled_from([600, 601]),
)
Written = tuple[tuple[int, int, int, int, int, int], bytes]


def stream(network: Packet, length: int, size: int, **fields: object) -> list[bytes]:
    """`length` bytes of a TCP stream in segments of `size`, as a host would send them."""
    header = TCP(**{"sport": 80, "dport": 5000, "seq": 1000, "ack": 3, "flags": "A", "options": STAMP} | fields)
    data = bytes(index * index * 31 >> 3 & 0xFF for index in range(length))
    frames = segment(bytes(ETHER / network / header / Raw(data)), kind=kind_of(network), gso_size=size)
    assert frames is not None
    return frames


def kind_of(network: Packet) -> Gso:
    return Gso.TCP_V4 if isinstance(network, IP) else Gso.TCP_V6


def written(frames: list[bytes]) -> list[Written]:
    """What the kernel would get: the virtio header's fields, and the frame."""
    writes = coalesce(frames)
    assert sum(len(buffers) - 1 for buffers in writes) == len(frames)
    blobs = [b"".join(buffers) for buffers in writes]
    return [(struct.unpack("=BBHHHH", blob[:10]), blob[10:]) for blob in blobs]


def split(writes: list[Written]) -> list[bytes]:
    """The same as on the wire: what a card with segmentation offload would send."""
    frames: list[bytes] = []
    for (_, kind, _, size, _, _), frame in writes:
        segments = segment(frame, kind=kind, gso_size=size) if kind else [frame]
        assert segments is not None
        frames += segments
    return frames


def resummed(packet: Packet) -> bytes:
    """With every checksum and length computed anew, by scapy."""
    for layer in (IP, IPv6, TCP):
        for field in ("chksum", "len", "plen"):
            if layer in packet and field in packet[layer].fields:
                packet[layer].delfieldval(field)
    return bytes(packet)


def one_damaged(frames: list[bytes], index: int, place: int, flip: int) -> list[bytes]:
    """With a byte of one of them changed, somewhere behind its Ethernet header."""
    damaged = bytearray(frames[index])
    damaged[14 + place % (len(damaged) - 14)] ^= flip
    return [*frames[:index], bytes(damaged), *frames[index + 1 :]]


def checksums_hold(frame: bytes) -> bool:
    return resummed(Ether(frame)) == frame


class TestRun:
    @NETWORKS
    @pytest.mark.parametrize("size", [1348, 1347])
    @pytest.mark.parametrize("last", [1, 2, 700, 701, 1347])
    @pytest.mark.parametrize("flags", ["A", "PA"])
    @pytest.mark.parametrize("options", [STAMP, []], ids=["timestamps", "no options"])
    def test_is_one_frame_with_a_right_checksum(
        self, network: Packet, size: int, last: int, flags: str, options: list[tuple[str, object]]
    ) -> None:
        frames = stream(network, 9 * size + last, size, flags=flags, options=options)
        writes = written(frames)
        header_length = len(frames[0]) - size
        assert [fields for fields, _ in writes] == [(0, kind_of(network), header_length, size, 0, 0)]
        assert checksums_hold(writes[0][1])
        assert split(writes) == frames

    @NETWORKS
    def test_of_two(self, network: Packet) -> None:
        frames = stream(network, 2000, 1000)
        assert len(written(frames)) == 1
        assert split(written(frames)) == frames

    @NETWORKS
    def test_is_no_longer_than_a_datagram(self, network: Packet) -> None:
        frames = stream(network, 63_000, 1400) + stream(network, 63_000, 1400, seq=64_000)
        frames = [resummed(Ether(frame)) for frame in frames]
        if isinstance(network, IP):
            frames = numbered(frames)
        writes = written(frames)
        assert len(writes) == 2
        assert all(len(frame) <= 14 + 65535 and checksums_hold(frame) for _, frame in writes)
        assert split(writes) == frames

    @NETWORKS
    def test_ends_with_a_segment_that_is_pushed(self, network: Packet) -> None:
        first = stream(network, 3000, 1000, flags="PA")
        second = stream(network, 3000, 1000, seq=4000)
        if isinstance(network, IP):
            second = numbered(first + second)[3:]
        writes = written(first + second)
        assert [len(Ether(frame)[TCP].payload) for _, frame in writes] == [3000, 3000]
        assert split(writes) == first + second

    @NETWORKS
    @given(
        length=st.integers(1, 9000),
        size=st.integers(300, 1448),
        seq=st.integers(0, 0xFFFFFFFF) | st.integers(0xFFFFD000, 0xFFFFFFFF),
        pushed=st.booleans(),
        number=st.integers(0, 0xFFFF),
    )
    def test_gives_the_segments_back_and_has_right_checksums(
        self, network: Packet, length: int, size: int, seq: int, pushed: bool, number: int
    ) -> None:
        network = network.copy()
        if isinstance(network, IP):
            network.id = number
        frames = stream(network, length, size, seq=seq, flags="PA" if pushed else "A")
        writes = written(frames)
        assert split(writes) == frames
        assert all(checksums_hold(frame) for _, frame in writes)
        assert len(writes) <= 3  # where a number wraps, a new one begins; the kernel's own ends there as well

    @NETWORKS
    @DAMAGES
    def test_never_makes_a_damaged_segment_right(
        self, network: Packet, index: int, place: int, flip: int, size: int
    ) -> None:
        frames = one_damaged(stream(network, 10 * size - 5, size), index, place, flip)
        writes = written(frames)
        assert not all(checksums_hold(frame) for _, frame in writes) or split(writes) == frames


def numbered(frames: list[bytes]) -> list[bytes]:
    """With IPv4 identifications that count up from the first one's."""
    packets = [Ether(frame) for frame in frames]
    for index, packet in enumerate(packets):
        packet[IP].id = packets[0][IP].id + index
    return [resummed(packet) for packet in packets]


CHANGES = {
    "sequence": (TCP, "seq", 5),
    "acknowledgement": (TCP, "ack", 4),
    "window": (TCP, "window", 5),
    "timestamp": (TCP, "options", [("NOP", None), ("NOP", None), ("Timestamp", (2, 2))]),
    "no options": (TCP, "options", []),
    "FIN": (TCP, "flags", "FA"),
    "SYN": (TCP, "flags", "SA"),
    "RST": (TCP, "flags", "RA"),
    "URG": (TCP, "flags", "UA"),
    "ECE": (TCP, "flags", "EA"),
    "CWR": (TCP, "flags", "CA"),
    "no ACK": (TCP, "flags", ""),
    "source MAC": (Ether, "src", "02:00:00:00:00:09"),
    "identification": (IP, "id", 9),
    "hop limit": (IP, "ttl", 8),
    "congestion mark": (IP, "tos", 3),
    "may be fragmented": (IP, "flags", ""),
    "fragment": (IP, "flags", "MF"),
    "ipv6 hop limit": (IPv6, "hlim", 8),
    "traffic class": (IPv6, "tc", 3),
    "flow label": (IPv6, "fl", 3),
}


class TestApart:
    @pytest.mark.parametrize(("layer", "field", "value"), CHANGES.values(), ids=CHANGES)
    @pytest.mark.parametrize("which", [1, 2], ids=["in the middle", "at the end"])
    @NETWORKS
    def test_what_differs_in_more_than_the_kernel_allows(
        self, network: Packet, layer: type[Packet], field: str, value: object, which: int
    ) -> None:
        if layer in (IP, IPv6) and not isinstance(network, layer):
            layer, field, value = TCP, "urgptr", 7
        frames = stream(network, 3000, 1000)
        packet = Ether(frames[which])
        setattr(packet[layer], field, value)
        frames[which] = resummed(packet)
        writes = written(frames)
        assert (bytes(10), frames[which]) in [
            (bytes(10) if not any(fields) else b"", frame) for fields, frame in writes
        ]
        assert split(writes) == frames

    @NETWORKS
    def test_a_gap_and_a_repetition(self, network: Packet) -> None:
        frames = stream(network, 4000, 1000)
        for order in ([0, 2, 3], [0, 1, 1, 2], [3, 2, 1, 0]):
            chosen = [frames[index] for index in order]
            assert split(written(chosen)) == chosen
        assert len(written(frames[::-1])) == 4

    @NETWORKS
    def test_a_longer_segment_and_one_behind_a_shorter(self, network: Packet) -> None:
        for first, second in ((1000, 1001), (1000, 999)):
            pieces = stream(network, first, 1448) + stream(network, second, 1448, seq=1000 + first)
            pieces += stream(network, second, 1448, seq=1000 + first + second)
            frames = numbered(pieces) if isinstance(network, IP) else pieces
            assert len(written(frames)) == 2
            assert split(written(frames)) == frames

    @pytest.mark.parametrize(
        "packet",
        [
            Dot1Q(vlan=3) / V4 / TCP(flags="A"),
            V4 / UDP(),
            V6 / UDP(),
            V6 / IPv6ExtHdrHopByHop() / TCP(flags="A"),
            IP(options=[b"\x94\x04\x00\x00"]) / TCP(flags="A"),
            IP(frag=3, proto=6) / TCP(flags="A"),
            V4 / TCP(flags="A", dataofs=4),
            V4 / TCP(flags="A", reserved=1),
            V4 / TCP(flags="PA"),
            IP(len=400) / TCP(flags="A"),
        ],
        ids=lambda packet: packet.summary(),
    )
    def test_what_is_no_plain_segment(self, packet: Packet) -> None:
        frames = [bytes(ETHER / packet / Raw(bytes(1000)))] * 3
        assert coalesce(frames) == [[PLAIN, frame] for frame in frames]

    def test_a_padded_acknowledgement(self) -> None:
        frames = [bytes(ETHER / V4 / TCP(flags="A")) + bytes(6)] * 2
        assert coalesce(frames) == [[PLAIN, frame] for frame in frames]

    def test_a_single_frame_and_none(self) -> None:
        assert coalesce([]) == []
        assert coalesce([b"x"]) == [[PLAIN, b"x"]]

    @NETWORKS
    def test_a_wrong_header_checksum_stays_wrong(self, network: Packet) -> None:
        frames = stream(network, 3000, 1000)
        at = 24 if isinstance(network, IP) else 70
        wrong = [frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :] for frame in frames]
        assert not any(checksums_hold(frame) for _, frame in written(wrong))


class TestFlows:
    @given(st.lists(st.integers(0, 4), max_size=60), st.data())
    def test_each_keeps_its_order_and_all_arrive(self, order: list[int], data: st.DataObject) -> None:
        flows = [
            stream(V4, 9000, 900),
            stream(V4, 9000, 900, sport=81),
            stream(V6, 9000, 900),
            [bytes(ETHER / V4 / TCP(sport=80, dport=5000, flags="A", seq=index)) for index in range(9)],
            [bytes(ETHER / V4 / UDP(sport=80, dport=5000) / Raw(bytes([index]) * 600)) for index in range(9)],
        ]
        frames = [flows[flow].pop(0) for flow in order if flows[flow]]
        back = split(written(frames))
        assert sorted(back) == sorted(frames)
        # The acknowledgements belong to the first flow.
        for ethertype, port in ((b"\x08\x00", b"\x06\0P"), (b"\x08\x00", b"\x06\0Q"), (b"\x86\xdd", b"\xfd\0")):
            of_flow = [frame for frame in frames if (frame[12:14], frame[23:24] + frame[34:36]) == (ethertype, port)]
            assert [frame for frame in back if frame in of_flow] == of_flow

    def test_interleaved_flows_become_a_frame_each(self) -> None:
        one, other = stream(V4, 5000, 1000), stream(V6, 4000, 1000)
        frames = [frame for pair in zip_longest(one, other) for frame in pair if frame is not None]
        writes = written(frames)
        assert len(writes) == 2
        assert split(writes) == one + other

    @given(st.lists(st.binary(max_size=90) | st.binary(min_size=256, max_size=300), max_size=9))
    def test_any_bytes_pass(self, frames: list[bytes]) -> None:
        assert coalesce(frames) == [[PLAIN, frame] for frame in frames]

    @NETWORKS
    @given(damage=st.lists(st.tuples(st.integers(0, 3), st.integers(12, 90), st.integers(0, 255)), max_size=5))
    def test_never_raises_and_loses_nothing_when_headers_are_damaged(
        self, network: Packet, damage: list[tuple[int, int, int]]
    ) -> None:
        frames = [bytearray(frame) for frame in stream(network, 1600, 400)]
        for index, place, value in damage:
            frames[index][place] = value
        written([bytes(frame) for frame in frames])


def handed_over(frames: list[bytes]) -> list[Written | None]:
    """What a card would get of each super-frame."""
    checked = [for_card(buffers) for buffers in coalesce(frames) if len(buffers) > 2]
    blobs = [b"".join(buffers) if buffers is not None else None for buffers in checked]
    return [(struct.unpack("=BBHHHH", blob[:10]), blob[10:]) if blob is not None else None for blob in blobs]


class TestForCard:
    @NETWORKS
    @pytest.mark.parametrize("options", [STAMP, []], ids=["timestamps", "no options"])
    def test_leaves_the_checksums_to_the_card(self, network: Packet, options: list[tuple[str, object]]) -> None:
        frames = stream(network, 5000, 1000, options=options)
        [card] = handed_over(frames)
        assert card is not None
        fields, frame = card
        transport = 34 if isinstance(network, IP) else 54
        assert fields == (1, kind_of(network), len(frames[0]) - 1000, 1000, transport, 16)
        completed = complete_checksums([frame], transport, 16)
        assert completed is not None
        assert checksums_hold(completed[0])

    @NETWORKS
    @given(length=st.integers(301, 9000), size=st.integers(300, 1448), seq=st.integers(0, 0xFFFFFFFF))
    def test_lets_it_send_the_segments_as_they_were(self, network: Packet, length: int, size: int, seq: int) -> None:
        frames = stream(network, length, size, seq=seq, flags="PA")
        sent: list[bytes] = []
        for buffers in coalesce(frames):
            checked = for_card(buffers) if len(buffers) > 2 else buffers
            assert checked is not None
            fields, frame = struct.unpack("=BBHHHH", checked[0][:10]), b"".join(checked)[10:]
            sent += split([(fields, frame)])
        assert sent == frames

    @NETWORKS
    @DAMAGES
    def test_gives_it_nothing_that_is_damaged(
        self, network: Packet, index: int, place: int, flip: int, size: int
    ) -> None:
        frames = one_damaged(stream(network, 10 * size - 5, size), index, place, flip)
        for card in handed_over(frames):
            assert card is None or set(split([card])) <= set(frames)

    @pytest.mark.parametrize("place", [22, 24, 26, 30, 50], ids=["hops", "sum", "from", "to", "tcp's sum"])
    def test_nor_what_is_damaged_in_all_of_them(self, place: int) -> None:
        frames = [frame[:place] + bytes((frame[place] ^ 1,)) + frame[place + 1 :] for frame in stream(V4, 5000, 1000)]
        assert handed_over(frames) in ([], [None])
