import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from tests.support import packets
from tests.support.corpus import EVASIONS, LEGITIMATE, Evasion, Legitimate
from tests.support.oracle import Built, Reading, frames, many, read
from tests.support.packets import (
    chain,
    dot1q,
    ether,
    extension,
    fragment,
    icmpv6,
    ipv4,
    ipv6,
    kind,
    llc,
    snap,
    tcp,
    udp,
)

from softlan.proto import ip
from softlan.proto.ip import LLC, OTHER, TORN, UNDETERMINED, Found, Walked, link, walk

V4, V6 = kind(packets.IPV4), kind(packets.IPV6)


def name_of(case: Evasion | Legitimate) -> str:
    return case.name


def reading(walked: Walked) -> Reading:
    """The walker's answer in the oracle's words."""
    found, first, second, third = walked
    if found in (Found.UDP4, Found.UDP6):
        assert third == 0
        return (found.value, first, second)
    if found is Found.ICMP4:
        assert (second, third) == (0, 0)
        return (found.value, first)
    if found in (Found.ICMPV6, Found.ICMPV6_PART):
        return (found.value, first, third - second)
    assert (first, second, third) == (0, 0, 0)
    return (found.value,)


@many
@given(frames())
def test_scapy_reads_the_same(built: Built) -> None:
    assert reading(walk(built.frame)) == read(built.frame)


@given(frames(), st.binary(max_size=9))
def test_a_frame_is_read_alike_wherever_it_starts(built: Built, before: bytes) -> None:
    assert reading(walk(before + built.frame, len(before))) == reading(walk(built.frame))


def test_padding_is_told_by_the_frames_own_length() -> None:
    padded = ether(snap(V4, ipv4(udp(1, 2)))).ljust(60, b"\0")
    assert walk(padded) == walk(b"over" + padded, 4) == (Found.UDP4, 1, 2, 0)


@given(frames())
def test_every_cut_is_read_and_never_more_surely(built: Built) -> None:
    """What is cut off is padding, or what is left is undetermined; only a wrong 802.3 length may become right."""
    whole = walk(built.frame)
    for length in range(len(built.frame)):
        cut = walk(built.frame[:length])
        assert cut in (whole, UNDETERMINED) or whole == UNDETERMINED


@pytest.mark.parametrize("case", [*EVASIONS, *LEGITIMATE], ids=name_of)
def test_every_cut_of_the_corpora_too(case: Evasion | Legitimate) -> None:
    whole = walk(case.frame)
    for length in range(len(case.frame)):
        assert walk(case.frame[:length]) in (whole, UNDETERMINED) or whole == UNDETERMINED


@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda rest: ether(V6, b"\x60" + rest)))
def test_any_bytes_are_read(data: bytes) -> None:
    found, first, second, third = walk(data)
    if found in (Found.ICMPV6, Found.ICMPV6_PART):
        assert data[second] == first
        assert second + 4 <= third <= len(data)
    kind, start, end, tags = link(data)
    assert kind == TORN or start <= len(data)
    assert end <= len(data)
    assert 0 <= tags <= ip.MAX_HEADERS


@pytest.mark.parametrize("case", [*EVASIONS, *LEGITIMATE], ids=name_of)
def test_the_corpora_are_read_as_scapy_reads_them(case: Evasion | Legitimate) -> None:
    assert reading(walk(case.frame)) == read(case.frame)


