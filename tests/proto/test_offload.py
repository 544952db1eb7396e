import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from softlan.proto.offload import (
    SCTP_CHECKSUM_OFFSET,
    Gso,
    complete_checksums,
    segment,
)

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
V4 = IP(src="192.168.7.1", dst="192.168.7.2", id=0xFFFE, ttl=9)
V6 = IPv6(src="fd00::1", dst="fd00::2", hlim=9)
STREAM = bytes(index * 7 & 0xFF for index in range(10_001))


def naive_sum(data: bytes) -> int:
    """RFC 1071 word by word, with the end-around carry."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for (word,) in struct.iter_unpack(">H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksums_hold(frame: bytes) -> bool:
    """Whether scapy, computing every checksum and length anew, arrives at the same bytes."""
    packet = Ether(frame)
    for layer in (IP, IPv6, TCP, UDP):
        for field in ("chksum", "len", "plen"):
            if layer in packet and field in packet[layer].fields:
                packet[layer].delfieldval(field)
    return bytes(packet) == frame


def big(*layers: Packet) -> bytes:
    """A super-frame: right lengths, and checksums that nobody has finished."""
    packet = ETHER
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


class TestCompleteChecksums:
    @given(st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=9), st.integers(0, 64), st.booleans())
    def test_completes_what_local_senders_left(self, payloads: list[bytes], length: int, over_ipv6: bool) -> None:
        network = V6 if over_ipv6 else V4
        right = [bytes(ETHER / network / UDP(sport=1, dport=2) / Raw(payload[:length])) for payload in payloads]
        start = 14 + (40 if over_ipv6 else 20)
        partial = [self.with_partial_checksum(frame, start, 6, protocol=17) for frame in right]
        assert complete_checksums(partial, start, 6) == right

    @pytest.mark.parametrize("count", [1, 4])
    def test_zero_is_written_as_all_ones(self, count: int) -> None:
        frame = bytes(14) + bytes.fromhex("ffff0000")
        assert complete_checksums([frame] * count, 14, 2) == [bytes(14) + bytes.fromhex("ffffffff")] * count

    def test_a_place_outside_the_frames_is_none(self) -> None:
        assert complete_checksums([bytes(60)], 14, 44) is not None
        assert complete_checksums([bytes(60)], 14, 45) is None
        assert complete_checksums([bytes(60)], 65535, 16) is None

    def test_sctp_cannot_be_done(self) -> None:
        assert complete_checksums([bytes(60)], 34, SCTP_CHECKSUM_OFFSET) is None

    @given(st.binary(max_size=80), st.integers(1, 5), st.integers(-3, 90), st.integers(-3, 90))
    def test_never_raises_and_touches_two_bytes_only(self, frame: bytes, count: int, start: int, offset: int) -> None:
        completed = complete_checksums([frame] * count, start, offset)
        if completed is not None:
            place = start + offset
            for one in completed:
                assert one[:place] + one[place + 2 :] == frame[:place] + frame[place + 2 :]
                assert len(one) == len(frame)

    @staticmethod
    def with_partial_checksum(frame: bytes, start: int, offset: int, protocol: int) -> bytes:
        """As Linux leaves it: the pseudo-header's sum, not inverted."""
        addresses = frame[26:34] if start == 34 else frame[22:54]
        partial = naive_sum(addresses + struct.pack(">HH", protocol, len(frame) - start))
        place = start + offset
        return frame[:place] + partial.to_bytes(2, "big") + frame[place + 2 :]


TAGS = pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=7),), (Dot1Q(vlan=7, type=0x8100), Dot1Q(vlan=8))])