def test_what_scapy_builds_whole() -> None:
    advertisement = ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="2001:db8::")
    plain = bytes(Ether(dst="33:33:00:00:00:01") / IPv6(dst="ff02::1") / advertisement)
    assert walk(plain) == (Found.ICMPV6, 134, 54, len(plain))
    hidden = bytes(
        Ether(dst="33:33:00:00:00:01", src="02:00:00:00:00:01")
        / Dot1Q(vlan=0)
        / IPv6(dst="ff02::1")
        / IPv6ExtHdrHopByHop()
        / IPv6ExtHdrDestOpt()
        / advertisement
    )
    assert walk(hidden) == (Found.ICMPV6, 134, 74, len(hidden))
    offer = bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=67, dport=68) / b"offer")
    assert walk(offer) == (Found.UDP4, 67, 68, 0)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (ether(V4, ipv4(udp(68, 67))), (Found.UDP4, 68, 67, 0)),
        (ether(V4, ipv4(udp(68, 67), options=bytes(40))), (Found.UDP4, 68, 67, 0)),
        (ether(V4, ipv4(udp(68, 67, b""))), (Found.UDP4, 68, 67, 0)),
        (ether(V4, ipv4(tcp(1, 2), packets.TCP)), OTHER),
        (ether(V4, ipv4(b"", packets.TCP)), OTHER),
        (ether(V4, ipv4(icmpv6(134), packets.ICMPV6)), OTHER),
        (ether(V4, ipv4(bytes(8), packets.DESTINATION)), OTHER),
        (ether(V6, ipv6(udp(546, 547))), (Found.UDP6, 546, 547, 0)),
        (ether(V6, ipv6(icmpv6(128, b""), packets.ICMPV6)), (Found.ICMPV6, 128, 54, 58)),
        (ether(V6, ipv6(icmpv6(128, b"")[:3], packets.ICMPV6)), UNDETERMINED),
        (ether(V6, ipv6(icmpv6(128, bytes(4)), packets.ICMPV6), b"padding"), (Found.ICMPV6, 128, 54, 62)),
        (ether(V6, ipv6(b"", packets.NO_NEXT)), OTHER),
        (ether(V6, ipv6(b"", packets.ICMP)), OTHER),
        # A chain that leaves the packet, if only to nothing.
        (ether(V4, ipv4(packets.ah(packets.IGMP)[:12], packets.AH)), UNDETERMINED),
        (ether(V6, ipv6(extension(packets.NO_NEXT, 1)[:8], packets.DESTINATION)), UNDETERMINED),
        (ether(V6, ipv6(extension(packets.NO_NEXT, 1), packets.DESTINATION)), OTHER),
        # A protocol of the other version is not followed.
        (ether(V6, ipv6(udp(1, 2), packets.IGMP)), OTHER),
        # Fragments.
        (ether(V4, ipv4(udp(1, 2), more=True)), (Found.UDP4, 1, 2, 0)),
        (ether(V4, ipv4(udp(1, 2)[:7], more=True)), UNDETERMINED),
        (ether(V4, ipv4(tcp(1, 2), packets.TCP, more=True)), OTHER),
        (ether(V4, ipv4(tcp(1, 2)[:16], packets.TCP, more=True)), UNDETERMINED),
        (ether(V4, ipv4(tcp(1, 2)[:19], packets.TCP, more=True)), UNDETERMINED),
        (ether(V4, ipv4(bytes(8), packets.ESP, more=True)), OTHER),
        (ether(V4, ipv4(bytes(7), packets.ESP, more=True)), UNDETERMINED),
        (ether(V4, ipv4(udp(1, 2), offset=8)), OTHER),
        (ether(V4, ipv4(udp(1, 2), offset=2048)), OTHER),
        (ether(V4, ipv4(udp(1, 2), offset=65528, more=True)), OTHER),
        (ether(V6, ipv6(fragment(packets.UDP) + udp(1, 2), packets.FRAGMENT)), (Found.UDP6, 1, 2, 0)),
        (ether(V6, ipv6(fragment(packets.UDP, offset=8) + udp(1, 2), packets.FRAGMENT)), OTHER),
        (ether(V6, ipv6(fragment(packets.UDP, offset=2048) + udp(1, 2), packets.FRAGMENT)), OTHER),
        (
            ether(V6, ipv6(fragment(packets.ICMPV6, more=True) + icmpv6(128), packets.FRAGMENT)),
            (Found.ICMPV6_PART, 128, 62, 70),
        ),
        # Packets in packets.
        (ether(V4, ipv4(ipv4(udp(1, 2)), packets.IPIP)), (Found.UDP4, 1, 2, 0)),
        (ether(V6, ipv6(ipv4(udp(1, 2)), packets.IPIP)), (Found.UDP4, 1, 2, 0)),
        (ether(V6, ipv6(ipv6(udp(1, 2)), packets.IPV6_IN_IP)), (Found.UDP6, 1, 2, 0)),
        (ether(V6, ipv6(ipv4(udp(1, 2)), packets.IPV6_IN_IP)), UNDETERMINED),
        (ether(V4, ipv4(ipv4(udp(1, 2)), packets.IPIP, more=True)), UNDETERMINED),
        # No IP.
        (ether(kind(packets.ARP), bytes(28)), OTHER),
        (ether(kind(0x88B5)), OTHER),
        (ether(llc(b"", dsap=0x42)), OTHER),
        (ether(snap(b"\x20", oui=b"\0\0\x0c")), UNDETERMINED),
        (ether(snap(kind(0x2000), oui=b"\0\0\x0c")), OTHER),
        (b"", UNDETERMINED),
        (bytes(13), UNDETERMINED),
    ],
)
def test_what_is_found(frame: bytes, expected: Walked) -> None:
    assert walk(frame) == expected