class TestSegmentTcp:
    @TAGS
    @pytest.mark.parametrize(
        ("kind", "network"),
        [
            (Gso.TCP_V4, V4),
            (Gso.TCP_V4, IP(src="10.0.0.1", dst="10.0.0.2", options=[b"\x94\x04\x00\x00"])),
            (Gso.TCP_V6, V6),
            (Gso.TCP_V6, V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()),
        ],
        ids=["ipv4", "ipv4 options", "ipv6", "ipv6 options"],
    )
    def test_carries_the_same_stream_in_right_frames(
        self, kind: Gso, network: Packet, tags: tuple[Packet, ...]
    ) -> None:
        header = TCP(sport=80, dport=5, seq=0xFFFFF000, ack=3, flags="A", options=[("Timestamp", (1, 2))])
        frame = big(*tags, network, header, Raw(STREAM))
        frames = segment(frame, kind=kind, gso_size=1400)
        assert frames is not None
        assert len(frames) == 8
        assert all(checksums_hold(one) for one in frames)
        parsed = [Ether(one) for one in frames]
        assert b"".join(bytes(packet[TCP].payload) for packet in parsed) == STREAM
        assert [len(packet[TCP].payload) for packet in parsed] == [1400] * 7 + [201]
        assert [packet[TCP].seq for packet in parsed] == [
            (0xFFFFF000 + 1400 * index) & 0xFFFFFFFF for index in range(8)
        ]
        assert {packet[TCP].options[0] for packet in parsed} == {("Timestamp", (1, 2))}
        assert {bytes(packet)[: 12 + 4 * len(tags)] for packet in parsed} == {frame[: 12 + 4 * len(tags)]}

    def test_the_ipv4_identification_counts_up_and_wraps(self) -> None:
        frames = segment(big(V4, TCP(), Raw(bytes(30))), kind=Gso.TCP_V4, gso_size=10)
        assert frames is not None
        assert [Ether(one)[IP].id for one in frames] == [0xFFFE, 0xFFFF, 0]

    def test_fin_and_push_stay_on_the_last_and_cwr_on_the_first(self) -> None:
        frames = segment(big(V6, TCP(flags="FPAEC"), Raw(bytes(30))), kind=Gso.TCP_V6, gso_size=10)
        assert frames is not None
        assert [str(Ether(one)[TCP].flags) for one in frames] == ["AEC", "AE", "FPAE"]

    @pytest.mark.parametrize("length", [0, 1, 99, 100])
    def test_what_fits_into_one_segment_comes_back_complete(self, length: int) -> None:
        right = bytes(ETHER / V4 / TCP(flags="PA") / Raw(bytes(length)))
        unfinished = right[:50] + b"\xab\xcd" + right[52:]
        assert segment(unfinished, kind=Gso.TCP_V4, gso_size=100) == [right]

    @given(st.integers(0, 500), st.integers(1, 600))
    def test_any_size_gives_the_stream_back(self, length: int, gso_size: int) -> None:
        frames = segment(big(V6, TCP(), Raw(STREAM[:length])), kind=Gso.TCP_V6, gso_size=gso_size)
        assert frames is not None
        assert b"".join(one[74:] for one in frames) == STREAM[:length]
        assert all(0 < len(one[74:]) <= gso_size or length == 0 for one in frames)


class TestSegmentUdp:
    @TAGS
    @pytest.mark.parametrize("network", [V4, V6], ids=["ipv4", "ipv6"])
    def test_gives_datagrams_of_the_size(self, network: Packet, tags: tuple[Packet, ...]) -> None:
        frame = big(*tags, network, UDP(sport=9, dport=10), Raw(STREAM[:2500]))
        frames = segment(frame, kind=Gso.UDP_DATAGRAMS, gso_size=1000)
        assert frames is not None
        assert all(checksums_hold(one) for one in frames)
        assert [bytes(Ether(one)[UDP].payload) for one in frames] == [
            STREAM[:1000],
            STREAM[1000:2000],
            STREAM[2000:2500],
        ]

    def test_a_checksum_of_zero_is_sent_as_all_ones(self) -> None:
        plain = bytes(ETHER / V4 / UDP() / Raw(bytes(2)))
        balance = bytes(plain[40:42])  # as payload it makes the sum all ones
        frames = segment(big(V4, UDP(), Raw(balance)), kind=Gso.UDP_DATAGRAMS, gso_size=100)
        assert frames is not None
        assert frames[0][40:42] == b"\xff\xff"