@pytest.mark.parametrize("count", [30, 31])
def test_a_chain_has_a_last_header(count: int) -> None:
    """32 with IPv6's own and the transport."""
    frame = ether(V6, ipv6(*chain(*[packets.DESTINATION] * count, then=packets.UDP, payload=udp(1, 2))))
    assert walk(frame) == ((Found.UDP6, 1, 2, 0) if count == 30 else UNDETERMINED)


@pytest.mark.parametrize("number", [145, 146, 253, 254, 255])
def test_unassigned_protocols_may_be_extension_headers_of_ipv6_alone(number: int) -> None:
    assert walk(ether(V6, ipv6(bytes(64), number))) == (OTHER if number == 145 else UNDETERMINED)
    assert walk(ether(V4, ipv4(bytes(64), number))) == OTHER


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (ether(V4, b"12"), (0x0800, 14, 16, 0)),
        (ether(dot1q(1), dot1q(2, tpid=0x88A8), dot1q(3, tpid=0x9100), V4, b"12"), (0x0800, 26, 28, 3)),
        (ether(snap(V4, b"12")), (0x0800, 22, 24, 0)),
        (ether(dot1q(1), snap(dot1q(2), V4, b"12")), (0x0800, 30, 32, 1)),
        # The frame has its minimal length, and padding: the length says where the payload ends.
        (ether(snap(V4, b"12")).ljust(60, b"\0"), (0x0800, 22, 24, 0)),
        (ether(dot1q(1), snap(V4, b"12")).ljust(64, b"\0"), (0x0800, 26, 28, 1)),
        (ether(dot1q(1), snap(V4, b"12")).ljust(65, b"\0"), (0x0800, 26, 0, 1)),
        # It is longer than that: the length is wrong.
        (ether(snap(V4, b"12")).ljust(61, b"\0"), (0x0800, 22, 0, 0)),
        (ether(snap(V4, b"12", length=9)), (0x0800, 22, 23, 0)),
        (ether(snap(V4, bytes(60), length=9)), (0x0800, 22, 0, 0)),
        (ether(snap(V4, b"12", length=11)), (0x0800, 22, 0, 0)),
        (ether(snap(V4, bytes(1492))), (0x0800, 22, 1514, 0)),
        (ether(snap(V4, bytes(1493))), (0x0800, 22, 0, 0)),
        (ether(llc(b"12", dsap=0xE0)), (LLC, 14, 19, 0)),
        (ether(kind(2), b"\xe0\xe0"), (TORN, 16, 0, 0)),
        (ether(kind(0x0600)), (0x0600, 14, 14, 0)),
        (ether(llc(b"12", dsap=0x06)), (0x0800, 17, 0, 0)),
        (ether(llc(b"12", dsap=0x98)), (0x0806, 17, 0, 0)),
        (ether(kind(0x8870), snap(V4, b"12")[2:]), (0x0800, 22, 0, 0)),
        (ether(kind(0x88B7), bytes(3), V4, b"12"), (0x0800, 19, 0, 0)),
        (ether(kind(0x88B7), b"\0\0\x0c", kind(0x2000)), (LLC, 14, 0, 0)),
        (ether(*[dot1q()] * 31, V4), (0x0800, 138, 138, 31)),
        (ether(*[dot1q()] * 32, V4), (TORN, 142, 0, 32)),
    ],
)
def test_the_link_header(frame: bytes, expected: tuple[int, int, int, int]) -> None:
    assert link(frame) == expected