class TestSegmentRefuses:
    @pytest.mark.parametrize(
        ("frame", "kind"),
        [
            (big(V4, TCP(), Raw(STREAM)), Gso.TCP_V6),
            (big(V6, TCP(), Raw(STREAM)), Gso.TCP_V4),
            (big(V4, UDP(), Raw(STREAM)), Gso.TCP_V4),
            (big(V4, TCP(), Raw(STREAM)), Gso.UDP_DATAGRAMS),
            (big(V4, UDP(), Raw(STREAM)), Gso.UDP_FRAGMENTS),
            (big(V4, TCP(), Raw(STREAM)), 0x20),
            (big(IP(proto=4), IP(), TCP(), Raw(STREAM)), Gso.TCP_V4),
            (big(IP(frag=5, proto=6), TCP(), Raw(STREAM)), Gso.TCP_V4),
            (big(V6, IPv6ExtHdrFragment(m=1, offset=0), TCP(), Raw(STREAM)), Gso.TCP_V6),
            (big(V4, ICMP(), Raw(STREAM)), Gso.TCP_V4),
            (big(V4, TCP(dataofs=4), Raw(STREAM)), Gso.TCP_V4),
            (big(V4, TCP(), Raw(STREAM))[:-1], Gso.TCP_V4),
            (big(IP(len=0), TCP(), Raw(STREAM)), Gso.TCP_V4),
            (big(V4, TCP())[:33], Gso.TCP_V4),
            (big(V4, TCP(dataofs=6)), Gso.TCP_V4),
            (big(IP(proto=17), Raw(bytes(7))), Gso.UDP_DATAGRAMS),
            (big(IPv6(nh=0)), Gso.TCP_V6),
            (big(IPv6(nh=0), Raw(b"\x06\x01" + bytes(6))), Gso.TCP_V6),
        ],
        ids=[
            "tcp4 as tcp6",
            "tcp6 as tcp4",
            "udp as tcp",
            "tcp as udp",
            "udp fragments",
            "unknown kind",
            "tunnel",
            "ipv4 fragment",
            "ipv6 fragment",
            "other protocol",
            "bad data offset",
            "cut short",
            "no length",
            "short ip header",
            "short tcp options",
            "short udp header",
            "no ipv6 options",
            "short ipv6 options",
        ],
    )
    def test_what_is_not_what_it_says(self, frame: bytes, kind: int) -> None:
        assert segment(frame, kind=kind, gso_size=1000) is None

    def test_a_size_of_zero(self) -> None:
        assert segment(big(V4, TCP(), Raw(STREAM)), kind=Gso.TCP_V4, gso_size=0) is None

    @given(st.binary(max_size=200), st.sampled_from([0, 1, 3, 4, 5, 99]), st.integers(-1, 65535))
    def test_never_raises_on_any_bytes(self, frame: bytes, kind: int, gso_size: int) -> None:
        segment(frame, kind=kind, gso_size=gso_size)

    @given(
        st.sampled_from([big(V4, TCP(), Raw(STREAM[:99])), big(V6, IPv6ExtHdrHopByHop(), UDP(), Raw(STREAM[:99]))]),
        st.lists(st.tuples(st.integers(12, 90), st.integers(0, 255)), max_size=4),
        st.integers(0, 200),
        st.sampled_from(list(Gso)),
        st.integers(1, 50),
    )
    def test_never_raises_on_a_damaged_frame(
        self, frame: bytes, damage: list[tuple[int, int]], length: int, kind: Gso, gso_size: int
    ) -> None:
        damaged = bytearray(frame[:length])
        for place, value in damage:
            if place < len(damaged):
                damaged[place] = value
        segments = segment(bytes(damaged), kind=kind, gso_size=gso_size)
        assert segments is None or all(len(one) <= len(damaged) for one in segments)
